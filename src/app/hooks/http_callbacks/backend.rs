//! A backend: connections to it, its circuit breaker, and the events that wait for it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::answer;
use super::body::{Hook, fnv};
use super::breaker::Breaker;
use super::exchange::{self, Failure, Reply};
use super::tls_roots::TlsRoots;
use crate::config::HookUrl;
use crate::log::{Throttle, quoted};
use crate::st::net::TcpStream;
use crate::st::{self, Cond, LowClass, Shared};

/// Requests to one backend at a time. Further ones wait, within their time.
const MAX_REQUESTS: usize = 512;

/// Open connections that are kept for the next request, and the time for which.
const MAX_IDLE: usize = 64;
const MAX_IDLE_TIME: Duration = Duration::from_secs(10);

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Time for which the addresses of a name are used.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(10);

/// Events with the same key are in the same lane and told in order; the lanes are told at the same time.
const LANES: usize = 16;

/// Events that may wait for one backend, and the bytes of their bodies.
const MAX_QUEUED: usize = 10_000;
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// Delay before an event is told again: the first, and the longest. It doubles in between.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Attempts after which an event is given up that the backend answers with a status of 500 or more: the fault may be in
/// handling this event, and others wait behind it.
const MAX_REJECTIONS: u32 = 8;

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// An event to deliver.
pub(super) struct Job {
    pub(super) hook: Hook,
    pub(super) key: String,
    pub(super) url: HookUrl,
    pub(super) body: String,
    pub(super) timeout: Duration,
}

/// Failure of a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The breaker is open until this time.
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
    /// A request has ended.
    on_request_end: Cond,
    /// A name has been resolved.
    on_resolved: Cond,
    /// An event was delivered or dropped.
    on_delivered: Cond,
    /// Ends the delays between attempts.
    on_flush: Cond,
    flushing: AtomicBool,
}

