//! The last events of the server, numbered, and those who are told of new ones.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::offenders::Offenders;
use super::system::unix_ms;
use crate::app::context::Context;
use crate::app::events::{Event, Listener};
use crate::app::session::bandwidth_report::BandwidthReport;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stream::StreamEvent;
use crate::config::Config;
use crate::memory::{Category, Charge};
use crate::st::net::TcpStream;
use crate::st::{self, Shared};

/// Events that are kept, and their bytes.
pub(super) const MAX_EVENTS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

const MAX_CLOSES: usize = 100;

/// Readers at a time: each is woken by each event.
const MAX_READERS: usize = 64;

/// Bytes kept of a text that a client can make long.
const MAX_TEXT: usize = 512;

/// The last events. Events are recorded while the API is on.
pub(super) struct EventLog {
    ctx: Context,
    offenders: Arc<Offenders>,
    state: Shared<State>,
}

struct State {
    last: u64,
    events: VecDeque<Entry>,
    bytes: usize,
    charge: Charge,
    closes: VecDeque<Arc<str>>,
    readers: Vec<(u64, TcpStream)>,
    last_reader: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) name: &'static str,
    pub(super) stream: Option<Arc<str>>,
    pub(super) json: Arc<str>,
}

/// A reader's registration. Dropping it ends it.
pub(super) struct ReaderGuard {
    log: Arc<EventLog>,
    id: u64,
}

#[derive(Default, Serialize)]
struct EventJson<'a> {
    seq: u64,
    time_ms: u64,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordinary: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth: Option<&'a BandwidthReport>,
}

impl EventLog {
    pub(super) fn new(ctx: Context, offenders: Arc<Offenders>) -> Self {
        let charge = ctx.memory.charge(Category::Http);
        let state = State {
            last: 0,
            events: VecDeque::new(),
            bytes: 0,
            charge,
            closes: VecDeque::new(),
            readers: Vec::new(),
            last_reader: 0,
        };
        Self { ctx, offenders, state: Shared::new(state) }
    }

    pub(super) fn record_reload(&self) {
        self.record(EventJson { event: "reloaded", ..EventJson::default() });
    }

    /// Returns the number of the last event, and of the first that is kept; one more if none is.
    pub(super) fn range(&self) -> (u64, u64) {
        self.state.with(|state| (state.last, state.first_seq()))
    }

    /// Returns the first events after `seq`, at most `count`. `None`: some of them are no longer kept.
    pub(super) fn after(&self, seq: u64, count: usize) -> Option<Vec<Entry>> {
        self.state.with(|state| {
            let start = (seq + 1).checked_sub(state.first_seq())?;
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            Some(state.events.iter().skip(start).take(count).cloned().collect())
        })
    }

    pub(super) fn recent_closes(&self) -> Vec<Arc<str>> {
        self.state.with(|state| state.closes.iter().rev().cloned().collect())
    }

    /// Wakes the connection of a reader at each new event, as long as the guard lives. `None`: there are too many.
    pub(super) fn add_reader(self: &Arc<Self>, stream: &TcpStream) -> Option<ReaderGuard> {
        self.state.with(|state| {
            if state.readers.len() >= MAX_READERS {
                return None;
            }
            state.last_reader += 1;
            state.readers.push((state.last_reader, stream.clone()));
            Some(ReaderGuard { log: self.clone(), id: state.last_reader })
        })
    }

    pub(super) fn reader_count(&self) -> u64 {
        self.state.with(|state| state.readers.len() as u64)
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.with(|state| state.readers.len() < MAX_READERS)
    }

    fn record(&self, mut event: EventJson<'_>) {
        if !is_api_enabled(&self.ctx.config.get()) {
            return;
        }
        event.time_ms = unix_ms();
        // Events also occur while a panic unwinds.
        self.state.try_with(|state| {
            event.seq = state.last + 1;
            // Numbers and texts always have a JSON form.
            let json: Arc<str> = serde_json::to_string(&event).unwrap_or_default().into();
            if matches!(event.event, "closed" | "refused") {
                state.closes.push_back(json.clone());
                if state.closes.len() > MAX_CLOSES {
                    state.closes.pop_front();
                }
            }
            state.push(event.event, event.name.map(Arc::from), json);
        });
    }

