//! The handle to a stream, and the events that are reported of it.
//!
//! A change of the stream is queued while its state is borrowed, and reported as soon as it is free again: in order,
//! before any other coroutine runs, and also while a panic unwinds.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changes::{Change, Codecs};
use super::output::EndReason;
use super::state::StreamState;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::Vhost;
use crate::memory::MemoryTracker;
use crate::st::{self, Shared};

#[derive(Clone)]
pub struct Source {
    state: Shared<StreamState>,
    observer: Arc<dyn StreamObserver>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.state.try_with(|state| state.name.clone());
        f.debug_tuple("Source").field(&name.as_deref().unwrap_or("in use")).finish()
    }
}

/// Something that has happened to a stream, in this order:
///
/// | scope | sequence |
/// |---|---|
/// | stream | `Published (PublisherLost Published)* PublisherLost Unpublished`, again and again |
/// | publication | `CodecsKnown`, any number between `Published` and `PublisherLost` |
/// | player | `Played Stopped` |
#[derive(Debug, Clone)]
pub enum StreamEvent {
    Published {
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
        /// Handle to the stream, for outputs and forwarders. A stream is kept as long as there is one.
        source: Source,
        /// True if no `Unpublished` has followed the last `PublisherLost`.
        resumed: bool,
    },
    /// The publisher has stopped, was lost, or was replaced. The stream can resume until `Unpublished`.
    PublisherLost {
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    },
    /// The stream has ended: its publisher stopped, or is not back after `reconnect_grace`.
    Unpublished {
        stream: Arc<StreamInfo>,
    },
    /// A player has joined. Forwarders are not players. `stream`: as the player names it.
    Played {
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    },
    Stopped {
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    },
    CodecsKnown {
        stream: Arc<StreamInfo>,
        codecs: Codecs,
    },
}

/// Receiver of the events of all streams. Called on the worker; must not block. It may use the stream.
pub trait StreamObserver: Send + Sync {
    fn on_stream_event(&self, event: StreamEvent);
}

impl StreamObserver for () {
    fn on_stream_event(&self, _: StreamEvent) {}
}

impl Source {
    /// Creates a stream without publisher and players, whose events nobody observes. Its memory is also charged to `parent`.
    pub fn new(name: &str, vhost: Arc<Vhost>, parent: &MemoryTracker) -> Self {
        Self::with_observer(name, vhost, parent, Arc::new(()))
    }

    pub(super) fn with_observer(
        name: &str,
        vhost: Arc<Vhost>,
        parent: &MemoryTracker,
        observer: Arc<dyn StreamObserver>,
    ) -> Self {
        let state = StreamState::new(name, vhost, MemoryTracker::child_of(parent));
        Self { state: Shared::new(state), observer }
    }

    pub fn vhost_name(&self) -> String {
        self.with(|state| state.vhost.name.clone())
    }

    /// Applies new settings of the same vhost from the next message on. Present players are told of a new `chunk_size`
    /// within the stream, where it changes.
    pub fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.with(|state| {
            if vhost.chunk_size != state.log.chunk_size() {
                state.flush();
                state.log.set_chunk_size(vhost.chunk_size);
            }
            state.vhost = vhost.clone();
        });
    }

    /// Returns the chunk size that a player has to be told before it joins.
    pub fn chunk_size(&self) -> usize {
        self.with(|state| state.log.chunk_size())
    }

    /// Returns whether the stream is published, or has lost its publisher and not ended yet.
    pub fn is_live(&self) -> bool {
        self.with(|state| state.announced.is_some())
    }

    /// Returns the stream as its publisher names it, if it has one.
    pub fn published_stream(&self) -> Option<Arc<StreamInfo>> {
        self.with(|state| state.publisher.as_ref().map(|publisher| publisher.stream.clone()))
    }

    pub fn memory(&self) -> MemoryTracker {
        self.with(|state| state.memory.clone())
    }

    pub fn name(&self) -> String {
        self.with(|state| state.name.clone())
    }

    /// Ends the publication because the server stops, and tells the players at once, without the grace of a lost publisher.
    pub(super) fn shut_down(&self) {
        self.with(|state| {
            let was_lost = state.unpublish_at.is_some();
            if state.publisher.is_some() || was_lost {
                state.remove_publisher(EndReason::Shutdown);
                state.notify_unpublished();
            }
        });
    }

    pub(super) fn notify_unpublished_if_due(&self, now: Instant) {
        self.with(|state| {
            if state.unpublish_at.is_some_and(|due| due <= now) {
                state.notify_unpublished();
            }
        });
    }

    /// Returns whether the stream has had neither publisher nor player for `time`, and nobody but the registry has a
    /// handle to it. A stream that was never published is idle at once: there is nothing to keep. With a `time` of zero,
    /// the grace of a publisher that was lost does not count.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        self.with(|state| {
            let has_handles = self.state.handle_count() > 1;
            let may_resume = state.unpublish_at.is_some();
            let is_long_idle =
                state.publication_count == 0 || (st::now().duration_since(state.idle_since) >= time && !may_resume);
            !has_handles && state.is_idle() && (is_long_idle || time.is_zero())
        })
    }

    pub(super) fn end_removed(&self) {
        self.with(StreamState::emit_unpublished);
    }

    pub(super) fn prefetch(&self) {
        self.state.prefetch();
    }

    pub(super) fn prefetch_media(&self) {
        self.state.try_with(|state| state.prefetch());
    }

    pub(super) fn prefetch_first_player(&self) {
        self.state.try_with(|state| {
            if let Some(first) = state.first_subscriber() {
                st::prefetch(&*first.client);
            }
        });
    }

    /// Runs `f` on the state, and then reports the changes. `f` must not block.
    ///
    /// # Panics
    /// When the state is in use, see [`Shared::with`].
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> R {
        let unreported = ReportOnDrop(self);
        let (result, is_quiet) = self.state.with(|state| {
            let result = f(state);
            (result, state.changes.is_empty())
        });
        if is_quiet {
            std::mem::forget(unreported);
        }
        result
    }

    /// Runs `f` on the state unless it is in use: for `Drop`.
    pub(super) fn try_with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> Option<R> {
        let _unreported = ReportOnDrop(self);
        self.state.try_with(f)
    }

    fn report_changes(&self) {
        while let Some(change) = self.state.try_with(|state| state.changes.start_report()).flatten() {
            let event = self.event(change);
            // This may run while another panic unwinds: a second one must not leave this function.
            if panic::catch_unwind(AssertUnwindSafe(|| self.observer.on_stream_event(event))).is_err() {
                log::error!("stream observer panicked");
            }
            self.state.try_with(|state| state.changes.finish_report());
        }
    }

    fn event(&self, change: Change) -> StreamEvent {
        match change {
            Change::Published { stream, client, resumed } => {
                StreamEvent::Published { stream, client, source: self.clone(), resumed }
            }
            Change::PublisherLost { stream, client } => StreamEvent::PublisherLost { stream, client },
            Change::Unpublished { stream } => StreamEvent::Unpublished { stream },
            Change::Played { stream, client } => StreamEvent::Played { stream, client },
            Change::Stopped { stream, client } => StreamEvent::Stopped { stream, client },
            Change::CodecsKnown { stream, codecs } => StreamEvent::CodecsKnown { stream, codecs },
        }
    }
}

/// Guard that reports the changes of a stream when it is dropped, also while a panic unwinds.
struct ReportOnDrop<'a>(&'a Source);

impl Drop for ReportOnDrop<'_> {
    fn drop(&mut self) {
        self.0.report_changes();
    }
}
