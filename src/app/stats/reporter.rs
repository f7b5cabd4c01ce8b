//! Pithy print: one log line per interval and group of clients, for one client after the other.
//!
//! ```text
//! -> clock=, time=, msgs=, obytes=, ibytes=, okbps=now,30s,5m, ikbps=now,30s,5m, drops=; clients=, msgs=, obytes=, ibytes=,
//!    okbps=30s,5m, ikbps=30s,5m, drops=
//! ```
//!
//! Left of the semicolon is one client: seconds since 1970, milliseconds and messages since it joined the group, bytes of its
//! connection, and kbit/s since its last line, over 30 seconds and over 5 minutes. Right of it is the whole group since the
//! server started, former clients included. Forwarders are a group too, counted as `forwarders=`; their details follow the
//! drops.

mod rates;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use self::rates::{Rates, SAMPLE_INTERVAL};
use crate::app::limits::fairness::TimeSlice;
use crate::log::as_client;
use crate::st::{self, Cond, Shared};

pub(crate) use rates::ByteCounts;

/// Sources looked at in one turn, and the longest time without a yield: ten thousand of them take milliseconds.
const CHUNK: usize = 256;
const TIME_SLICE: Duration = Duration::from_millis(1);

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MessageCounts {
    pub(crate) passed: u64,
    pub(crate) dropped: u64,
}

/// Client or forwarder whose counters are reported.
pub(crate) trait StatsSource: Send + Sync {
    /// Returns the number that its log lines carry.
    fn number(&self) -> u64;

    /// Returns the bytes of all its connections so far.
    fn bytes(&self) -> ByteCounts;

    fn messages(&self) -> MessageCounts;

    /// Returns the rest of its line: empty, or starting with a comma.
    fn details(&self) -> String {
        String::new()
    }

    /// Receives the final counts when it leaves the group.
    fn on_unregister(&self, _: MessageCounts) {}
}

/// Group of clients with a common log line: players, publishers, forwarders. Clones are the same group.
#[derive(Clone)]
pub(crate) struct StatsGroup {
    arrow: &'static str,
    count_key: &'static str,
    state: Shared<State>,
    /// Signalled when the group is no longer empty, or the interval has changed.
    changed: Arc<Cond>,
}

struct State {
    interval: Duration,
    next_line: Instant,
    next_sample: Instant,
    entries: Vec<Entry>,
    /// Index in `entries` by number. Thousands of clients may leave at once.
    indices: HashMap<u64, usize>,
    printed: usize,
    /// Sum of the sources that have left.
    former: Traffic,
    /// Sum of the present sources, each as it was when it was last counted.
    present: Traffic,
    rates: Rates,
}

struct Entry {
    source: Arc<dyn StatsSource>,
    registered_at: Instant,
    bytes_at_registration: ByteCounts,
    last_line: (Instant, ByteCounts),
    counted: Traffic,
    rates: Rates,
}

/// The numbers of a source, or of a whole group.
#[derive(Debug, Default, Clone, Copy)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
pub(crate) struct SourceStats {
    pub(crate) messages: MessageCounts,
    pub(crate) bytes: ByteCounts,
    pub(crate) kbps_in: u64,
    pub(crate) kbps_out: u64,
}

#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
impl SourceStats {
    /// Creates the figures of a source. `before` are the bytes of the source when it joined, which its rates count too.
    fn new(traffic: Traffic, rates: &Rates, before: ByteCounts, now: Instant) -> Self {
        let Traffic { messages, bytes } = traffic;
        let [(kbps_out, kbps_in), _] = rates.kbps(now, bytes.plus(before));
        Self { messages, bytes, kbps_in, kbps_out }
    }
}

#[derive(Default, Clone, Copy)]
struct Traffic {
    messages: MessageCounts,
    bytes: ByteCounts,
}

/// Membership of a source in a group. Dropping it ends the membership.
pub(crate) struct Registration {
    group: StatsGroup,
    number: u64,
}

