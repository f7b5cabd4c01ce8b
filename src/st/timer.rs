//! Deadlines, kept by one coroutine of the worker.
//!
//! The timed waits of the `may` crate end on its timer thread, where the coroutine would run at the same time as the worker.
//! So a coroutine here waits without a time-out, and the driver, a coroutine that waits for the [`alarm`](super::alarm), wakes
//! it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use super::alarm::{self, Alarm};
use super::block::{block, park};
use super::waker::Waker;
use super::{clock, priority};

/// The identity of a timer, to remove it: its deadline and a sequence number.
pub(super) type Key = (Instant, u64);

thread_local! {
    static DRIVER: RefCell<Option<Rc<Driver>>> = const { RefCell::new(None) };
}

struct Driver {
    timers: RefCell<BTreeMap<Key, Waker>>,
    next_sequence: Cell<u64>,
    /// Coroutines in [`yield_now`]; the next round wakes all of them.
    yielding: RefCell<Vec<Waker>>,
    rounds: Cell<u64>,
    alarm: Rc<Alarm>,
    gathering: Cell<Gathering>,
}

/// Gathering of events, see [`gather_events`].
#[derive(Clone, Copy, Default)]
struct Gathering {
    interval: Duration,
    until: Option<Instant>,
    /// End of the last pause.
    resumed: Option<Instant>,
}

/// Blocks the current coroutine for `duration`.
pub fn sleep(duration: Duration) {
    let deadline = clock::now() + duration;
    let timer = add(deadline, Waker::of_current());
    while clock::now() < deadline {
        park();
    }
    remove(timer);
}

/// Lets every other coroutine that can run have its turn, including those that wait on sockets, then returns. It goes once
/// through the kernel's event queue, so that a busy coroutine starves no socket.
pub fn yield_now() {
    let driver = driver();
    let round = driver.rounds.get();
    driver.yielding.borrow_mut().push(Waker::of_current());
    driver.alarm.set(clock::now());
    while driver.rounds.get() == round {
        park();
    }
}

/// Lets the events of sockets gather before each round of the event queue, until the time `until`: the worker sleeps meanwhile, so
/// long that an event waits for `interval` at most, unless a round takes longer than the one before. So many coroutines that each
/// have little to do share the wake-up, the system call that returns their events, and what their code has in the processor's
/// caches. There is no pause after a round of half of `interval` or more, while a coroutine yields, or while one of low priority waits for
/// its turn.
pub fn gather_events(interval: Duration, until: Instant) {
    let driver = driver();
    let gathering = driver.gathering.get();
    driver.gathering.set(Gathering { interval, until: Some(until), ..gathering });
    if gathering.until.is_none() {
        driver.alarm.set(clock::now());
    }
}

/// Adds a timer that uses `waker` once, at `deadline`.
pub(super) fn add(deadline: Instant, waker: Waker) -> Key {
    let driver = driver();
    let key = (deadline, driver.next_sequence.get());
    driver.next_sequence.set(key.1 + 1);
    driver.timers.borrow_mut().insert(key, waker);
    driver.alarm.set(deadline);
    key
}

/// Removes a timer; does nothing if its deadline has passed.
pub(super) fn remove(key: Key) {
    // Other threads than the worker have no driver, and so no such timer.
    let driver = DRIVER.try_with(|driver| driver.borrow().clone()).ok().flatten();
    if let Some(driver) = driver {
        driver.timers.borrow_mut().remove(&key);
    }
}

/// Prepares the driver if there is none yet. Returns whether the caller must spawn a coroutine for [`drive`]. Fails
/// when the system has no timerfd. Without one no time-out works: the process must not run.
pub(super) fn prepare() -> std::io::Result<bool> {
    if DRIVER.with_borrow(Option::is_some) {
        return Ok(false);
    }
    let driver = Rc::new(Driver {
        timers: RefCell::new(BTreeMap::new()),
        next_sequence: Cell::new(0),
        yielding: RefCell::new(Vec::new()),
        rounds: Cell::new(0),
        alarm: alarm::open()?,
        gathering: Cell::default(),
    });
    DRIVER.set(Some(driver));
    Ok(true)
}

/// Keeps the deadlines, for ever: the body of the driver's coroutine.
pub(super) fn drive() {
    let driver = driver();
    loop {
        let (now, has_woken) = driver.run_round();
        driver.gather(now, has_woken);
        block(|| driver.alarm.wait());
    }
}

impl Driver {
    /// Wakes the yielding coroutines and those whose deadline has passed, then sets the alarm for the next deadline. Returns
    /// the time, and whether it has woken any.
    fn run_round(&self) -> (Instant, bool) {
        self.alarm.reset();
        self.rounds.set(self.rounds.get() + 1);
        let yielding = self.yielding.take();
        let mut has_woken = !yielding.is_empty();
        for waker in yielding {
            waker.wake();
        }
        let now = clock::now();
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry() else { break };
            let deadline = first.key().0;
            if deadline > now {
                drop(timers);
                self.alarm.set(deadline);
                break;
            }
            let waker = first.remove();
            // Waking a socket may add its next deadline.
            drop(timers);
            waker.wake();
            has_woken = true;
        }
        priority::on_round(now);
        (now, has_woken)
    }

    /// Sleeps while events gather, if that is on. The alarm is set for the end of the pause, so its event comes after those that
    /// have gathered: this coroutine runs last in the next round, and sleeps again.
    fn gather(&self, now: Instant, has_woken: bool) {
        let Gathering { interval, until, resumed } = self.gathering.get();
        let Some(until) = until else { return };
        if now >= until {
            self.gathering.take();
            return;
        }
        // An event that comes when the round has begun waits for the round, the pause, and its turn in the next round.
        let round = resumed.map_or(Duration::ZERO, |resumed| now.saturating_duration_since(resumed));
        let pause = interval.saturating_sub(2 * round);
        let is_busy = pause.is_zero();
        let mut end = now;
        // The coroutines that were woken run once this one waits.
        if !is_busy && !has_woken && !priority::has_waiting() {
            self.alarm.set(now + pause);
            end = self.alarm.armed().unwrap_or(now);
            thread::sleep(end.saturating_duration_since(now));
        } else {
            self.alarm.set(now);
        }
        if is_busy || end > now {
            self.gathering.set(Gathering { resumed: Some(end), ..self.gathering.get() });
        }
    }
}

/// Returns the worker's driver. Every coroutine runs on the worker, after [`prepare`].
fn driver() -> Rc<Driver> {
    #[allow(clippy::expect_used)] // `spawn` calls `prepare` before a coroutine's own code runs.
    DRIVER.with_borrow(Clone::clone).expect("timed waits are for coroutines only")
}
