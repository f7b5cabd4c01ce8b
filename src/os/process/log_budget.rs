//! The bytes that a child may write to its log file: a program that floods its standard error must not keep a disk busy.

use std::time::Instant;

/// Bytes in a second, on average.
const BYTES_PER_SECOND: u64 = 64 * 1024;

/// Bytes at once.
const BURST: u64 = 1024 * 1024;

/// The budget of one child.
#[derive(Debug)]
pub(super) struct LogBudget {
    room: u64,
    /// The time up to which `room` was filled.
    filled: Instant,
    left_out: u64,
}

impl LogBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { room: BURST, filled: now, left_out: 0 }
    }

    /// Takes a piece of output from the budget. Returns the bytes that were left out since the last one; `None` if this one is
    /// to be left out too.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.filled);
        let earned = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SECOND) / 1000;
        if earned > 0 {
            self.room = self.room.saturating_add(earned).min(BURST);
            self.filled = now;
        }
        let bytes = bytes as u64;
        if bytes > self.room {
            self.left_out += bytes;
            return None;
        }
        self.room -= bytes;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut budget = LogBudget::new(start);
        for _ in 0..BURST / 16_384 {
            assert_eq!(budget.take(16_384, start), Some(0));
        }
        assert_eq!((budget.take(1000, start), budget.take(5, start)), (None, None));
        assert_eq!(budget.take(1000, start + Duration::from_millis(100)), Some(1005));
        // One read in 10 ms, for 100 s.
        let passed = (0..10_000u64).filter(|n| budget.take(16_384, start + Duration::from_millis(n * 10)).is_some());
        let passed = passed.count() as u64 * 16_384;
        assert!((90 * BYTES_PER_SECOND..=100 * BYTES_PER_SECOND).contains(&passed), "{passed}");
    }

    #[test]
    fn a_program_that_says_little_loses_nothing() {
        let start = Instant::now();
        let mut budget = LogBudget::new(start);
        assert!((0..100_000u64).all(|n| budget.take(100, start + Duration::from_millis(n * 2)) == Some(0)));
    }
}