    fn record_close(&self, client: &ClientInfo, reason: &CloseReason, seconds: f64, bytes: (u64, u64)) {
        self.record(
            EventJson { event: "closed", seconds: Some(seconds), ..of_client(client) }.with_reason(reason, bytes),
        );
    }
}

impl State {
    /// Returns the number of the first event that is kept, or else of the next one.
    fn first_seq(&self) -> u64 {
        self.events.front().map_or(self.last + 1, |entry| entry.seq)
    }

    fn push(&mut self, name: &'static str, stream: Option<Arc<str>>, json: Arc<str>) {
        self.last += 1;
        self.bytes += json.len();
        self.events.push_back(Entry { seq: self.last, name, stream, json });
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.json.len();
        }
        self.charge.set(self.bytes);
        for (_, reader) in &self.readers {
            reader.wake();
        }
    }
}

impl Listener for EventLog {
    fn on_event(&self, event: &Event) {
        let offence = match event {
            Event::Closed { client, reason, .. } => Some((client.ip, reason.code())),
            Event::Refused { ip, reason, .. } => Some((*ip, reason.code())),
            _ => None,
        };
        if let Some((ip, code)) = offence.filter(|_| is_api_enabled(&self.ctx.config.get())) {
            self.offenders.record_close(ip, code, st::now());
        }
        match event {
            Event::Connected(client) => self.record(EventJson { event: "connected", ..of_client(client) }),
            Event::Closed { client, reason, lasted, bytes_in, bytes_out } => {
                self.record_close(client, reason, lasted.as_secs_f64(), (*bytes_in, *bytes_out));
            }
            Event::Refused { id, ip, reason, lasted, bytes_in, bytes_out } => {
                let client = EventJson { client: Some(id.to_string()), ip: Some(*ip), ..EventJson::default() };
                let seconds = Some(lasted.as_secs_f64());
                let event = EventJson { event: "refused", seconds, ..client };
                self.record(event.with_reason(reason, (*bytes_in, *bytes_out)));
            }
            Event::Stream(event) => self.record(of_stream_event(event)),
            Event::Recorded { stream, path, .. } => {
                self.record(EventJson { event: "recorded", path: Some(path), ..of_stream(stream) });
            }
            Event::BandwidthTested(report) => self.record(EventJson {
                event: "bandwidth_tested",
                client: Some(report.client_id.to_string()),
                ip: Some(report.ip),
                vhost: Some(&report.vhost),
                bandwidth: Some(report),
                ..EventJson::default()
            }),
            // There are many, and they matter to backends only.
            Event::Segment(_) | Event::ForwardTargets { .. } => {}
        }
    }
}

impl EventJson<'_> {
    fn with_reason(self, reason: &CloseReason, (bytes_in, bytes_out): (u64, u64)) -> Self {
        let mut text = reason.to_string();
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        Self {
            code: Some(reason.code()),
            reason: Some(text),
            ordinary: Some(reason.is_ordinary()),
            bytes_in: Some(bytes_in),
            bytes_out: Some(bytes_out),
            ..self
        }
    }
}

fn of_client(client: &ClientInfo) -> EventJson<'_> {
    EventJson {
        client: Some(client.id.to_string()),
        ip: Some(client.ip),
        vhost: Some(&client.vhost),
        app: Some(&client.app),
        ..EventJson::default()
    }
}

fn of_stream(stream: &StreamInfo) -> EventJson<'_> {
    EventJson {
        vhost: Some(&stream.vhost),
        app: Some(&stream.app),
        stream: Some(&stream.stream),
        name: Some(&stream.name),
        ..EventJson::default()
    }
}

