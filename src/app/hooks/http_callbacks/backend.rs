//! A backend: connections to it, requests, and its circuit breaker.

mod delivery;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::addresses::Addresses;
use super::answer;
use super::breaker::Breaker;
use super::exchange::{self, Failure, Reply};
use super::hook::Hook;
use super::latency::Latency;
use super::message::Message;
use super::queue::Queue;
use super::tls_roots::TlsRoots;
use crate::config::HookUrl;
use crate::log::{Throttle, quoted};
use crate::st::net::TcpStream;
use crate::st::{self, Cond, Shared};

/// Requests to one backend at a time. Further ones wait, within their time.
const MAX_REQUESTS: usize = 512;

/// Open connections that are kept for the next request, and the time for which.
const MAX_IDLE: usize = 64;
const MAX_IDLE_TIME: Duration = Duration::from_secs(10);

const LOG_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("the backend is down")]
    Down(Instant),
    #[error("cannot resolve {host}: {error}")]
    Resolve { host: String, error: String },
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("{0}")]
    Exchange(#[from] Failure),
    #[error("the backend answered with status {0}")]
    Status(u16),
    #[error("no free connection in time")]
    Busy,
}

/// A backend, identified by scheme, host and port.
pub(super) struct Backend {
    origin: String,
    roots: TlsRoots,
    state: Shared<State>,
    addresses: Addresses,
    on_request_end: Cond,
    on_delivered: Cond,
    on_flush: Cond,
    flushing: AtomicBool,
}

struct State {
    breaker: Breaker,
    requests: usize,
    idle: Vec<(TcpStream, Instant)>,
    queue: Queue,
    totals: Totals,
    /// Events dropped and not logged yet.
    lost: u64,
    lost_log: Throttle,
    answer_log: Throttle,
    failure_log: Throttle,
}

/// Totals since the start, and the present queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) latency: Latency,
    pub(super) lost: u64,
    pub(super) queued: u64,
    pub(super) is_down: bool,
}

impl Backend {
    pub(super) fn new(origin: String, roots: TlsRoots) -> Self {
        Self {
            origin,
            roots,
            state: Shared::new(State {
                breaker: Breaker::default(),
                requests: 0,
                idle: Vec::new(),
                queue: Queue::default(),
                totals: Totals::default(),
                lost: 0,
                lost_log: Throttle::new(LOG_INTERVAL),
                answer_log: Throttle::new(LOG_INTERVAL),
                failure_log: Throttle::new(LOG_INTERVAL),
            }),
            addresses: Addresses::default(),
            on_request_end: Cond::new(),
            on_delivered: Cond::new(),
            on_flush: Cond::new(),
            flushing: AtomicBool::new(false),
        }
    }

    /// Sends a request, and waits for the answer up to `timeout`. Fails when the backend is down, silent, or answers 500 or more.
    pub(super) fn request(
        self: &Arc<Self>,
        url: &HookUrl,
        message: &Message,
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        self.state.with(|state| state.breaker.check(st::now())).map_err(RequestError::Down)?;
        let started = st::now();
        let result = self.request_within(url, message, started + timeout);
        self.state.with(|state| {
            state.totals.requests += 1;
            match &result {
                Ok(_) => state.totals.latency.add(st::now() - started),
                Err(_) => state.totals.failures += 1,
            }
        });
        match &result {
            // The load of this server says nothing about the backend.
            Err(RequestError::Busy) => {}
            Err(error) => {
                if self.state.with(|state| state.breaker.on_failure(st::now())) {
                    log::warn!("callback backend down: backend={} error={}", self.origin, quoted(error));
                }
            }
            Ok(_) => {
                if let Some(time) = self.state.with(|state| state.breaker.on_success(st::now())) {
                    log::info!("callback backend back: backend={} seconds={:.1}", self.origin, time.as_secs_f32());
                }
            }
        }
        result
    }

