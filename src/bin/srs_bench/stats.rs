//! What the clients saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::histogram::Histogram;

/// Errors that are told apart; all others are counted together.
const ERROR_KINDS: usize = 20;

/// Counters of all clients together.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) connected: AtomicU64,
    pub(super) started: AtomicU64,
    /// Clients that could not connect or start.
    pub(super) refused: AtomicU64,
    /// Clients that ended before they were told to.
    pub(super) lost: AtomicU64,
    /// Players that left as `--stay` says and came again.
    pub(super) reconnects: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) latency: Histogram,
    /// From before connect(2) until the first keyframe is there.
    pub(super) join: Histogram,
    /// How late publishers sent a message, by their own clock: when this is much, the load tool has too much to do.
    pub(super) late: Histogram,
    /// What the players found that take messages apart.
    pub(super) found: Findings,
    /// What the slow ones of them found; how old messages are when they read them.
    pub(super) slow_found: Findings,
    pub(super) slow_lag: Histogram,
    /// Errors by what they say, with how often.
    pub(super) errors: Mutex<BTreeMap<String, u64>>,
    stopped: AtomicBool,
    measured: Mutex<Option<Reading>>,
}

/// What is wrong with a stream, as seen by the players that take it apart.
#[derive(Default)]
pub(super) struct Findings {
    /// The players that looked.
    pub(super) players: AtomicU64,
    /// Places where messages are missing or out of order.
    pub(super) gaps: AtomicU64,
    /// Frames that are missing there, as far as the stream tells.
    pub(super) missing: AtomicU64,
    /// Frames whose content is not what was sent.
    pub(super) damaged: AtomicU64,
    /// Players that found any of this.
    pub(super) touched: AtomicU64,
    /// The most gaps that one player found.
    pub(super) most_gaps: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    cpu: Duration,
    bytes: u64,
    messages: u64,
}

/// What was counted since [`Stats::measure_from_now`].
#[derive(Default)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) messages: u64,
    /// The share of its core that this process used.
    pub(super) cpu: f64,
}

impl Stats {
    /// Forgets what was counted while the clients were starting. The times of their joining stay.
    pub(super) fn measure_from_now(&self) {
        *lock(&self.measured) = Some(self.read());
        for histogram in [&self.latency, &self.late, &self.slow_lag] {
            histogram.clear();
        }
    }

    pub(super) fn measured(&self) -> Measured {
        let Some(from) = *lock(&self.measured) else { return Measured::default() };
        let now = self.read();
        let seconds = now.at.duration_since(from.at).as_secs_f64();
        Measured {
            seconds,
            bytes: now.bytes - from.bytes,
            messages: now.messages - from.messages,
            cpu: now.cpu.saturating_sub(from.cpu).as_secs_f64() / seconds.max(1e-3),
        }
    }

    fn read(&self) -> Reading {
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        Reading { at: Instant::now(), cpu, bytes: get(&self.bytes), messages: get(&self.messages) }
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
            let kind = format!("{}: {}", if started { "lost" } else { "refused" }, without_numbers(&error.to_string()));
            let mut errors = lock(&self.errors);
            let is_known = errors.contains_key(&kind) || errors.len() < ERROR_KINDS;
            *errors.entry(if is_known { kind } else { "others".into() }).or_default() += 1;
        }
    }
}

impl Findings {
    /// One player's findings, of which the first says that it has any at all.
    pub(super) fn add_gap(&self, missing: u64, gaps_so_far: u64) {
        add(&self.gaps, 1);
        add(&self.missing, missing);
        self.most_gaps.fetch_max(gaps_so_far, Ordering::Relaxed);
    }
}

/// Errors that differ by a number only, such as a client's, are of one kind. That of the operating system's error stays.
fn without_numbers(error: &str) -> String {
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
        stats.ended(false, "Connection refused (os error 111)");
        for client in [7, 12] {
            stats.ended(true, format!("the stream is being published by client {client}"));
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
            stats.ended(true, format!("{}", char::from(n)));
        }
        assert_eq!(lock(&stats.errors).len(), ERROR_KINDS + 1);
    }
}
