//! The bodies of the requests: the fields of SRS 6 in its order, then those of this server.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::hook::{About, Detail, Hook};
use crate::app::session::bandwidth_report::BandwidthReport;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::DEFAULT_VHOST;
use crate::st;

/// Writer of the bodies of one run of the server.
pub(super) struct BodyWriter {
    server_id: String,
    service_id: String,
    last_seq: AtomicU64,
}

impl BodyWriter {
    /// Creates a writer with new random names for the server and for this run of it.
    pub(super) fn new() -> Self {
        let mut random = [0; 16];
        // Without random numbers, the time tells two runs apart.
        if getrandom::fill(&mut random).is_err() {
            random = u128::from(milliseconds()).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        }
        let [server, service] = [0, 8].map(|at| random[at..at + 8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte)));
        Self {
            server_id: format!("vid-{}", base36(server, 7)),
            service_id: base36(service, 8),
            last_seq: AtomicU64::new(0),
        }
    }

    /// Returns the identity of the next callback.
    pub(super) fn next_id(&self) -> EventId {
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed) + 1;
        EventId { event_id: format!("{}-{seq}", self.service_id), seq, time: milliseconds() }
    }

    /// Returns the names of the server and of this run of it.
    pub(super) fn names(&self) -> (&str, &str) {
        (&self.server_id, &self.service_id)
    }

    /// Writes the body of a callback.
    pub(super) fn write(&self, hook: Hook, about: &About<'_>) -> String {
        self.write_as(hook, about, self.next_id())
    }

    /// Writes the body of a client's end that is told only if this process dies: it has no number.
    pub(super) fn write_end(&self, hook: Hook, about: &About<'_>) -> String {
        let client = about.client.map_or(0, |client| client.id);
        let event_id = format!("{}-{client}-{}", self.service_id, hook.name());
        self.write_as(hook, about, EventId { event_id, seq: 0, time: milliseconds() })
    }

    /// Returns the body of [`BodyWriter::write_end`] with the present time.
    pub(super) fn with_time(&self, body: &str) -> String {
        match body.rsplit_once(",\"time\":") {
            Some((fields, _)) => format!("{fields},\"time\":{}}}", milliseconds()),
            None => body.to_owned(),
        }
    }

    fn write_as(&self, hook: Hook, about: &About<'_>, id: EventId) -> String {
        let mut body = Object::default();
        body.text("server_id", &self.server_id);
        body.text("service_id", &self.service_id);
        body.text("action", hook.name());
        if let Some(client) = about.client {
            self.write_client(&mut body, hook, client, about);
        }
        if let Detail::Fields(fields) = about.detail {
            fields.iter().for_each(|(key, value)| body.add(key, value));
        }
        self.write_id(&mut body, id, about.client.map(|client| client.id));
        body.finish()
    }

    /// Writes the body of [`Hook::Bandwidth`].
    pub(super) fn write_result(&self, report: &BandwidthReport) -> String {
        let mut body = Object::default();
        body.text("server_id", &self.server_id);
        body.text("service_id", &self.service_id);
        body.text("action", Hook::Bandwidth.name());
        body.text("client_id", &report.client_id.to_string());
        body.text("ip", &report.ip.to_string());
        body.text("vhost", &report.vhost);
        body.text("protocol", report.protocol);
        for (key, value) in [
            ("start_time", report.start_time),
            ("end_time", report.end_time),
            ("play_kbps", report.play_kbps),
            ("publish_kbps", report.publish_kbps),
            ("play_bytes", report.play_bytes),
            ("publish_bytes", report.publish_bytes),
            ("play_time", report.play_time),
            ("publish_time", report.publish_time),
            ("retransmits", report.retransmits),
        ] {
            body.number(key, value);
        }
        body.add("rtt_ms", &Value::from(report.rtt_ms));
        body.add("jitter_ms", &Value::from(report.jitter_ms));
        self.write_id(&mut body, self.next_id(), Some(report.client_id));
        body.finish()
    }

    /// Returns the name of a client that no other client of this server has, not even after a restart.
    pub(super) fn session_id(&self, client: u64) -> String {
        format!("{}-{client}", self.service_id)
    }

    /// Writes the fields that end each body.
    fn write_id(&self, body: &mut Object, id: EventId, client: Option<u64>) {
        body.text("event_id", &id.event_id);
        body.number("seq", id.seq);
        if let Some(client) = client {
            body.text("session_id", &self.session_id(client));
        }
        body.number("time", id.time);
    }

    fn write_client(&self, body: &mut Object, hook: Hook, client: &ClientInfo, about: &About<'_>) {
        let stream = about.stream;
        body.text("client_id", &client.id.to_string());
        body.text("ip", &client.ip.to_string());
        body.text("vhost", stream.map_or(&client.vhost, |stream| &stream.vhost));
        body.text("app", &client.app);
        let name = stream.map_or("", |stream| &stream.stream);
        let param = param(client, stream);
        match hook {
            Hook::Close => {}
            Hook::Connect => {
                body.text("stream", name);
                body.text("param", &param);
                body.text("tcUrl", &client.tc_url);
                body.text("pageUrl", &client.page_url);
            }
            Hook::Play => {
                body.text("stream", name);
                body.text("tcUrl", &client.tc_url);
                body.text("param", &param);
                body.text("pageUrl", &client.page_url);
            }
            _ => {
                body.text("tcUrl", &client.tc_url);
                body.text("stream", name);
                body.text("param", &param);
            }
        }
        write_detail(body, &about.detail);
        if let Some(stream) = stream.filter(|_| hook != Hook::Connect) {
            let vhost = if stream.vhost == DEFAULT_VHOST { "" } else { &stream.vhost };
            body.text("stream_url", &format!("{vhost}/{}/{}", stream.app, stream.stream));
            body.text("stream_id", &format!("vid-{}", base36(fnv(&stream.name), 7)));
        }
    }
}

