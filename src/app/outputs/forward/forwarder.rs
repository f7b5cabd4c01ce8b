//! A forwarder's life: connections to its target, one after the other, for as long as its stream lives.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::places::{Place, Places};
use super::session::{self, Failure};
use super::{State, Target};
use crate::app::server::Server;
use crate::app::session::close::CloseReason;
use crate::app::stats::reporter::{Bytes, Member, Messages, Presence};
use crate::app::stream::{Begin, Consumer, Outlet, Source};
use crate::config::Destination;
use crate::st::net::TcpStream;
use crate::st::{self, Cond, Crowd};

/// How long a target is left alone after it failed: at first, and at most. It doubles in between.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection that lasted so long was a good one: if it ends, the target is tried again soon.
const GOOD: Duration = Duration::from_secs(10);

/// What is kept of a failure, in bytes: a target's own words are in it.
const MAX_ERROR: usize = 512;

/// A stream on its way to one target.
pub(super) struct Forwarder {
    number: u64,
    target: Target,
    /// Its target is no longer wanted.
    stopped: AtomicBool,
    /// Ends what it waits for without a connection: the stream, a place, another attempt.
    bell: Arc<Cond>,
    link: Mutex<Link>,
}

/// What others may see and touch of a forwarder.
#[derive(Default)]
struct Link {
    stream: Option<TcpStream>,
    state: State,
    /// Since when the present connection, or the last one, has sent. `None`: it did not come to that.
    sending_since: Option<Instant>,
    attempts: u64,
    last_error: Option<String>,
    /// Its place in the source.
    consumer: Option<Arc<Consumer>>,
    /// Bytes of the connections before this one.
    sent: u64,
    received: u64,
    /// Its place among those that the log has summaries of.
    presence: Option<Presence>,
}

impl Forwarder {
    /// Starts a forwarder; what is published from now on is kept for it. `is_first`: nothing of the stream has come yet, and the target
    /// is left alone until something has.
    pub(super) fn start(server: &Server, source: Source, target: Target, is_first: bool) -> io::Result<Arc<Self>> {
        let forwarder = Arc::new(Self {
            number: server.next_number(),
            target,
            stopped: AtomicBool::new(false),
            bell: Arc::default(),
            link: Mutex::default(),
        });
        let consumer = Arc::new(source.join_forwarder(forwarder.clone()));
        if is_first {
            // One that has asked in vain is told when there is something.
            consumer.fill(&mut Vec::new());
        }
        forwarder.link().consumer = Some(consumer.clone());
        let presence = server.forward.enter(forwarder.clone());
        forwarder.link().presence = Some(presence);
        let life = Life { server: server.clone(), name: source.name(), forwarder: forwarder.clone() };
        st::spawn_low(Crowd::Requests, "forward", forwarder.number, move || {
            let lost = (Life::clone(&life), consumer.clone());
            st::on_overflow(move || {
                let (life, consumer) = lost;
                if let Some(stream) = &life.forwarder.link().stream {
                    stream.shutdown();
                }
                consumer.abandon();
            });
            life.run(&source, &consumer);
        })?;
        Ok(forwarder)
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Ends it: the stream may go on, but no longer to this target.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether there is nothing more to send: its target is no longer wanted, or its stream has ended.
    fn is_over(&self) -> bool {
        let consumer = self.link().consumer.clone();
        self.is_stopped() || consumer.is_none_or(|consumer| consumer.is_ending())
    }

    /// To be asked after each wait on the way to the target.
    ///
    /// # Errors
    /// [`Failure::Over`] when there is nothing more to send.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        if self.is_over() { Err(Failure::Over) } else { Ok(()) }
    }

    /// Waits for a place among those who do the same for a target.
    ///
    /// # Errors
    /// [`Failure::Over`] when there is nothing more to send.
    pub(super) fn take_place(&self, places: &Places, target: &str) -> Result<Place, Failure> {
        let place = places.take(self.number, target, &self.bell, || self.is_over()).ok_or(Failure::Over)?;
        self.go_on().map(|()| place)
    }

    /// Waits until something of the stream has come, if nothing had when it began.
    fn await_stream(&self, consumer: &Consumer) {
        while consumer.stats().level && !self.is_over() {
            self.bell.wait();
        }
    }

    /// Notes what it does now.
    pub(super) fn enter(&self, state: State) {
        let mut link = self.link();
        link.state = state;
        match state {
            State::Connecting => {
                link.attempts += 1;
                link.sending_since = None;
            }
            State::Sending => link.sending_since = Some(Instant::now()),
            State::Waiting | State::Ending => {}
        }
    }

    /// Whether the last connection was a good one.
    fn was_good(&self) -> bool {
        self.link().sending_since.is_some_and(|since| since.elapsed() >= GOOD)
    }

    /// Notes the connection that it has now.
    pub(super) fn attach(&self, stream: &TcpStream) {
        self.link().stream = Some(stream.clone());
    }

