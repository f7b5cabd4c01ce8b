//! The bodies of the requests: the fields of SRS 6 in its order, then those of this server.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::hook::{Detail, Hook, Subject};
use crate::app::session::bandwidth_report::BandwidthReport;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::DEFAULT_VHOST;
use crate::st;

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

    pub(super) fn next_id(&self) -> EventId {
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed) + 1;
        EventId { event_id: format!("{}-{seq}", self.service_id), seq, time: milliseconds() }
    }

    pub(super) fn names(&self) -> (&str, &str) {
        (&self.server_id, &self.service_id)
    }

    pub(super) fn write(&self, hook: Hook, subject: &Subject<'_>) -> String {
        self.write_as(hook, subject, self.next_id())
    }

    /// Writes the body of a client's end that is told only if this process dies: it has no number.
    pub(super) fn write_end(&self, hook: Hook, subject: &Subject<'_>) -> String {
        let client = subject.client.map_or(0, |client| client.id);
        let event_id = format!("{}-{client}-{}", self.service_id, hook.name());
        self.write_as(hook, subject, EventId { event_id, seq: 0, time: milliseconds() })
    }

    /// Returns the body of [`BodyWriter::write_end`] with the present time.
    pub(super) fn with_time(&self, body: &str) -> String {
        match body.rsplit_once(",\"time\":") {
            Some((fields, _)) => format!("{fields},\"time\":{}}}", milliseconds()),
            None => body.to_owned(),
        }
    }

    fn write_as(&self, hook: Hook, subject: &Subject<'_>, id: EventId) -> String {
        let mut body = Object::default();
        body.text("server_id", &self.server_id);
        body.text("service_id", &self.service_id);
        body.text("action", hook.name());
        if let Some(client) = subject.client {
            self.write_client(&mut body, hook, client, subject);
        }
        if let Detail::Fields(fields) = subject.detail {
            fields.iter().for_each(|(key, value)| body.add(key, value));
        }
        self.write_id(&mut body, id, subject.client.map(|client| client.id));
        body.finish()
    }

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

    fn write_id(&self, body: &mut Object, id: EventId, client: Option<u64>) {
        body.text("event_id", &id.event_id);
        body.number("seq", id.seq);
        if let Some(client) = client {
            body.text("session_id", &self.session_id(client));
        }
        body.number("time", id.time);
    }

    fn write_client(&self, body: &mut Object, hook: Hook, client: &ClientInfo, subject: &Subject<'_>) {
        let stream = subject.stream;
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
        write_detail(body, &subject.detail);
        if let Some(stream) = stream.filter(|_| hook != Hook::Connect) {
            let vhost = if stream.vhost == DEFAULT_VHOST { "" } else { &stream.vhost };
            body.text("stream_url", &format!("{vhost}/{}/{}", stream.app, stream.stream));
            body.text("stream_id", &format!("vid-{}", base36(fnv(&stream.name), 7)));
        }
    }
}

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
mod tests;
