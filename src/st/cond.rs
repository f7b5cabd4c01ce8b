//! Condition variables for coroutines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::block::park;
use super::waker::Waker;
use super::{clock, timer};

/// A condition variable. It needs no mutex: nothing else runs between the check of a condition and the wait for it.
#[derive(Default)]
pub struct Cond {
    /// Never locked over a wait. The lock exists because any thread may signal.
    waiters: Mutex<Vec<Arc<Waiter>>>,
}

struct Waiter {
    signalled: AtomicBool,
    waker: Waker,
}

impl Cond {
    /// Creates a condition without waiters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until signalled.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until signalled, at most for `timeout`. Returns whether it was signalled.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Some(clock::now() + timeout))
    }

    /// Wakes the coroutine that has waited longest.
    pub fn signal(&self) {
        let mut waiters = self.waiters();
        if !waiters.is_empty() {
            waiters.remove(0).signal();
        }
    }

    /// Wakes all waiting coroutines.
    pub fn broadcast(&self) {
        for waiter in self.waiters().drain(..) {
            waiter.signal();
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let waiter = Arc::new(Waiter { signalled: AtomicBool::new(false), waker: Waker::of_current() });
        self.waiters().push(waiter.clone());
        let timer = deadline.map(|deadline| timer::add(deadline, waiter.waker.clone()));
        while !waiter.signalled.load(Ordering::Acquire) && deadline.is_none_or(|deadline| clock::now() < deadline) {
            park();
        }
        if let Some(timer) = timer {
            timer::remove(timer);
        }
        let signalled = waiter.signalled.load(Ordering::Acquire);
        if !signalled {
            self.waiters().retain(|other| !Arc::ptr_eq(other, &waiter));
        }
        signalled
    }

    fn waiters(&self) -> MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    fn signal(&self) {
        self.signalled.store(true, Ordering::Release);
        self.waker.wake();
    }
}
