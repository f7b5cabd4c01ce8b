//! Events of a stream, reported to an observer.
//!
//! An event is queued while the stream's state is borrowed, and reported as soon as it is free again: in order, before
//! any other coroutine runs, and also while a panic unwinds.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use super::Source;
use super::state::StreamState;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv::{AudioCodec, VideoCodec};
use crate::st::Shared;

/// Something that has happened to a stream, in this order:
///
/// | scope | sequence |
/// |---|---|
/// | stream | `Published (PublisherLost Published)* PublisherLost Unpublished`, again and again |
/// | publication | `CodecsKnown`, any number between `Published` and `PublisherLost` |
/// | player | `Played Stopped` |
#[derive(Debug, Clone)]
pub enum StreamEvent {
    /// A client has begun to publish the stream.
    Published {
        /// The stream, as the publisher names it.
        stream: Arc<StreamInfo>,
        /// The publisher.
        client: Arc<ClientInfo>,
        /// Handle to the stream, for outputs and forwarders. A stream is kept as long as there is one.
        source: Source,
        /// True if no `Unpublished` has followed the last `PublisherLost`.
        resumed: bool,
    },
    /// The publisher has stopped, was lost, or was replaced. The stream can resume until `Unpublished`.
    PublisherLost {
        /// The stream.
        stream: Arc<StreamInfo>,
        /// The publisher.
        client: Arc<ClientInfo>,
    },
    /// The stream has ended: its publisher stopped, or is not back after `reconnect_grace`.
    Unpublished {
        /// The stream, as its last publisher named it.
        stream: Arc<StreamInfo>,
    },
    /// A player has joined. Forwarders are not players.
    Played {
        /// The stream, as the player names it.
        stream: Arc<StreamInfo>,
        /// The player.
        client: Arc<ClientInfo>,
    },
    /// A player has left.
    Stopped {
        /// The stream.
        stream: Arc<StreamInfo>,
        /// The player.
        client: Arc<ClientInfo>,
    },
    /// The codecs of a publication are known, or have changed.
    CodecsKnown {
        /// The stream.
        stream: Arc<StreamInfo>,
        /// The codecs received so far.
        codecs: Codecs,
    },
}

/// Codecs of a publication, once a message of each track has arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Codecs {
    /// Codec of the last video message.
    pub video: Option<VideoCodec>,
    /// Codec of the last audio message.
    pub audio: Option<AudioCodec>,
}

/// Receives the events of all streams. Called on the worker; must not block. It may use the stream.
pub trait StreamObserver: Send + Sync {
    /// Handles an event.
    fn on_stream_event(&self, event: StreamEvent);
}

/// Ignores all events.
impl StreamObserver for () {
    fn on_stream_event(&self, _: StreamEvent) {}
}

/// Events of one stream that are not reported yet.
pub(super) struct EventQueue {
    observer: Arc<dyn StreamObserver>,
    events: VecDeque<StreamEvent>,
    /// An event is being reported. Those that the observer causes are reported after it.
    is_reporting: bool,
}

impl EventQueue {
    pub(super) fn new(observer: Arc<dyn StreamObserver>) -> Self {
        Self { observer, events: VecDeque::new(), is_reporting: false }
    }

    pub(super) fn push(&mut self, event: StreamEvent) {
        self.events.push_back(event);
    }

    /// Returns the next event to report, if none is being reported.
    fn start_next(&mut self) -> Option<(Arc<dyn StreamObserver>, StreamEvent)> {
        if self.is_reporting {
            return None;
        }
        let event = self.events.pop_front()?;
        self.is_reporting = true;
        Some((self.observer.clone(), event))
    }

    /// Reports what is left of a stream that nobody has a handle to.
    pub(super) fn report_rest(&mut self) {
        while let Some(event) = self.events.pop_front() {
            report(&*self.observer, event);
        }
    }
}

/// The state of a stream, shared by its handles. Events that a closure queues are reported when the closure has
/// returned or unwound.
pub(super) struct SharedState(Shared<StreamState>);

impl SharedState {
    pub(super) fn new(state: StreamState) -> Self {
        Self(Shared::new(state))
    }

    /// Runs `f` on the state. `f` must not block.
    ///
    /// # Panics
    /// When the state is in use, see [`Shared::with`].
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> R {
        let unreported = ReportOnDrop(self);
        let (result, is_quiet) = self.0.with(|state| {
            let result = f(state);
            (result, state.events.events.is_empty())
        });
        if is_quiet {
            std::mem::forget(unreported);
        }
        result
    }

    /// Runs `f` on the state unless it is in use: for `Drop`.
    pub(super) fn try_with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> Option<R> {
        let _unreported = ReportOnDrop(self);
        self.0.try_with(f)
    }

    pub(super) fn handle_count(&self) -> usize {
        self.0.handle_count()
    }

    fn report_events(&self) {
        while let Some((observer, event)) = self.0.try_with(|state| state.events.start_next()).flatten() {
            report(&*observer, event);
            self.0.try_with(|state| state.events.is_reporting = false);
        }
    }
}

impl Clone for SharedState {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct ReportOnDrop<'a>(&'a SharedState);

impl Drop for ReportOnDrop<'_> {
    fn drop(&mut self) {
        self.0.report_events();
    }
}

/// Reports an event. A panic must not leave this function, which may run while another one unwinds.
fn report(observer: &dyn StreamObserver, event: StreamEvent) {
    if panic::catch_unwind(AssertUnwindSafe(|| observer.on_stream_event(event))).is_err() {
        log::error!("stream observer panicked");
    }
}
