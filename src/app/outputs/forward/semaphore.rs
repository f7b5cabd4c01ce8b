//! A counting semaphore that is fair between keys: clients of one slow target cannot hold up those of others.
//!
//! A key gets another permit while it holds fewer than are free: of 64 permits that is 32 for the first key that keeps
//! them, 16 for the second, 8 for the third. Within that rule the oldest request is first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::st::{Cond, Shared};

#[derive(Clone)]
pub(super) struct FairSemaphore(Shared<State>);

struct State {
    free: usize,
    requests: Vec<Request>,
    in_use: HashMap<String, usize>,
}

struct Request {
    owner: u64,
    key: String,
    granted: bool,
    wakeup: Arc<Cond>,
}

/// A permit or a waiting request for one. Dropping it releases the permit or cancels the request.
pub(super) struct Permit {
    semaphore: FairSemaphore,
    owner: u64,
}

impl FairSemaphore {
    pub(super) fn new(permits: usize) -> Self {
        Self(Shared::new(State { free: permits, requests: Vec::new(), in_use: HashMap::new() }))
    }

    /// Waits for a permit; `owner` must have none. Returns `None` once `is_cancelled`, asked whenever `wakeup` is signalled.
    pub(super) fn acquire(
        &self,
        owner: u64,
        key: &str,
        wakeup: &Arc<Cond>,
        is_cancelled: impl Fn() -> bool,
    ) -> Option<Permit> {
        let permit = self.request(owner, key, wakeup);
        while !permit.is_granted() {
            if is_cancelled() {
                return None;
            }
            wakeup.wait();
        }
        Some(permit)
    }

    /// Releases what `owner` holds or waits for, if anything. For an owner whose [`Permit`] is lost with its stack.
    pub(super) fn release(&self, owner: u64) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.0.try_with(|state| state.release(owner));
    }

    fn request(&self, owner: u64, key: &str, wakeup: &Arc<Cond>) -> Permit {
        self.0.with(|state| {
            state.requests.push(Request { owner, key: key.to_owned(), granted: false, wakeup: wakeup.clone() });
            // Older requests are still blocked: nothing was released.
            state.grant(state.requests.len() - 1);
        });
        Permit { semaphore: self.clone(), owner }
    }
}

impl Permit {
    fn is_granted(&self) -> bool {
        let is_granted = |request: &Request| request.owner == self.owner && request.granted;
        self.semaphore.0.with(|state| state.requests.iter().any(is_granted))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release(self.owner);
    }
}

impl State {
    fn release(&mut self, owner: u64) {
        let Some(index) = self.requests.iter().position(|request| request.owner == owner) else { return };
        let Request { key, granted, .. } = self.requests.remove(index);
        if granted {
            self.free += 1;
            if let Some(in_use) = self.in_use.get_mut(&key) {
                *in_use -= 1;
                if *in_use == 0 {
                    self.in_use.remove(&key);
                }
            }
            self.grant(0);
        }
    }

    /// Grants permits to waiting requests from index `first` on. One pass is enough: a grant only reduces `free`.
    fn grant(&mut self, first: usize) {
        for request in self.requests[first..].iter_mut().filter(|request| !request.granted) {
            if self.free == 0 {
                return;
            }
            let in_use = self.in_use.get(&request.key).copied().unwrap_or(0);
            if in_use < self.free {
                self.free -= 1;
                self.in_use.insert(request.key.clone(), in_use + 1);
                request.granted = true;
                request.wakeup.signal();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::st;

    fn request(semaphore: &FairSemaphore, owner: u64, key: &str) -> Permit {
        semaphore.request(owner, key, &Arc::default())
    }

    fn granted(permits: &[Permit]) -> Vec<u64> {
        permits.iter().filter(|permit| permit.is_granted()).map(|permit| permit.owner).collect()
    }

    #[test]
    fn one_key_has_no_more_permits_than_are_left_for_others() {
        let semaphore = FairSemaphore::new(8);
        let mut all: Vec<_> = (0..6).map(|owner| request(&semaphore, owner, "a")).collect();
        assert_eq!(granted(&all), [0, 1, 2, 3]);
        all.extend((6..10).map(|owner| request(&semaphore, owner, "b")));
        assert_eq!(granted(&all), [0, 1, 2, 3, 6, 7]);
        all.extend((10..14).map(|owner| request(&semaphore, owner, "c")));
        assert_eq!(granted(&all), [0, 1, 2, 3, 6, 7, 10]);
        all.extend((14..16).map(|owner| request(&semaphore, owner, "d")));
        assert_eq!(granted(&all), [0, 1, 2, 3, 6, 7, 10, 14], "that was the last");
        all.remove(0);
        assert_eq!(granted(&all), [1, 2, 3, 6, 7, 10, 14], "kept for others");
        drop(all);
        assert!(semaphore.0.with(|state| state.free == 8 && state.requests.is_empty() && state.in_use.is_empty()));
    }

    #[test]
    fn the_oldest_request_is_next_where_there_is_room() {
        let semaphore = FairSemaphore::new(2);
        let keys = ["a", "b", "a", "c", "d", "c"];
        let mut all: Vec<_> = keys.iter().zip(0..).map(|(key, owner)| request(&semaphore, owner, key)).collect();
        assert_eq!(granted(&all), [0, 1]);
        all.remove(1);
        assert_eq!(granted(&all), [0, 3], "c: a has one already");
        all.remove(0);
        assert_eq!(granted(&all), [2, 3], "the second of a");
        all.remove(0);
        assert_eq!(granted(&all), [3, 4], "d: c has one already");
    }

    #[test]
    fn a_cancelled_request_is_passed_over_and_a_lost_permit_is_released() {
        let semaphore = FairSemaphore::new(1);
        let mut all: Vec<_> = (0..3).map(|owner| request(&semaphore, owner, "a")).collect();
        drop(all.remove(1));
        std::mem::forget(all.remove(0));
        assert!(granted(&all).is_empty());
        semaphore.release(0);
        assert_eq!(granted(&all), [2]);
        semaphore.release(0);
        assert_eq!(granted(&all), [2], "once is enough");
    }

    #[test]
    fn acquire_returns_when_a_permit_is_granted_or_the_request_is_cancelled() {
        let waited = st::run(|| {
            let (semaphore, wakeup) = (FairSemaphore::new(1), Arc::new(Cond::new()));
            let first = semaphore.acquire(1, "a", &wakeup, || false).is_some();
            let held = request(&semaphore, 2, "a");
            let (other, other_wakeup, cancelled) =
                (semaphore.clone(), wakeup.clone(), Arc::new(AtomicBool::new(false)));
            let is_cancelled = cancelled.clone();
            let waiting = st::spawn("waits", 0, move || {
                assert!(other.acquire(3, "a", &other_wakeup, || is_cancelled.load(Ordering::Relaxed)).is_none());
                is_cancelled.store(false, Ordering::Relaxed);
            });
            st::yield_now();
            let asked = Cell::new(0);
            cancelled.store(true, Ordering::Relaxed);
            wakeup.signal();
            waiting.unwrap().join();
            let gave_up = !cancelled.load(Ordering::Relaxed);
            drop(held);
            let next = semaphore.acquire(4, "a", &wakeup, || asked.replace(asked.get() + 1) > 0).is_some();
            (first, gave_up, next, asked.get())
        });
        assert_eq!(waited.unwrap(), (true, true, true, 0));
    }
}
