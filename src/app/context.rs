//! The shared state of the server, for handlers of connections and for features.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::app::events::{Events, Gate, Listener};
use crate::app::limits::admission::Admission;
use crate::app::limits::bandwidth_tests::BandwidthTests;
use crate::app::limits::batching::Batching;
use crate::app::limits::reclaim::Reclaim;
use crate::app::session::clients::Clients;
use crate::app::session::close::CloseReason;
use crate::app::session::engines::Engines;
use crate::app::session::operator::ReloadRequests;
use crate::app::session::recordings::Recordings;
#[cfg(feature = "http")]
use crate::app::session::viewers::Viewers;
use crate::app::stats::Stats;
use crate::app::stats::snapshot::Section;
use crate::app::stream::{ClientHandle, StreamRegistry};
use crate::config::{Config, ConfigCell};
use crate::memory::MemoryTracker;

/// Handles to the shared state; clones are the same state. It knows no listener and no feature.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) config: ConfigCell,
    pub(crate) streams: StreamRegistry,
    pub(crate) clients: Clients,
    #[cfg(feature = "http")]
    pub(crate) viewers: Viewers,
    pub(crate) admission: Admission,
    pub(crate) memory: MemoryTracker,
    pub(crate) events: Events,
    pub(crate) stats: Stats,
    pub(crate) batching: Batching,
    pub(crate) engines: Engines,
    pub(crate) reloads: ReloadRequests,
    pub(crate) recordings: Recordings,
    pub(crate) bandwidth_tests: BandwidthTests,
    pub(crate) features: Features,
}

impl Context {
    /// Asks a client to leave. Returns whether there is one with this number that was not asked before.
    pub(crate) fn disconnect(&self, id: u64, reason: CloseReason) -> bool {
        if let Some(client) = self.clients.get(id) {
            let is_first = client.close_requested().is_none();
            client.close(reason);
            return is_first;
        }
        #[cfg(feature = "http")]
        return self.viewers.close(id, &reason);
        #[cfg(not(feature = "http"))]
        false
    }

    pub(crate) fn new(config: ConfigCell) -> Self {
        let memory = MemoryTracker::default();
        let events = Events::default();
        Self {
            streams: StreamRegistry::new(memory.clone(), Arc::new(events.clone())),
            events,
            clients: Clients::default(),
            #[cfg(feature = "http")]
            viewers: Viewers::default(),
            admission: Admission::default(),
            stats: Stats::new(&config.get()),
            batching: Batching::default(),
            engines: Engines::default(),
            reloads: ReloadRequests::default(),
            recordings: Recordings::default(),
            bandwidth_tests: BandwidthTests::default(),
            features: Features::default(),
            memory,
            config,
        }
    }
}

/// The list of features, fixed by [`Features::register`] at the start. Clones are the same list.
#[derive(Clone, Default)]
pub(crate) struct Features(Arc<OnceLock<Vec<Arc<dyn Feature>>>>);

impl Features {
    pub(crate) fn register(&self, features: Vec<Arc<dyn Feature>>) {
        let _ = self.0.set(features);
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) fn all(&self) -> &[Arc<dyn Feature>] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// The second half of a reload, which cannot fail.
pub(crate) type Commit = Box<dyn FnOnce() + Send>;

pub(crate) type PrepareError = Box<dyn Error + Send + Sync>;

/// A part of the server that can be left out: it hangs on streams, clients and listeners, and nothing names it but `app.rs`.
pub(crate) trait Feature: Send + Sync {
    fn name(&self) -> &'static str;

    /// Starts the background coroutines. Called once, from a coroutine. Fails when the system has no memory or thread for them.
    fn start(&self) -> io::Result<()> {
        Ok(())
    }

    /// Does all of a reload that can fail, without effect. Called from a coroutine; may wait. Errors: the reason why it fails.
    fn prepare(&self, _new: &Arc<Config>) -> Result<Commit, PrepareError> {
        Ok(Box::new(|| {}))
    }

    fn reconfigure(&self, _old: &Config, _new: &Config) {}

    /// Writes what would be lost with the process. Called once, when all streams have ended; returns by `deadline`.
    fn flush(&self, _deadline: Instant) {}

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        None
    }

    /// Returns the feature's gate. Gates are asked in the order of the features.
    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        None
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    fn snapshot(&self) -> Option<Section> {
        None
    }

    fn reclaim(self: Arc<Self>) -> Option<Arc<dyn Reclaim>> {
        None
    }
}
