//! A forwarder as others see it: its target, its state, and its place in the stream. The module [`task`](super::task) runs it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::failure::Failure;
use super::semaphore::{FairSemaphore, Permit};
use super::target::{ForwardState, Target};
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::{ByteCounts, MessageCounts, Registration, StatsSource};
use crate::app::stream::{ClientHandle, Consumer};
use crate::log::quoted;
use crate::st::net::TcpStream;
use crate::st::{self, Cond};

/// Time of sending after which a connection counts as good: the next delay is the first again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

pub(super) struct Forwarder {
    number: u64,
    target: Target,
    stopped: AtomicBool,
    /// Ends waits without a connection: for the stream, for a permit, for the next attempt.
    wakeup: Arc<Cond>,
    status: Mutex<Status>,
}

#[derive(Default)]
struct Status {
    connection: Option<TcpStream>,
    state: ForwardState,
    /// Since when the current or the last connection has been sending, if it came to that.
    sending_since: Option<Instant>,
    attempts: u64,
    last_error: Option<String>,
    consumer: Option<Arc<Consumer>>,
    bytes_sent: u64,
    bytes_received: u64,
    registration: Option<Registration>,
}

struct Progress {
    state: ForwardState,
    attempts: u64,
    last_error: Option<String>,
    /// Time that the target is behind the live point; zero while nothing is sent.
    delay: Duration,
}

impl Forwarder {
    pub(super) fn new(number: u64, target: Target) -> Self {
        Self { number, target, stopped: AtomicBool::new(false), wakeup: Arc::default(), status: Mutex::default() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Sets the forwarder's place in the stream and its entry in the statistics.
    pub(super) fn register(&self, consumer: Arc<Consumer>, registration: Registration) {
        let mut status = self.status();
        status.consumer = Some(consumer);
        status.registration = Some(registration);
    }

    /// Drops what [`Forwarder::register`] has set, to break the cycle: first the registration, which counts what was sent.
    pub(super) fn unregister(&self) {
        let registration = self.status().registration.take();
        drop(registration);
        let consumer = self.status().consumer.take();
        drop(consumer);
    }

    pub(super) fn set_last_error(&self, error: String) {
        self.status().last_error = Some(error);
    }

    pub(super) fn pause(&self, time: Duration) {
        self.wakeup.wait_timeout(time);
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Returns whether nothing is left to send: the forwarder was stopped, or the stream has ended.
    fn is_finished(&self) -> bool {
        let consumer = self.status().consumer.clone();
        self.is_stopped() || consumer.is_none_or(|consumer| consumer.stream_ended())
    }

    /// Returns [`Failure::Finished`] if nothing is left to send. Called after each wait until the connection sends.
    pub(super) fn check_active(&self) -> Result<(), Failure> {
        if self.is_finished() { Err(Failure::Finished) } else { Ok(()) }
    }

    pub(super) fn acquire(&self, semaphore: &FairSemaphore, target: &str) -> Result<Permit, Failure> {
        let permit = semaphore.acquire(self.number, target, &self.wakeup, || self.is_finished());
        let permit = permit.ok_or(Failure::Finished)?;
        self.check_active().map(|()| permit)
    }

    /// Waits until the stream has a message, if it had none at the start.
    pub(super) fn wait_for_media(&self, consumer: &Consumer) {
        while consumer.stats().caught_up && !self.is_finished() {
            self.wakeup.wait();
        }
    }

    pub(super) fn set_state(&self, state: ForwardState) {
        let mut status = self.status();
        status.state = state;
        match state {
            ForwardState::Connecting => {
                status.attempts += 1;
                status.sending_since = None;
            }
            ForwardState::Sending => status.sending_since = Some(st::now()),
            ForwardState::Waiting | ForwardState::Ending => {}
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.status().state == ForwardState::Sending
    }

    fn progress(&self) -> Progress {
        let status = self.status();
        let (state, attempts, last_error, consumer, connection) = (
            status.state,
            status.attempts,
            status.last_error.clone(),
            status.consumer.clone(),
            status.connection.clone(),
        );
        // Not while the status is locked: the stream wakes the forwarder, which locks it too.
        drop(status);
        let is_sending = state == ForwardState::Sending;
        let delay = consumer.zip(connection).filter(|_| is_sending).map_or(Duration::ZERO, |(consumer, connection)| {
            let (bytes, since) = connection.unacknowledged();
            consumer.delay() + since.max(consumer.playing_time(bytes))
        });
        Progress { state, attempts, last_error, delay }
    }

    pub(super) fn report(&self, stream: &str, kbps_out: u64) -> Map<String, Value> {
        let (bytes, messages) = (self.bytes(), self.messages());
        let Progress { state, attempts, last_error, delay } = self.progress();
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let fields: [(&str, Value); 11] = [
            ("id", self.number.into()),
            ("stream", stream.into()),
            ("target", self.target.destination.log_url.clone().into()),
            ("state", state.name().into()),
            ("delay_ms", delay.into()),
            ("attempts", attempts.into()),
            ("last_error", last_error.into()),
            ("bytes_out", bytes.sent.into()),
            ("kbps_out", kbps_out.into()),
            ("messages", messages.passed.into()),
            ("dropped", messages.dropped.into()),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }

    pub(super) fn was_stable(&self) -> bool {
        self.status().sending_since.is_some_and(|since| st::now().duration_since(since) >= STABLE_AFTER)
    }

    pub(super) fn set_connection(&self, connection: &TcpStream) {
        self.status().connection = Some(connection.clone());
    }

    pub(super) fn clear_connection(&self) {
        let mut status = self.status();
        if let Some(connection) = status.connection.take() {
            status.bytes_sent += connection.bytes_sent();
            status.bytes_received += connection.bytes_received();
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatsSource for Forwarder {
    fn number(&self) -> u64 {
        self.number
    }

    fn bytes(&self) -> ByteCounts {
        let status = self.status();
        let connection = status.connection.as_ref();
        let (sent, received) =
            connection.map_or((0, 0), |connection| (connection.bytes_sent(), connection.bytes_received()));
        ByteCounts { sent: status.bytes_sent + sent, received: status.bytes_received + received }
    }

    fn messages(&self) -> MessageCounts {
        let consumer = self.status().consumer.clone();
        let stats = consumer.map(|consumer| consumer.stats()).unwrap_or_default();
        MessageCounts { passed: stats.sent, dropped: stats.dropped }
    }

    /// Returns how far the target is behind the live point (milliseconds), the connection attempts, and the last error.
    fn details(&self) -> String {
        let Progress { state, attempts, last_error, delay } = self.progress();
        let error = last_error.map(|error| format!(", last_error={}", quoted(error))).unwrap_or_default();
        format!(
            ", delay={}, attempts={attempts}, state={}, target={}{error}",
            delay.as_millis(),
            state.name(),
            self.target.destination.log_url
        )
    }
}

impl ClientHandle for Forwarder {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.status().connection.as_ref().map_or(Ok(0), |connection| connection.try_write(bytes))
    }

    fn wake(&self) {
        let status = self.status();
        match &status.connection {
            // While it connects, the only reason to wake it is that it shall end.
            Some(connection) if status.state == ForwardState::Connecting => connection.interrupt(),
            Some(connection) => connection.wake(),
            None => {}
        }
        drop(status);
        self.wakeup.signal();
    }

    fn close(&self, _: CloseReason) {
        self.stop();
    }
}
