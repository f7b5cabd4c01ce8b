//! How much of the log clients may take: who plays a thousand names a second is not to fill the disk, nor to have the lines of others
//! lost.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How long what was said counts.
const WINDOW: Duration = Duration::from_secs(10);

/// So many lines a client may have in that time: some twenty streams that it plays one after the other.
const LINES: usize = 50;

/// So many all clients together may have, five thousand that come and play, and as many say why they were closed.
const TOTAL: usize = 20_000;

/// Who has said how much.
#[derive(Debug, Default)]
pub(super) struct Quota {
    began: Option<Instant>,
    lines: HashMap<u64, usize>,
    /// Of what clients have said themselves, and of what was said of them.
    totals: [usize; 2],
    left_out: usize,
}

/// What was left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut(usize);

impl Quota {
    /// Begins anew when it is time for that. What was left out until then, if anything was.
    pub(super) fn renew(&mut self, now: Instant) -> Option<LeftOut> {
        if self.began.is_some_and(|began| now.duration_since(began) < WINDOW) {
            return None;
        }
        let left_out = std::mem::replace(self, Self { began: Some(now), ..Self::default() }).left_out;
        (left_out > 0).then_some(LeftOut(left_out))
    }

    /// Whether a client may have one line more. `by_itself`: it is the client that has it said, and not the server of the client.
    pub(super) fn admits(&mut self, client: u64, by_itself: bool) -> bool {
        let lines = if by_itself { self.lines.entry(client).or_default() } else { &mut 0 };
        let total = &mut self.totals[usize::from(by_itself)];
        let is_admitted = *lines < LINES && *total < TOTAL;
        if is_admitted {
            *lines += 1;
            *total += 1;
        } else {
            self.left_out += 1;
        }
        is_admitted
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self(lines), seconds) = (self, WINDOW.as_secs());
        write!(
            f,
            "{lines} lines of clients were left out of the log: in {seconds} s each may have {LINES}, and all together {TOTAL}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_lines_and_what_is_left_out_is_said() {
        let start = Instant::now();
        let mut quota = Quota::default();
        assert_eq!(quota.renew(start), None);
        let said = |quota: &mut Quota, client, times| (0..times).filter(|_| quota.admits(client, true)).count();
        assert_eq!([said(&mut quota, 1, 80), said(&mut quota, 2, 50), said(&mut quota, 3, 51)], [50, 50, 50]);
        assert_eq!(quota.renew(start + WINDOW / 2), None);
        assert!(!quota.admits(1, true) && quota.admits(1, false), "why it was closed is said");
        assert_eq!(quota.renew(start + WINDOW), Some(LeftOut(32)));
        assert_eq!(said(&mut quota, 1, 1), 1);
        assert_eq!(quota.renew(start + 2 * WINDOW), None);
    }

    #[test]
    fn all_together_have_so_many() {
        let mut quota = Quota::default();
        quota.renew(Instant::now());
        assert_eq!((0..30_000).filter(|&client| quota.admits(client, true)).count(), TOTAL);
        assert!(quota.admits(7, false), "why it was closed is said");
        assert_eq!(quota.renew(Instant::now() + WINDOW), Some(LeftOut(10_000)));
    }
}
