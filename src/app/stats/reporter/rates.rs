//! Bit rates over the last half minute and the last minutes.

use std::time::{Duration, Instant};

/// Interval of rate samples. A window lasts up to this much longer than its length.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

pub(super) const WINDOWS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// Bytes of a connection, or of several.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ByteCounts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl ByteCounts {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { sent: self.sent.saturating_add(other.sent), received: self.received.saturating_add(other.received) }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { sent: self.sent.saturating_sub(before.sent), received: self.received.saturating_sub(before.received) }
    }

    /// Returns the rates over `time`: (sent, received).
    pub(super) fn kbps(self, time: Duration) -> (u64, u64) {
        (kbps(self.sent, time), kbps(self.received, time))
    }
}

/// Rates over the [`WINDOWS`]. Each is that of the last complete window, or of the time so far until one is complete.
pub(super) struct Rates([Window; WINDOWS.len()]);

#[derive(Clone, Copy)]
struct Window {
    started: Instant,
    bytes_at_start: ByteCounts,
    /// Rates of the window before: (sent, received).
    last: Option<(u64, u64)>,
}

impl Rates {
    pub(super) fn new(now: Instant, bytes: ByteCounts) -> Self {
        Self([Window { started: now, bytes_at_start: bytes, last: None }; WINDOWS.len()])
    }

    /// Takes a sample of the bytes so far. Call it every [`SAMPLE_INTERVAL`].
    pub(super) fn sample(&mut self, now: Instant, bytes: ByteCounts) {
        for (window, length) in self.0.iter_mut().zip(WINDOWS) {
            if now.saturating_duration_since(window.started) >= length {
                *window = Window { started: now, bytes_at_start: bytes, last: Some(window.kbps(now, bytes)) };
            }
        }
    }

    pub(super) fn kbps(&self, now: Instant, bytes: ByteCounts) -> [(u64, u64); WINDOWS.len()] {
        self.0.map(|window| window.last.unwrap_or_else(|| window.kbps(now, bytes)))
    }
}

impl Window {
    fn kbps(&self, now: Instant, bytes: ByteCounts) -> (u64, u64) {
        bytes.since(self.bytes_at_start).kbps(now.saturating_duration_since(self.started))
    }
}

pub(super) fn kbps(bytes: u64, time: Duration) -> u64 {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(8) / ms
}
