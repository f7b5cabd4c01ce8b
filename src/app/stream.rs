//! A stream: one publisher, any number of players, and the packets in between.
//!
//! ```text
//! publisher ─ Publication ─▶ Timeline ─▶ PacketLog ─┬─▶ players that have caught up: written at once, without blocking
//!                                │                  └─▶ players that are behind: one coroutine each (Consumer)
//!                                └─▶ Outputs (HLS)
//! ```
//!
//! Each message is encoded once. Only the writes to sockets grow with the number of players. What happens to streams is
//! reported to the [`StreamObserver`] of their registry.
//!
//! | file | contents |
//! |---|---|
//! | [`registry`] | all streams by name |
//! | [`publication`], [`consumer`] | the handles of a publisher's and a player's coroutine |
//! | [`state`], [`incoming`] | a stream, and the path of a message through it |
//! | [`timeline`], [`packet_log`], [`headers`] | corrected times, encoded packets, cached sequence headers |
//! | [`subscriber`], [`cursor`], [`encode`] | a player or forwarder: its position in the log, and its bytes on the wire |
//! | [`forwarder`], [`reclaim`] | the end of a forwarder; memory that is given up when it is short |
//! | [`snapshot`], [`ingest`], [`media_info`] | a stream in numbers: health of its input, properties of its media |
//! | [`output`], [`observer`] | what features plug in: outputs beside the players, listeners of events |

mod consumer;
mod cursor;
mod encode;
mod forwarder;
mod headers;
mod incoming;
mod ingest;
mod media_info;
mod observer;
mod output;
mod packet_log;
mod publication;
mod reclaim;
mod registry;
mod snapshot;
mod state;
mod subscriber;
mod timeline;
mod track;

pub use consumer::{Consumer, ConsumerStats};
pub use forwarder::StartPosition;
pub use ingest::IngestSnapshot;
pub use media_info::MediaInfo;
pub use observer::{Codecs, StreamEvent, StreamObserver};
pub use output::{EndReason, Output, Packet, Publishing, Tag};
pub use packet_log::PacketKind;
pub use publication::{Publication, Reservation, StreamBusy};
pub use reclaim::StreamUsage;
pub use registry::StreamRegistry;
pub use snapshot::StreamSnapshot;
pub use timeline::VIDEO_TIMEOUT_MS;
pub use track::Track;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::encode::rtmp::RtmpEncoder;
use self::observer::SharedState;
use self::state::StreamState;
use self::subscriber::Subscriber;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv;
use crate::config::Vhost;
use crate::memory::MemoryTracker;

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

/// A stream. Clones refer to the same stream.
#[derive(Clone)]
pub struct Source(SharedState);

/// Shows the name only.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.try_with(|state| state.name.clone());
        f.debug_tuple("Source").field(&name.as_deref().unwrap_or("in use")).finish()
    }
}

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
    /// Creates a stream without publisher and players, whose events nobody observes. Its memory is also charged to
    /// `parent`.
    pub fn new(name: &str, vhost: Arc<Vhost>, parent: &MemoryTracker) -> Self {
        Self::with_observer(name, vhost, parent, Arc::new(()))
    }

    fn with_observer(name: &str, vhost: Arc<Vhost>, parent: &MemoryTracker, observer: Arc<dyn StreamObserver>) -> Self {
        Self(SharedState::new(StreamState::new(name, vhost, MemoryTracker::child_of(parent), observer)))
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
    /// keyframe if the vhost's `gop_cache` is on, else with the next message. `stream` and `client` are for its events.
    pub fn join(
        &self,
        handle: Arc<dyn ClientHandle>,
        stream_id: u32,
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    ) -> Consumer {
        self.0.with(|state| {
            state.on_first_subscriber();
            let encoder = RtmpEncoder::new(stream_id, state.log.chunk_size());
            let player = Subscriber::new(handle, Some((stream, client)), encoder, state.join_point());
            Consumer::new(self.clone(), state.add_subscriber(player))
        })
    }

    /// Returns whether the stream is published, or has lost its publisher and not ended yet.
    pub fn is_live(&self) -> bool {
        self.0.with(|state| state.announced.is_some())
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
                video: publisher.codecs.video,
                audio: publisher.codecs.audio,
                players: state.subscribers.iter().flatten().filter(|subscriber| subscriber.is_player()).count(),
            })
        })
    }

    /// Ends the publication, if there is one, because the server stops, and tells the players at once, without the grace
    /// of a publisher that was lost.
    fn shut_down(&self) {
        self.0.with(|state| {
            let was_lost = state.unpublish_at.is_some();
            if state.publisher.is_some() || was_lost {
                state.remove_publisher(EndReason::Shutdown);
                state.notify_unpublished();
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
    /// handle to it. A stream that was never published is idle at once: there is nothing to keep. With a `time` of zero,
    /// the grace of a publisher that was lost does not count.
    fn is_idle_for(&self, time: Duration) -> bool {
        self.0.with(|state| {
            let has_handles = self.0.handle_count() > 1;
            let may_resume = state.unpublish_at.is_some();
            let is_long_idle = state.publication_count == 0 || (state.idle_since.elapsed() >= time && !may_resume);
            !has_handles && state.is_idle() && (is_long_idle || time.is_zero())
        })
    }
}

#[cfg(test)]
mod tests;
