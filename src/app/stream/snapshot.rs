//! The present state of a stream in numbers, for pages, APIs and metrics.

use std::time::Instant;

use super::changes::Codecs;
use super::ingest::IngestSnapshot;
use super::media_info::MediaInfo;
use super::source::Source;
use crate::st;

/// The present state of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSnapshot {
    /// Full name: vhost/app/stream.
    pub name: String,
    /// Name of the vhost.
    pub vhost: String,
    /// Name of the application.
    pub app: String,
    /// Name of the stream within the application.
    pub stream: String,
    /// Number of the publishing client; `None` if the stream is not published.
    pub publisher: Option<u64>,
    /// Codecs received so far.
    pub codecs: Codecs,
    /// Properties of the media.
    pub media: MediaInfo,
    /// Health of the publisher's input; `None` if the stream is not published.
    pub ingest: Option<IngestSnapshot>,
    /// Number of players.
    pub players: usize,
    /// Number of forwarders.
    pub forwarders: usize,
    /// Messages dropped because players or forwarders were too far behind, of those that have left too.
    pub dropped: u64,
    /// Bytes held for the stream.
    pub bytes_held: usize,
}

impl Source {
    /// Returns the present state of the stream.
    pub fn snapshot(&self) -> StreamSnapshot {
        self.snapshot_at(st::now())
    }

    pub(super) fn snapshot_at(&self, now: Instant) -> StreamSnapshot {
        self.with(|state| {
            let publisher = state.publisher.as_ref();
            let vhost = state.vhost.name.clone();
            let (app, stream) = match publisher {
                Some(publisher) => (publisher.stream.app.clone(), publisher.stream.stream.clone()),
                None => split_name(&state.name, &vhost),
            };
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

/// Returns application and stream of a full name. A stream's name can contain slashes, so this is a guess if the
/// application's does.
fn split_name(name: &str, vhost: &str) -> (String, String) {
    let rest = name.strip_prefix(vhost).map_or(name, |rest| rest.trim_start_matches('/'));
    let (app, stream) = rest.split_once('/').unwrap_or(("", rest));
    (app.to_owned(), stream.to_owned())
}
