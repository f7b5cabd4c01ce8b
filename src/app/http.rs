//! The HTTP server: live HLS files from memory, other files from a directory, and the console page.
//!
//! ```text
//! request ──> request::parse ──> admission (live files only) ──> response ──> send, one vectored write
//!                                   1. /streams.json   console: the list of live streams
//!                                   2. live files      outputs::live_files, in memory
//!                                   3. / and page.*    console: the page and its player
//!                                   4. other files     disk, on the thread pool
//! ```
//!
//! One coroutine per connection. Only GET, HEAD and OPTIONS; nothing is executed.
//!
//! Specifications: RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1).

pub mod conditions;
mod connection;
mod console;
mod disk;
pub(crate) mod file_metadata;
pub mod request;
mod response;
mod send;
mod stalled;
pub mod status;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::console::Console;
use self::disk::Disk;
pub(crate) use self::disk::MAX_IN_FLIGHT;
use self::response::{Body, DateCache, Response};
use self::stalled::{Aborted, StalledResponses};
use self::status::Status;
use crate::app::server::{Server, spawn_supervised};
use crate::app::session::per_ip::ConnectionsPerIp;
use crate::log::quoted;
use crate::st::net::TcpStream;
use crate::st::{self, LowClass, Shared};

/// Interval of the summary line in the log, while there are requests.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// The HTTP server. Clones are the same server.
#[derive(Clone)]
pub(crate) struct Http(Arc<Inner>);

pub(crate) struct Inner {
    server: Server,
    console: Console,
    disk: Disk,
    date: Shared<DateCache>,
    connections: Shared<Connections>,
    stalled: StalledResponses,
    counters: Counters,
}

/// The open connections, for the limits.
#[derive(Default)]
struct Connections {
    numbers: HashSet<u64>,
    by_address: ConnectionsPerIp,
}

/// Counters since the start of the server.
#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    /// Requests answered with a status of 400 or above.
    failed: AtomicU64,
    /// Bytes sent, heads included.
    bytes: AtomicU64,
    /// Connections refused because there were too many.
    rejected: AtomicU64,
}

impl std::ops::Deref for Http {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Creates the HTTP server and stores it in `server`. Must be called from a coroutine, once.
///
/// # Errors
/// When there is no memory for a coroutine.
pub(crate) fn start(server: &Server) -> io::Result<()> {
    let http = Http(Arc::new(Inner {
        server: server.clone(),
        console: Console::new(),
        disk: Disk::new(),
        date: Shared::default(),
        connections: Shared::default(),
        stalled: StalledResponses::default(),
        counters: Counters::default(),
    }));
    let summary = http.clone();
    spawn_supervised("http summary", move || summary.log_summaries())?;
    // Empty before, since the server starts once.
    let _ = server.http.set(http);
    Ok(())
}

impl Http {
    /// Serves an accepted connection in a coroutine of its own, or rejects it if there are too many.
    pub(crate) fn serve_accepted(&self, stream: &TcpStream) {
        let (number, address) = (self.server.next_number(), stream.peer().ip());
        let config = self.server.config();
        let (max, max_own) = (config.http_server.max_connections, config.http_server.max_connections_per_address);
        let too_many = self.connections.with(|connections| {
            if connections.numbers.len() >= max {
                return Some("too many connections");
            }
            if max_own > 0 && connections.by_address.count(address) >= max_own {
                return Some("too many connections from your address");
            }
            connections.numbers.insert(number);
            connections.by_address.add(address);
            None
        });
        if let Some(message) = too_many {
            self.reject(stream, message);
            return;
        }
        // Without memory for a coroutine, the closure is dropped, and with it the permit and the connection.
        let permit = ConnectionPermit { http: self.clone(), number, address };
        let stream = stream.clone();
        let _ = st::spawn_low_priority(LowClass::Requests, "http", number, move || {
            let (abandoned, http) = (stream.clone(), permit.http.clone());
            st::on_overflow(move || {
                abandoned.shutdown();
                http.stalled.unregister(number);
                drop(ConnectionPermit { http, number, address });
            });
            let end = connection::serve(&permit.http, number, &stream);
            let (peer, received, sent) = (stream.peer(), stream.bytes_received(), stream.bytes_sent());
            log::debug!(
                "HTTP connection closed: address={peer} reason={} bytes_in={received} bytes_out={sent}",
                quoted(end)
            );
        });
    }

    /// Aborts stalled responses, the oldest first, until `excess` bytes will be free.
    pub(crate) fn abort_stalled(&self, excess: usize) -> Aborted {
        self.stalled.abort_oldest(excess)
    }

    /// Sends a 503 without waiting: bytes that the socket does not take at once are lost.
    fn reject(&self, stream: &TcpStream, message: &str) {
        self.counters.rejected.fetch_add(1, Ordering::Relaxed);
        let response = Response::text(Status::ServiceUnavailable, message, "Retry-After: 2\r\n");
        let mut bytes = self.head(&response, false).into_bytes();
        if let Body::Bytes(text) = &response.body {
            bytes.extend_from_slice(text);
        }
        // Reads a request that has arrived, since closing a socket with unread bytes would discard the response.
        let _ = stream.try_read(&mut [0; 1024]);
        let _ = stream.try_write(&bytes);
        stream.shutdown_write();
    }

    /// Returns whether three quarters of `max_connections` are taken: idle connections are then closed early.
    fn is_crowded(&self) -> bool {
        self.connection_count() >= self.server.config().http_server.max_connections / 4 * 3
    }

    fn connection_count(&self) -> usize {
        self.connections.with(|connections| connections.numbers.len())
    }

    /// Returns the head of a response as sent.
    fn head(&self, response: &Response, keep_alive: bool) -> String {
        self.date.with(|date| response.head(keep_alive, date.now()))
    }

    /// Counts a response.
    fn count(&self, status: Status) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        if status.code() >= 400 {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs a summary of each interval with requests. Does not return.
    fn log_summaries(&self) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = || {
            let Counters { requests, failed, bytes, rejected } = &self.counters;
            [requests, failed, bytes, rejected].map(read)
        };
        let mut before = now();
        loop {
            st::sleep(SUMMARY_INTERVAL);
            let after = now();
            if after != before {
                let [requests, failed, bytes, rejected] = std::array::from_fn(|n| after[n] - before[n]);
                let connections = self.connection_count();
                let kbps = bytes * 8 / 1000 / SUMMARY_INTERVAL.as_secs();
                log::info!(
                    "http -> requests={requests}, failed={failed}, obytes={bytes}, okbps={kbps}, \
                     connections={connections}, turned_away={rejected}"
                );
                before = after;
            }
        }
    }
}

/// The permit of one open connection. Dropping it allows another one.
struct ConnectionPermit {
    http: Http,
    number: u64,
    address: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.http.connections.try_with(|connections| {
            if connections.numbers.remove(&self.number) {
                connections.by_address.remove(self.address);
            }
        });
    }
}

/// Percent-encodes a path for a URL, except its slashes (RFC 3986, 3.3).
fn percent_encode(path: &str) -> String {
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
