//! Deadlines, kept by one coroutine of the worker.
//!
//! The timed waits of the `may` crate end on its timer thread, where the coroutine would run at the same time as the worker.
//! So a coroutine here waits without a time-out, and the driver, a coroutine that waits on a timerfd, wakes it. The timerfd
//! is set again only for a deadline earlier than the one it is set for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use may::io::{CoIo, WaitIo};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Waker, block, park, priority};

/// Names a deadline that was added, to remove it.
pub(crate) type Key = (Instant, u64);

thread_local! {
    static DRIVER: RefCell<Option<Rc<Driver>>> = const { RefCell::new(None) };
}

struct Driver {
    timers: RefCell<BTreeMap<Key, Waker>>,
    sequence: Cell<u64>,
    /// Coroutines in [`yield_now`]; all go on at the next turn.
    yielding: RefCell<Vec<Waker>>,
    turns: Cell<u64>,
    /// What the timerfd is set for.
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

/// Lets every other coroutine that can run have its turn, those that wait on sockets included, then goes on.
pub fn yield_now() {
    let driver = driver();
    let turn = driver.turns.get();
    driver.yielding.borrow_mut().push(Waker::of_current());
    driver.arm(Instant::now());
    while driver.turns.get() == turn {
        park();
    }
}

/// Has there be a round at `time`: every coroutine that can run then has its turn, and then it is said to [`priority`].
pub(super) fn have_round(time: Instant) {
    driver().arm(time);
}

/// Has `waker` woken at `deadline`, once.
pub(crate) fn add(deadline: Instant, waker: Waker) -> Key {
    let driver = driver();
    let key = (deadline, driver.sequence.get());
    driver.sequence.set(key.1 + 1);
    driver.timers.borrow_mut().insert(key, waker);
    driver.arm(deadline);
    key
}

/// Forgets a deadline; nothing happens if it has passed.
pub(crate) fn remove(key: Key) {
    // Off the worker there is no driver and so no such deadline.
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
        // Without a clock no time-out works: better not to run at all than to run like that.
        Err(error) => {
            eprintln!("the coroutine runtime cannot start: timerfd: {error}");
            std::process::exit(1);
        }
    };
    let driver = Rc::new(Driver {
        timers: RefCell::new(BTreeMap::new()),
        sequence: Cell::new(0),
        yielding: RefCell::new(Vec::new()),
        turns: Cell::new(0),
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
        driver.fire();
        block(|| driver.clock.wait_io());
    }
}

impl Driver {
    /// Wakes all whose time has come, then sets the clock for the next.
    fn fire(&self) {
        self.armed.set(None);
        self.turns.set(self.turns.get() + 1);
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
            // Fails only for a time that is no time, which `wait` cannot be.
            Err(error) => log::error!("timerfd: {error}"),
        }
    }
}

/// The worker's driver. Every coroutine runs on the worker, where [`start`] has been.
fn driver() -> Rc<Driver> {
    #[allow(clippy::expect_used)] // `enter` calls `start` before a coroutine's own code runs.
    DRIVER.with_borrow(Clone::clone).expect("timed waits are for coroutines only")
}
