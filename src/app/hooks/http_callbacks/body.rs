//! The bodies of the requests: the fields of SRS 6 in its order, then those of this server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{DEFAULT_VHOST, HookUrl, HttpHooks};
use crate::st;

/// A callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Connect,
    Close,
    Publish,
    Unpublish,
    Play,
    Stop,
}

impl Hook {
    /// Returns the name of the directive, which is the `action` of the body.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "on_connect",
            Self::Close => "on_close",
            Self::Publish => "on_publish",
            Self::Unpublish => "on_unpublish",
            Self::Play => "on_play",
            Self::Stop => "on_stop",
        }
    }

    /// Returns the URLs of the directive.
    pub(super) fn urls(self, hooks: &HttpHooks) -> &[HookUrl] {
        match self {
            Self::Connect => &hooks.on_connect,
            Self::Close => &hooks.on_close,
            Self::Publish => &hooks.on_publish,
            Self::Unpublish => &hooks.on_unpublish,
            Self::Play => &hooks.on_play,
            Self::Stop => &hooks.on_stop,
        }
    }
}

/// Bytes of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Writes the bodies of one run of the server.
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
            random = milliseconds().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        }
        let [server, service] = [0, 8].map(|at| random[at..at + 8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte)));
        Self {
            server_id: format!("vid-{}", base36(server, 7)),
            service_id: base36(service, 8),
            last_seq: AtomicU64::new(0),
        }
    }

    /// Writes the body of a callback. `traffic` is that of [`Hook::Close`], which names no stream.
    pub(super) fn write(
        &self,
        hook: Hook,
        client: &Arc<ClientInfo>,
        stream: Option<&StreamInfo>,
        traffic: Traffic,
    ) -> String {
        let mut body = Object::default();
        body.text("server_id", &self.server_id);
        body.text("service_id", &self.service_id);
        body.text("action", hook.name());
        body.text("client_id", &client.id.to_string());
        body.text("ip", &client.ip.to_string());
        body.text("vhost", stream.map_or(&client.vhost, |stream| &stream.vhost));
        body.text("app", &client.app);
        let name = stream.map_or("", |stream| &stream.stream);
        let param = param(client, stream);
        match hook {
            Hook::Connect => {
                body.text("stream", name);
                body.text("param", &param);
                body.text("tcUrl", &client.tc_url);
                body.text("pageUrl", &client.page_url);
            }
            Hook::Close => {
                body.number("send_bytes", traffic.sent);
                body.number("recv_bytes", traffic.received);
            }
            Hook::Publish | Hook::Unpublish | Hook::Stop => {
                body.text("tcUrl", &client.tc_url);
                body.text("stream", name);
                body.text("param", &param);
            }
            Hook::Play => {
                body.text("stream", name);
                body.text("tcUrl", &client.tc_url);
                body.text("param", &param);
                body.text("pageUrl", &client.page_url);
            }
        }
        if let Some(stream) = stream.filter(|_| hook != Hook::Connect) {
            let vhost = if stream.vhost == DEFAULT_VHOST { "" } else { &stream.vhost };
            body.text("stream_url", &format!("{vhost}/{}/{}", stream.app, stream.stream));
            body.text("stream_id", &format!("vid-{}", base36(fnv(&stream.name), 7)));
        }
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed) + 1;
        body.text("event_id", &format!("{}-{seq}", self.service_id));
        body.number("seq", seq);
        body.text("session_id", &format!("{}-{}", self.service_id, client.id));
        body.number("time", u64::try_from(milliseconds()).unwrap_or(u64::MAX));
        body.finish()
    }
}

/// Returns the parameters of application and stream, with their `?`; empty if there are none.
fn param(client: &ClientInfo, stream: Option<&StreamInfo>) -> String {
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

fn milliseconds() -> u128 {
    st::system_time().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(app_params: &str) -> Arc<ClientInfo> {
        Arc::new(ClientInfo {
            id: 7,
            ip: "127.0.0.1".parse().unwrap(),
            vhost: "__defaultVhost__".into(),
            app: "live".into(),
            app_params: app_params.into(),
            tc_url: "rtmp://127.0.0.1:21935/live".into(),
            page_url: "a \"page\"\n".into(),
            forward_route: String::new(),
        })
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
            let body = writer.write(hook, &client(""), named, Traffic { sent: 2, received: 1 });
            let due = format!("server_id service_id action client_id ip {expected} event_id seq session_id time");
            assert_eq!(fields(&body).join(" "), due, "{body}");
        }
    }

    #[test]
    fn values_have_the_types_of_srs_6() {
        let writer = BodyWriter::new();
        let stream = stream("demo.com", "token=abc");
        let body = writer.write(Hook::Play, &client("user=1"), Some(&stream), Traffic::default());
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
        let body = writer.write(Hook::Close, &client(""), None, Traffic { sent: 904_498, received: 3485 });
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&value["send_bytes"], &value["recv_bytes"], &value["seq"]),
            (&904_498.into(), &3485.into(), &2.into())
        );
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
