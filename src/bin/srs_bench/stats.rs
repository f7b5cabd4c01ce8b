//! What the clients saw.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Counters of all clients together.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) connected: AtomicU64,
    pub(super) started: AtomicU64,
    /// Clients that could not connect or start.
    pub(super) refused: AtomicU64,
    /// Clients that ended before they were told to.
    pub(super) lost: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
    /// Video messages that came more than 10 s after the one before, or before it, by their time stamps.
    pub(super) gaps: AtomicU64,
    pub(super) latency: Histogram,
    /// From before connect(2) until the first keyframe is there.
    pub(super) join: Histogram,
    /// The first error of any client.
    pub(super) error: Mutex<Option<String>>,
    stopped: AtomicBool,
    measured: Mutex<Option<(Instant, u64, u64)>>,
}

impl Stats {
    /// Forgets what was counted while the clients were starting.
    pub(super) fn measure_from_now(&self) {
        *lock(&self.measured) = Some((Instant::now(), get(&self.bytes), get(&self.messages)));
        self.latency.clear();
    }

    /// Seconds, bytes and messages since [`Stats::measure_from_now`].
    pub(super) fn measured(&self) -> (f64, u64, u64) {
        match *lock(&self.measured) {
            Some((from, bytes, messages)) => {
                (from.elapsed().as_secs_f64(), get(&self.bytes) - bytes, get(&self.messages) - messages)
            }
            None => (0.0, 0, 0),
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        get(&self.refused) + get(&self.lost)
    }

    /// Notes how a client ended, unless all were told to.
    pub(super) fn ended(&self, started: bool, error: impl std::fmt::Display) {
        if !self.is_stopped() {
            add(if started { &self.lost } else { &self.refused }, 1);
            lock(&self.error).get_or_insert_with(|| error.to_string());
        }
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Durations in microseconds, kept to within 3 %.
#[derive(Default)]
pub(super) struct Histogram(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    buckets: Vec<u64>,
    total: u64,
    max: u64,
}

/// Buckets for each doubling.
const STEPS: u32 = 32;

impl Histogram {
    pub(super) fn add(&self, us: u64) {
        let mut counts = lock(&self.0);
        let bucket = bucket(us);
        if counts.buckets.len() <= bucket {
            counts.buckets.resize(bucket + 1, 0);
        }
        counts.buckets[bucket] += 1;
        counts.total += 1;
        counts.max = counts.max.max(us);
    }

    fn clear(&self) {
        *lock(&self.0) = Counts::default();
    }

    pub(super) fn count(&self) -> u64 {
        lock(&self.0).total
    }

    pub(super) fn max_ms(&self) -> f64 {
        lock(&self.0).max as f64 / 1000.0
    }

    /// What `share` of all durations do not exceed, in milliseconds.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let counts = lock(&self.0);
        let wanted = (counts.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper(bucket).min(counts.max as f64) / 1000.0;
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

fn upper(bucket: usize) -> f64 {
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
