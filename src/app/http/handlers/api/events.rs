//! `/api/v1/events`: what happens, as server-sent events (WHATWG HTML, 9.2).
//!
//! A reader is a position in the [`EventLog`]. One that is too slow for it is disconnected, and nobody waits for it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, unavailable};
use super::call::Call;
use super::core::Core;
use super::event_log::{Entry, EventLog, MAX_EVENTS};
use super::json::Object;
use crate::app::http::End;
use crate::app::http::response::Response;
use crate::app::http::writer::BodyWriter;
use crate::config::{ConfigCell, HttpApi};
use crate::st;

/// Time without an event after which a comment is sent: proxies close connections that are silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

const MAX_BATCH: usize = 100;

const RETRY_MS: u32 = 2000;

struct Filter {
    types: Vec<String>,
    stream: Option<String>,
}

struct Reader {
    log: Arc<EventLog>,
    config: ConfigCell,
    /// The settings under which it was admitted.
    admitted: HttpApi,
    service: String,
    filter: Filter,
    /// Events of the past that it wants, if it does not say where it was.
    last_count: u64,
    /// Id of the last event that it has got before.
    position: Option<String>,
    seq: u64,
}

/// Answers with the events from now on, or from where the reader was.
pub(super) fn events(core: &Core, log: &Arc<EventLog>, call: &Call<'_>) -> Answer {
    let last_count = call.number("last", 0..=MAX_EVENTS as u64)?.unwrap_or(0);
    if !log.has_room() {
        return Err(unavailable("too many readers of events"));
    }
    let reader = Reader {
        log: log.clone(),
        config: core.ctx.config.clone(),
        admitted: core.ctx.config.get().http_api.clone(),
        service: core.service_id.clone(),
        filter: Filter {
            types: call.query("type").map(|types| types.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            stream: call.query("stream"),
        },
        last_count,
        position: call.request.headers.get("last-event-id").map(str::to_owned).or_else(|| call.query("after")),
        seq: 0,
    };
    let response = Response::stream("text/event-stream", move |writer| reader.run(writer));
    // nginx would collect the events.
    Ok(response.with("X-Accel-Buffering", "no"))
}

/// Returns the number of an event id, if it is one of this start of the server.
fn position_of(id: &str, service: &str, last: u64) -> Option<u64> {
    let (of, seq) = id.rsplit_once('-')?;
    seq.parse().ok().filter(|seq| of == service && *seq <= last)
}

impl Reader {
    fn run(mut self, writer: &mut BodyWriter<'_, '_>) -> Result<(), End> {
        let Some(_guard) = self.log.add_reader(writer.stream()) else { return Ok(()) };
        // Sent with the first events, because others may push these out of the log while this is written.
        let mut text = self.hello();
        let mut alive_at = st::now() + HEARTBEAT;
        loop {
            if self.config.get().http_api != self.admitted {
                // It may have to log in again.
                return Ok(());
            }
            // Its place is gone: it was too slow. It may come back and is told what it has missed.
            let Some(batch) = self.log.after(self.seq, MAX_BATCH) else { return Ok(()) };
            text += &self.format(&batch);
            if !text.is_empty() {
                writer.write(std::mem::take(&mut text).into())?;
                alive_at = st::now() + HEARTBEAT;
            }
            if batch.len() == MAX_BATCH {
                st::yield_now();
                continue;
            }
            if st::now() >= alive_at {
                writer.write(": alive\n\n".into())?;
                alive_at = st::now() + HEARTBEAT;
            }
            match writer.stream().try_read(&mut [0; 64])? {
                Some(0) => return Err(End::ByPeer),
                // No request can follow a response without an end.
                Some(_) => return Err(End::Done),
                None => {}
            }
            writer.stream().wait(Some(alive_at));
        }
    }

    /// Moves to the first event that the reader wants. Returns the text of an event about the stream of events itself.
    fn hello(&mut self) -> String {
        let (last, first) = self.log.range();
        let (seq, missed) = match self.position.as_deref().map(|id| position_of(id, &self.service, last)) {
            // The id is of this start of the server.
            Some(Some(seq)) => (seq.max(first - 1), Some((first - 1).saturating_sub(seq))),
            // The id is of another start: all events are new.
            Some(None) => (first - 1, None),
            None => (last.saturating_sub(self.last_count).max(first - 1), Some(0)),
        };
        self.seq = seq;
        let hello = Object::new()
            .with("service", &self.service)
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("seq", last)
            .with("missed", missed);
        format!("retry: {RETRY_MS}\nevent: hello\ndata: {}\n\n", hello.finish())
    }

    fn format(&mut self, batch: &[Entry]) -> String {
        let mut text = String::new();
        for entry in batch {
            self.seq = entry.seq;
            if self.filter.admits(entry) {
                let Entry { seq, name, json, .. } = entry;
                // Writing to a String cannot fail.
                let _ = write!(text, "id: {}-{seq}\nevent: {name}\ndata: {json}\n\n", self.service);
            }
        }
        text
    }
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let is_type = self.types.is_empty() || self.types.iter().any(|name| name == entry.name);
        is_type
            && self
                .stream
                .as_deref()
                .is_none_or(|wanted| entry.stream.as_deref().is_some_and(|name| is_of(name, wanted)))
    }
}

/// Returns whether `wanted` is the name of a stream, or its end: `cam`, `live/cam`, or `vhost/live/cam`.
fn is_of(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_one_start_of_the_server() {
        assert_eq!(position_of("a1-7", "a1", 9), Some(7));
        for id in ["a1-10", "b2-7", "a1-", "a1", "7", "", "a1--7"] {
            assert_eq!(position_of(id, "a1", 9), None, "{id}");
        }
    }

    #[test]
    fn filters_are_by_type_and_by_the_end_of_the_name() {
        let entry =
            |name, stream: Option<&str>| Entry { seq: 1, name, stream: stream.map(Arc::from), json: "{}".into() };
        let filter = |types: &[&str], stream: Option<&str>| Filter {
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            stream: stream.map(str::to_owned),
        };
        let played = entry("played", Some("a.b/live/cam"));
        for wanted in ["cam", "live/cam", "a.b/live/cam"] {
            assert!(filter(&["played"], Some(wanted)).admits(&played), "{wanted}");
        }
        for wanted in ["am", "b/live/cam", "x/a.b/live/cam", "live"] {
            assert!(!filter(&[], Some(wanted)).admits(&played), "{wanted}");
        }
        assert!(!filter(&["closed", "connected"], None).admits(&played));
        assert!(filter(&["closed", "connected"], None).admits(&entry("closed", None)));
        assert!(!filter(&[], Some("cam")).admits(&entry("closed", None)));
    }
}
