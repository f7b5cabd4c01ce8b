//! Deadlines, kept by one coroutine of the worker.
//!
//! The timed waits of the `may` crate end on its timer thread, where the coroutine would run at the same time as the worker.
//! So a coroutine here waits without a time-out, and the driver, a coroutine that waits on a timerfd, wakes it. The timerfd is
//! set again only for an earlier deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use may::io::{CoIo, WaitIo};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Waker, block, park, priority};
use crate::log::quoted;

/// The identity of a timer, to remove it: its deadline and a sequence number.
pub(crate) type Key = (Instant, u64);

thread_local! {
    static DRIVER: RefCell<Option<Rc<Driver>>> = const { RefCell::new(None) };
}

struct Driver {
    timers: RefCell<BTreeMap<Key, Waker>>,
    next_sequence: Cell<u64>,
    /// Coroutines in [`yield_now`]; the next round wakes all of them.
    yielding: RefCell<Vec<Waker>>,
    rounds: Cell<u64>,
    /// Time for which the timerfd is set.
    armed: Cell<Option<Instant>>,
    clock: CoIo<Clock>,
}

struct Clock(TimerFd);

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Blocks the current coroutine for `duration`.
pub fn sleep(duration: Duration) {
    let deadline = Instant::now() + duration;
    let timer = add(deadline, Waker::of_current());
    while Instant::now() < deadline {
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
    driver.arm(Instant::now());
    while driver.rounds.get() == round {
        park();
    }
}

/// Schedules a round at `time`: every coroutine that can run then has its turn, and then [`priority::on_round`] is called.
pub(super) fn schedule_round(time: Instant) {
    driver().arm(time);
}

/// Adds a timer that uses `waker` once, at `deadline`.
pub(crate) fn add(deadline: Instant, waker: Waker) -> Key {
    let driver = driver();
    let key = (deadline, driver.next_sequence.get());
    driver.next_sequence.set(key.1 + 1);
    driver.timers.borrow_mut().insert(key, waker);
    driver.arm(deadline);
    key
}

/// Removes a timer; does nothing if its deadline has passed.
pub(crate) fn remove(key: Key) {
    // Other threads than the worker have no driver, and so no such timer.
    let driver = DRIVER.try_with(|driver| driver.borrow().clone()).ok().flatten();
    if let Some(driver) = driver {
        driver.timers.borrow_mut().remove(&key);
    }
}

/// Starts the driver, the first time that a coroutine runs.
pub(super) fn start() {
    if DRIVER.with_borrow(Option::is_some) {
        return;
    }
    let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
        .map_err(std::io::Error::from)
        .and_then(|clock| CoIo::new(Clock(clock)).map_err(std::io::Error::from));
    let clock = match clock {
        Ok(clock) => clock,
        // Without a clock no time-out works: the process must not run.
        Err(error) => {
            eprintln!("the coroutine runtime cannot start: timerfd: {error}");
            std::process::exit(1);
        }
    };
    let driver = Rc::new(Driver {
        timers: RefCell::new(BTreeMap::new()),
        next_sequence: Cell::new(0),
        yielding: RefCell::new(Vec::new()),
        rounds: Cell::new(0),
        armed: Cell::new(None),
        clock,
    });
    DRIVER.with_borrow_mut(|slot| *slot = Some(driver));
    if let Err(error) = super::spawn("timer", 0, drive) {
        eprintln!("the coroutine runtime cannot start: {error}");
        std::process::exit(1);
    }
}

fn drive() {
    let driver = driver();
    loop {
        driver.run_round();
        block(|| driver.clock.wait_io());
    }
}

impl Driver {
    /// Wakes the yielding coroutines and those whose deadline has passed, then sets the clock for the next deadline.
    fn run_round(&self) {
        self.armed.set(None);
        self.rounds.set(self.rounds.get() + 1);
        for waker in self.yielding.take() {
            waker.wake();
        }
        let now = Instant::now();
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry() else { break };
            let deadline = first.key().0;
            if deadline > now {
                drop(timers);
                self.arm(deadline);
                break;
            }
            let waker = first.remove();
            // Waking a socket may add its next deadline.
            drop(timers);
            waker.wake();
        }
        priority::on_round(now);
    }

    fn arm(&self, deadline: Instant) {
        if self.armed.get().is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Zero would disarm the clock.
        let wait = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        match self.clock.inner().0.set(Expiration::OneShot(TimeSpec::from(wait)), TimerSetTimeFlags::empty()) {
            Ok(()) => self.armed.set(Some(deadline)),
            // Fails only for an invalid time, which `wait` cannot be.
            Err(error) => log::error!("timer not set: error={}", quoted(error)),
        }
    }
}

/// Returns the worker's driver. Every coroutine runs on the worker, after [`start`].
fn driver() -> Rc<Driver> {
    #[allow(clippy::expect_used)] // `start_task` calls `start` before a coroutine's own code runs.
    DRIVER.with_borrow(Clone::clone).expect("timed waits are for coroutines only")
}
