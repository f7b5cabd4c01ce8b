use std::sync::Arc;

use super::super::hook::Traffic;
use super::*;
use crate::app::events::HlsSegment;

fn client(app_params: &str) -> ClientInfo {
    ClientInfo {
        id: 7,
        ip: "127.0.0.1".parse().unwrap(),
        vhost: "__defaultVhost__".into(),
        app: "live".into(),
        app_params: app_params.into(),
        tc_url: "rtmp://127.0.0.1:21935/live".into(),
        page_url: "a \"page\"\n".into(),
        forward_route: String::new(),
        engine: None,
    }
}

fn stream(vhost: &str, params: &str) -> StreamInfo {
    StreamInfo {
        vhost: vhost.into(),
        app: "live".into(),
        stream: "cam".into(),
        name: format!("{vhost}/live/cam"),
        params: params.into(),
    }
}

fn fields(body: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(body).unwrap();
    let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort_by_key(|key| body.find(&format!("\"{key}\":")));
    keys
}

#[test]
fn fields_are_those_of_srs_6_in_its_order_and_then_ours() {
    let writer = BodyWriter::new();
    let stream = stream(DEFAULT_VHOST, "token=abc");
    for (hook, expected) in [
        (Hook::Connect, "vhost app stream param tcUrl pageUrl"),
        (Hook::Close, "vhost app send_bytes recv_bytes"),
        (Hook::Publish, "vhost app tcUrl stream param stream_url stream_id"),
        (Hook::Unpublish, "vhost app tcUrl stream param stream_url stream_id"),
        (Hook::Play, "vhost app stream tcUrl param pageUrl stream_url stream_id"),
        (Hook::Stop, "vhost app tcUrl stream param stream_url stream_id"),
    ] {
        let named = (hook != Hook::Close).then_some(&stream);
        let traffic = Detail::Traffic(Traffic { sent: 2, received: 1 });
        let detail = if hook == Hook::Close { traffic } else { Detail::None };
        let body = writer.write(hook, &Subject { client: Some(&client("")), stream: named, detail });
        let due = format!("server_id service_id action client_id ip {expected} event_id seq session_id time");
        assert_eq!(fields(&body).join(" "), due, "{body}");
    }
}

#[test]
fn values_have_the_types_of_srs_6() {
    let writer = BodyWriter::new();
    let stream = stream("demo.com", "token=abc");
    let player = client("user=1");
    let subject = Subject { client: Some(&player), stream: Some(&stream), detail: Detail::None };
    let body = writer.write(Hook::Play, &subject);
    let value: Value = serde_json::from_str(&body).unwrap();
    for (key, expected) in [
        ("action", "on_play"),
        ("client_id", "7"),
        ("ip", "127.0.0.1"),
        ("vhost", "demo.com"),
        ("param", "?user=1&token=abc"),
        ("stream_url", "demo.com/live/cam"),
        ("pageUrl", "a \"page\"\n"),
    ] {
        assert_eq!(value[key], expected, "{body}");
    }
    assert_eq!(value["seq"], 1);
    assert_eq!(value["stream_id"].as_str().unwrap().len(), 11);
    let detail = Detail::Traffic(Traffic { sent: 904_498, received: 3485 });
    let body = writer.write(Hook::Close, &Subject { client: Some(&player), stream: None, detail });
    let value: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&value["send_bytes"], &value["recv_bytes"], &value["seq"]), (&904_498.into(), &3485.into(), &2.into()));
}

#[test]
fn the_result_of_a_bandwidth_test_has_its_figures() {
    let report = BandwidthReport {
        client_id: 7,
        ip: "192.0.2.1".parse().unwrap(),
        vhost: "bandcheck.srs.com".into(),
        protocol: "rtmp",
        start_time: 1000,
        end_time: 8000,
        play_kbps: 9500,
        publish_kbps: 4700,
        play_bytes: 3_562_500,
        publish_bytes: 1_468_750,
        play_time: 3000,
        publish_time: 2500,
        rtt_ms: 20.5,
        jitter_ms: None,
        retransmits: 3,
    };
    let body = BodyWriter::new().write_result(&report);
    let due = "server_id service_id action client_id ip vhost protocol start_time end_time play_kbps publish_kbps \
               play_bytes publish_bytes play_time publish_time retransmits rtt_ms jitter_ms event_id seq session_id time";
    assert_eq!(fields(&body).join(" "), due, "{body}");
    let value: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&value["action"], &value["play_kbps"]), (&"on_bandwidth".into(), &9500.into()));
    assert_eq!((&value["rtt_ms"], &value["jitter_ms"]), (&20.5.into(), &Value::Null));
}

#[test]
fn segments_recordings_and_starts_have_their_fields() {
    let writer = BodyWriter::new();
    let (client, stream) = (client(""), stream(DEFAULT_VHOST, ""));
    let body = |hook, client, detail| {
        let body = writer.write(hook, &Subject { client, stream: client.map(|_| &stream), detail });
        (serde_json::from_str::<Value>(&body).unwrap(), fields(&body).join(" "))
    };
    let segment = HlsSegment {
        stream: Arc::new(stream.clone()),
        client: Arc::new(client.clone()),
        root: "./objs/html".into(),
        path: "live/cam-7.ts".into(),
        playlist: "live/cam.m3u8".into(),
        number: 7,
        duration_ms: 9360,
    };
    let (value, names) = body(Hook::Hls, Some(&client), Detail::Segment(&segment));
    assert!(
        names.contains(" tcUrl stream param duration cwd file url m3u8 m3u8_url seq_no stream_url stream_id event_id "),
        "{names}"
    );
    assert_eq!((&value["duration"], &value["seq_no"]), (&9.36.into(), &7.into()));
    assert_eq!((&value["file"], &value["url"]), (&"./objs/html/live/cam-7.ts".into(), &"live/cam-7.ts".into()));
    let more = [("size", Value::from(5))];
    let recording = Detail::Recording { file: Path::new("a.flv"), more: &more };
    let (value, names) = body(Hook::Dvr, Some(&client), recording);
    assert!(names.contains(" param cwd file size stream_url "), "{names}");
    assert_eq!(value["file"], "a.flv");
    let (value, _) = body(Hook::Update, Some(&client), Detail::Update { is_publishing: true, seconds: 60 });
    assert_eq!((&value["role"], &value["seconds"]), (&"publish".into(), &60.into()));
    let fields = [("streams", Value::Array(vec![]))];
    let (_, names) = body(Hook::ServerStart, None, Detail::Fields(&fields));
    assert_eq!(names, "server_id service_id action streams event_id seq time");
}

#[test]
fn parameters_keep_their_question_mark_and_are_not_doubled() {
    let param = |app: &str, stream: &str| super::param(&client(app), Some(&self::stream("v", stream)));
    assert_eq!(param("", ""), "");
    assert_eq!(param("", "token=abc"), "?token=abc");
    assert_eq!(param("a=1", ""), "?a=1");
    assert_eq!(param("a=1", "b=2"), "?a=1&b=2");
    assert_eq!(param("a=1", "a=1"), "?a=1");
    assert_eq!(super::param(&client("a=1"), None), "?a=1");
}

#[test]
fn runs_have_names_of_their_own() {
    let (one, two) = (BodyWriter::new(), BodyWriter::new());
    assert!(one.server_id != two.server_id && one.service_id != two.service_id);
    assert_eq!((one.server_id.len(), one.service_id.len()), (11, 8));
}
