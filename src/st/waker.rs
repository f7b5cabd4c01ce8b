//! Wake-ups of coroutines.

use std::sync::{Arc, Weak};

use may::coroutine::{self, Coroutine};

/// Handle that wakes one coroutine, from any thread. A wake-up that finds nobody waiting is kept for the next wait:
/// every wait must check its condition again.
#[derive(Clone)]
pub(super) enum Waker {
    /// A coroutine that waits in [`park`](super::block::park).
    Parked(Coroutine),
    /// A target with its own wait; does nothing if the target is gone.
    Target(Weak<dyn TimerTarget>),
}

/// A value that decides itself what to do at a deadline, such as a socket.
pub(super) trait TimerTarget: Send + Sync {
    /// Handles the deadline of the timer, which has passed.
    fn on_timer(self: Arc<Self>);
}

impl Waker {
    /// Returns a waker for the calling coroutine's [`park`](super::block::park).
    pub(super) fn of_current() -> Self {
        Self::Parked(coroutine::current())
    }

    pub(super) fn wake(&self) {
        match self {
            Self::Parked(coroutine) => coroutine.unpark(),
            Self::Target(target) => {
                if let Some(target) = target.upgrade() {
                    target.on_timer();
                }
            }
        }
    }
}
