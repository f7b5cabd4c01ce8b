//! HTTP callbacks (`http_hooks`): backends are asked before clients publish and play, and told when they have stopped.
//!
//! ```text
//! publish, play ── Gate::check ──> Sessions, BodyWriter ──> Backend::request ──> Answer
//! PublisherLost, Stopped, Closed ── Listener ──> Sessions, BodyWriter ──> Backend::push ── lanes ──> Backend::request
//! Backend: Breaker, connections (st::net, TLS) ──> exchange (HTTP) ──> program of the operator
//! ```
//!
//! A question runs in the coroutine that the connection makes for a gate; a client that leaves meanwhile is noticed. Events wait
//! in bounded queues, so that no backend delays the worker or a client.

mod addresses;
mod answer;
mod backend;
mod body;
mod breaker;
pub mod decoders;
mod events;
mod exchange;
mod expiry;
mod form;
mod forward_backend;
mod hook;
mod latency;
mod message;
mod questions;
mod queue;
mod recheck;
mod recheck_schedule;
mod report;
mod sessions;
mod spool;
mod spools;
mod tls_roots;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::backend::Backend;
use self::body::BodyWriter;
use self::expiry::Expiry;
use self::hook::{Detail, Hook, Traffic};
use self::recheck_schedule::RecheckSchedule;
use self::sessions::Sessions;
use self::spools::Spools;
use self::tls_roots::TlsRoots;
use crate::app::context::{Commit, Context, Feature, PrepareError};
use crate::app::events::{Event, Gate, Listener};
use crate::app::stats::snapshot::Section;
use crate::app::stream::StreamEvent;
use crate::config::{Config, HookUrl};
use crate::log::quoted;
use crate::st::{self, Shared};

const FLUSH_POLL: Duration = Duration::from_millis(10);

#[derive(Clone)]
pub(crate) struct HttpCallbacks {
    ctx: Context,
    sessions: Shared<Sessions>,
    /// By origin.
    backends: Shared<HashMap<String, Arc<Backend>>>,
    bodies: Arc<BodyWriter>,
    roots: TlsRoots,
    expiry: Expiry,
    recheck: RecheckSchedule,
    spools: Spools,
}

impl HttpCallbacks {
    pub(crate) fn new(ctx: Context) -> Self {
        Self {
            ctx,
            sessions: Shared::default(),
            backends: Shared::default(),
            bodies: Arc::new(BodyWriter::new()),
            roots: TlsRoots::default(),
            expiry: Expiry::default(),
            recheck: RecheckSchedule::default(),
            spools: Spools::default(),
        }
    }

    fn backend(&self, url: &HookUrl) -> Arc<Backend> {
        let origin = url.origin();
        self.backends.with(|backends| {
            let backend = backends.entry(origin);
            backend.or_insert_with_key(|origin| Arc::new(Backend::new(origin.clone(), self.roots.clone()))).clone()
        })
    }

    fn backends(&self) -> Vec<Arc<Backend>> {
        self.backends.with(|backends| backends.values().cloned().collect())
    }
}

impl Listener for HttpCallbacks {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Stream(StreamEvent::Published { stream, client, .. }) => self.ask_targets(stream, client),
            Event::Stream(StreamEvent::PublisherLost { client, .. }) => self.end_action(client.id, Hook::Publish),
            Event::Stream(StreamEvent::Stopped { client, .. }) => self.end_action(client.id, Hook::Play),
            Event::Segment(segment) => {
                let (client, stream) = (&segment.client, &segment.stream);
                self.queue_stream_event(Hook::Hls, client, stream, Detail::Segment(segment));
                self.notify_segment(segment);
            }
            Event::Recorded { stream, client, path, duration_ms, bytes } => {
                let (duration, size) = (Value::from(*duration_ms as f64 / 1000.0), Value::from(*bytes));
                let more = &[("duration", duration), ("size", size)];
                let detail = Detail::Recording { file: Path::new(path), more };
                self.queue_stream_event(Hook::Dvr, client, stream, detail);
            }
            Event::BandwidthTested(report) => self.queue_bandwidth_result(report),
            Event::Closed { client, bytes_in, bytes_out, .. } => {
                self.cancel_timers(client.id);
                let traffic = Traffic { sent: *bytes_out, received: *bytes_in };
                let ends = self.sessions.try_with(|sessions| sessions.close(client.id, traffic));
                ends.iter().flatten().for_each(|end| self.queue_end(end));
            }
            _ => {}
        }
    }
}

impl Feature for HttpCallbacks {
    fn name(&self) -> &'static str {
        "http_hooks"
    }

    fn start(&self) -> io::Result<()> {
        let config = self.ctx.config.get();
        self.spools.open(&config).map_err(io::Error::other)?;
        self.replay(&config);
        self.queue_server_start(&config, &Config::clone(&config), true);
        let (expiry, ctx) = (self.expiry.clone(), self.ctx.clone());
        st::spawn_supervised("callback expiry", move || expiry.run(&ctx))?;
        let callbacks = self.clone();
        st::spawn_supervised("callback recheck", move || callbacks.run_recheck())
    }

    fn prepare(&self, new: &Arc<Config>) -> Result<Commit, PrepareError> {
        self.spools.open(new)?;
        Ok(Box::new(|| {}))
    }

    /// Forgets the backends that the new configuration does not name, and the events that wait for them.
    fn reconfigure(&self, old: &Config, new: &Config) {
        let vhosts = new.vhosts.values().filter(|vhost| vhost.enabled);
        let wanted: Vec<_> = vhosts.flat_map(|vhost| Hook::all_urls(vhost)).map(HookUrl::origin).collect();
        let removed: Vec<_> = self.backends.with(|backends| {
            backends.extract_if(|origin, _| !wanted.contains(origin)).map(|(_, backend)| backend).collect()
        });
        removed
            .iter()
            .for_each(|backend| drop_events(backend, "the backend was removed from the configuration", false));
        self.replay(new);
        self.queue_server_start(new, old, false);
        self.spools.retain(new);
    }

    /// Reports the end of every client to the backends, and waits until that is delivered.
    fn flush(&self, deadline: Instant) {
        for id in self.sessions.with(|sessions| sessions.clients()) {
            let client = self.ctx.clients.get(id);
            let traffic = client.map_or(Traffic::default(), |client| Traffic {
                sent: client.stream.bytes_sent(),
                received: client.stream.bytes_received(),
            });
            let ends = self.sessions.with(|sessions| sessions.close(id, traffic));
            ends.iter().for_each(|end| self.queue_end(end));
        }
        let backends = self.backends();
        backends.iter().for_each(|backend| backend.start_flush());
        let is_busy = || backends.iter().any(|backend| backend.is_busy()) || !self.spools.are_idle();
        while is_busy() && st::now() < deadline {
            st::sleep(FLUSH_POLL);
        }
        backends.iter().for_each(|backend| drop_events(backend, "the server stops", true));
    }

    fn snapshot(&self) -> Option<Section> {
        Some(report::section(&self.backends()))
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        Some(self)
    }
}

/// Drops the events that wait for a backend, and logs their number. Those in a spool file stay there if `is_kept`.
fn drop_events(backend: &Backend, reason: &str, is_kept: bool) {
    let (lost, kept) = backend.clear(is_kept);
    if lost > 0 {
        log::warn!("callbacks lost: backend={} count={lost} reason={}", backend.origin(), quoted(reason));
    }
    if kept > 0 {
        log::info!("callbacks kept in the spool: backend={} count={kept}", backend.origin());
    }
}
