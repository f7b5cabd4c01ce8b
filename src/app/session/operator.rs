//! Requests of operators that the control loop of the server carries out: reloads.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::plan::Change;
use crate::st::{Cond, Shared};

/// Requests that wait at a time. Each waits for the reload before it.
const MAX_WAITING: usize = 16;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The outcome of a reload: the changes, or the problems, a line each.
pub(crate) type Outcome = Result<Vec<Change>, Vec<String>>;

#[derive(Clone, Default)]
pub(crate) struct ReloadRequests(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Shared<Vec<Arc<ReloadRequest>>>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

pub(crate) struct ReloadRequest {
    pub(crate) dry_run: bool,
    outcome: Shared<Option<Outcome>>,
    answered: Cond,
}

impl ReloadRequests {
    /// Sets the function that wakes the control loop, which then calls [`ReloadRequests::take_waiting`]. Only the first call
    /// counts.
    pub(crate) fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.wake.set(Box::new(wake));
    }

    /// Asks for a reload, or for its plan, and waits for the outcome. `None`: too many wait, or the server is stopping.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "used over HTTP only"))]
    pub(crate) fn submit(&self, dry_run: bool) -> Option<Outcome> {
        let wake = self.0.wake.get()?;
        let request = Arc::new(ReloadRequest { dry_run, outcome: Shared::new(None), answered: Cond::new() });
        let has_room = self.0.waiting.with(|waiting| {
            let has_room = waiting.len() < MAX_WAITING;
            if has_room {
                waiting.push(request.clone());
            }
            has_room
        });
        if !has_room {
            return None;
        }
        wake();
        if request.outcome.with(|outcome| outcome.is_none()) {
            request.answered.wait_timeout(TIMEOUT);
        }
        request.outcome.with(Option::take)
    }

    pub(crate) fn take_waiting(&self) -> Vec<Arc<ReloadRequest>> {
        self.0.waiting.with(std::mem::take)
    }
}

impl ReloadRequest {
    pub(crate) fn answer(&self, outcome: Outcome) {
        self.outcome.with(|slot| *slot = Some(outcome));
        self.answered.broadcast();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::st;

    #[test]
    fn who_asks_gets_the_outcome_of_the_loop() {
        st::run(|| {
            let requests = ReloadRequests::default();
            assert!(requests.submit(false).is_none(), "there is no loop yet");
            let (woken, in_loop) = (Arc::new(Cond::new()), requests.clone());
            let wake = woken.clone();
            requests.set_wake(move || wake.signal());
            let control = st::spawn("control", 0, move || {
                woken.wait();
                for request in in_loop.take_waiting() {
                    assert!(request.dry_run);
                    request.answer(Err(vec!["t:1: wrong".to_owned()]));
                }
            });
            st::yield_now();
            assert_eq!(requests.submit(true), Some(Err(vec!["t:1: wrong".to_owned()])));
            control.unwrap().join();
        })
        .unwrap();
    }
}