struct State {
    breaker: Breaker,
    requests: usize,
    idle: Vec<(TcpStream, Instant)>,
    addresses: Option<(Instant, Result<Vec<SocketAddr>, String>)>,
    resolving: bool,
    lanes: [Lane; LANES],
    queued: usize,
    queued_bytes: usize,
    totals: Totals,
    /// Events dropped since the last line about it.
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
    /// Time of all requests that were answered.
    pub(super) milliseconds: u64,
    pub(super) lost: u64,
    pub(super) queued: u64,
    pub(super) is_down: bool,
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Arc<Job>>,
    running: bool,
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
                addresses: None,
                resolving: false,
                lanes: std::array::from_fn(|_| Lane::default()),
                queued: 0,
                queued_bytes: 0,
                totals: Totals::default(),
                lost: 0,
                lost_log: Throttle::new(LOG_INTERVAL),
                answer_log: Throttle::new(LOG_INTERVAL),
                failure_log: Throttle::new(LOG_INTERVAL),
            }),
            on_request_end: Cond::new(),
            on_resolved: Cond::new(),
            on_delivered: Cond::new(),
            on_flush: Cond::new(),
            flushing: AtomicBool::new(false),
        }
    }

    /// Posts a body, and waits for the answer at most for `timeout`. A status of 500 or more is a failure.
    ///
    /// # Errors
    /// When the backend is down or does not answer.
    pub(super) fn request(
        self: &Arc<Self>,
        url: &HookUrl,
        body: &str,
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        self.state.with(|state| state.breaker.check(st::now())).map_err(RequestError::Down)?;
        let started = st::now();
        let result = self.request_within(url, body, started + timeout);
        self.state.with(|state| {
            state.totals.requests += 1;
            match &result {
                Ok(_) => state.totals.milliseconds += (st::now() - started).as_millis() as u64,
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

    fn request_within(self: &Arc<Self>, url: &HookUrl, body: &str, deadline: Instant) -> Result<Reply, RequestError> {
        let _permit = Permit::acquire(self, deadline)?;
        while let Some(stream) = self.take_idle() {
            match self.exchange(&stream, url, body, deadline) {
                // The backend closed it meanwhile.
                Err(Failure::NoAnswer) => {}
                result => return checked(result),
            }
        }
        let stream = self.connect(url, deadline)?;
        checked(self.exchange(&stream, url, body, deadline))
    }

    #[inline(never)] // Keeps its locals off the stack while a connection is made.
    fn exchange(&self, stream: &TcpStream, url: &HookUrl, body: &str, deadline: Instant) -> Result<Reply, Failure> {
        stream.set_time_limit(Some(deadline.saturating_duration_since(st::now())));
        let reply = exchange::post(&mut &*stream, &url.to_string(), body)?;
        if reply.reusable {
            self.state.with(|state| {
                if state.idle.len() < MAX_IDLE {
                    state.idle.push((stream.clone(), st::now()));
                }
            });
        }
        Ok(reply)
    }

    /// Returns a connection that is still open.
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
        for address in self.resolve(url, deadline)? {
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

    /// Returns the addresses of the host. A name is resolved on another thread, once for all who wait for it.
    fn resolve(self: &Arc<Self>, url: &HookUrl, deadline: Instant) -> Result<Vec<SocketAddr>, RequestError> {
        let (host, port) = (url.host.as_str(), url.port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let failure = |error: String| RequestError::Resolve { host: host.to_owned(), error };
        loop {
            let (known, must_start) = self.state.with(|state| {
                let known = state.addresses.as_ref().filter(|(at, _)| st::now() - *at < ADDRESS_LIFETIME);
                let known = known.map(|(_, addresses)| addresses.clone());
                let must_start = known.is_none() && !std::mem::replace(&mut state.resolving, known.is_none());
                (known, must_start)
            });
            if let Some(known) = known {
                return known.map_err(failure);
            }
            if must_start {
                let (backend, name) = (self.clone(), (host.to_owned(), port));
                let spawned = st::spawn("callback name", 0, move || {
                    let look_up = move || name.to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect::<Vec<_>>());
                    let addresses = match st::offload(look_up) {
                        Ok(Ok(addresses)) if addresses.is_empty() => Err("it has no address".to_owned()),
                        Ok(addresses) => addresses.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    backend.state.with(|state| {
                        state.resolving = false;
                        state.addresses = Some((st::now(), addresses));
                    });
                    backend.on_resolved.broadcast();
                });
                if let Err(error) = spawned {
                    self.state.with(|state| state.resolving = false);
                    return Err(failure(error.to_string()));
                }
            }
            if !self.on_resolved.wait_timeout(deadline.saturating_duration_since(st::now())) {
                return Err(failure("the name server did not answer in time".to_owned()));
            }
        }
    }

    /// Logs an answer that is not one of this protocol.
    pub(super) fn log_strange_answer(&self, hook: Hook, url: &HookUrl, reply: &Reply) {
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

    /// Returns whether a failed question may be logged now.
    pub(super) fn may_log_failure(&self) -> bool {
        self.state.with(|state| state.failure_log.pass(st::now()))
    }

    /// Adds an event. Never blocks; may be called while a panic unwinds.
    pub(super) fn push(self: &Arc<Self>, job: Job) {
        let index = (fnv(&job.key) % LANES as u64) as usize;
        let must_start = self.state.try_with(|state| {
            state.push(index, job, &self.origin);
            !std::mem::replace(&mut state.lanes[index].running, true)
        });
        if must_start == Some(true) {
            let guard = LaneGuard { backend: self.clone(), index };
            // If there is no memory, the guard is dropped, and the next event tries again.
            if let Err(error) =
                st::spawn_low_priority(LowClass::Requests, "callbacks", 0, move || guard.backend.run_lane(guard.index))
            {
                log::error!(
                    "callbacks delayed, no memory for a coroutine: backend={} error={}",
                    self.origin,
                    quoted(error)
                );
            }
        }
    }

    /// Tells the events of a lane, one after the other, until none is left.
    fn run_lane(self: &Arc<Self>, index: usize) {
        let (mut delay, mut rejections) = (MIN_RETRY_DELAY, 0);
        while let Some(job) = self.state.with(|state| state.lanes[index].jobs.front().cloned()) {
            let pause = match self.request(&job.url, &job.body, job.timeout) {
                Ok(reply) => {
                    if answer::read(reply.status, &reply.body) == answer::Answer::NotUnderstood
                        && !(200..300).contains(&reply.status)
                    {
                        self.log_strange_answer(job.hook, &job.url, &reply);
                    }
                    None
                }
                Err(_) if self.flushing.load(Ordering::Relaxed) => {
                    self.state.with(State::count_lost);
                    None
                }
                Err(RequestError::Down(until)) => Some(until.saturating_duration_since(st::now())),
                Err(RequestError::Status(status)) if rejections >= MAX_REJECTIONS => {
                    let url = job.url.redacted();
                    self.state.with(|state| state.totals.lost += 1);
                    log::warn!(
                        "callback lost, the backend fails on it: hook={} url={url} status={status}",
                        job.hook.name()
                    );
                    None
                }
                Err(error) => {
                    rejections += u32::from(matches!(error, RequestError::Status(_)));
                    log::debug!("callback not delivered, retrying: url={} error={}", job.url.redacted(), quoted(error));
                    let pause = delay;
                    delay = (delay * 2).min(MAX_RETRY_DELAY);
                    Some(pause)
                }
            };
            match pause {
                Some(pause) => {
                    self.on_flush.wait_timeout(pause);
                }
                None => {
                    (delay, rejections) = (MIN_RETRY_DELAY, 0);
                    self.state.with(|state| state.pop(index, &job));
                    self.on_delivered.broadcast();
                }
            }
        }
    }

    /// Waits until no event with this key is left to tell, at most for `timeout`.
    pub(super) fn wait_delivered(&self, key: &str, timeout: Duration) {
        let index = (fnv(key) % LANES as u64) as usize;
        let deadline = st::now() + timeout;
        while self.state.with(|state| state.lanes[index].jobs.iter().any(|job| job.key == key)) {
            if !self.on_delivered.wait_timeout(deadline.saturating_duration_since(st::now())) {
                return;
            }
        }
    }

    /// From now on, an event that fails once is lost.
    pub(super) fn start_flush(&self) {
        self.flushing.store(true, Ordering::Relaxed);
        self.on_flush.broadcast();
    }

    /// Returns the number of events that are not delivered.
    pub(super) fn queued(&self) -> usize {
        self.state.with(|state| state.queued)
    }

    /// Drops all events that are not delivered. Returns their number, with those dropped before and not logged.
    pub(super) fn clear(&self) -> u64 {
        self.state.with(|state| {
            let count = state.queued as u64 + std::mem::take(&mut state.lost);
            state.totals.lost += state.queued as u64;
            state.lanes.iter_mut().for_each(|lane| lane.jobs.clear());
            (state.queued, state.queued_bytes) = (0, 0);
            count
        })
    }

    /// Returns what has happened since the start, and what waits now.
    pub(super) fn totals(&self) -> Totals {
        self.state.with(|state| {
            let (queued, is_down) = (state.queued as u64, state.breaker.is_open());
            Totals { queued, is_down, ..state.totals }
        })
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }
}

impl State {
    fn count_lost(&mut self) {
        self.lost += 1;
        self.totals.lost += 1;
    }

    /// Appends an event, and drops the oldest ones of its lane while there are too many.
    fn push(&mut self, index: usize, job: Job, origin: &str) {
        self.queued += 1;
        self.queued_bytes += job.body.len();
        self.lanes[index].jobs.push_back(Arc::new(job));
        while self.queued > MAX_QUEUED || self.queued_bytes > MAX_QUEUED_BYTES {
            let Some(job) = self.lanes[index].jobs.pop_front() else { break };
            self.queued -= 1;
            self.queued_bytes -= job.body.len();
            self.count_lost();
        }
        if self.lost > 0 && self.lost_log.pass(st::now()) {
            let count = std::mem::take(&mut self.lost);
            log::warn!(
                "callbacks lost, too many wait for the backend: backend={origin} count={count} limit={MAX_QUEUED}"
            );
        }
    }

    /// Removes the first event of a lane, unless that is another one by now.
    fn pop(&mut self, index: usize, job: &Arc<Job>) {
        let jobs = &mut self.lanes[index].jobs;
        if jobs.front().is_some_and(|first| Arc::ptr_eq(first, job)) {
            jobs.pop_front();
            self.queued -= 1;
            self.queued_bytes -= job.body.len();
        }
    }
}

/// Marks a lane as not running when its coroutine ends, also by a panic.
struct LaneGuard {
    backend: Arc<Backend>,
    index: usize,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.backend.state.try_with(|state| state.lanes[self.index].running = false);
    }
}

/// The right to send one request.
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

/// Makes a failure of an answer with a status of 500 or more.
fn checked(result: Result<Reply, Failure>) -> Result<Reply, RequestError> {
    match result? {
        reply if reply.status >= 500 => Err(RequestError::Status(reply.status)),
        reply => Ok(reply),
    }
}
