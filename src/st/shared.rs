//! State that several coroutines of the worker share.

use std::sync::Arc;

use atomic_refcell::AtomicRefCell;

use super::prefetch::prefetch_all;
use super::stack;

/// A value shared by coroutines, accessible only inside a closure.
///
/// There is no lock to wait for: coroutines of one worker never run at the same time, so the value is free unless a coroutine
/// blocked inside `with`, which is a bug. Then the coroutine that finds the value in use panics, and not the server.
///
/// A stack overflow inside `with` would leave the value in use for ever, since nothing is dropped. So `with` panics when less
/// than a quarter of the stack is left: a panic unwinds and releases the value.
#[derive(Default)]
pub struct Shared<T>(Arc<AtomicRefCell<T>>);

impl<T> Shared<T> {
    /// Shares `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(AtomicRefCell::new(value)))
    }

    /// Runs `f` on the value. `f` must not block.
    ///
    /// # Panics
    /// When the value is in use or there is little stack left, see above.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        assert!(stack::has_room(), "the stack is nearly used up");
        f(&mut self.0.borrow_mut())
    }

    /// Runs `f` on the value unless it is in use: for `Drop`, which must not panic while a panic unwinds out of `with`.
    pub fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_borrow_mut().ok().map(|mut value| f(&mut value))
    }

    /// Prefetches the value, without what it points to.
    pub fn prefetch(&self) {
        prefetch_all(&*self.0);
    }

    /// Returns the number of handles to this value, this one included.
    pub fn handle_count(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
