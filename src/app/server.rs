//! The server: its listeners, its clients by number, and what they share.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::close::CloseReason;
use super::connection;
#[cfg(feature = "hls")]
use super::http::live::LiveFiles;
use super::pithy::Stage;
use super::source::{Outlet, Sources};
use crate::config::Config;
use crate::log::as_client;
use crate::st::net::{TcpListener, TcpStream};
use crate::st::{self, Shared};

/// Clients beyond `max_connections` that are heard out, to be told why they are turned away. More are closed at once.
const HEARD_OUT: usize = 64;

/// Clients that are accepted in a row.
const ACCEPTS: usize = 16;

/// How long accepting pauses when the system has no descriptor or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often that, or a client too many, is mentioned.
const MENTION: Duration = Duration::from_secs(5);

/// After how much silence the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(.error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        error: io::Error,
    },
    /// The system has no memory for the first coroutines.
    #[error("cannot start: {0}")]
    Spawn(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another server running on this port?",
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for root",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) sources: Sources,
    pub(super) play: Stage,
    pub(super) publish: Stage,
    /// What HLS makes and HTTP serves.
    #[cfg(feature = "hls")]
    #[allow(dead_code, reason = "who puts and who serves them comes with the next changes")]
    pub(super) live_files: LiveFiles,
    clients: Shared<Clients>,
}

#[derive(Default)]
struct Clients {
    last: u64,
    by_number: BTreeMap<u64, Arc<Client>>,
    /// When the last client too many was mentioned, and how many there have been since.
    mentioned: Option<Instant>,
    unmentioned: u64,
}

/// A client, as everybody but its own coroutine sees it.
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) stream: TcpStream,
    pub(super) since: Instant,
    /// What it was told to close for.
    told: Mutex<Option<CloseReason>>,
}

/// Starts listening and returns; the coroutines that accept and serve go on. Call it from a coroutine.
///
/// # Errors
/// When an address cannot be listened on; then nothing has been accepted.
pub fn start(config: Config) -> Result<(), StartError> {
    let listeners = config
        .listen
        .iter()
        .map(|&address| TcpListener::bind(address).map_err(|error| StartError::Listen { address, error }))
        .collect::<Result<Vec<_>, _>>()?;
    let server = Server(Arc::new(Inner {
        sources: Sources::new(),
        play: Stage::new("->", config.pithy_print.play),
        publish: Stage::new("<-", config.pithy_print.publish),
        #[cfg(feature = "hls")]
        live_files: LiveFiles::new(),
        clients: Shared::default(),
        config,
    }));
    for stage in [&server.0.play, &server.0.publish] {
        let stage = stage.clone();
        st::spawn("pithy print", 0, move || stage.print())?;
    }
    let sources = server.0.sources.clone();
    st::spawn("sweep", 0, move || sources.sweep())?;
    for listener in listeners {
        let server = server.clone();
        if let Ok(address) = listener.local_addr() {
            log::info!("listening for RTMP on {address}");
        }
        st::spawn("accept", 0, move || server.accept(&listener))?;
    }
    Ok(())
}

impl std::ops::Deref for Server {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Server {
    /// Accepts clients, for ever.
    fn accept(&self, listener: &TcpListener) {
        let mut mentioned: Option<Instant> = None;
        let mut in_a_row = 0;
        loop {
            match listener.accept() {
                Ok(stream) => {
                    self.welcome(&stream);
                    // However many want to come in, those who are here have their turn.
                    in_a_row = (in_a_row + 1) % ACCEPTS;
                    if in_a_row == 0 {
                        st::yield_now();
                    }
                }
                Err(error) => {
                    // EMFILE and its like: the connection waits in the kernel until there is room.
                    if mentioned.is_none_or(|at| at.elapsed() >= MENTION) {
                        mentioned = Some(Instant::now());
                        log::warn!(
                            "cannot accept clients for now: {error}; is the limit of open files (ulimit -n) too low?"
                        );
                    }
                    st::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn welcome(&self, stream: &TcpStream) {
        // A socket that does not take the option is found dead when it is written to, if later.
        let _ = stream.set_keepalive(KEEPALIVE);
        let Some((client, too_many)) = self.clients.with(|clients| clients.add(stream, self.config.max_connections))
        else {
            return;
        };
        let server = self.clone();
        let number = client.number;
        let served = st::spawn("client", number, move || {
            let presence = Presence { server: server.clone(), number };
            let stream = client.stream.clone();
            st::on_overflow(move || {
                stream.shutdown();
                drop(Presence { server, number });
            });
            connection::serve(&presence.server, &client, too_many);
        });
        if let Err(error) = served {
            as_client(number, || log::warn!("{}: closed at once: {error}", stream.peer()));
            drop(Presence { server: self.clone(), number });
        }
    }
}

/// A client's place in the list of clients. Dropping it gives the place free.
struct Presence {
    server: Server,
    number: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.server.clients.try_with(|clients| clients.by_number.remove(&self.number));
    }
}

impl Clients {
    /// Gives a client its number, and says whether it is one too many. `None`: far too many, it is not even told.
    fn add(&mut self, stream: &TcpStream, max: usize) -> Option<(Arc<Client>, bool)> {
        if self.by_number.len() >= max + HEARD_OUT {
            self.unmentioned += 1;
            if self.mentioned.is_none_or(|at| at.elapsed() >= MENTION) {
                log::warn!("{} clients closed at once: max_connections is {max}", self.unmentioned);
                (self.mentioned, self.unmentioned) = (Some(Instant::now()), 0);
            }
            return None;
        }
        self.last += 1;
        let number = self.last;
        let client = Arc::new(Client { number, stream: stream.clone(), since: Instant::now(), told: Mutex::new(None) });
        let too_many = self.by_number.len() >= max;
        self.by_number.insert(number, client.clone());
        Some((client, too_many))
    }
}

impl Client {
    /// What the client was told to close for, by somebody else.
    pub(super) fn told(&self) -> Option<CloseReason> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Outlet for Client {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn wake(&self) {
        self.stream.wake();
    }

    fn close(&self, reason: CloseReason) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.stream.interrupt();
    }
}
