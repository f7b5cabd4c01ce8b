//! A rate limit for one repeated log line.

use std::time::{Duration, Instant};

/// A limit of one line per interval. The caller counts what it leaves out, and says it in the next line.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    last: Option<Instant>,
}

impl Throttle {
    /// Creates a throttle whose first line passes at once.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// Returns whether the line may be written at `now`, and if so starts the next interval.
    pub fn pass(&mut self, now: Instant) -> bool {
        let passes = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        if passes {
            self.last = Some(now);
        }
        passes
    }

    /// Forgets the last line, so that the next one passes at once.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_passes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut throttle = Throttle::new(Duration::from_secs(5));
        assert!(throttle.pass(at(0)) && !throttle.pass(at(4)) && throttle.pass(at(5)) && !throttle.pass(at(9)));
        throttle.reset();
        assert!(throttle.pass(at(9)));
    }
}
