//! The runtime's record of a coroutine, and the one that runs now.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// The kind of a coroutine of low priority. Each class has its own queue, so that few of one do not wait behind thousands of
/// the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LowClass {
    /// New clients, which do not stream yet.
    Arrivals = 0,
    /// Clients with one request after the other, such as HTTP.
    Requests = 1,
}

/// The record of one coroutine.
pub(super) struct Task {
    /// Client number for the log; 0 for the server's own coroutines.
    pub(super) id: u64,
    pub(super) name: &'static str,
    /// Id and name as the watchdog stores them.
    pub(super) watchdog_tag: u64,
    /// Queue of a coroutine that was spawned with low priority, and whether it has low priority now.
    pub(super) low_class: Option<LowClass>,
    pub(super) is_low: AtomicBool,
    /// Address near the top of the coroutine's stack, once it runs.
    pub(super) stack_top: AtomicUsize,
    /// Mark of `may` in the lowest word of the stack, once that page was released; 0 before.
    pub(super) stack_mark: AtomicUsize,
}

thread_local! {
    /// The coroutine that runs on this thread now. Waits take it out and put it back, see [`block`](super::block).
    pub(super) static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// Returns the number of the client that the current coroutine serves; 0 for none and outside coroutines.
pub fn current_client() -> u64 {
    with_current(|task| task.id).unwrap_or(0)
}

/// Runs `f` on the current coroutine's record, at any time: returns none outside coroutines, and while the thread ends.
pub(super) fn with_current<R>(f: impl FnOnce(&Task) -> R) -> Option<R> {
    let current =
        |current: &RefCell<Option<Arc<Task>>>| current.try_borrow().ok().and_then(|task| task.as_deref().map(f));
    CURRENT.try_with(current).ok().flatten()
}
