use std::time::{Duration, Instant};

/// Time for which a transfer may be ahead of the limit, so that pauses of the scheduler do not lower its rate.
const BURST: Duration = Duration::from_millis(50);

/// A schedule for the bytes of one connection, or of several.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// In bytes per second; `None` for no limit.
    bytes_per_second: Option<u64>,
    due: Instant,
}

impl Pacer {
    /// Creates a pacer for a rate in kbit/s; 0 means no limit.
    pub(crate) fn new(limit_kbps: u64, now: Instant) -> Self {
        Self { bytes_per_second: (limit_kbps > 0).then_some(limit_kbps.saturating_mul(125)), due: now }
    }

    /// Counts bytes, and returns the time to wait before the next ones.
    pub(crate) fn add(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spread_and_a_pause_gives_no_credit() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pacer = Pacer::new(800, start);
        assert_eq!(pacer.add(10_000, at(0)), Duration::from_millis(100), "100 KB/s");
        assert_eq!(pacer.add(10_000, at(100)), Duration::from_millis(100));
        assert_eq!(pacer.add(1_000, at(5_000)), Duration::ZERO, "up to 50 ms ahead");
        assert_eq!(pacer.add(10_000, at(5_000)), Duration::from_millis(60));
        assert_eq!(Pacer::new(0, start).add(u64::MAX, start), Duration::ZERO, "no limit");
    }
}
