//! Measurements of the clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::histogram::Histogram;

/// Number of different error texts that are counted separately; all others are counted together.
const MAX_ERROR_KINDS: usize = 20;

/// Counters of all clients.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) connected: AtomicU64,
    pub(super) started: AtomicU64,
    /// Clients that could not connect or start.
    pub(super) refused: AtomicU64,
    /// Clients that ended early.
    pub(super) lost: AtomicU64,
    /// Reconnections because of `--stay`.
    pub(super) reconnects: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) latency: Histogram,
    /// Time from connect(2) to the first keyframe.
    pub(super) join: Histogram,
    /// Delay of messages behind the schedule of their publisher: if it is high, the load generator itself is overloaded.
    pub(super) send_delay: Histogram,
    /// Findings of the players that check.
    pub(super) found: Findings,
    /// Findings of the slow players, and the age of messages when they read them.
    pub(super) slow_found: Findings,
    pub(super) slow_lag: Histogram,
    /// Number of errors by their text.
    pub(super) errors: Mutex<BTreeMap<String, u64>>,
    stopped: AtomicBool,
    measurement_start: Mutex<Option<CounterSample>>,
}

/// Faults of a stream, as seen by players.
#[derive(Default)]
pub(super) struct Findings {
    /// Number of players that checked.
    pub(super) players: AtomicU64,
    /// Number of places with missing or reordered messages.
    pub(super) gaps: AtomicU64,
    /// Number of missing frames, if the stream numbers its frames.
    pub(super) missing: AtomicU64,
    /// Number of frames with wrong content.
    pub(super) damaged: AtomicU64,
    /// Number of players with any fault.
    pub(super) affected: AtomicU64,
    /// Largest number of gaps of one player.
    pub(super) most_gaps: AtomicU64,
}

/// Counters at one time.
#[derive(Clone, Copy)]
struct CounterSample {
    at: Instant,
    cpu: Duration,
    bytes: u64,
    messages: u64,
}

/// Differences since [`Stats::start_measurement`].
#[derive(Default)]
pub(super) struct Measurement {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) messages: u64,
    /// Processor time of this process, as a share of one core.
    pub(super) cpu: f64,
}

impl Stats {
    /// Starts the measurement: resets the histograms except for the join times.
    pub(super) fn start_measurement(&self) {
        *lock(&self.measurement_start) = Some(self.read());
        for histogram in [&self.latency, &self.send_delay, &self.slow_lag] {
            histogram.clear();
        }
    }

    pub(super) fn measured(&self) -> Measurement {
        let Some(from) = *lock(&self.measurement_start) else { return Measurement::default() };
        let now = self.read();
        let seconds = now.at.duration_since(from.at).as_secs_f64();
        Measurement {
            seconds,
            bytes: now.bytes - from.bytes,
            messages: now.messages - from.messages,
            cpu: now.cpu.saturating_sub(from.cpu).as_secs_f64() / seconds.max(1e-3),
        }
    }

    fn read(&self) -> CounterSample {
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        CounterSample { at: Instant::now(), cpu, bytes: get(&self.bytes), messages: get(&self.messages) }
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

    /// Counts a client that ended, unless all clients stop.
    pub(super) fn count_end(&self, started: bool, error: impl std::fmt::Display) {
        if !self.is_stopped() {
            add(if started { &self.lost } else { &self.refused }, 1);
            let kind = format!("{}: {}", if started { "lost" } else { "refused" }, mask_numbers(&error.to_string()));
            let mut errors = lock(&self.errors);
            let is_known = errors.contains_key(&kind) || errors.len() < MAX_ERROR_KINDS;
            *errors.entry(if is_known { kind } else { "others".into() }).or_default() += 1;
        }
    }
}

impl Findings {
    /// Adds a gap of a player that now has `gaps_so_far` gaps.
    pub(super) fn add_gap(&self, missing: u64, gaps_so_far: u64) {
        add(&self.gaps, 1);
        add(&self.missing, missing);
        self.most_gaps.fetch_max(gaps_so_far, Ordering::Relaxed);
    }
}

/// Replaces numbers by `#`, so that errors that differ by a client number count as one kind. The number of an operating system
/// error stays.
fn mask_numbers(error: &str) -> String {
    let (text, os_error) = error.find("(os error").map_or((error, ""), |at| error.split_at(at));
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            other => out.push(other),
        }
    }
    out + os_error
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind() {
        let stats = Stats::default();
        stats.count_end(false, "Connection refused (os error 111)");
        for client in [7, 12] {
            stats.count_end(true, format!("the stream is being published by client {client}"));
        }
        let errors: Vec<_> = lock(&stats.errors).clone().into_iter().collect();
        assert_eq!(
            errors,
            [
                ("lost: the stream is being published by client #".to_owned(), 2),
                ("refused: Connection refused (os error 111)".to_owned(), 1)
            ]
        );
        for n in 0..100u8 {
            stats.count_end(true, format!("{}", char::from(n)));
        }
        assert_eq!(lock(&stats.errors).len(), MAX_ERROR_KINDS + 1);
    }
}
