//! The server: its listeners, its clients by number, and what they share.

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
use crate::app::limits::batching::Pace;
use crate::app::limits::heap::Slack;
use crate::app::limits::memory::Memory;
use crate::app::limits::overload::Overload;
use crate::app::outputs::forward::Forwards;
#[cfg(feature = "hls")]
use crate::app::outputs::hls::Hls;
#[cfg(feature = "hls")]
use crate::app::outputs::live_files::LiveFiles;
use crate::app::rtmp::connection;
use crate::app::rtmp::tls::Rtmps;
use crate::app::server::control::Control;
use crate::app::server::listeners::{ListenError, Listener, Listeners, Sockets};
use crate::app::session::client::Client;
use crate::app::session::clients::{Clients, HEARD_OUT};
use crate::app::session::close::{CloseReason, CloseTotals};
use crate::app::stats::reporter::Stage;
use crate::app::stream::Sources;
use crate::config::{Config, Listen, ListenKind};
use crate::log::as_client;
use crate::memory::Account;
use crate::os::{self, Files};
use crate::st::net::TcpStream;
use crate::st::{self, Cond, Crowd, Shared};

/// Files that are open beside those of clients: the log, the listeners, what is written to disk.
const OTHER_FILES: usize = 64;

/// Clients that are accepted in a row.
const ACCEPTS: usize = 16;

/// How long accepting pauses when the system has no descriptor or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often that is mentioned.
const MENTION: Duration = Duration::from_secs(5);

/// How often the log says how many connections were closed and why, if that has changed.
const TOTALS: Duration = Duration::from_secs(10);

/// After how much silence the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system has no memory for the first coroutines.
    #[error("cannot start: {0}")]
    Spawn(#[from] io::Error),
}

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

pub(crate) struct Inner {
    /// In force: a reload puts another in its place.
    config: Shared<Arc<Config>>,
    listeners: Listeners,
    pub(crate) rtmps: Rtmps,
    /// The bytes that are held for all of them.
    pub(crate) account: Account,
    pub(crate) memory: Memory,
    pub(crate) overload: Overload,
    pub(crate) sources: Sources,
    pub(crate) pace: Pace,
    pub(crate) play: Stage,
    pub(crate) publish: Stage,
    pub(crate) forward: Stage,
    pub(crate) forwards: Forwards,
    /// The streams that are there as HLS.
    #[cfg(feature = "hls")]
    pub(crate) hls: Hls,
    /// What HLS makes and HTTP serves.
    #[cfg(feature = "hls")]
    pub(crate) live_files: LiveFiles,
    /// Serves what comes to the listeners for HTTP. Set once, at the start.
    #[cfg(feature = "hls")]
    pub(crate) http: OnceLock<Http>,
    closed: CloseTotals,
    /// Another connection was closed.
    has_closed: Cond,
    clients: Shared<Clients>,
}

/// Starts serving on sockets that listen already, and returns; the coroutines that accept and serve go on. Call it from a
/// coroutine.
///
/// # Errors
/// When the system has no memory for the first coroutines.
pub fn start(config: Config, sockets: Sockets, rtmps: Rtmps, control: Control) -> Result<(), StartError> {
    check_file_limit(&config);
    #[cfg(feature = "hls")]
    let live_files = LiveFiles::new();
    #[cfg(feature = "hls")]
    live_files.set_limit(config.http_server.live_limit());
    let account = Account::default();
    let server = Server(Arc::new(Inner {
        listeners: Listeners::default(),
        rtmps,
        sources: Sources::new(account.clone()),
        account,
        memory: Memory::default(),
        overload: Overload::default(),
        pace: Pace::default(),
        play: Stage::new("->", "clients", config.pithy_print.play),
        publish: Stage::new("<-", "clients", config.pithy_print.publish),
        forward: Stage::new("->", "forwarders", config.pithy_print.forwarder),
        #[cfg(feature = "hls")]
        hls: Hls::start(live_files.clone())?,
        #[cfg(feature = "hls")]
        live_files,
        #[cfg(feature = "hls")]
        http: OnceLock::new(),
        closed: CloseTotals::default(),
        has_closed: Cond::new(),
        forwards: Forwards::default(),
        clients: Shared::default(),
        config: Shared::new(Arc::new(config)),
    }));
    for stage in [&server.play, &server.publish, &server.forward] {
        let stage = stage.clone();
        spawn_lasting("pithy print", move || stage.print())?;
    }
    let sources = server.sources.clone();
    spawn_lasting("sweep", move || sources.sweep())?;
    #[cfg(feature = "hls")]
    {
        let swept = server.clone();
        spawn_lasting("hls", move || swept.hls.sweep(|| swept.hls.reconfigure(&swept.sources, &swept.config())))?;
    }
    if let Err(error) = st::watch() {
        log::warn!("nobody will say when the worker is stuck: no thread for it: {error}");
    }
    let guarded = server.clone();
    spawn_lasting("memory", move || Memory::guard(&guarded))?;
    let guarded = server.clone();
    spawn_lasting("heap", move || Slack::guard(&guarded))?;
    let guarded = server.clone();
    spawn_lasting("overload", move || Overload::guard(&guarded))?;
    let totals = server.clone();
    spawn_lasting("totals", move || totals.print_totals())?;
    #[cfg(feature = "hls")]
    http::start(&server)?;
    server.listen(&server.config().listeners(), sockets)?;
    spawn_lasting("control", move || control.obey(&server))?;
    Ok(())
}