    fn request_within(
        self: &Arc<Self>,
        url: &HookUrl,
        message: &Message,
        deadline: Instant,
    ) -> Result<Reply, RequestError> {
        let _permit = Permit::acquire(self, deadline)?;
        while let Some(stream) = self.take_idle() {
            match self.exchange(&stream, url, message, deadline) {
                // The backend closed it meanwhile.
                Err(Failure::NoAnswer) => {}
                result => return checked(result),
            }
        }
        let stream = self.connect(url, deadline)?;
        checked(self.exchange(&stream, url, message, deadline))
    }

    #[inline(never)] // Keeps its locals off the stack while a connection is made.
    fn exchange(
        &self,
        stream: &TcpStream,
        url: &HookUrl,
        message: &Message,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        stream.set_time_limit(Some(deadline.saturating_duration_since(st::now())));
        let reply = exchange::send(&mut &*stream, &url.to_string(), message)?;
        if reply.reusable {
            self.state.with(|state| {
                if state.idle.len() < MAX_IDLE {
                    state.idle.push((stream.clone(), st::now()));
                }
            });
        }
        Ok(reply)
    }

    fn take_idle(&self) -> Option<TcpStream> {
        loop {
            let (stream, since) = self.state.with(|state| state.idle.pop())?;
            // There may be an end of the connection that no wait has seen yet.
            stream.assume_readable();
            stream.set_time_limit(None);
            if st::now() - since < MAX_IDLE_TIME && matches!(stream.try_read(&mut [0]), Ok(None)) {
                return Some(stream);
            }
        }
    }

    #[inline(never)] // As `exchange`.
    fn connect(self: &Arc<Self>, url: &HookUrl, deadline: Instant) -> Result<TcpStream, RequestError> {
        let mut failure = io::ErrorKind::TimedOut.into();
        let unresolved = |error| RequestError::Resolve { host: url.host.clone(), error };
        for address in self.addresses.resolve(url, deadline).map_err(unresolved)? {
            match TcpStream::connect(address, deadline.saturating_duration_since(st::now())) {
                Ok(stream) => {
                    // A request is one write; without this, its last part would wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    stream.set_time_limit(Some(deadline.saturating_duration_since(st::now())));
                    if url.tls {
                        self.roots.encrypt(&stream, &url.host).map_err(RequestError::Connect)?;
                    }
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(RequestError::Connect(failure))
    }

    pub(super) fn log_invalid_answer(&self, hook: Hook, url: &HookUrl, reply: &Reply) {
        if self.state.with(|state| state.answer_log.pass(st::now())) {
            log::warn!(
                "callback answer not understood: hook={} url={} status={} answer={}",
                hook.name(),
                url.redacted(),
                reply.status,
                quoted(answer::shown(&reply.body))
            );
        }
    }

    pub(super) fn may_log_failure(&self) -> bool {
        self.state.with(|state| state.failure_log.pass(st::now()))
    }

    pub(super) fn totals(&self) -> Totals {
        self.state.with(|state| {
            let (queued, is_down) = (state.queue.len() as u64, state.breaker.is_open());
            Totals { queued, is_down, ..state.totals }
        })
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }
}

struct Permit<'a>(&'a Backend);

impl<'a> Permit<'a> {
    fn acquire(backend: &'a Backend, deadline: Instant) -> Result<Self, RequestError> {
        while !backend.state.with(|state| {
            let is_free = state.requests < MAX_REQUESTS;
            state.requests += usize::from(is_free);
            is_free
        }) {
            if !backend.on_request_end.wait_timeout(deadline.saturating_duration_since(st::now())) {
                return Err(RequestError::Busy);
            }
        }
        Ok(Self(backend))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state.try_with(|state| state.requests -= 1);
        self.0.on_request_end.signal();
    }
}

fn checked(result: Result<Reply, Failure>) -> Result<Reply, RequestError> {
    match result? {
        reply if reply.status >= 500 => Err(RequestError::Status(reply.status)),
        reply => Ok(reply),
    }
}
