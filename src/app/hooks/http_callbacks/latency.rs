//! The time that a backend takes, as a histogram.

use std::time::Duration;

/// Upper bounds of the classes in milliseconds; the last class has none.
pub(super) const BOUNDS_MS: [u64; 7] = [3, 10, 30, 100, 300, 1000, 3000];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Latency {
    counts: [u64; BOUNDS_MS.len() + 1],
    milliseconds: u64,
}

impl Latency {
    pub(super) fn add(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.counts[BOUNDS_MS.partition_point(|bound| *bound < ms)] += 1;
        self.milliseconds = self.milliseconds.saturating_add(ms);
    }

    pub(super) fn milliseconds(&self) -> u64 {
        self.milliseconds
    }

    /// Returns the number of requests that took at most `BOUNDS_MS[index]`, without a bound of all.
    pub(super) fn within(&self, index: usize) -> u64 {
        self.counts.iter().take(index + 1).sum()
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.milliseconds = self.milliseconds.saturating_add(other.milliseconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_in_its_class_and_those_above() {
        let mut latency = Latency::default();
        for ms in [0, 3, 4, 1000, 1001, 60_000] {
            latency.add(Duration::from_millis(ms));
        }
        let within: Vec<_> = (0..=BOUNDS_MS.len()).map(|index| latency.within(index)).collect();
        assert_eq!(within, [2, 3, 3, 3, 3, 4, 5, 6]);
        assert_eq!((latency.milliseconds(), latency.count()), (62_008, 6));
        assert_eq!(latency.plus(&latency).within(7), 12);
    }
}
