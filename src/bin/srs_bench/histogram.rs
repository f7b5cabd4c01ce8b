//! A histogram of durations.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Durations in microseconds, with a precision of 3 %.
#[derive(Default)]
pub(super) struct Histogram(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    buckets: Vec<u64>,
    total: u64,
    max: u64,
}

/// Number of buckets per power of two.
const STEPS: u32 = 32;

impl Histogram {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, us: u64) {
        let mut counts = self.counts();
        let bucket = bucket(us);
        if counts.buckets.len() <= bucket {
            counts.buckets.resize(bucket + 1, 0);
        }
        counts.buckets[bucket] += 1;
        counts.total += 1;
        counts.max = counts.max.max(us);
    }

    pub(super) fn clear(&self) {
        *self.counts() = Counts::default();
    }

    pub(super) fn count(&self) -> u64 {
        self.counts().total
    }

    pub(super) fn max_ms(&self) -> f64 {
        self.counts().max as f64 / 1000.0
    }

    /// Returns the quantile `share`, in milliseconds: that share of all durations is not longer.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let counts = self.counts();
        let rank = (counts.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return upper_bound(bucket).min(counts.max as f64) / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(us: u64) -> usize {
    if us < u64::from(STEPS) {
        return us as usize;
    }
    let doublings = us.ilog2() - STEPS.ilog2();
    ((doublings + 1) * STEPS) as usize + (us >> doublings) as usize - STEPS as usize
}

fn upper_bound(bucket: usize) -> f64 {
    let (doublings, step) = ((bucket as u32) / STEPS, (bucket as u32) % STEPS);
    match doublings {
        0 => f64::from(step),
        _ => f64::from(STEPS + step + 1) * f64::from(2u32).powi(doublings as i32 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let histogram = Histogram::default();
        (1..=100_000).for_each(|us| histogram.add(us));
        for share in [0.01, 0.5, 0.99, 1.0] {
            let measured = histogram.quantile_ms(share);
            assert!((measured / (share * 100.0) - 1.0).abs() < 0.035, "{measured} for {share}");
        }
        assert_eq!(histogram.max_ms(), 100.0);
        assert_eq!(Histogram::default().quantile_ms(0.5), 0.0);
    }
}
