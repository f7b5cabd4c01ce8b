//! A queue from threads to one coroutine.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::block::park;
use super::waker::Waker;

/// A queue that any thread may post to and one coroutine receives from. It is unbounded: the posting side must limit itself.
pub struct Inbox<T>(Mutex<State<T>>);

struct State<T> {
    items: VecDeque<T>,
    reader: Option<Waker>,
}

impl<T> Inbox<T> {
    /// Creates an empty queue.
    pub fn new() -> Self {
        Self(Mutex::new(State { items: VecDeque::new(), reader: None }))
    }

    /// Appends an item, from any thread.
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

    /// Returns whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.state().items.is_empty()
    }

    /// Blocks until there is an item, and removes it. For one coroutine at a time.
    pub fn receive(&self) -> T {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.items.pop_front() {
                    return item;
                }
                state.reader = Some(Waker::of_current());
            }
            // If an item was posted since then, this returns at once.
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
        let sum = crate::st::run(move || (0..3 * EACH).map(|_| reader.receive()).sum::<u64>()).unwrap();
        assert_eq!(sum, 3 * EACH * (EACH + 1) / 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