/// Starts a coroutine of the server itself, which goes on whatever happens in it.
pub(crate) fn spawn_lasting(name: &'static str, f: impl Fn() + Send + 'static) -> std::io::Result<()> {
    st::spawn(name, 0, st::lasting(name, f)).map(drop)
}

/// Files that are open when all come who may, and each client publishes.
fn files_needed(config: &Config) -> usize {
    let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled);
    let targets = vhosts.map(|vhost| vhost.forward.targets.len()).max().unwrap_or(0);
    let clients = config.max_connections * (1 + targets) + HEARD_OUT + OTHER_FILES;
    #[cfg(feature = "hls")]
    if config.http_server.enabled {
        // A connection, and the file that is sent over it.
        return clients + 2 * config.http_server.max_connections;
    }
    clients
}

/// Sees to it that there are files enough for all clients that may come, or warns.
pub(crate) fn check_file_limit(config: &Config) {
    let needed = files_needed(config);
    match os::raise_file_limit(needed as u64) {
        Files::Enough => {}
        Files::Raised(before, now) => log::info!("the limit of open files was {before} and is now {now}"),
        Files::TooFew(limit) => log::warn!(
            "max_connections, with http_server and forward, needs {needed} open files and the limit is {limit}: no more than \
             about {} clients get in, and fewer when HTTP and targets take their part; raise the limit (ulimit -n, or \
             LimitNOFILE of systemd) or lower max_connections",
            (limit as usize).saturating_sub(HEARD_OUT + OTHER_FILES)
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
    /// The configuration in force. Take it anew where it is needed: a reload puts another in its place at any wait.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.with(|config| config.clone())
    }

    pub(crate) fn set_config(&self, new: Arc<Config>) {
        self.config.with(|config| *config = new);
    }

    /// Why nobody new can be let in now, if so.
    pub(crate) fn objection(&self) -> Option<CloseReason> {
        self.memory.objection().or_else(|| self.overload.objection())
    }

    pub(crate) fn has_clients(&self) -> bool {
        self.clients.with(|clients| !clients.is_empty())
    }

    /// Those who are here.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.with(|clients| clients.all())
    }

    /// Opens those of the wanted addresses that are not open; see [`Server::listen`].
    pub(crate) fn bind(&self, wanted: &[Listen]) -> Result<Sockets, ListenError> {
        self.listeners.bind(wanted)
    }

    /// Has nobody come in any more.
    pub(crate) fn close_listeners(&self) {
        // Without anything new there is nothing that fails.
        let _ = self.listen(&[], Sockets::default());
    }

    /// Makes these the addresses that are listened on; `new` are the sockets of those that were not open.
    pub(crate) fn listen(&self, wanted: &[Listen], new: Sockets) -> io::Result<()> {
        let server = self.clone();
        self.listeners.replace(wanted, new, move |listener| server.accept(listener))
    }

    /// Accepts clients, until the listener is closed.
    fn accept(&self, listener: &Listener) {
        let mut mentioned: Option<Instant> = None;
        let mut is_waiting = false;
        let mut in_a_row = 0;
        loop {
            match listener.socket.accept() {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    if std::mem::take(&mut is_waiting) {
                        log::info!("accepting clients again");
                    }
                    match listener.listen().kind {
                        kind @ (ListenKind::Rtmp | ListenKind::Rtmps { .. }) => self.welcome(&stream, kind),
                        #[cfg(feature = "hls")]
                        ListenKind::Http => self.http.get().into_iter().for_each(|http| http.welcome(&stream)),
                    }
                    // However many want to come in, those who are here have their turn.
                    in_a_row = (in_a_row + 1) % ACCEPTS;
                    if in_a_row == 0 {
                        st::yield_now();
                    }
                }
                Err(error) => {
                    // EMFILE and its like: the connection waits in the kernel until there is room.
                    if mentioned.is_none_or(|at| at.elapsed() >= MENTION) {
                        (mentioned, is_waiting) = (Some(Instant::now()), true);
                        log::warn!(
                            "cannot accept clients for now: {error}; is the limit of open files (ulimit -n) too low?"
                        );
                    }
                    st::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// A number for what is not a client of RTMP: no two have the same in the log.
    pub(crate) fn next_number(&self) -> u64 {
        self.clients.with(Clients::next_number)
    }

    fn welcome(&self, stream: &TcpStream, kind: ListenKind) {
        // A socket that does not take the option is found dead when it is written to, if later.
        let _ = stream.set_keepalive(KEEPALIVE);
        let config = self.config();
        let Some((client, too_many)) = self.clients.with(|clients| clients.add(stream, &config)) else {
            self.closed.count(&CloseReason::Full(String::new()));
            self.has_closed.signal();
            return;
        };
        let server = self.clone();
        let number = client.number;
        let unserved = client.clone();
        let served = st::spawn_low(Crowd::Arrivals, "client", number, move || {
            let presence = Presence { server: server.clone(), client: client.clone() };
            let lost = client.clone();
            st::on_overflow(move || {
                lost.stream.shutdown();
                server.play.leave(number);
                server.publish.leave(number);
                server.forwards.leave(number);
                lost.abandon();
                drop(Presence { server, client: lost });
            });
            connection::serve(&presence.server, &client, kind, too_many);
        });
        if let Err(error) = served {
            self.account(&unserved, &CloseReason::Full(format!("no coroutine for it: {error}")));
            drop(Presence { server: self.clone(), client: unserved });
        }
    }

    /// Writes the line of a connection's end, and counts it.
    pub(crate) fn account(&self, client: &Client, reason: &CloseReason) {
        let Some(messages) = client.settle() else { return };
        self.closed.count(reason);
        self.has_closed.signal();
        let age = client.since.elapsed().as_secs_f32();
        let (code, sent, received) = (reason.code(), client.stream.sent(), client.stream.received());
        let line = format!(
            "closed, {code}: {reason}; after {age:.1} s, {received} bytes in, {sent} bytes out, {} messages, \
             {} dropped",
            messages.passed, messages.dropped
        );
        as_client(client.number, || if reason.is_ordinary() { log::info!("{line}") } else { log::warn!("{line}") });
    }

    /// How many connections were closed since the start, and why.
    pub(crate) fn closed(&self) -> &CloseTotals {
        &self.closed
    }

    /// Logs how many connections were closed and why, for ever. Sleeps while none is.
    fn print_totals(&self) {
        loop {
            self.has_closed.wait();
            st::sleep(TOTALS);
            log::info!("closed since the start: {}", self.closed());
        }
    }
}

/// A client's place in the list of clients. Dropping it gives the place free.
struct Presence {
    server: Server,
    client: Arc<Client>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.server.clients.try_with(|clients| clients.remove(&self.client));
        // Unless it has ended in an orderly way before.
        self.server.account(&self.client, &CloseReason::Crashed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_needed_for_clients_for_targets_and_twice_for_http() {
        let needed = |text: &str| files_needed(&Config::parse("a.conf", text).unwrap()) - HEARD_OUT - OTHER_FILES;
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
