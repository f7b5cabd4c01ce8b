//! The pause before a program that has ended is started again.

use std::time::Duration;

/// The first pause, and the longest.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Time that a program must run for the next pause to be the first again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The pauses of one program: they double, and vary by a quarter, so that many programs that fail together come back one by one.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    /// Ends in a row without a good run.
    failures: u32,
}

impl BackOff {
    /// Returns the next pause, after a run of `ran`. `random` is any number.
    pub(super) fn next(&mut self, ran: Duration, random: u64) -> Duration {
        if ran >= STABLE_AFTER {
            self.failures = 0;
        }
        let pause = (MIN_PAUSE * 2u32.pow(self.failures.min(5))).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // From 75 to 125 percent, in the bounds.
        let percent = 75 + u32::try_from(random % 51).unwrap_or(0);
        (pause * percent / 100).clamp(MIN_PAUSE, MAX_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_a_good_minute() {
        let mut back_off = BackOff::default();
        let secs = Duration::from_secs;
        let pauses: Vec<_> = (0..8).map(|_| back_off.next(secs(1), 25).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(back_off.next(secs(60), 25), secs(1));
        for random in 0..1000 {
            let pause = back_off.next(secs(59), random);
            assert!((secs(1)..=secs(30)).contains(&pause), "{pause:?}");
        }
        let mut other = BackOff::default();
        other.next(secs(0), 0);
        let spread: Vec<_> = [0, 25, 50].map(|random| BackOff { failures: 2 }.next(secs(0), random).as_millis()).into();
        assert_eq!(spread, [3000, 4000, 5000]);
    }
}
