//! HTTP: the files of live streams, and what else is in a directory, for browsers and players.
//!
//! One coroutine a connection, as for RTMP. A request for the file of a live stream is answered from memory, its head and its
//! body in one write from where they are. It is no general web server: GET and HEAD of files, and nothing that is run.
//!
//! Specifications: RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1).

mod conditions;
mod connection;
mod disk;
mod entity;
pub mod live;
mod page;
mod request;
mod response;
mod status;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::disk::Disk;
use self::page::Page;
use self::response::{Body, Clock, Response};
use self::status::Status;
use super::server::{Server, StartError};
use crate::config::HttpServer;
use crate::st::net::{TcpListener, TcpStream};
use crate::st::{self, Shared};

/// Connections that are accepted in a row.
const ACCEPTS: usize = 16;

/// How long accepting pauses when the system has no descriptor or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often that, or a connection too many, is mentioned.
const MENTION: Duration = Duration::from_secs(5);

/// How often what was served is summed up in the log, while there are requests.
const SUMMARY: Duration = Duration::from_secs(10);

/// The HTTP server.
#[derive(Clone)]
struct Http(Arc<Inner>);

struct Inner {
    server: Server,
    config: HttpServer,
    /// What is at `/`, unless the configuration says that nothing is.
    page: Option<Page>,
    disk: Disk,
    clock: Shared<Clock>,
    /// By number.
    connections: Shared<HashSet<u64>>,
    counts: Counts,
}

/// What was served since the server started.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    /// Answered 400 and above.
    failed: AtomicU64,
    /// Heads and bodies.
    bytes: AtomicU64,
    /// Connections beyond `max_connections`.
    turned_away: AtomicU64,
}

impl std::ops::Deref for Http {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Serves what comes to these listeners. Call it from a coroutine.
///
/// # Errors
/// When there is no memory for the first coroutines.
pub(super) fn start(server: &Server, config: &HttpServer, listeners: Vec<TcpListener>) -> io::Result<()> {
    let http = Http(Arc::new(Inner {
        server: server.clone(),
        page: config.page.then(Page::new),
        disk: Disk::new(&config.dir),
        config: config.clone(),
        clock: Shared::default(),
        connections: Shared::default(),
        counts: Counts::default(),
    }));
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            log::info!("listening for HTTP on {address}, files of {}", config.dir.display());
        }
        let http = http.clone();
        st::spawn("accept http", 0, move || http.accept(&listener))?;
    }
    st::spawn("http summary", 0, move || http.sum_up())?;
    Ok(())
}

impl Http {
    /// Accepts connections, for ever.
    fn accept(&self, listener: &TcpListener) {
        let mut mentioned: Option<Instant> = None;
        let mut in_a_row = 0;
        loop {
            match listener.accept() {
                Ok(stream) => {
                    self.welcome(&stream);
                    in_a_row = (in_a_row + 1) % ACCEPTS;
                    if in_a_row == 0 {
                        st::yield_now();
                    }
                }
                Err(error) => {
                    if mentioned.is_none_or(|at| at.elapsed() >= MENTION) {
                        mentioned = Some(Instant::now());
                        let advice = "is the limit of open files (ulimit -n) too low?";
                        log::warn!("cannot accept HTTP connections for now: {error}; {advice}");
                    }
                    st::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn welcome(&self, stream: &TcpStream) {
        let number = self.server.next_number();
        let is_in = self.connections.with(|connections| {
            let has_room = connections.len() < self.config.max_connections;
            has_room && connections.insert(number)
        });
        if !is_in {
            self.turn_away(stream);
            return;
        }
        // Dropped with the closure when there is no memory for a coroutine; closing is then all that can be done.
        let place = Place { http: self.clone(), number };
        let stream = stream.clone();
        let _ = st::spawn("http", number, move || {
            let (abandoned, http) = (stream.clone(), place.http.clone());
            st::on_overflow(move || {
                abandoned.shutdown();
                drop(Place { http, number });
            });
            let end = connection::serve(&place.http, &stream);
            let (peer, received, sent) = (stream.peer(), stream.received(), stream.sent());
            log::debug!("HTTP connection of {peer} ended: {end}; {received} bytes in, {sent} bytes out");
        });
    }

    /// Tells a client that there are too many. It is not waited for: what the socket does not take at once is lost.
    fn turn_away(&self, stream: &TcpStream) {
        self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
        let response = Response::text(Status::ServiceUnavailable, "too many connections", "Retry-After: 2\r\n");
        let mut bytes = self.head(&response, false).into_bytes();
        if let Body::Bytes(text) = &response.body {
            bytes.extend_from_slice(text);
        }
        // A request that is there is read, since closing a socket with unread bytes throws away what was written to it.
        let _ = stream.try_read(&mut [0; 1024]);
        let _ = stream.try_write(&bytes);
        stream.shutdown_write();
    }

    /// Whether there are so many connections that idle ones are to make room.
    fn is_crowded(&self) -> bool {
        self.connections.with(|connections| connections.len()) >= self.config.max_connections / 4 * 3
    }

    fn head(&self, response: &Response, keep_alive: bool) -> String {
        self.clock.with(|clock| response.head(keep_alive, clock.date()))
    }

    fn count(&self, status: Status) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        if status.code() >= 400 {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs what was served, for ever: a line an interval in which anything was.
    fn sum_up(&self) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = || {
            let Counts { requests, failed, bytes, turned_away } = &self.counts;
            [requests, failed, bytes, turned_away].map(read)
        };
        let mut before = now();
        loop {
            st::sleep(SUMMARY);
            let after = now();
            if after != before {
                let [requests, failed, bytes, turned_away] = std::array::from_fn(|n| after[n] - before[n]);
                let connections = self.connections.with(|connections| connections.len());
                let kbps = bytes * 8 / 1000 / SUMMARY.as_secs();
                log::info!(
                    "http -> requests={requests}, failed={failed}, obytes={bytes}, okbps={kbps}, \
                     connections={connections}, turned_away={turned_away}"
                );
                before = after;
            }
        }
    }
}

/// A connection's place among those that are allowed. Dropping it gives the place free.
struct Place {
    http: Http,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.http.connections.try_with(|connections| connections.remove(&self.number));
    }
}

/// Binds the listeners of the configuration; none when the server is off.
///
/// # Errors
/// [`StartError::Listen`] when an address cannot be listened on.
pub(super) fn bind(config: &HttpServer) -> Result<Vec<TcpListener>, StartError> {
    let addresses = if config.enabled { &config.listen[..] } else { &[] };
    let bind = |&address| TcpListener::bind(address).map_err(|error| StartError::Listen { address, error });
    addresses.iter().map(bind).collect()
}

/// A path percent-encoded for a URL, slashes left alone (RFC 3986, 3.3).
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte.into()),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