fn of_stream_and_client<'a>(event: &'static str, stream: &'a StreamInfo, client: &ClientInfo) -> EventJson<'a> {
    EventJson { event, client: Some(client.id.to_string()), ip: Some(client.ip), ..of_stream(stream) }
}

fn of_stream_event(event: &StreamEvent) -> EventJson<'_> {
    match event {
        StreamEvent::Published { stream, client, resumed, .. } => {
            EventJson { resumed: Some(*resumed), ..of_stream_and_client("published", stream, client) }
        }
        StreamEvent::PublisherLost { stream, client } => of_stream_and_client("publisher_lost", stream, client),
        StreamEvent::Unpublished { stream } => EventJson { event: "unpublished", ..of_stream(stream) },
        StreamEvent::Played { stream, client } => of_stream_and_client("played", stream, client),
        StreamEvent::Stopped { stream, client } => of_stream_and_client("stopped", stream, client),
        StreamEvent::CodecsKnown { stream, codecs } => EventJson {
            event: "codecs",
            video: codecs.video.map(|codec| codec.to_string()),
            audio: codecs.audio.map(|codec| codec.to_string()),
            ..of_stream(stream)
        },
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.log.state.try_with(|state| state.readers.retain(|(id, _)| *id != self.id));
    }
}

/// Returns whether the API is served anywhere.
pub(super) fn is_api_enabled(config: &Config) -> bool {
    config.http_api.enabled || (config.http_server.enabled && config.http_server.api)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigCell;

    fn log(api: &str) -> EventLog {
        let config = Config::parse("t", &format!("listen 1; {api} vhost a {{ }}")).unwrap();
        EventLog::new(Context::new(ConfigCell::new(Arc::new(config)).0), Arc::default())
    }

    #[test]
    fn events_are_numbered_and_the_oldest_are_forgotten() {
        st::run(|| {
            let log = log("http_api { enabled on; }");
            assert_eq!((log.range(), log.after(0, 10).unwrap().len()), ((0, 1), 0));
            for _ in 0..MAX_EVENTS + 5 {
                log.record_reload();
            }
            let last = MAX_EVENTS as u64 + 5;
            assert_eq!(log.range(), (last, 6));
            assert!(log.after(4, 10).is_none(), "event 5 is gone");
            let numbers: Vec<_> = log.after(5, 3).unwrap().iter().map(|entry| entry.seq).collect();
            assert_eq!(numbers, [6, 7, 8]);
            assert!(log.after(last, 3).unwrap().is_empty());
            let entry = &log.after(last - 1, 3).unwrap()[0];
            let json: serde_json::Value = serde_json::from_str(&entry.json).unwrap();
            assert_eq!((json["seq"].as_u64(), json["event"].as_str()), (Some(last), Some("reloaded")));
        })
        .unwrap();
    }

    #[test]
    fn long_texts_are_cut_and_bytes_are_bounded() {
        st::run(|| {
            let log = log("http_api { enabled on; }");
            let client = ClientInfo {
                id: 1,
                ip: "192.0.2.1".parse().unwrap(),
                vhost: "a".to_owned(),
                app: "é".repeat(127),
                app_params: String::new(),
                tc_url: String::new(),
                page_url: String::new(),
                forward_route: String::new(),
                engine: None,
            };
            for _ in 0..2 * MAX_EVENTS {
                log.record_close(&client, &CloseReason::Network("ü".repeat(5000)), 1.0, (1, 2));
            }
            let bytes = log.state.with(|state| (state.bytes, state.charge.get()));
            assert!(bytes.0 <= MAX_BYTES && bytes.0 == bytes.1, "{bytes:?}");
            assert_eq!(log.recent_closes().len(), MAX_CLOSES);
            assert!(log.recent_closes()[0].len() < 1000);
        })
        .unwrap();
    }

    #[test]
    fn nothing_is_recorded_while_the_api_is_off() {
        st::run(|| {
            let log = log("");
            log.record_reload();
            assert_eq!(log.range(), (0, 1));
        })
        .unwrap();
    }
}
