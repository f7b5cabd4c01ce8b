//! The timerfd of the worker: it makes the kernel's event queue return at the next deadline.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use may::io::{CoIo, WaitIo};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::clock;
use crate::log::quoted;

thread_local! {
    static ALARM: RefCell<Option<Rc<Alarm>>> = const { RefCell::new(None) };
}

/// The timerfd. It is set again only for an earlier deadline.
pub(super) struct Alarm {
    /// Time for which it is set.
    armed: Cell<Option<Instant>>,
    clock: CoIo<Clock>,
}

struct Clock(TimerFd);

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Opens the timerfd of the worker, which calls this once. Errors: those of timerfd_create(2).
pub(super) fn open() -> io::Result<Rc<Alarm>> {
    let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let alarm = Rc::new(Alarm { armed: Cell::new(None), clock: CoIo::new(Clock(clock))? });
    ALARM.set(Some(alarm.clone()));
    Ok(alarm)
}

/// Sets the alarm of the worker to `deadline`, unless it goes off before.
pub(super) fn set(deadline: Instant) {
    ALARM.with_borrow(|alarm| {
        if let Some(alarm) = alarm {
            alarm.set(deadline);
        }
    });
}

impl Alarm {
    /// Sets the alarm to `deadline`, unless it goes off before.
    pub(super) fn set(&self, deadline: Instant) {
        if self.armed.get().is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Zero would disarm the clock.
        let wait = deadline.saturating_duration_since(clock::now()).max(Duration::from_nanos(1));
        match self.clock.inner().0.set(Expiration::OneShot(TimeSpec::from(wait)), TimerSetTimeFlags::empty()) {
            Ok(()) => self.armed.set(Some(deadline)),
            // Fails only for an invalid time, which `wait` cannot be.
            Err(error) => log::error!("timer not set: error={}", quoted(error)),
        }
    }

    /// Returns the time for which the alarm is set.
    pub(super) fn armed(&self) -> Option<Instant> {
        self.armed.get()
    }

    /// Forgets the deadline for which the alarm was set, because it has gone off.
    pub(super) fn reset(&self) {
        self.armed.set(None);
    }

    /// Waits until the alarm goes off. For use in [`block`](super::block::block).
    pub(super) fn wait(&self) {
        self.clock.wait_io();
    }
}
