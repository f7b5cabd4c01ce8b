//! The handle of a subscriber's coroutine to its stream. The [`subscriber`](super::subscriber) module has the behaviour.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::client_handle::ClientHandle;
use super::cursor::{ConsumerStats, JoinPoint};
use super::encode::Encoder;
use super::encode::rtmp::RtmpEncoder;
use super::source::Source;
use super::state::StreamState;
use super::subscriber::Subscriber;
use super::track::Track;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::st;

/// A player or forwarder of a stream. Dropping it removes the player.
pub struct Consumer {
    source: Source,
    id: usize,
}

impl Source {
    /// Adds a player on the message stream `stream_id`. It starts with metadata and sequence headers, then at the last
    /// keyframe if the vhost's `gop_cache` is on, else with the next message. `stream` and `client` are for its events.
    pub fn join(
        &self,
        handle: Arc<dyn ClientHandle>,
        stream_id: u32,
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    ) -> Consumer {
        self.with(|state| {
            state.on_first_subscriber();
            let encoder = Encoder::Rtmp(RtmpEncoder::new(stream_id, state.log.chunk_size()));
            let player = Subscriber::new(handle, Some((stream, client)), encoder, state.join_point());
            Consumer::new(self.clone(), state.add_subscriber(player))
        })
    }
}

impl Consumer {
    pub(super) fn new(source: Source, id: usize) -> Self {
        Self { source, id }
    }

    /// Appends the player's next output to `out`: whole messages, at most about 256 KiB. If there is none, and [no
    /// more](Consumer::has_more) to examine, wanted or not, the player has caught up: from then on the stream writes to its
    /// socket, and wakes its coroutine when that has to write. Returns the chunk size after the output, which contains each
    /// change of it.
    pub fn fill(&self, out: &mut Vec<Bytes>) -> usize {
        self.with(|state, id| state.fill(id, out))
    }

    pub fn has_more(&self) -> bool {
        self.with(|state, id| state.subscribers[id].as_ref().is_some_and(|player| player.cursor.has_more(&state.log)))
    }

    /// Stops writes of the stream to the socket. Appends what it has begun to write to `out`, which has to be sent first.
    pub fn detach(&self, out: &mut Vec<Bytes>) {
        self.with_subscriber(|player| player.detach(out));
    }

    /// Appends the next piece of a message that was handed out in part, before anything else may be sent. Returns false if there
    /// is none.
    pub fn continue_partial(&self, out: &mut Vec<Bytes>) -> bool {
        self.with(|state, id| {
            let player = state.subscribers[id].as_mut();
            let encoder = player.and_then(|player| player.encoder.rtmp());
            encoder.is_some_and(|encoder| encoder.continue_partial(state.log.memory(), out))
        })
    }

    /// Pauses the player, or resumes it at the last keyframe.
    pub fn pause(&self, paused: bool) {
        self.with_join_point(|player, join_point| player.pause(paused, join_point));
    }

    pub fn delay(&self) -> Duration {
        self.with(|state, id| {
            let next = state.subscribers[id].as_ref().and_then(|player| state.log.get(player.cursor.seq));
            next.map_or(Duration::ZERO, |entry| {
                Duration::from_millis(state.timeline.latest().saturating_sub(entry.time))
            })
        })
    }

    /// Returns how long the stream takes for `bytes`, at its present bit rate.
    pub fn playing_time(&self, bytes: usize) -> Duration {
        self.with(|state, _| {
            let Some(publisher) = &state.publisher else { return Duration::ZERO };
            let ingest = publisher.ingest.snapshot(publisher.messages, st::now());
            let milliseconds = (bytes as u64 * 8).checked_div(ingest.video_kbps + ingest.audio_kbps);
            Duration::from_millis(milliseconds.unwrap_or(0))
        })
    }

    pub fn receive_audio(&self, wanted: bool) {
        self.with_subscriber(|player| player.receive(Track::Audio, wanted));
    }

    /// Selects whether the player gets video, which starts again with a keyframe.
    pub fn receive_video(&self, wanted: bool) {
        self.with_subscriber(|player| player.receive(Track::Video, wanted));
    }

    /// Returns the counters; zeros while a panic unwinds out of the stream.
    pub fn stats(&self) -> ConsumerStats {
        let stats =
            self.source.try_with(|state| state.subscribers[self.id].as_ref().map(|player| player.cursor.stats()));
        stats.flatten().unwrap_or_default()
    }

    pub(super) fn with_join_point(&self, f: impl FnOnce(&mut Subscriber, JoinPoint)) {
        self.with(|state, id| {
            let join_point = state.join_point();
            if let Some(subscriber) = &mut state.subscribers[id] {
                f(subscriber, join_point);
            }
        });
    }

    fn with<R>(&self, f: impl FnOnce(&mut StreamState, usize) -> R) -> R {
        self.source.with(|state| f(state, self.id))
    }

    pub(super) fn with_subscriber<R>(&self, f: impl FnOnce(&mut Subscriber) -> R) -> Option<R> {
        self.with(|state, id| state.subscribers[id].as_mut().map(f))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.try_with(|state| state.remove_subscriber(self.id));
    }
}
