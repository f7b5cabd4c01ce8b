//! The JSON of what SRS does not have: changes of a reload, closes, forwarders, recordings, bans, settings.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::http::handlers::api::bans::Ban;
use crate::app::session::close;
use crate::app::session::recordings::{ActiveRecording, FinishedRecording};
use crate::app::stats::snapshot::CloseCount;
use crate::config::EffectiveValue;
use crate::config::plan::Change;
use crate::st;

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct ChangeJson {
    directive: String,
    before: Option<String>,
    after: Option<String>,
    takes_effect: String,
}

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct CloseJson {
    code: &'static str,
    count: u64,
    /// A normal end, or one that an operator caused.
    ordinary: bool,
}

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct ForwarderJson {
    id: String,
    stream: String,
    /// The target, without keys.
    target: String,
    state: String,
    /// Time that the target is behind the live point.
    delay_ms: u64,
    attempts: u64,
    last_error: Option<String>,
    bytes_out: u64,
    kbps_out: u64,
    messages: u64,
    dropped: u64,
}

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct RecordingJson<'a> {
    id: &'a str,
    state: &'static str,
    vhost: &'a str,
    app: &'a str,
    stream: &'a str,
    /// The file, below the directory of the recordings.
    path: Option<&'a str>,
    started_ms: u64,
    duration_ms: Option<u64>,
    bytes: u64,
}

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct BanJson {
    id: String,
    kind: &'static str,
    /// Name of the stream in the server, or the address.
    what: String,
    seconds_left: u64,
}

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct SettingJson {
    /// The block, such as `publish in vhost a.b`; empty at the top of the file.
    block: String,
    directive: &'static str,
    value: Option<String>,
    default: Option<&'static str>,
    /// `FILE:LINE`, `environment variable NAME`, or `default`.
    origin: String,
    secret: bool,
    /// The time at which a reload applies a change.
    reload: String,
}

impl From<&Change> for ChangeJson {
    fn from(change: &Change) -> Self {
        let (before, after) = change.values.clone().unzip();
        Self { directive: change.at.clone(), before, after, takes_effect: change.reload.to_string() }
    }
}

impl From<&CloseCount> for CloseJson {
    fn from(close: &CloseCount) -> Self {
        Self { code: close.code, count: close.count, ordinary: close::is_ordinary_code(close.code) }
    }
}

impl From<Map<String, Value>> for ForwarderJson {
    fn from(item: Map<String, Value>) -> Self {
        let text = |name| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name| item.get(name).and_then(Value::as_u64).unwrap_or(0);
        Self {
            id: number("id").to_string(),
            stream: text("stream").unwrap_or_default(),
            target: text("target").unwrap_or_default(),
            state: text("state").unwrap_or_default(),
            delay_ms: number("delay_ms"),
            attempts: number("attempts"),
            last_error: text("last_error"),
            bytes_out: number("bytes_out"),
            kbps_out: number("kbps_out"),
            messages: number("messages"),
            dropped: number("dropped"),
        }
    }
}

impl<'a> RecordingJson<'a> {
    pub(in crate::app::http::handlers::api) const ACTIVE: &'static str = "recording";
    pub(in crate::app::http::handlers::api) const FINISHED: &'static str = "finished";

    pub(in crate::app::http::handlers::api) fn active(active: &'a ActiveRecording) -> Self {
        let ActiveRecording { vhost, app, stream, started_ms, bytes } = active;
        let (started_ms, bytes) = (*started_ms, *bytes);
        Self { id: "", state: Self::ACTIVE, vhost, app, stream, path: None, started_ms, duration_ms: None, bytes }
    }

    pub(in crate::app::http::handlers::api) fn finished(finished: &'a FinishedRecording) -> Self {
        let entry = &finished.entry;
        Self {
            id: &finished.id,
            state: Self::FINISHED,
            vhost: &entry.vhost,
            app: &entry.app,
            stream: &entry.stream,
            // The names of streams and directories are UTF-8.
            path: entry.path.to_str(),
            started_ms: entry.started_ms,
            duration_ms: Some(entry.duration_ms),
            bytes: entry.bytes,
        }
    }
}

impl From<&Ban> for BanJson {
    fn from(ban: &Ban) -> Self {
        let left = ban.until.saturating_duration_since(st::now());
        Self {
            id: ban.id.to_string(),
            kind: ban.target.kind(),
            what: ban.target.value(),
            seconds_left: left.as_secs_f64().ceil() as u64,
        }
    }
}

impl From<&EffectiveValue> for SettingJson {
    fn from(value: &EffectiveValue) -> Self {
        Self {
            block: value.block.clone(),
            directive: value.directive,
            value: value.value.clone(),
            default: value.default,
            origin: value.origin.clone().unwrap_or_else(|| "default".to_owned()),
            secret: value.is_secret,
            reload: value.reload.map(|reload| reload.to_string()).unwrap_or_default(),
        }
    }
}
