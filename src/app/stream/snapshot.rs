//! The present state of a stream in numbers, for pages, APIs and metrics.

#[cfg(feature = "http")]
use std::ops::Range;
use std::time::Instant;

use super::changes::Codecs;
use super::ingest::IngestSnapshot;
use super::media_info::MediaInfo;
use super::source::Source;
use super::state::StreamState;
#[cfg(feature = "http")]
use super::subscriber::Subscriber;
use crate::st;

#[derive(Debug, Clone, PartialEq)]
pub struct StreamSnapshot {
    /// Full name: vhost/app/stream.
    pub name: String,
    pub vhost: String,
    pub app: String,
    pub stream: String,
    /// Number of the publishing client. Like `ingest`, `None` if the stream is not published.
    pub publisher: Option<u64>,
    pub codecs: Codecs,
    pub media: MediaInfo,
    pub ingest: Option<IngestSnapshot>,
    pub players: usize,
    pub forwarders: usize,
    /// Messages dropped because players or forwarders were too far behind, of those that have left too.
    pub dropped: u64,
    pub bytes_held: usize,
}

#[cfg(feature = "http")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamNames<'a> {
    /// Full name: vhost/app/stream.
    pub(crate) name: &'a str,
    pub(crate) vhost: &'a str,
    pub(crate) app: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) is_published: bool,
}

#[cfg(feature = "http")]
impl Source {
    /// Runs `f` on the names, which costs no copies. Returns none if the stream is not used: if nobody publishes, plays or
    /// forwards it, and no publisher is awaited. Programs of this server do not count.
    pub(crate) fn with_names<R>(&self, f: impl FnOnce(StreamNames<'_>) -> R) -> Option<R> {
        self.with(|state| {
            let is_published = state.publisher.is_some();
            let is_counted = |subscriber: &Subscriber| subscriber.is_viewer() || !subscriber.is_player();
            let is_used =
                is_published || state.announced.is_some() || state.subscribers.iter().flatten().any(is_counted);
            let vhost = state.vhost.name.as_str();
            let (app, stream) = state.app_and_stream();
            is_used.then(|| f(StreamNames { name: &state.name, vhost, app, stream, is_published }))
        })
    }

    /// Returns the present state of the stream; none if it is not used, see [`Source::with_names`].
    pub(crate) fn snapshot_if_used(&self) -> Option<StreamSnapshot> {
        self.with_names(|_| ()).map(|()| self.snapshot())
    }

    /// Returns the numbers of the players in some of the slots for subscribers, programs of this server included. Returns none
    /// if there are no such slots.
    pub(crate) fn player_numbers(&self, slots: Range<usize>) -> Option<Vec<u64>> {
        self.with(|state| {
            let slots = slots.start..slots.end.min(state.subscribers.len());
            let players = state.subscribers.get(slots)?.iter().flatten().filter_map(|player| player.player.as_ref());
            let numbers: Vec<_> = players.map(|(_, client)| client.id).collect();
            Some(numbers)
        })
    }
}

impl StreamState {
    fn app_and_stream(&self) -> (&str, &str) {
        match &self.publisher {
            Some(publisher) => (&publisher.stream.app, &publisher.stream.stream),
            None => split_name(&self.name, &self.vhost.name),
        }
    }
}

impl Source {
    pub fn snapshot(&self) -> StreamSnapshot {
        self.snapshot_at(st::now())
    }

    pub(super) fn snapshot_at(&self, now: Instant) -> StreamSnapshot {
        self.with(|state| {
            let publisher = state.publisher.as_ref();
            let vhost = state.vhost.name.clone();
            let (app, stream) = state.app_and_stream();
            let (app, stream) = (app.to_owned(), stream.to_owned());
            let subscribers = || state.subscribers.iter().flatten();
            let players = subscribers().filter(|subscriber| subscriber.is_viewer()).count();
            let forwarders = subscribers().filter(|subscriber| !subscriber.is_player()).count();
            StreamSnapshot {
                name: state.name.clone(),
                vhost,
                app,
                stream,
                publisher: publisher.map(|publisher| publisher.client.id),
                codecs: publisher.map(|publisher| publisher.codecs).unwrap_or_default(),
                media: MediaInfo::read(&state.headers),
                ingest: publisher.map(|publisher| publisher.ingest.snapshot(publisher.messages, now)),
                players,
                forwarders,
                dropped: state.dropped + subscribers().map(|subscriber| subscriber.cursor.stats().dropped).sum::<u64>(),
                bytes_held: state.memory.total(),
            }
        })
    }
}

/// Returns application and stream of a full name. A stream's name can contain slashes, as the application's: a guess.
fn split_name<'a>(name: &'a str, vhost: &str) -> (&'a str, &'a str) {
    let rest = name.strip_prefix(vhost).map_or(name, |rest| rest.trim_start_matches('/'));
    rest.split_once('/').unwrap_or(("", rest))
}
