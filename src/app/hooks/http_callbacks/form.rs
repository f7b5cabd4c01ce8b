//! The requests of nginx-rtmp (`hooks_format form`): url-encoded fields with its names, so that programs written for it work.

use std::fmt::Write as _;

use super::body::{BodyWriter, EventId, param};
use super::hook::{Detail, Hook, Subject};
use crate::app::session::info::ClientInfo;

/// Writes the body of a callback. The client's own parameters follow the fields, without those that would shadow one.
pub(super) fn write(bodies: &BodyWriter, hook: Hook, subject: &Subject<'_>) -> String {
    let EventId { event_id, time, .. } = bodies.next_id();
    let mut form = Form::default();
    let name = subject.stream.map_or("", |stream| &stream.stream);
    if let Some(client) = subject.client {
        form.client(client);
        form.add("call", call(hook, &subject.detail));
        match hook {
            Hook::Connect => form.add("epoch", &(time / 1000).to_string()),
            Hook::Close => {}
            _ => form.add("name", name),
        }
        if hook == Hook::Publish {
            form.add("type", "live");
        }
    } else {
        let (server, service) = bodies.names();
        form.add("call", call(hook, &subject.detail));
        form.add("server_id", server);
        form.add("service_id", service);
    }
    match subject.detail {
        Detail::Update { seconds, .. } => form.add("time", &seconds.to_string()),
        Detail::Recording { file, .. } => form.add("path", &file.display().to_string()),
        Detail::Segment(segment) => {
            form.add("path", &segment.root.join(&segment.path).display().to_string());
            form.add("duration", &format!("{:.3}", segment.duration_ms as f64 / 1000.0));
        }
        Detail::Traffic(traffic) => {
            form.add("bytes_out", &traffic.sent.to_string());
            form.add("bytes_in", &traffic.received.to_string());
        }
        Detail::None | Detail::Fields(_) => {}
    }
    form.add("event_id", &event_id);
    if let Some(client) = subject.client.filter(|_| hook != Hook::Close) {
        form.parameters(param(client, subject.stream).trim_start_matches('?'));
    }
    form.0
}

/// Returns the name of the callback in nginx-rtmp; those that it does not have keep theirs without `on_`.
fn call(hook: Hook, detail: &Detail<'_>) -> &'static str {
    match (hook, detail) {
        (Hook::Close, _) => "disconnect",
        (Hook::Unpublish, _) => "publish_done",
        (Hook::Stop, _) => "play_done",
        (Hook::Dvr, _) => "record_done",
        (Hook::Update, Detail::Update { is_publishing: true, .. }) => "update_publish",
        (Hook::Update, _) => "update_play",
        _ => hook.name().trim_start_matches("on_"),
    }
}

#[derive(Default)]
struct Form(String);

impl Form {
    fn client(&mut self, client: &ClientInfo) {
        self.add("app", &client.app);
        // Not kept after `connect`; the fields are there for programs that expect them.
        self.add("flashver", "");
        self.add("swfurl", "");
        self.add("tcurl", &client.tc_url);
        self.add("pageurl", &client.page_url);
        self.add("addr", &client.ip.to_string());
        self.add("clientid", &client.id.to_string());
    }

    fn add(&mut self, key: &str, value: &str) {
        let separator = if self.0.is_empty() { "" } else { "&" };
        let _ = write!(self.0, "{separator}{key}={}", encode(value));
    }

    fn parameters(&mut self, params: &str) {
        for pair in params.split('&').filter(|pair| !pair.is_empty() && is_plain(pair)) {
            let key = pair.split('=').next().unwrap_or_default();
            // An encoded key could become the name of a field.
            if !key.contains(['%', '+']) && !self.has(key) {
                self.0.push('&');
                self.0.push_str(pair);
            }
        }
    }

    fn has(&self, key: &str) -> bool {
        self.0.split('&').any(|pair| pair.split('=').next() == Some(key))
    }
}

fn is_plain(pair: &str) -> bool {
    pair.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Encodes a value as nginx does: everything but letters, digits and `-._~` becomes `%XX`.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::hook::Traffic;
    use super::*;
    use crate::app::session::info::StreamInfo;

    fn body(hook: Hook, params: &str, detail: Detail<'_>) -> String {
        let client = ClientInfo { tc_url: "rtmp://h/live".into(), ..ClientInfo::of_test(7) };
        let [vhost, app, stream, params] = ["v", "live", "cam 1", params].map(str::to_owned);
        let stream = StreamInfo { vhost, app, stream, name: "v/live/cam 1".into(), params };
        let bodies = BodyWriter::new();
        let body = write(&bodies, hook, &Subject { client: Some(&client), stream: Some(&stream), detail });
        // Its value is random.
        let (before, after) = body.split_once("&event_id=").unwrap();
        let rest = after.find('&').map_or("", |at| &after[at..]);
        format!("{before}{rest}")
    }

    const CLIENT: &str =
        "app=live&flashver=&swfurl=&tcurl=rtmp%3A%2F%2Fh%2Flive&pageurl=&addr=127.0.0.1&clientid=7&call=";

    #[test]
    fn fields_are_those_of_nginx_rtmp() {
        for (hook, detail, rest) in [
            (Hook::Publish, Detail::None, "publish&name=cam%201&type=live&a=b"),
            (Hook::Play, Detail::None, "play&name=cam%201&a=b"),
            (Hook::Unpublish, Detail::None, "publish_done&name=cam%201&a=b"),
            (Hook::Stop, Detail::None, "play_done&name=cam%201&a=b"),
            (
                Hook::Update,
                Detail::Update { is_publishing: true, seconds: 30 },
                "update_publish&name=cam%201&time=30&a=b",
            ),
            (Hook::Update, Detail::Update { is_publishing: false, seconds: 5 }, "update_play&name=cam%201&time=5&a=b"),
            (Hook::Close, Detail::Traffic(Traffic { sent: 1, received: 2 }), "disconnect&bytes_out=1&bytes_in=2"),
        ] {
            assert_eq!(body(hook, "a=b", detail), format!("{CLIENT}{rest}"), "{hook:?}");
        }
    }

    #[test]
    fn parameters_of_a_client_shadow_no_field() {
        let body = body(Hook::Play, "name=other&addr=10.0.0.1&na%6De=z&token=x&call=publish&a b&token=y", Detail::None);
        assert_eq!(body, format!("{CLIENT}play&name=cam%201&token=x"));
    }
}
