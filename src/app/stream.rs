//! A stream: one publisher, any number of players, and the packets in between.
//!
//! ```text
//! publisher ─ Publication ─▶ Timeline ─▶ PacketLog ─┬─▶ players that have caught up: written at once, without blocking
//!                                │                  └─▶ players that are behind: one coroutine each (Consumer)
//!                                └─▶ Sink (HLS)
//! ```
//!
//! Each message is encoded once. Only the writes to sockets grow with the number of players.
//!
//! | file | contents |
//! |---|---|
//! | [`registry`] | all streams by name |
//! | [`publication`], [`consumer`] | the handles of a publisher's and a player's coroutine |
//! | [`state`], [`incoming`] | a stream, and the path of a message through it |
//! | [`timeline`], [`packet_log`], [`headers`] | corrected times, encoded packets, cached sequence headers |
//! | [`player`], [`reclaim`] | the output of one player; memory that is given up when it is short |

mod consumer;
mod extended_timestamp;
mod headers;
mod incoming;
mod packet_log;
mod player;
mod publication;
mod reclaim;
mod registry;
mod state;
mod timeline;
mod track;

pub use consumer::{Consumer, ConsumerStats, StartPosition};
pub use publication::{Publication, StreamBusy};
pub use reclaim::StreamUsage;
pub use registry::StreamRegistry;
#[cfg(feature = "hls")]
pub(crate) use timeline::VIDEO_TIMEOUT_MS;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::headers::{CachedHeader, HeaderKey};
use self::state::StreamState;
use crate::app::session::close::CloseReason;
use crate::codec::flv;
use crate::config::Vhost;
use crate::memory::MemoryTracker;
use crate::st::Shared;

/// A client as others see it: its socket, its coroutine, and its end.
pub trait ClientHandle: Send + Sync {
    /// Writes without blocking. Returns the number of bytes written, 0 if the socket is full.
    ///
    /// # Errors
    /// When the connection has failed.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Prefetches into the processor's cache what the next [`try_write`](Self::try_write) reads.
    fn prefetch(&self) {}
    /// Wakes the client's coroutine.
    fn wake(&self);
    /// Closes the connection.
    fn close(&self, reason: CloseReason);
}

/// An output of a published stream beside its players. Times are corrected: milliseconds since the stream was created,
/// which never run backwards within a track. Called for each message, so it must not block. Dropping it ends the
/// output.
pub trait Sink: Send + Sync {
    /// Handles a video message with the header `tag`.
    fn on_video(&mut self, time: u64, tag: &flv::VideoTag, payload: &Bytes);
    /// Handles an audio message with the header `tag`.
    fn on_audio(&mut self, time: u64, tag: &flv::AudioTag, payload: &Bytes);
    /// Applies a new configuration of the vhost. Returns false if the output has to be replaced.
    fn reconfigure(&mut self, vhost: &Vhost) -> bool;
    /// Replaces this output. `next` creates the successor, if there is one; it is called after this output has ended,
    /// unless the two are to overlap.
    fn replace_with(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Sink>>) -> Option<Box<dyn Sink>> {
        drop(self);
        next()
    }
}

/// A stream. Clones refer to the same stream.
#[derive(Clone)]
pub struct Source(Shared<StreamState>);

/// Description of a published stream.
#[derive(Debug, Clone)]
pub struct StreamSummary {
    /// Full name: vhost/app/stream.
    pub name: String,
    /// Video codec, once a video message has arrived.
    pub video: Option<flv::VideoCodec>,
    /// Audio codec, once an audio message has arrived.
    pub audio: Option<flv::AudioCodec>,
    /// Number of RTMP players.
    pub players: usize,
}

impl Source {
    /// Creates a stream without publisher and players. Its memory is also charged to `parent`.
    pub fn new(name: &str, vhost: Arc<Vhost>, parent: &MemoryTracker) -> Self {
        Self(Shared::new(StreamState::new(name, vhost, MemoryTracker::child_of(parent))))
    }

    /// Returns the name of the stream's vhost.
    pub fn vhost_name(&self) -> String {
        self.0.with(|state| state.vhost.name.clone())
    }

