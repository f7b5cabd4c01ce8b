//! The JSON of the API against recorded answers of SRS 6: names, order and types of the fields.

use std::sync::Arc;

use serde_json::Value;

use super::answer::error;
use super::json::{ClientJson, NO_CLIENT, StreamJson, VhostJson};
use super::*;
use crate::app::stats::snapshot::{
    AudioReport, ClientReport, ClientState, StreamReport, StreamState, VhostReport, VideoReport,
};
use crate::config::{Config, ConfigCell};
use crate::http::request::parse;

/// Fields and types of an object as SRS 6 writes it: `s`tring, `n`umber, `b`oolean, or an object in brackets.
const VERSIONS: &str = "major:n minor:n revision:n version:s";
const FEATURES: &str = "options:s options2:s build:s build2:s features:[ssl:b hls:b hds:b callback:b api:b httpd:b dvr:b \
    transcode:b ingest:b stat:b caster:b complex_send:b tcp_nodelay:b so_sendbuf:b mr:b]";
const CLIENT: &str = "id:s vhost:s stream:s ip:s pageUrl:s swfUrl:s tcUrl:s url:s name:s type:s publish:b alive:n send_bytes:n \
    recv_bytes:n kbps:[recv_30s:n send_30s:n]";
const STREAM: &str = "id:s name:s vhost:s app:s tcUrl:s url:s live_ms:n clients:n frames:n send_bytes:n recv_bytes:n \
    kbps:[recv_30s:n send_30s:n] publish:[active:b cid:s] video:[codec:s profile:s level:s width:n height:n] \
    audio:[codec:s sample_rate:n channel:n profile:s]";
const VHOST: &str = "id:s name:s enabled:b clients:n streams:n send_bytes:n recv_bytes:n kbps:[recv_30s:n send_30s:n] \
    hls:[enabled:b fragment:n]";
const MEMINFOS: &str = "ok:b sample_time:n percent_ram:n percent_swap:n MemActive:n RealInUse:n NotInUse:n MemTotal:n \
    MemFree:n Buffers:n Cached:n SwapTotal:n SwapFree:n";
const RUSAGES: &str = "ok:b sample_time:n ru_utime:n ru_stime:n ru_maxrss:n ru_ixrss:n ru_idrss:n ru_isrss:n ru_minflt:n \
    ru_majflt:n ru_nswap:n ru_inblock:n ru_oublock:n ru_msgsnd:n ru_msgrcv:n ru_nsignals:n ru_nvcsw:n ru_nivcsw:n";
const SUMMARIES: &str = "ok:b now_ms:n self:[version:s pid:n ppid:n argv:s cwd:s mem_kbyte:n mem_percent:n cpu_percent:n \
    srs_uptime:n] system:[cpu_percent:n disk_read_KBps:n disk_write_KBps:n disk_busy_percent:n mem_ram_kbyte:n \
    mem_ram_percent:n mem_swap_kbyte:n mem_swap_percent:n cpus:n cpus_online:n uptime:n ilde_time:n load_1m:n load_5m:n \
    load_15m:n net_sample_time:n net_recv_bytes:n net_send_bytes:n net_recvi_bytes:n net_sendi_bytes:n srs_sample_time:n \
    srs_recv_bytes:n srs_send_bytes:n conn_sys:n conn_sys_et:n conn_sys_tw:n conn_sys_udp:n conn_srs:n]";

/// Returns names and types of the fields of a JSON object, in their order in the text.
fn shape(json: &str) -> String {
    let value: Value = serde_json::from_str(json).expect("valid JSON");
    let mut fields: Vec<_> = value.as_object().expect("an object").iter().collect();
    // The parser sorts by name: the order is that of the text, and inner objects are searched for with their names too.
    fields.sort_by_key(|(name, _)| json.find(&format!("\"{name}\":")));
    let shapes = fields.into_iter().map(|(name, value)| {
        let shape = match value {
            Value::Bool(_) => "b".to_owned(),
            Value::Number(_) => "n".to_owned(),
            Value::String(_) => "s".to_owned(),
            Value::Object(_) => {
                let start = json.find(&format!("\"{name}\":{{")).expect("the object") + name.len() + 3;
                let end = start + json[start..].find('}').expect("its end") + 1;
                format!("[{}]", self::shape(&json[start..end]))
            }
            _ => "?".to_owned(),
        };
        format!("{name}:{shape}")
    });
    shapes.collect::<Vec<_>>().join(" ")
}

fn assert_begins_with(json: &str, expected: &str) {
    let shape = shape(json);
    assert!(shape.starts_with(expected), "{shape}\ninstead of\n{expected}");
}

