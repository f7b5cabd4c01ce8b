//! The server: shared state of all connections, accepting, and the background coroutines.
//!
//! ```text
//! Listeners ── accept ──> Clients::add ──> coroutine per client: rtmp::connection::serve ──> record_close
//!                    └──> Http::serve_accepted (feature `hls`)
//! start: one supervised coroutine each for statistics, idle streams, HLS, memory, heap, load, totals, and control
//! ```

pub mod control;
pub mod listeners;
mod reload;

use std::io;
use std::sync::Arc;
#[cfg(feature = "hls")]
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[cfg(feature = "hls")]
use crate::app::http::{self, Http};
use crate::app::limits::batching::Batching;
use crate::app::limits::heap::HeapTrimmer;
use crate::app::limits::memory::MemoryLimiter;
use crate::app::limits::overload::LoadShedder;
use crate::app::outputs::forward::ForwardManager;
#[cfg(feature = "hls")]
use crate::app::outputs::hls::Hls;
#[cfg(feature = "hls")]
use crate::app::outputs::live_files::LiveFiles;
use crate::app::rtmp::tls::TlsAcceptor;
use crate::app::rtmp::{KEEPALIVE_IDLE, connection};
use crate::app::server::control::Control;
use crate::app::server::listeners::{ListenError, Listener, Listeners, Sockets};
use crate::app::session::client::Client;
use crate::app::session::clients::{Clients, MAX_REJECTING};
use crate::app::session::close::{CloseReason, CloseTotals};
use crate::app::stats::reporter::StatsGroup;
use crate::app::stream::Sources;
use crate::config::{Config, Listen, ListenKind};
use crate::log::{Throttle, as_client, quoted};
use crate::memory::MemoryTracker;
use crate::os::{self, FileLimit};
use crate::st::net::TcpStream;
use crate::st::{self, Cond, LowClass, Shared};

/// Open files beside those of clients: the log, the listeners, HLS files being written.
const OTHER_FILES: usize = 64;

/// Connections accepted before the acceptor yields.
const ACCEPT_BATCH: usize = 16;

/// Pause of the acceptor when the system has no file descriptor or memory for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Minimum time between two log lines with the totals of closed connections.
const TOTALS_INTERVAL: Duration = Duration::from_secs(10);

/// Failure to start the server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system has no memory for the first coroutines.
    #[error("cannot start: {0}")]
    Spawn(#[from] io::Error),
}

/// State shared by all connections. Clones are the same server.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

pub(crate) struct Inner {
    /// Replaced by a reload.
    config: Shared<Arc<Config>>,
    listeners: Listeners,
    pub(crate) tls_acceptor: TlsAcceptor,
    pub(crate) memory: MemoryTracker,
    pub(crate) memory_limiter: MemoryLimiter,
    pub(crate) load_shedder: LoadShedder,
    pub(crate) sources: Sources,
    pub(crate) batching: Batching,
    pub(crate) play_stats: StatsGroup,
    pub(crate) publish_stats: StatsGroup,
    pub(crate) forward_stats: StatsGroup,
    pub(crate) forwards: ForwardManager,
    #[cfg(feature = "hls")]
    pub(crate) hls: Hls,
    /// HLS files that HTTP serves from memory.
    #[cfg(feature = "hls")]
    pub(crate) live_files: LiveFiles,
    /// Set once, at the start.
    #[cfg(feature = "hls")]
    pub(crate) http: OnceLock<Http>,
    close_totals: CloseTotals,
    connection_closed: Cond,
    clients: Shared<Clients>,
}