impl StatsGroup {
    /// Creates a group whose lines start with `arrow`, the direction of the media, and show its size as `count_key`.
    pub(crate) fn new(arrow: &'static str, count_key: &'static str, interval: Duration) -> Self {
        let now = st::now();
        let state = State {
            interval,
            next_line: now,
            next_sample: now,
            entries: Vec::new(),
            indices: HashMap::new(),
            printed: 0,
            former: Traffic::default(),
            present: Traffic::default(),
            rates: Rates::new(now, ByteCounts::default()),
        };
        Self { arrow, count_key, state: Shared::new(state), changed: Arc::default() }
    }

    pub(crate) fn count(&self) -> usize {
        self.state.with(|state| state.entries.len())
    }

    pub(crate) fn set_interval(&self, interval: Duration) {
        let changed = self.state.with(|state| {
            let changed = state.interval != interval;
            if changed {
                state.interval = interval;
                state.next_line = st::now() + interval;
            }
            changed
        });
        if changed {
            self.changed.signal();
        }
    }

    /// Adds a source. It replaces one of the same number.
    pub(crate) fn register(&self, source: Arc<dyn StatsSource>) -> Registration {
        let now = st::now();
        let (number, bytes) = (source.number(), source.bytes());
        let entry = Entry {
            source,
            registered_at: now,
            bytes_at_registration: bytes,
            last_line: (now, bytes),
            counted: Traffic::default(),
            rates: Rates::new(now, bytes),
        };
        let (is_first, replaced) = self.state.with(|state| {
            let replaced = state.remove(number);
            let is_first = state.entries.is_empty();
            if is_first {
                state.next_line = now + state.interval;
                state.next_sample = now + SAMPLE_INTERVAL;
                state.rates = Rates::new(now, state.former.bytes);
            }
            state.indices.insert(number, state.entries.len());
            state.entries.push(entry);
            (is_first, replaced)
        });
        drop(replaced);
        if is_first {
            self.changed.signal();
        }
        Registration { group: self.clone(), number }
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) fn stats_of(&self, number: u64) -> Option<SourceStats> {
        let now = st::now();
        self.state.with(|state| {
            let entry = state.entries.get(*state.indices.get(&number)?)?;
            Some(SourceStats::new(entry.traffic(), &entry.rates, entry.bytes_at_registration, now))
        })
    }

    /// Returns the sum over all sources, present and former. May wait.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
    pub(crate) fn total(&self) -> SourceStats {
        self.count_all(None);
        let now = st::now();
        self.state.with(|state| {
            let traffic = state.traffic();
            let is_empty = state.entries.is_empty();
            let stats = SourceStats::new(traffic, &state.rates, ByteCounts::default(), now);
            // No samples are taken then, and nothing flows.
            if is_empty { SourceStats { kbps_in: 0, kbps_out: 0, ..stats } } else { stats }
        })
    }

    /// Prints lines forever. Sleeps while the group is empty.
    pub(crate) fn run(&self) {
        loop {
            let now = st::now();
            let (is_sample_due, is_line_due) =
                self.state.with(|state| (now >= state.next_sample, now >= state.next_line));
            if is_sample_due || is_line_due {
                self.count_all(is_sample_due.then_some(now));
            }
            match self.state.with(|state| state.tick(self.arrow, self.count_key, now)) {
                Some(next) => {
                    self.changed.wait_timeout(next.saturating_duration_since(st::now()));
                }
                None => self.changed.wait(),
            }
        }
    }

    /// Brings the sum of the present sources up to date, and takes a sample of each if `sample` is a time. May wait: a source
    /// that takes another one's place meanwhile may be left out.
    fn count_all(&self, sample: Option<Instant>) {
        let mut slice = TimeSlice::new(TIME_SLICE);
        let mut range = 0..CHUNK;
        while self.state.with(|state| state.count(range.clone(), sample)) {
            range = range.end..range.end + CHUNK;
            slice.yield_if_used_up();
        }
    }
}

