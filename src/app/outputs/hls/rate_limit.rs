//! The rate limit of a stream's segments, a token bucket.

use std::time::Instant;

/// Number of segments that may start at once, whatever the timestamps. Each costs one or two file writes. A file that is
/// published as fast as it can be read stays below.
const SEGMENT_BURST: u32 = 128;

const SEGMENTS_PER_SECOND: u32 = 4;

pub(super) struct RateLimit {
    tokens: u32,
    refilled_at: Instant,
}

impl RateLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: SEGMENT_BURST, refilled_at: now }
    }

    pub(super) fn take_token(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let refill = elapsed.as_millis() * u128::from(SEGMENTS_PER_SECOND) / 1000;
        if refill > 0 {
            self.refilled_at = now;
            self.tokens = self.tokens.saturating_add(refill as u32).min(SEGMENT_BURST);
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let mut passed = |at: Duration| (0..1000).filter(|_| limit.take_token(start + at)).count();
        assert_eq!(passed(Duration::ZERO), SEGMENT_BURST as usize);
        assert_eq!(passed(Duration::from_millis(200)), 0);
        assert_eq!(passed(Duration::from_secs(1)), SEGMENTS_PER_SECOND as usize);
        assert_eq!(passed(Duration::from_secs(3600)), SEGMENT_BURST as usize);
    }
}
