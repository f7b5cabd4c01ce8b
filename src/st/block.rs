//! Waits: every switch to other coroutines goes through [`block`].

use std::sync::atomic::Ordering;

use may::coroutine;

use super::task::CURRENT;
use super::{priority, stack, watchdog};

/// Runs `wait`, which switches to other coroutines, and restores the state of the current one afterwards. Each wait of this
/// module goes through here.
pub(super) fn block<R>(wait: impl FnOnce() -> R) -> R {
    let me = CURRENT.take();
    let low_class = me.as_ref().filter(|task| task.is_low.load(Ordering::Relaxed)).and_then(|task| task.low_class);
    if low_class.is_some() {
        priority::stop_running();
    }
    watchdog::set_idle();
    let result = wait();
    if let (Some(task), Some(class)) = (&me, low_class) {
        // Waiting for admission uses some stack, too.
        stack::set_current_top(task.stack_top.load(Ordering::Relaxed));
        priority::admit(class);
    }
    if let Some(task) = &me {
        watchdog::set_running(task.watchdog_tag);
        stack::set_current_top(task.stack_top.load(Ordering::Relaxed));
    }
    CURRENT.set(me);
    result
}

/// Blocks the current coroutine until its waker is used. May return early.
pub(super) fn park() {
    block(coroutine::park);
}