/// Starts the server on sockets that already listen, and returns. Its coroutines continue. Must be called from a coroutine.
///
/// # Errors
/// When the system has no memory for the first coroutines.
pub fn start(config: Config, sockets: Sockets, tls_acceptor: TlsAcceptor, control: Control) -> Result<(), StartError> {
    check_file_limit(&config);
    #[cfg(feature = "hls")]
    let live_files = LiveFiles::new();
    #[cfg(feature = "hls")]
    live_files.set_limit(config.http_server.live_limit());
    let memory = MemoryTracker::default();
    let server = Server(Arc::new(Inner {
        listeners: Listeners::default(),
        tls_acceptor,
        sources: Sources::new(memory.clone()),
        memory,
        memory_limiter: MemoryLimiter::default(),
        load_shedder: LoadShedder::default(),
        batching: Batching::default(),
        play_stats: StatsGroup::new("->", "clients", config.pithy_print.play),
        publish_stats: StatsGroup::new("<-", "clients", config.pithy_print.publish),
        forward_stats: StatsGroup::new("->", "forwarders", config.pithy_print.forwarder),
        #[cfg(feature = "hls")]
        hls: Hls::start(live_files.clone())?,
        #[cfg(feature = "hls")]
        live_files,
        #[cfg(feature = "hls")]
        http: OnceLock::new(),
        close_totals: CloseTotals::default(),
        connection_closed: Cond::new(),
        forwards: ForwardManager::default(),
        clients: Shared::default(),
        config: Shared::new(Arc::new(config)),
    }));
    for group in [&server.play_stats, &server.publish_stats, &server.forward_stats] {
        let group = group.clone();
        spawn_supervised("pithy print", move || group.run())?;
    }
    let sources = server.sources.clone();
    spawn_supervised("sweep", move || sources.run_sweeper())?;
    #[cfg(feature = "hls")]
    {
        let owner = server.clone();
        spawn_supervised("hls", move || owner.hls.maintain(|| owner.hls.reconfigure(&owner.sources, &owner.config())))?;
    }
    if let Err(error) = st::start_watchdog() {
        log::warn!("watchdog disabled, a blocked worker will not be reported: error={}", quoted(error));
    }
    type Run = fn(&Server);
    let background: [(&'static str, Run); 4] = [
        ("memory", MemoryLimiter::run),
        ("heap", HeapTrimmer::run),
        ("overload", LoadShedder::run),
        ("totals", Server::log_totals),
    ];
    for (name, run) in background {
        let server = server.clone();
        spawn_supervised(name, move || run(&server))?;
    }
    #[cfg(feature = "hls")]
    http::start(&server)?;
    server.listen(&server.config().listeners(), sockets)?;
    spawn_supervised("control", move || control.run(&server))?;
    Ok(())
}

/// Spawns a background coroutine of the server that is restarted when it panics.
pub(crate) fn spawn_supervised(name: &'static str, f: impl Fn() + Send + 'static) -> std::io::Result<()> {
    st::spawn(name, 0, st::supervised(name, f)).map(drop)
}

/// Returns the number of open files with all allowed clients, each of them a publisher.
fn files_needed(config: &Config) -> usize {
    let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled);
    let targets = vhosts.map(|vhost| vhost.forward.targets.len()).max().unwrap_or(0);
    let clients = config.max_connections * (1 + targets) + MAX_REJECTING + OTHER_FILES;
    #[cfg(feature = "hls")]
    if config.http_server.enabled {
        // A connection, and the file that is sent over it.
        return clients + 2 * config.http_server.max_connections;
    }
    clients
}

/// Raises the limit of open files to what the configuration needs, or warns.
pub(crate) fn check_file_limit(config: &Config) {
    let needed = files_needed(config);
    match os::raise_file_limit(needed as u64) {
        FileLimit::Enough => {}
        FileLimit::Raised { before, after } => log::info!("open file limit raised: before={before} after={after}"),
        FileLimit::TooFew(limit) => log::warn!(
            "open file limit too low for max_connections, http_server and forward: needed={needed} limit={limit} \
             max_clients={} advice={}",
            (limit as usize).saturating_sub(MAX_REJECTING + OTHER_FILES),
            quoted("raise the limit (ulimit -n, or LimitNOFILE of systemd), or lower max_connections"),
        ),
    }
}

impl std::ops::Deref for Server {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Server {
    /// Returns the current configuration. Do not keep it across a wait: a reload may replace it.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.with(|config| config.clone())
    }

    pub(crate) fn set_config(&self, new: Arc<Config>) {
        self.config.with(|config| *config = new);
    }

    /// Returns the reason for rejecting new clients, if they are rejected now.
    pub(crate) fn admission_error(&self) -> Option<CloseReason> {
        self.memory_limiter.admission_error().or_else(|| self.load_shedder.admission_error())
    }

    pub(crate) fn has_clients(&self) -> bool {
        self.clients.with(|clients| !clients.is_empty())
    }

    pub(crate) fn client_count(&self) -> usize {
        self.clients.with(|clients| clients.len())
    }