    /// Applies new settings of the same vhost from the next message on. Present players are told of a new `chunk_size`
    /// within the stream, where it changes.
    pub fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.0.with(|state| {
            if vhost.chunk_size != state.log.chunk_size() {
                state.flush();
                state.log.set_chunk_size(vhost.chunk_size);
            }
            state.vhost = vhost.clone();
        });
    }

    /// Returns the chunk size that a player has to be told before it joins.
    pub fn chunk_size(&self) -> usize {
        self.0.with(|state| state.log.chunk_size())
    }

    /// Adds a player on the message stream `stream_id`. It starts with metadata and sequence headers, then at the last
    /// keyframe if the vhost's `gop_cache` is on, else with the next message.
    pub fn join(&self, client: Arc<dyn ClientHandle>, stream_id: u32) -> Consumer {
        self.0.with(|state| {
            state.on_first_subscriber();
            let player = state.new_player(client, stream_id);
            Consumer::new(self.clone(), state.add_player(player))
        })
    }

    /// Adds a forwarder, a player that publishes the stream elsewhere. It gets messages as a publisher sends them,
    /// without status messages. Packets are kept for it from now on; output starts with [`Consumer::start`]. At the end
    /// that players are told of, its client is woken, and [`Consumer::is_finished`] holds once all was handed out.
    pub fn join_forwarder(&self, client: Arc<dyn ClientHandle>) -> Consumer {
        self.0.with(|state| {
            state.on_first_subscriber();
            let player = state.new_player(client, 0).into_forwarder();
            Consumer::new(self.clone(), state.add_player(player))
        })
    }

    /// Returns whether the stream is published, or lost its publisher and the players have not been told yet.
    pub fn is_live(&self) -> bool {
        self.0.with(|state| state.publisher.is_some() || state.unpublish_at.is_some())
    }

    /// Returns the tracker of the stream's memory.
    pub fn memory(&self) -> MemoryTracker {
        self.0.with(|state| state.memory.clone())
    }

    /// Returns the full name: vhost/app/stream.
    pub fn name(&self) -> String {
        self.0.with(|state| state.name.clone())
    }

    /// Returns the description of the stream; `None` if it is not published.
    fn published(&self) -> Option<StreamSummary> {
        self.0.with(|state| {
            let publisher = state.publisher.as_ref()?;
            Some(StreamSummary {
                name: state.name.clone(),
                video: publisher.video,
                audio: publisher.audio,
                players: state.players.iter().flatten().filter(|player| !player.is_forwarder).count(),
            })
        })
    }

    /// Ends the publication, if there is one, and tells the players at once, without the grace of a publisher that was
    /// lost.
    fn unpublish(&self) {
        self.0.with(|state| {
            let was_lost = state.unpublish_at.is_some();
            if state.publisher.is_some() {
                state.remove_publisher();
            } else if !was_lost {
                return;
            }
            state.notify_unpublished();
        });
    }

    /// Lets `change` replace the sink of the present publication. It gets the stream's name, the publisher, and the
    /// sink. The sink that is there afterwards gets the sequence headers so far, even if it has had them before.
    pub fn change_sink(&self, change: impl FnOnce(&str, Arc<dyn ClientHandle>, &mut Option<Box<dyn Sink>>)) {
        self.0.with(|state| {
            let Some(publisher) = &state.publisher else { return };
            change(&state.name, publisher.handle.clone(), &mut state.sink);
            let Some(sink) = &mut state.sink else { return };
            for CachedHeader { key, payload, .. } in state.headers.iter() {
                match key {
                    HeaderKey::Video { .. } => {
                        if let Some(tag) = flv::read_video_header(payload) {
                            sink.on_video(state.timeline.latest(), &tag, payload);
                        }
                    }
                    HeaderKey::Audio { .. } => {
                        if let Some(tag) = flv::read_audio_header(payload) {
                            sink.on_audio(state.timeline.latest(), &tag, payload);
                        }
                    }
                    HeaderKey::Metadata => {}
                }
            }
        });
    }

    /// Tells the players that the publisher is gone, if its time to come back is over.
    fn notify_unpublished_if_due(&self, now: Instant) {
        self.0.with(|state| {
            if state.unpublish_at.is_some_and(|due| due <= now) {
                state.notify_unpublished();
            }
        });
    }

    /// Returns whether the stream has had neither publisher nor player for `time`, and nobody but the registry has a
    /// handle to it. A stream that was never published is idle at once: there is nothing to keep.
    fn is_idle_for(&self, time: Duration) -> bool {
        self.0.with(|state| {
            let has_handles = self.0.handle_count() > 1;
            let is_long_idle = state.publication_count == 0 || state.idle_since.elapsed() >= time;
            !has_handles && state.is_idle() && is_long_idle
        })
    }
}

#[cfg(test)]
mod tests;
