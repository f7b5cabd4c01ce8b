//! What threads tell a coroutine.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Waker, park};

/// A queue that any thread may put something into, for one coroutine that takes it out. It has no bound of its own: whoever posts
/// has to have one.
pub struct Inbox<T>(Mutex<State<T>>);

struct State<T> {
    items: VecDeque<T>,
    reader: Option<Waker>,
}

impl<T> Inbox<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self(Mutex::new(State { items: VecDeque::new(), reader: None }))
    }

    /// Puts something in, from any thread.
    pub fn post(&self, item: T) {
        let reader = {
            let mut state = self.state();
            state.items.push_back(item);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Blocks until something is there, and takes it. For one coroutine at a time.
    pub fn take(&self) -> T {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.items.pop_front() {
                    return item;
                }
                state.reader = Some(Waker::of_current());
            }
            // A post since then has woken us already, and this returns at once.
            park();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn nothing_that_threads_post_is_lost() {
        const EACH: u64 = 1000;
        let inbox = Arc::new(Inbox::new());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let inbox = inbox.clone();
                thread::spawn(move || (1..=EACH).for_each(|number| inbox.post(number)))
            })
            .collect();
        let reader = inbox.clone();
        let sum = crate::st::run(move || (0..3 * EACH).map(|_| reader.take()).sum::<u64>()).unwrap();
        assert_eq!(sum, 3 * EACH * (EACH + 1) / 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
