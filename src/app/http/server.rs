//! The HTTP server: accepting, its limits, and its lines in the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::connection;
use super::disk::MAX_IN_FLIGHT;
use super::response::{Body, Response};
use super::router::{Router, Site};
use super::state::{Counters, State};
use crate::app::context::{Context, Feature};
use crate::app::limits::fairness::TimeSlice;
use crate::app::limits::reclaim::{Reclaim, ReclaimTarget, Reclaimed};
use crate::app::rtmp::tls::TlsAcceptor;
use crate::app::session::clients::Clients;
use crate::app::stats::snapshot::Section;
use crate::http::response::Persistence;
use crate::http::status::Status;
use crate::log::quoted;
use crate::memory::Category;
use crate::st::net::TcpStream;
use crate::st::{self, LowClass};

const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

const RETRY_AFTER: u64 = 2;

#[derive(Clone)]
pub(crate) struct Http(Arc<Inner>);

struct Inner {
    state: State,
    router: Router,
    clients: Clients,
    tls: TlsAcceptor,
}

impl Http {
    pub(crate) fn new(ctx: &Context, router: Router, tls: TlsAcceptor) -> Self {
        let state = State::new(ctx.config.clone(), ctx.memory.clone(), ctx.admission.clone());
        Self(Arc::new(Inner { state, router, clients: ctx.clients.clone(), tls }))
    }

    /// Serves a connection from a listener of `site` in its own coroutine, or rejects it if there are too many. `is_tls`: begins
    /// with TLS.
    pub(crate) fn serve_accepted(&self, stream: &TcpStream, site: Site, is_tls: bool) {
        let (number, address) = (self.0.clients.next_number(), stream.peer().ip());
        let permit = match self.0.state.connections.add(number, address, &self.0.state.config.get().http_server) {
            Ok(permit) => permit,
            // A client of TLS understands no answer without TLS.
            Err(_) if is_tls => return stream.shutdown_write(),
            Err(message) => return self.reject(stream, message),
        };
        // Without memory for a coroutine, the closure is dropped, and with it the permit and the connection.
        let (http, stream) = (self.clone(), stream.clone());
        let _ = st::spawn_low_priority(LowClass::Requests, "http", number, move || {
            let _permit = permit;
            let end = match http.accept_tls(&stream, is_tls) {
                Ok(()) => connection::serve(&http.0.state, &http.0.router, site, number, &stream),
                Err(error) => error.into(),
            };
            let (peer, received, sent) = (stream.peer(), stream.bytes_received(), stream.bytes_sent());
            log::debug!(
                "HTTP connection closed: address={peer} reason={} bytes_in={received} bytes_out={sent}",
                quoted(end)
            );
        });
    }

    /// Does the TLS handshake of a connection that begins with one, within the time for a request.
    fn accept_tls(&self, stream: &TcpStream, is_tls: bool) -> io::Result<()> {
        if is_tls {
            let State { config, memory, .. } = &self.0.state;
            stream.set_time_limit(Some(config.get().http_server.request_timeout));
            self.0.tls.accept_api(stream)?;
            stream.count_unsent(|| memory.charge(Category::Tls));
            stream.set_time_limit(None);
        }
        Ok(())
    }

    /// Sends a 503 without waiting: bytes that the socket does not take at once are lost.
    fn reject(&self, stream: &TcpStream, message: &str) {
        self.0.state.counters.rejected.fetch_add(1, Ordering::Relaxed);
        let response = Response::text(Status::ServiceUnavailable, message).with("Retry-After", RETRY_AFTER);
        let mut bytes = self.0.state.encode_head(&response.head, Persistence::Close).into_bytes();
        if let Body::Bytes(text) = &response.body {
            bytes.extend_from_slice(text);
        }
        // Reads a request that has arrived, since closing a socket with unread bytes would discard the response.
        let _ = stream.try_read(&mut [0; 1024]);
        let _ = stream.try_write(&bytes);
        stream.shutdown_write();
    }

    /// Logs a summary of each interval with requests. Does not return.
    fn log_summaries(&self) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = || {
            let Counters { requests, failed, bytes, rejected } = &self.0.state.counters;
            [requests, failed, bytes, rejected].map(read)
        };
        let mut before = now();
        loop {
            st::sleep(SUMMARY_INTERVAL);
            let after = now();
            if after != before {
                let [requests, failed, bytes, rejected] = std::array::from_fn(|n| after[n] - before[n]);
                let connections = self.0.state.connections.len();
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

impl Feature for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn start(&self) -> io::Result<()> {
        let http = self.clone();
        st::spawn_supervised("http summary", move || http.log_summaries())
    }

    fn snapshot(&self) -> Option<Section> {
        let Counters { requests, failed, bytes, rejected } = &self.0.state.counters;
        let [requests, failed, bytes, rejected] =
            [requests, failed, bytes, rejected].map(|counter| counter.load(Ordering::Relaxed));
        Some(
            Section::new("http")
                .with("connections", "Open HTTP connections.", self.0.state.connections.len() as u64)
                .with("requests_total", "HTTP requests answered.", requests)
                .with("failed_total", "HTTP requests answered with a status of 400 or above.", failed)
                .with("sent_bytes_total", "Bytes sent over HTTP, heads included.", bytes)
                .with("rejected_total", "HTTP connections refused because there were too many.", rejected),
        )
    }

    fn reclaim(self: Arc<Self>) -> Option<Arc<dyn Reclaim>> {
        Some(self)
    }
}

impl Reclaim for Http {
    fn unreclaimable_bytes(&self) -> usize {
        // Chunks of files that were just read.
        self.0.state.memory.bytes_in(Category::Http).min(MAX_IN_FLIGHT)
    }

    fn reclaim(&self, target: &ReclaimTarget<'_>, _: &mut TimeSlice) -> Reclaimed {
        let aborted = self.0.state.stalled.abort_oldest(target.excess());
        Reclaimed { responses: aborted.responses, pending_bytes: aborted.bytes, ..Reclaimed::default() }
    }
}
