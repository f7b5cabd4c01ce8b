//! A forwarder: sends one stream to one target, over one connection after the other, as long as the stream lives.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::semaphore::{FairSemaphore, Permit};
use super::session::{self, Failure};
use super::{ForwardManager, ForwardState, Target};
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::{ByteCounts, MessageCounts, Registration, StatsSource};
use crate::app::stream::{ClientHandle, Consumer, Source, StartPosition};
use crate::config::Destination;
use crate::log::quoted;
use crate::st::net::TcpStream;
use crate::st::{self, Cond, LowClass};

/// Delay before a failed target is tried again: the first, and the longest. It doubles in between.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Time of sending after which a connection counts as good: the next delay is the first again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Bytes kept of an error text, which can contain text of the target.
const MAX_ERROR_LEN: usize = 512;

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

impl Forwarder {
    /// Starts a forwarder. With `wait_for_media`, it connects when the stream's first message has arrived.
    pub(super) fn start(
        manager: &ForwardManager,
        source: Source,
        target: Target,
        wait_for_media: bool,
    ) -> io::Result<Arc<Self>> {
        let forwarder = Arc::new(Self {
            number: manager.ctx.clients.next_number(),
            target,
            stopped: AtomicBool::new(false),
            wakeup: Arc::default(),
            status: Mutex::default(),
        });
        let consumer = Arc::new(source.join_forwarder(forwarder.clone()));
        if wait_for_media {
            // A consumer that got nothing is woken by the next message.
            consumer.fill(&mut Vec::new());
        }
        forwarder.status().consumer = Some(consumer.clone());
        let registration = manager.ctx.stats.forward.register(forwarder.clone());
        forwarder.status().registration = Some(registration);
        let task = ForwardTask { manager: manager.clone(), name: source.name(), forwarder: forwarder.clone() };
        st::spawn_low_priority(LowClass::Requests, "forward", forwarder.number, move || {
            task.run(&source, &consumer);
        })?;
        Ok(forwarder)
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
    fn wait_for_media(&self, consumer: &Consumer) {
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
            ForwardState::Sending => status.sending_since = Some(Instant::now()),
            ForwardState::Waiting | ForwardState::Ending => {}
        }
    }

    fn was_good(&self) -> bool {
        self.status().sending_since.is_some_and(|since| since.elapsed() >= GOOD_AFTER)
    }

    pub(super) fn set_connection(&self, connection: &TcpStream) {
        self.status().connection = Some(connection.clone());
    }

    fn clear_connection(&self) {
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
        let status = self.status();
        let (state, attempts, last_error, consumer) =
            (status.state, status.attempts, status.last_error.clone(), status.consumer.clone());
        drop(status);
        let is_sending = state == ForwardState::Sending;
        let delay = consumer.filter(|_| is_sending).map_or(Duration::ZERO, |consumer| consumer.delay());
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

/// A forwarder's coroutine. Dropping it, or one of its clones, removes the forwarder from the server.
#[derive(Clone)]
struct ForwardTask {
    manager: ForwardManager,
    name: String,
    forwarder: Arc<Forwarder>,
}

impl ForwardTask {
    fn run(&self, source: &Source, consumer: &Arc<Consumer>) {
        let forwarder = &self.forwarder;
        let configured = &forwarder.target.destination;
        let (name, target) = (&self.name, &configured.log_url);
        forwarder.wait_for_media(consumer);
        log::info!("forward started: stream={name} target={target}");
        let mut destination = configured.clone();
        let mut position = StartPosition::Retained;
        let mut retry_delay = MIN_RETRY_DELAY;
        let mut was_redirected = false;
        loop {
            let result = self.run_session(source, consumer, &destination, position);
            forwarder.clear_connection();
            if forwarder.is_stopped() {
                log::info!("forward stopped: stream={name} target={target}");
                return;
            }
            if consumer.stream_ended() {
                if !source.is_live() {
                    log::info!("forward finished: stream={name} target={target}");
                    return;
                }
                position = consumer.reset_for_next();
                continue;
            }
            consumer.pause(true);
            position = StartPosition::JoinPoint;
            destination = configured.clone();
            if forwarder.was_good() {
                retry_delay = MIN_RETRY_DELAY;
                was_redirected = false;
            }
            match result {
                Err(Failure::Redirected(redirected)) if !was_redirected => {
                    was_redirected = true;
                    log::info!("forward redirected: stream={name} target={target} to={}", redirected.log_url);
                    destination = *redirected;
                    continue;
                }
                Err(failure) if failure.is_permanent() => {
                    let error = failure.to_string();
                    log::error!("forward disabled: stream={name} target={target} error={}", quoted(error));
                    return;
                }
                result => {
                    was_redirected = false;
                    let delay = jittered(retry_delay);
                    let mut error = result.err().map_or_else(|| "ended".to_owned(), |failure| failure.to_string());
                    error.truncate(error.floor_char_boundary(MAX_ERROR_LEN));
                    log::warn!(
                        "forward failed: stream={name} target={target} error={} retry_seconds={:.1}",
                        quoted(&error),
                        delay.as_secs_f32()
                    );
                    forwarder.status().last_error = Some(error);
                    forwarder.set_state(ForwardState::Waiting);
                    forwarder.wakeup.wait_timeout(delay);
                    retry_delay = (retry_delay * 2).min(MAX_RETRY_DELAY);
                }
            }
        }
    }

    fn run_session(
        &self,
        source: &Source,
        consumer: &Consumer,
        destination: &Destination,
        position: StartPosition,
    ) -> Result<(), Failure> {
        self.forwarder.check_active()?;
        session::run(&self.manager, &self.forwarder, source, consumer, destination, position)
    }
}

impl Drop for ForwardTask {
    fn drop(&mut self) {
        self.manager.remove_forwarder(&self.name, &self.forwarder);
        // Breaks the reference cycles. The registration goes first: it still counts what the consumer sent.
        let registration = self.forwarder.status().registration.take();
        drop(registration);
        let consumer = self.forwarder.status().consumer.take();
        drop(consumer);
    }
}

/// Returns `delay` changed by up to a fifth, so that forwarders which failed together do not reconnect together.
fn jittered(delay: Duration) -> Duration {
    let mut random = [0; 1];
    let _ = getrandom::fill(&mut random);
    delay.mul_f64(0.8 + 0.4 * f64::from(random[0]) / 255.0)
}
