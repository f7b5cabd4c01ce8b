//! A circuit breaker: after [`MAX_FAILURES`] in a row, a backend is asked again only from time to time.

use std::time::{Duration, Instant};

const MAX_FAILURES: u32 = 5;

const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The state of one backend. Closed: requests go out. Open: one request every [`PROBE_INTERVAL`], until one succeeds.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    next_probe: Instant,
}

impl Breaker {
    /// Returns `Ok` if a request may go out; [`Breaker::on_success`] or [`Breaker::on_failure`] must follow. Errors: the time to
    /// wait for.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Instant> {
        match &mut self.open {
            Some(open) if now < open.next_probe => Err(open.next_probe),
            Some(open) => {
                open.next_probe = now + PROBE_INTERVAL;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.next_probe)
    }

    /// Returns how long the backend was down, if this ends it.
    pub(super) fn on_success(&mut self, now: Instant) -> Option<Duration> {
        self.failures = 0;
        self.open.take().map(|open| now.saturating_duration_since(open.since))
    }

    pub(super) fn on_failure(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = self.open.is_none() && self.failures >= MAX_FAILURES;
        if opens {
            self.open = Some(Open { since: now, next_probe: now + PROBE_INTERVAL });
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_success_closes_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!breaker.on_failure(at(0)));
        }
        assert_eq!(breaker.on_success(at(0)), None);
        for _ in 0..4 {
            assert!(!breaker.on_failure(at(1)) && breaker.check(at(1)).is_ok());
        }
        assert!(!breaker.is_open() && breaker.on_failure(at(1)) && breaker.is_open(), "the fifth in a row");
        assert_eq!((breaker.check(at(2)), breaker.next_probe()), (Err(at(6)), Some(at(6))));
        assert_eq!((breaker.check(at(6)), breaker.check(at(6))), (Ok(()), Err(at(11))), "one probe at a time");
        assert!(!breaker.on_failure(at(9)), "told once");
        assert_eq!(breaker.check(at(12)), Ok(()));
        assert_eq!(breaker.on_success(at(13)), Some(Duration::from_secs(12)));
        assert_eq!((breaker.check(at(13)), breaker.on_success(at(13))), (Ok(()), None));
        assert!(!breaker.on_failure(at(14)), "it counts from zero");
    }
}