impl State {
    /// Counts some sources, and takes a sample of each if `sample` is a time. Returns whether there are more.
    fn count(&mut self, range: Range<usize>, sample: Option<Instant>) -> bool {
        let end = range.end.min(self.entries.len());
        for entry in self.entries.get_mut(range.start..end).unwrap_or_default() {
            let traffic = entry.traffic();
            self.present = self.present.plus(traffic).minus(entry.counted);
            entry.counted = traffic;
            if let Some(now) = sample {
                entry.rates.sample(now, traffic.bytes.plus(entry.bytes_at_registration));
            }
        }
        end < self.entries.len()
    }

    /// Takes the group's sample and prints if due, after all sources were counted. Returns the next tick; `None` if it is empty.
    fn tick(&mut self, arrow: &str, count_key: &str, now: Instant) -> Option<Instant> {
        if self.entries.is_empty() {
            return None;
        }
        if now >= self.next_sample {
            self.next_sample = now + SAMPLE_INTERVAL;
            self.rates.sample(now, self.traffic().bytes);
        }
        if now >= self.next_line {
            self.next_line = now + self.interval;
            self.printed = if self.printed + 1 < self.entries.len() { self.printed + 1 } else { 0 };
            let line = format!("{arrow} {}; {count_key}={}", self.entries[self.printed].line(now), self.line(now));
            as_client(self.entries[self.printed].source.number(), || log::info!("{line}"));
        }
        Some(self.next_line.min(self.next_sample))
    }

    /// Removes a source and adds its counts to those of the former ones. The last entry moves to its index.
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let at = self.indices.remove(&number)?;
        let entry = self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.indices.insert(moved.source.number(), at);
        }
        let traffic = entry.traffic();
        self.former = self.former.plus(traffic);
        self.present = self.present.minus(entry.counted);
        entry.source.on_unregister(traffic.messages);
        Some(entry)
    }

    /// Returns the sum of all sources, present and former, as they were counted last.
    fn traffic(&self) -> Traffic {
        self.former.plus(self.present)
    }

    fn line(&self, now: Instant) -> String {
        let Traffic { messages, bytes } = self.traffic();
        let [(okbps, ikbps), (okbps_long, ikbps_long)] = self.rates.kbps(now, bytes);
        format!(
            "{}, msgs={}, obytes={}, ibytes={}, okbps={okbps},{okbps_long}, ikbps={ikbps},{ikbps_long}, drops={}",
            self.entries.len(),
            messages.passed,
            bytes.sent,
            bytes.received,
            messages.dropped,
        )
    }
}

impl Entry {
    fn traffic(&self) -> Traffic {
        Traffic { messages: self.source.messages(), bytes: self.source.bytes().since(self.bytes_at_registration) }
    }

    fn line(&mut self, now: Instant) -> String {
        let bytes = self.source.bytes();
        let messages = self.source.messages();
        let clock = st::system_time().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let time = now.saturating_duration_since(self.registered_at).as_millis();
        let (last, bytes_at_last) = std::mem::replace(&mut self.last_line, (now, bytes));
        let (okbps, ikbps) = bytes.since(bytes_at_last).kbps(now.saturating_duration_since(last));
        let [(okbps_30s, ikbps_30s), (okbps_5m, ikbps_5m)] = self.rates.kbps(now, bytes);
        format!(
            "clock={clock}, time={time}, msgs={}, obytes={}, ibytes={}, okbps={okbps},{okbps_30s},{okbps_5m}, \
             ikbps={ikbps},{ikbps_30s},{ikbps_5m}, drops={}{}",
            messages.passed,
            bytes.sent,
            bytes.received,
            messages.dropped,
            self.source.details(),
        )
    }
}

impl Traffic {
    fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn minus(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            messages: MessageCounts {
                passed: f(self.messages.passed, other.messages.passed),
                dropped: f(self.messages.dropped, other.messages.dropped),
            },
            bytes: ByteCounts {
                sent: f(self.bytes.sent, other.bytes.sent),
                received: f(self.bytes.received, other.bytes.received),
            },
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        let removed = self.group.state.try_with(|state| state.remove(self.number));
        // Dropped outside the lock: the source may use a group itself, or be the last handle to a player.
        drop(removed);
    }
}

#[cfg(test)]
mod tests;