fn client(id: u64) -> ClientReport {
    ClientReport {
        id,
        kind: crate::app::session::client::ClientKind::Rtmp,
        state: ClientState::Playing,
        ip: "192.0.2.1".parse().unwrap(),
        port: 1,
        vhost: "__defaultVhost__".to_owned(),
        app: "live".to_owned(),
        stream: "cam".to_owned(),
        stream_name: "__defaultVhost__/live/cam".to_owned(),
        tc_url: "rtmp://h/live".to_owned(),
        page_url: String::new(),
        age_ms: 1500,
        bytes_in: 1,
        bytes_out: 2,
        kbps_in: 3,
        kbps_out: 4,
        messages: 5,
        dropped: 6,
        engine: None,
    }
}

fn stream() -> StreamReport {
    StreamReport {
        name: "a.b/live/cam".to_owned(),
        vhost: "a.b".to_owned(),
        app: "live".to_owned(),
        stream: "cam".to_owned(),
        state: StreamState::Live,
        publisher: Some(7),
        uptime_ms: 2500,
        players: 2,
        forwarders: 1,
        video: Some(VideoReport {
            codec: "H.265".to_owned(),
            profile: Some("Main"),
            level: Some("3.1".to_owned()),
            width: Some(640),
            height: Some(360),
            fps: 25.0,
            kbps: 900,
        }),
        audio: Some(AudioReport {
            codec: "AAC".to_owned(),
            profile: Some("LC"),
            sample_rate: Some(48_000),
            channels: Some(2),
            kbps: 100,
            hls_obstacle: None,
        }),
        video_frames: 60,
        messages: 100,
        dropped: 3,
        gop_ms: Some(2000),
        av_skew_ms: Some(-5),
        jitter_ms: 1.5,
        stalls: 0,
        held_bytes: 1,
        bytes_in: 10,
        bytes_out: 20,
        kbps_in: 1000,
        kbps_out: 2000,
        tc_url: "rtmp://a.b/live".to_owned(),
        hls: None,
        flv: None,
    }
}

fn json(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap()
}

#[test]
fn fields_are_those_of_srs() {
    assert_eq!(shape(&about::versions().finish()), VERSIONS);
    assert_eq!(shape(&build::Build::read().features().finish()), FEATURES);
    assert_begins_with(&json(ClientJson::new(&client(7), "v".into(), "s".into())), CLIENT);
    let text = json(StreamJson::new(&stream(), "s".into(), "v".into(), 1));
    assert_begins_with(&text, STREAM);
    for part in ["\"codec\":\"HEVC\"", "\"url\":\"a.b/live/cam\"", "\"cid\":\"7\"", "\"clients\":3", "\"frames\":60"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let vhost = VhostReport {
        name: "a.b".to_owned(),
        enabled: true,
        clients: 1,
        streams: 1,
        bytes_in: 1,
        bytes_out: 1,
        kbps_in: 1,
        kbps_out: 1,
        hls: true,
        hls_fragment_ms: 2000,
    };
    assert_eq!(shape(&json(VhostJson::new(&vhost, "v".into()))), VHOST);
    let readings = Readings::read(st::now());
    assert_eq!(shape(&readings.meminfos().finish()), MEMINFOS);
    assert_eq!(shape(&rusages().finish()), RUSAGES);
    let totals = ServerTotals { uptime_s: 1, bytes_in: 2, bytes_out: 3, connections: 4 };
    assert_eq!(shape(&readings.summaries(&CpuMeter::default(), &totals).finish()), SUMMARIES);
}

#[test]
fn streams_have_one_id_and_several_names() {
    st::run(|| {
        let config = Config::parse("t", "listen 1; vhost a { }").unwrap();
        let api = Core::new(Context::new(ConfigCell::new(Arc::new(config)).0));
        let id = api.id("a.b/live/cam");
        assert!(id.starts_with("vid-") && id == api.id("a.b/live/cam") && id != api.id("a.b/live/cam2"));
        for (wanted, expected) in
            [("a.b/live/cam", true), ("live/cam", true), (&*id, true), ("cam", false), ("", false), ("vid-1", false)]
        {
            assert_eq!(api.is_stream("a.b/live/cam", wanted), expected, "{wanted}");
        }
        let request =
            parse(b"GET /api/v1/requests?a=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer hush\r\nX\": y\r\n\r\n");
        if let Ok(Some((request, _))) = request {
            let text = about::request(&request).finish();
            assert!(!text.contains("hush") && serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    })
    .unwrap();
}

#[test]
fn a_callback_makes_a_script_of_json_only() {
    let script = |callback: &str| jsonp(error(NO_CLIENT), callback);
    let response = script("f.g_1");
    assert_eq!(response.body_bytes().as_deref(), Some(&b"f.g_1({\"code\":2049})"[..]));
    for bad in ["", "alert(1)//", "a b", "\u{e9}", &"x".repeat(65)] {
        assert_eq!(script(bad).head.status, Status::BadRequest, "{bad}");
    }
    assert_eq!(jsonp(*not_found("x"), "f").head.status, Status::NotFound);
}
