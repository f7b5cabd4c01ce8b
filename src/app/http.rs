//! HTTP: the files of live streams, and what else is in a directory, for browsers and players.
//!
//! One coroutine a connection, as for RTMP. A request for the file of a live stream is answered from memory, its head and its
//! body in one write from where they are. It is no general web server: GET and HEAD of files, and nothing that is run.
//!
//! Specifications: RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1).

pub mod conditions;
mod connection;
mod console;
mod disk;
mod downloads;
pub(crate) mod entity;
pub mod request;
mod response;
mod sending;
pub mod status;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::console::Page;
use self::disk::Disk;
pub(crate) use self::disk::IN_HAND;
use self::downloads::{Downloads, Ended};
use self::response::{Body, Clock, Response};
use self::status::Status;
use crate::app::server::{Server, spawn_lasting};
use crate::app::session::per_ip::Addresses;
use crate::st::net::TcpStream;
use crate::st::{self, Crowd, Shared};

/// How often what was served is summed up in the log, while there are requests.
const SUMMARY: Duration = Duration::from_secs(10);

/// The HTTP server.
#[derive(Clone)]
pub(crate) struct Http(Arc<Inner>);

pub(crate) struct Inner {
    server: Server,
    /// What is at `/`, if the configuration says so.
    page: Page,
    disk: Disk,
    clock: Shared<Clock>,
    connections: Shared<Connections>,
    downloads: Downloads,
    counts: Counts,
}

/// Those that are served.
#[derive(Default)]
struct Connections {
    numbers: HashSet<u64>,
    by_address: Addresses,
}

/// What was served since the server started.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    /// Answered 400 and above.
    failed: AtomicU64,
    /// Heads and bodies.
    bytes: AtomicU64,
    /// Connections that were too many.
    turned_away: AtomicU64,
}

impl std::ops::Deref for Http {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Gets ready to serve what comes to the listeners for HTTP, see [`Http::welcome`]. Call it from a coroutine.
///
/// # Errors
/// When there is no memory for the first coroutines.
pub(crate) fn start(server: &Server) -> io::Result<()> {
    let http = Http(Arc::new(Inner {
        server: server.clone(),
        page: Page::new(),
        disk: Disk::new(),
        clock: Shared::default(),
        connections: Shared::default(),
        downloads: Downloads::default(),
        counts: Counts::default(),
    }));
    let summary = http.clone();
    spawn_lasting("http summary", move || summary.sum_up())?;
    // The only one: the server starts once.
    let _ = server.http.set(http);
    Ok(())
}

impl Http {
    /// Serves a connection, in a coroutine of its own.
    pub(crate) fn welcome(&self, stream: &TcpStream) {
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
            connections.by_address.enter(address);
            None
        });
        if let Some(why) = too_many {
            self.turn_away(stream, why);
            return;
        }
        // Dropped with the closure when there is no memory for a coroutine; closing is then all that can be done.
        let place = Place { http: self.clone(), number, address };
        let stream = stream.clone();
        let _ = st::spawn_low(Crowd::Requests, "http", number, move || {
            let (abandoned, http) = (stream.clone(), place.http.clone());
            st::on_overflow(move || {
                abandoned.shutdown();
                http.downloads.forget(number);
                drop(Place { http, number, address });
            });
            let end = connection::serve(&place.http, number, &stream);
            let (peer, received, sent) = (stream.peer(), stream.received(), stream.sent());
            log::debug!("HTTP connection of {peer} ended: {end}; {received} bytes in, {sent} bytes out");
        });
    }

    /// Ends downloads that wait for their clients, until so many bytes will be free: memory is short.
    pub(crate) fn shed(&self, excess: usize) -> Ended {
        self.downloads.shed(excess)
    }

    /// Tells a client that there are too many. It is not waited for: what the socket does not take at once is lost.
    fn turn_away(&self, stream: &TcpStream, why: &str) {
        self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
        let response = Response::text(Status::ServiceUnavailable, why, "Retry-After: 2\r\n");
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
        self.connected() >= self.server.config().http_server.max_connections / 4 * 3
    }

    fn connected(&self) -> usize {
        self.connections.with(|connections| connections.numbers.len())
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
                let connections = self.connected();
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
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.http.connections.try_with(|connections| {
            if connections.numbers.remove(&self.number) {
                connections.by_address.leave(self.address);
            }
        });
    }
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
