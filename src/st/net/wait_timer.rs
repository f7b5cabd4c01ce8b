//! The deadline of the current wait of a socket.

use std::time::Instant;

use crate::st::timer;
use crate::st::waker::Waker;

/// The deadline of the current wait. Most waits end long before their deadline, so the timer is not removed then. When it
/// fires, it checks whether the deadline has moved.
#[derive(Default)]
pub(super) struct WaitTimer {
    deadline: Option<Instant>,
    timer: Option<timer::Key>,
}

impl WaitTimer {
    /// Sets the deadline of the wait that begins. The timer, if one is needed, uses `waker`.
    pub(super) fn set(&mut self, deadline: Option<Instant>, waker: impl FnOnce() -> Waker) {
        self.deadline = deadline;
        if let Some(deadline) = deadline
            && self.timer.is_none_or(|timer| timer.0 > deadline)
        {
            self.remove();
            self.timer = Some(timer::add(deadline, waker()));
        }
    }

    /// Handles the timer, which has fired: returns whether the deadline has passed. If it has moved, sets the timer again.
    pub(super) fn on_fired(&mut self, now: Instant, waker: impl FnOnce() -> Waker) -> bool {
        self.timer = None;
        match self.deadline {
            None => false,
            Some(deadline) if deadline <= now => true,
            Some(deadline) => {
                self.timer = Some(timer::add(deadline, waker()));
                false
            }
        }
    }

    fn remove(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer::remove(timer);
        }
    }
}

impl Drop for WaitTimer {
    fn drop(&mut self) {
        self.remove();
    }
}
