//! Events and gates: how features learn of clients and streams, and how they refuse them, without being named by them.
//!
//! ```text
//! connection, stream ── emit(Event) ──> every Listener, in order of registration; told after, must not block
//! connection ── check(GateRequest) ──> every Gate, until one refuses; asked before any status reaches the client
//! ```

use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::app::session::bandwidth_report::BandwidthReport;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stream::{StreamEvent, StreamObserver};
use crate::config::{Target, Vhost};
use crate::log::quoted;

/// Something that has happened. Events of one client and of one stream are in order and paired:
///
/// | scope | sequence |
/// |---|---|
/// | client | `Connected Closed`, or only `Refused` |
/// | stream | `Published (PublisherLost Published)* PublisherLost Unpublished` |
/// | player | `Played Stopped` |
#[derive(Debug, Clone)]
pub enum Event {
    Connected(Arc<ClientInfo>),
    /// The connection of an accepted client has ended.
    Closed {
        client: Arc<ClientInfo>,
        reason: CloseReason,
        lasted: Duration,
        bytes_in: u64,
        bytes_out: u64,
    },
    /// The connection of a client has ended that was never accepted. No other event names this client.
    Refused {
        id: u64,
        ip: IpAddr,
        reason: CloseReason,
        lasted: Duration,
        bytes_in: u64,
        bytes_out: u64,
    },
    Stream(StreamEvent),
    Segment(Arc<HlsSegment>),
    /// A backend has named further targets of forwarding for a publication.
    ForwardTargets {
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
        targets: Arc<Vec<Target>>,
    },
    BandwidthTested(Arc<BandwidthReport>),
    Recorded {
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
        path: String,
        duration_ms: u64,
        bytes: u64,
    },
}

#[derive(Debug, Clone)]
pub struct HlsSegment {
    pub stream: Arc<StreamInfo>,
    pub client: Arc<ClientInfo>,
    pub root: PathBuf,
    /// The file, below `root`.
    pub path: String,
    /// The playlist, below `root`.
    pub playlist: String,
    pub number: u64,
    pub duration_ms: u64,
}

/// Receiver of events. Called on the worker; must not block.
pub trait Listener: Send + Sync {
    fn on_event(&self, event: &Event);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateAction {
    Connect,
    Publish,
    Play,
}

#[derive(Debug, Clone)]
pub struct GateRequest {
    pub action: GateAction,
    pub client: Arc<ClientInfo>,
    /// The stream; `None` for [`GateAction::Connect`].
    pub stream: Option<Arc<StreamInfo>>,
    /// The configuration of the vhost: the stream's, or for [`GateAction::Connect`] the connection's.
    pub vhost: Arc<Vhost>,
    /// The stream's name was granted by a gate: the client's own credentials have passed, and are not there any more.
    pub is_granted: bool,
}

/// The grants of a gate to a client that passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateAnswer {
    /// Name within the application that replaces the requested one for publishing and playing, which may be a secret key.
    pub stream: Option<String>,
    /// Parameters of the stream instead of the requested ones, which may contain a secret key.
    pub params: Option<String>,
    /// Bit rate in kbit/s above which a publisher is disconnected, in addition to the limit of the vhost.
    pub max_bitrate: Option<u64>,
}

impl GateAnswer {
    /// Adds the answer of a later gate: the first name counts, and the lowest limit.
    pub fn merge(self, later: Self) -> Self {
        let max_bitrate = self.max_bitrate.into_iter().chain(later.max_bitrate).min();
        Self { stream: self.stream.or(later.stream), params: self.params.or(later.params), max_bitrate }
    }
}

/// A check of requests before they are carried out. `name` is for the log.
pub trait Gate: Send + Sync {
    fn name(&self) -> &'static str;

    /// Returns whether [`Gate::check`] may wait. Such gates are asked in a coroutine of their own, so that the client can leave.
    fn may_block(&self, _: &GateRequest) -> bool {
        false
    }

    /// Returns whether the gate is asked about the programs that this server has started, too.
    fn asks_engines(&self) -> bool {
        false
    }

    /// Returns `Ok` to let the request pass. Errors: the reason of the refusal, which the client is told.
    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason>;
}

/// The listeners and gates of the server. Clones are the same set, which is fixed by [`Events::register`] at the start.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<OnceLock<Registered>>);

#[derive(Default)]
struct Registered {
    listeners: Vec<Arc<dyn Listener>>,
    gates: Vec<Arc<dyn Gate>>,
}

impl Events {
    /// Sets the listeners and gates. Only the first call has an effect; events before it are lost.
    pub(crate) fn register(&self, listeners: Vec<Arc<dyn Listener>>, gates: Vec<Arc<dyn Gate>>) {
        let _ = self.0.set(Registered { listeners, gates });
    }

    /// Notifies every listener. One that panics is logged, and the others are notified all the same.
    pub(crate) fn emit(&self, event: &Event) {
        let Some(registered) = self.0.get() else { return };
        for listener in &registered.listeners {
            // Also called while a panic unwinds: a second one must not leave this function.
            if panic::catch_unwind(AssertUnwindSafe(|| listener.on_event(event))).is_err() {
                log::error!("event listener panicked: event={}", quoted(format_args!("{event:?}")));
            }
        }
    }

    pub(crate) fn gates(&self) -> &[Arc<dyn Gate>] {
        self.0.get().map_or(&[], |registered| &registered.gates)
    }
}

impl StreamObserver for Events {
    fn on_stream_event(&self, event: StreamEvent) {
        self.emit(&Event::Stream(event));
    }
}
