//! The times at which clients are disconnected because a backend said so (`expire_s`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::context::Context;
use crate::app::session::close::CloseReason;
use crate::st::{self, Cond, Shared};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The times, by client number. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Expiry {
    times: Shared<HashMap<u64, Instant>>,
    added: Arc<Cond>,
}

impl Expiry {
    pub(super) fn set(&self, client: u64, time: Instant) {
        self.times.with(|times| times.insert(client, time));
        self.added.signal();
    }

    /// Removes the time of a client. May be called while a panic unwinds.
    pub(super) fn remove(&self, client: u64) {
        self.times.try_with(|times| times.remove(&client));
    }

    /// Disconnects clients whose time has come, for ever. Sleeps while there are none with a time.
    pub(super) fn run(&self, ctx: &Context) {
        loop {
            while self.times.with(|times| times.is_empty()) {
                self.added.wait();
            }
            for client in self.take_due(st::now()) {
                let why = "the time that the callback backend granted is over";
                ctx.disconnect(client, CloseReason::Hook(why.to_owned()));
            }
            st::sleep(CHECK_INTERVAL);
        }
    }

    fn take_due(&self, now: Instant) -> Vec<u64> {
        self.times.with(|times| times.extract_if(|_, time| *time <= now).map(|(client, _)| client).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_comes_once_unless_it_is_removed() {
        let (expiry, start) = (Expiry::default(), st::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (client, seconds) in [(1, 5), (2, 5), (3, 9)] {
            expiry.set(client, at(seconds));
        }
        expiry.remove(2);
        assert!(expiry.take_due(at(4)).is_empty());
        assert_eq!((expiry.take_due(at(5)), expiry.take_due(at(6))), (vec![1], vec![]));
        assert_eq!(expiry.take_due(at(9)), [3]);
    }
}