/// The identity of a callback.
pub(super) struct EventId {
    pub(super) event_id: String,
    pub(super) seq: u64,
    /// Milliseconds since 1970.
    pub(super) time: u64,
}

fn write_detail(body: &mut Object, detail: &Detail<'_>) {
    match *detail {
        Detail::None | Detail::Fields(_) => {}
        Detail::Traffic(traffic) => {
            body.number("send_bytes", traffic.sent);
            body.number("recv_bytes", traffic.received);
        }
        Detail::Segment(segment) => {
            body.add("duration", &Value::from(segment.duration_ms as f64 / 1000.0));
            body.text("cwd", &working_directory());
            body.text("file", &segment.root.join(&segment.path).display().to_string());
            body.text("url", &segment.path);
            body.text("m3u8", &segment.root.join(&segment.playlist).display().to_string());
            body.text("m3u8_url", &segment.playlist);
            body.number("seq_no", segment.number);
        }
        Detail::Recording { file, more } => {
            body.text("cwd", &working_directory());
            body.text("file", &file.display().to_string());
            more.iter().for_each(|(key, value)| body.add(key, value));
        }
        Detail::Update { is_publishing, seconds } => {
            body.text("role", if is_publishing { "publish" } else { "play" });
            body.number("seconds", seconds);
        }
    }
}

/// Returns the directory against which relative paths are meant.
fn working_directory() -> String {
    std::env::current_dir().as_deref().unwrap_or(Path::new(".")).display().to_string()
}

/// Returns the parameters of application and stream, with their `?`; empty if there are none.
pub(super) fn param(client: &ClientInfo, stream: Option<&StreamInfo>) -> String {
    let stream = stream.map_or("", |stream| &stream.params);
    let app = Some(client.app_params.as_str()).filter(|&app| app != stream);
    let all: Vec<_> = app.into_iter().chain([stream]).filter(|params| !params.is_empty()).collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}

/// A JSON object whose fields keep their order.
#[derive(Default)]
struct Object(String);

impl Object {
    fn text(&mut self, key: &str, value: &str) {
        self.add(key, &Value::from(value));
    }

    fn number(&mut self, key: &str, value: u64) {
        self.add(key, &Value::from(value));
    }

    fn add(&mut self, key: &str, value: &Value) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&format!("\"{key}\":{value}"));
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Returns `length` digits and lower-case letters.
fn base36(mut number: u64, length: usize) -> String {
    let mut digits = String::new();
    for _ in 0..length {
        digits.extend(char::from_digit((number % 36) as u32, 36));
        number /= 36;
    }
    digits
}

/// Returns the FNV-1a hash: the same for the same name in each run.
pub(super) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn milliseconds() -> u64 {
    let time = st::system_time().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    u64::try_from(time).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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

    /// Returns the names of the fields in their order.
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
            let body = writer.write(hook, &About { client: Some(&client("")), stream: named, detail });
            let due = format!("server_id service_id action client_id ip {expected} event_id seq session_id time");
            assert_eq!(fields(&body).join(" "), due, "{body}");
        }
    }

    #[test]
    fn values_have_the_types_of_srs_6() {
        let writer = BodyWriter::new();
        let stream = stream("demo.com", "token=abc");
        let player = client("user=1");
        let about = About { client: Some(&player), stream: Some(&stream), detail: Detail::None };
        let body = writer.write(Hook::Play, &about);
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
        let body = writer.write(Hook::Close, &About { client: Some(&player), stream: None, detail });
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&value["send_bytes"], &value["recv_bytes"], &value["seq"]),
            (&904_498.into(), &3485.into(), &2.into())
        );
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
            let body = writer.write(hook, &About { client, stream: client.map(|_| &stream), detail });
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
            names.contains(
                " tcUrl stream param duration cwd file url m3u8 m3u8_url seq_no stream_url stream_id event_id "
            ),
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
}
