//! Limits of the log lines of clients: one that plays a thousand names a second must not fill the disk or displace the lines of
//! others.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Period over which lines are counted.
const PERIOD: Duration = Duration::from_secs(10);

/// Most lines of one client in a period: some twenty streams played one after the other.
const MAX_PER_CLIENT: usize = 50;

/// Most lines of all clients together in a period: of five thousand that connect and play. Lines about clients, such as the
/// reasons why they were closed, have a second total of the same size.
const MAX_TOTAL: usize = 20_000;

/// Counters of one period.
#[derive(Debug, Default)]
pub(super) struct Quota {
    started: Option<Instant>,
    lines: HashMap<u64, usize>,
    /// Lines about clients, and lines of clients.
    totals: [usize; 2],
    suppressed: usize,
}

/// The number of lines that were suppressed in a period.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suppressed(usize);

impl Quota {
    /// Starts a new period if the current one is over. Returns how many lines it suppressed, if any.
    pub(super) fn renew(&mut self, now: Instant) -> Option<Suppressed> {
        if self.started.is_some_and(|started| now.duration_since(started) < PERIOD) {
            return None;
        }
        let suppressed = std::mem::replace(self, Self { started: Some(now), ..Self::default() }).suppressed;
        (suppressed > 0).then_some(Suppressed(suppressed))
    }

    /// Returns whether a line may be logged, and counts it. `is_limited` lines count towards the client's own quota; the others,
    /// which the server logs about a client, only towards a total.
    pub(super) fn take(&mut self, client: u64, is_limited: bool) -> bool {
        let lines = if is_limited { self.lines.entry(client).or_default() } else { &mut 0 };
        let total = &mut self.totals[usize::from(is_limited)];
        let is_granted = *lines < MAX_PER_CLIENT && *total < MAX_TOTAL;
        if is_granted {
            *lines += 1;
            *total += 1;
        } else {
            self.suppressed += 1;
        }
        is_granted
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self(count), seconds) = (self, PERIOD.as_secs());
        write!(
            f,
            "log lines of clients suppressed: count={count} seconds={seconds} limit_per_client={MAX_PER_CLIENT} limit={MAX_TOTAL}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_lines_and_suppressed_lines_are_counted() {
        let start = Instant::now();
        let mut quota = Quota::default();
        assert_eq!(quota.renew(start), None);
        let granted = |quota: &mut Quota, client, lines| (0..lines).filter(|_| quota.take(client, true)).count();
        assert_eq!([granted(&mut quota, 1, 80), granted(&mut quota, 2, 50), granted(&mut quota, 3, 51)], [50, 50, 50]);
        assert_eq!(quota.renew(start + PERIOD / 2), None);
        assert!(!quota.take(1, true) && quota.take(1, false), "the reason of its end is logged");
        assert_eq!(quota.renew(start + PERIOD), Some(Suppressed(32)));
        assert_eq!(granted(&mut quota, 1, 1), 1);
        assert_eq!(quota.renew(start + 2 * PERIOD), None);
    }

    #[test]
    fn the_lines_of_all_clients_are_limited() {
        let mut quota = Quota::default();
        quota.renew(Instant::now());
        assert_eq!((0..30_000).filter(|&client| quota.take(client, true)).count(), MAX_TOTAL);
        assert!(quota.take(7, false), "the reason of its end is logged");
        assert_eq!(quota.renew(Instant::now() + PERIOD), Some(Suppressed(10_000)));
    }
}