    fn detach(&self) {
        let mut link = self.link();
        if let Some(stream) = link.stream.take() {
            link.sent += stream.sent();
            link.received += stream.received();
        }
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member for Forwarder {
    fn number(&self) -> u64 {
        self.number
    }

    fn bytes(&self) -> Bytes {
        let link = self.link();
        let (sent, received) = link.stream.as_ref().map_or((0, 0), |stream| (stream.sent(), stream.received()));
        Bytes { sent: link.sent + sent, received: link.received + received }
    }

    fn messages(&self) -> Messages {
        let consumer = self.link().consumer.clone();
        let stats = consumer.map(|consumer| consumer.stats()).unwrap_or_default();
        Messages { passed: stats.sent, dropped: stats.dropped }
    }

    /// How far the target is behind the live point, in milliseconds, the connections that were tried, and why the last one failed.
    fn details(&self) -> String {
        let link = self.link();
        let (state, attempts, last_error, consumer) =
            (link.state, link.attempts, link.last_error.clone(), link.consumer.clone());
        drop(link);
        let is_sending = state == State::Sending;
        let delay = consumer.filter(|_| is_sending).map_or(Duration::ZERO, |consumer| consumer.delay());
        let error = last_error.map(|error| format!(", last error: {error}")).unwrap_or_default();
        format!(
            ", delay={}, attempts={attempts}, state={}, target={}{error}",
            delay.as_millis(),
            state.name(),
            self.target.destination.shown
        )
    }
}

impl Outlet for Forwarder {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        self.link().stream.as_ref().map_or(Ok(0), |stream| stream.try_write(bytes))
    }

    fn wake(&self) {
        let link = self.link();
        match &link.stream {
            // Before there is a stream to send, somebody who wakes it wants it to end.
            Some(stream) if link.state == State::Connecting => stream.interrupt(),
            Some(stream) => stream.wake(),
            None => {}
        }
        drop(link);
        self.bell.signal();
    }

    fn close(&self, _: CloseReason) {
        self.stop();
    }
}

/// A forwarder's presence in the server. Dropping it leaves; once is enough.
#[derive(Clone)]
struct Life {
    server: Server,
    name: String,
    forwarder: Arc<Forwarder>,
}

impl Life {
    fn run(&self, source: &Source, consumer: &Arc<Consumer>) {
        let forwarder = &self.forwarder;
        let configured = &forwarder.target.destination;
        forwarder.await_stream(consumer);
        log::info!("forwarding {} to {}", self.name, configured.shown);
        let mut destination = configured.clone();
        let mut begin = Begin::First;
        let mut pause = FIRST_PAUSE;
        let mut was_redirected = false;
        loop {
            let result = self.attempt(source, consumer, &destination, begin);
            forwarder.detach();
            if forwarder.is_stopped() {
                log::info!("no longer forwarding {} to {}", self.name, configured.shown);
                return;
            }
            if consumer.is_ending() {
                if !source.is_live() {
                    log::info!("forwarded {} to {} until its end", self.name, configured.shown);
                    return;
                }
                begin = consumer.rearm();
                continue;
            }
            consumer.pause(true);
            begin = Begin::Join;
            destination = configured.clone();
            if forwarder.was_good() {
                pause = FIRST_PAUSE;
                was_redirected = false;
            }
            match result {
                // At once, but not round and round.
                Err(Failure::Redirected(there)) if !was_redirected => {
                    was_redirected = true;
                    log::info!("{} sends its publisher to {}", configured.shown, there.shown);
                    destination = *there;
                    continue;
                }
                Err(failure) if failure.is_final() => {
                    log::error!("not forwarding {} to {}: {failure}", self.name, configured.shown);
                    return;
                }
                result => {
                    was_redirected = false;
                    let wait = jittered(pause);
                    let mut error = result.err().map_or_else(|| "ended".to_owned(), |failure| failure.to_string());
                    error.truncate(error.floor_char_boundary(MAX_ERROR));
                    let seconds = wait.as_secs_f32();
                    log::warn!("forwarding to {}: {error}; again in {seconds:.1} s", configured.shown);
                    forwarder.link().last_error = Some(error);
                    forwarder.enter(State::Waiting);
                    forwarder.bell.wait_timeout(wait);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// One connection, to its end.
    fn attempt(
        &self,
        source: &Source,
        consumer: &Consumer,
        destination: &Destination,
        begin: Begin,
    ) -> Result<(), Failure> {
        self.forwarder.go_on()?;
        session::run(&self.server, &self.forwarder, source, consumer, destination, begin)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.server.forwards.remove(&self.name, &self.forwarder);
        self.server.forwards.leave_places(self.forwarder.number);
        // Its places in the stage and in the source hold it. First the one that still counts what was sent.
        let presence = self.forwarder.link().presence.take();
        drop(presence);
        let consumer = self.forwarder.link().consumer.take();
        drop(consumer);
    }
}

/// More or less than `pause` by a fifth, so that forwarders which failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without random bytes there is no jitter, and no harm.
    let _ = getrandom::fill(&mut random);
    pause.mul_f64(0.8 + 0.4 * f64::from(random[0]) / 255.0)
}