    /// Returns the connected RTMP clients, oldest first.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.with(|clients| clients.all())
    }

    /// Opens the wanted addresses that are not open yet; see [`Server::listen`].
    pub(crate) fn bind(&self, wanted: &[Listen]) -> Result<Sockets, ListenError> {
        self.listeners.bind(wanted)
    }

    pub(crate) fn close_listeners(&self) {
        // Without new sockets nothing can fail.
        let _ = self.listen(&[], Sockets::default());
    }

    /// Listens on exactly the wanted addresses. `new` has the sockets of those that were not open.
    pub(crate) fn listen(&self, wanted: &[Listen], new: Sockets) -> io::Result<()> {
        let server = self.clone();
        self.listeners.replace(wanted, new, move |listener| server.accept(listener))
    }

    /// Accepts connections until the listener is closed.
    fn accept(&self, listener: &Listener) {
        let mut warning = Throttle::new(LOG_INTERVAL);
        let mut warned = false;
        let mut accepted = 0;
        loop {
            match listener.socket.accept() {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    if std::mem::take(&mut warned) {
                        log::info!("accepting clients again");
                    }
                    match listener.listen().kind {
                        kind @ (ListenKind::Rtmp | ListenKind::Rtmps { .. }) => self.serve_accepted(&stream, kind),
                        #[cfg(feature = "hls")]
                        ListenKind::Http => self.http.get().into_iter().for_each(|http| http.serve_accepted(&stream)),
                    }
                    accepted = (accepted + 1) % ACCEPT_BATCH;
                    if accepted == 0 {
                        st::yield_now();
                    }
                }
                Err(error) => {
                    // For example EMFILE: the connection waits in the kernel.
                    if warning.pass(Instant::now()) {
                        warned = true;
                        let advice = quoted("raise the limit of open files (ulimit -n)");
                        log::warn!("cannot accept clients: error={} advice={advice}", quoted(error));
                    }
                    st::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    /// Returns a log number for a connection that is not an RTMP client. No two have the same.
    pub(crate) fn next_number(&self) -> u64 {
        self.clients.with(Clients::next_number)
    }

    fn serve_accepted(&self, stream: &TcpStream, kind: ListenKind) {
        // A socket without keepalive is found dead at a write.
        let _ = stream.set_keepalive(KEEPALIVE_IDLE);
        let config = self.config();
        let Some((client, rejection)) = self.clients.with(|clients| clients.add(stream, &config)) else {
            self.close_totals.count(&CloseReason::Full(String::new()));
            self.connection_closed.signal();
            return;
        };
        let server = self.clone();
        let number = client.number;
        let unserved = client.clone();
        let spawned = st::spawn_low_priority(LowClass::Arrivals, "client", number, move || {
            let guard = ClientGuard { server: server.clone(), client: client.clone() };
            let overflowed = client.clone();
            st::on_overflow(move || {
                overflowed.stream.shutdown();
                server.play_stats.unregister(number);
                server.publish_stats.unregister(number);
                server.forwards.unpublish(number);
                overflowed.release_resources();
                drop(ClientGuard { server, client: overflowed });
            });
            connection::serve(&guard.server, &client, kind, rejection);
        });
        if let Err(error) = spawned {
            self.record_close(&unserved, &CloseReason::Full(format!("no memory for a coroutine: {error}")));
            drop(ClientGuard { server: self.clone(), client: unserved });
        }
    }

    /// Logs and counts the end of a connection. Only the first call for a client has an effect.
    pub(crate) fn record_close(&self, client: &Client, reason: &CloseReason) {
        let Some(messages) = client.finish_stats() else { return };
        self.close_totals.count(reason);
        self.connection_closed.signal();
        let line = format!(
            "connection closed: code={} reason={} seconds={:.1} bytes_in={} bytes_out={} messages={} dropped={}",
            reason.code(),
            quoted(reason),
            client.connected_at.elapsed().as_secs_f32(),
            client.stream.bytes_received(),
            client.stream.bytes_sent(),
            messages.passed,
            messages.dropped
        );
        as_client(client.number, || if reason.is_ordinary() { log::info!("{line}") } else { log::warn!("{line}") });
    }

    /// Logs the totals of closed connections when they have changed, forever.
    fn log_totals(&self) {
        loop {
            self.connection_closed.wait();
            st::sleep(TOTALS_INTERVAL);
            log::info!("connections closed since start: {}", self.close_totals);
        }
    }
}

/// Entry of a client in the list of clients. Dropping it removes the client.
struct ClientGuard {
    server: Server,
    client: Arc<Client>,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.server.clients.try_with(|clients| clients.remove(&self.client));
        // Without effect if the connection ended in order.
        self.server.record_close(&self.client, &CloseReason::Crashed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_needed_for_clients_for_targets_and_twice_for_http() {
        let needed = |text: &str| files_needed(&Config::parse("a.conf", text).unwrap()) - MAX_REJECTING - OTHER_FILES;
        assert_eq!(needed("listen 1935; max_connections 10; vhost a { }"), 10);
        let targets = "vhost a { forward b c; } vhost b { forward b; } vhost c { enabled off; forward b c d; }";
        assert_eq!(needed(&format!("listen 1935; max_connections 10; {targets}")), 30, "to as many as one vhost has");
        #[cfg(feature = "hls")]
        {
            let http = "http_server { enabled on; listen 8080; max_connections 100; }";
            assert_eq!(needed(&format!("listen 1935; max_connections 10; {http} vhost a {{ }}")), 210);
        }
    }
}
