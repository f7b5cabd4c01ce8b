//! Pithy print: one log line an interval for each stage, however many clients are in it. The clients take turns.
//!
//! ```text
//! -> clock=, time=, msgs=, obytes=, ibytes=, okbps=now,30s,5m, ikbps=now,30s,5m, drops=; clients=, msgs=, obytes=, ibytes=,
//!    okbps=30s,5m, ikbps=30s,5m, drops=
//! ```
//!
//! Forwarders have a stage, too: they are counted as `forwarders=`, and what else there is to say of one follows its drops.
//!
//! In front of the semicolon stands the client whose turn it is: the seconds since 1970, the milliseconds and the messages since
//! it entered the stage, the bytes of its connection, and its kilobits a second since its last line, over 30 seconds and over
//! 5 minutes. Behind it stand all of the stage since the server started, those who have left included.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::log::as_client;
use crate::st::{Cond, Shared};

/// How often rates are looked after. A window lasts up to so much longer than it should.
const SAMPLE: Duration = Duration::from_secs(10);

/// What rates are shown over.
const WINDOWS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// Messages of a client in a stage.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Messages {
    /// Sent or received.
    pub(crate) passed: u64,
    /// Not sent, because the client was too slow.
    pub(crate) dropped: u64,
}

/// One that is in a stage.
pub(crate) trait Member: Send + Sync {
    /// Its number, that of its lines in the log.
    fn number(&self) -> u64;

    /// Of all its connections, so far.
    fn bytes(&self) -> Bytes;

    /// So far.
    fn messages(&self) -> Messages;

    /// What else its line says: empty, or beginning with a comma.
    fn details(&self) -> String {
        String::new()
    }

    /// It leaves, after these messages.
    fn leave(&self, _: Messages) {}
}

/// What clients do, with a line of its own in the log.
#[derive(Clone)]
pub(crate) struct Stage {
    arrow: &'static str,
    /// What its members are called.
    plural: &'static str,
    state: Shared<State>,
    /// Somebody has entered the empty stage, or the interval has changed.
    changed: Arc<Cond>,
}

struct State {
    interval: Duration,
    next_line: Instant,
    next_sample: Instant,
    /// In the order of their turns.
    members: Vec<Place>,
    /// Where each is among them, by number: thousands may leave at once.
    indices: HashMap<u64, usize>,
    /// Whose line was the last.
    turn: usize,
    /// What those who have left did here.
    left: Traffic,
    rates: Rates,
}

struct Place {
    member: Arc<dyn Member>,
    since: Instant,
    /// Its bytes when it entered.
    before: Bytes,
    /// When its last line was, and its bytes until then.
    last: (Instant, Bytes),
    rates: Rates,
}

/// Bytes of connections.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Default, Clone, Copy)]
struct Traffic {
    messages: Messages,
    bytes: Bytes,
}

/// A member's presence in a stage. Dropping it leaves.
pub(crate) struct Presence {
    stage: Stage,
    number: u64,
}

impl Stage {
    /// A stage whose lines begin with `arrow`, the way of the media, and count its members as `plural`.
    pub(crate) fn new(arrow: &'static str, plural: &'static str, interval: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            interval,
            next_line: now,
            next_sample: now,
            members: Vec::new(),
            indices: HashMap::new(),
            turn: 0,
            left: Traffic::default(),
            rates: Rates::new(now, Bytes::default()),
        };
        Self { arrow, plural, state: Shared::new(state), changed: Arc::default() }
    }

    /// How many clients are in the stage.
    pub(crate) fn clients(&self) -> usize {
        self.state.with(|state| state.members.len())
    }

    /// Sets the time between lines, from now on.
    pub(crate) fn set_interval(&self, interval: Duration) {
        let is_other = self.state.with(|state| {
            let is_other = state.interval != interval;
            if is_other {
                state.interval = interval;
                state.next_line = Instant::now() + interval;
            }
            is_other
        });
        if is_other {
            self.changed.signal();
        }
    }

    /// Takes somebody in. Nobody is in a stage twice: who enters again has left before.
    pub(crate) fn enter(&self, member: Arc<dyn Member>) -> Presence {
        let now = Instant::now();
        let (number, bytes) = (member.number(), member.bytes());
        let place = Place { member, since: now, before: bytes, last: (now, bytes), rates: Rates::new(now, bytes) };
        let (is_first, gone) = self.state.with(|state| {
            let gone = state.remove(number);
            let is_first = state.members.is_empty();
            if is_first {
                state.next_line = now + state.interval;
                state.next_sample = now + SAMPLE;
                state.rates = Rates::new(now, state.left.bytes);
            }
            state.indices.insert(number, state.members.len());
            state.members.push(place);
            (is_first, gone)
        });
        drop(gone);
        if is_first {
            self.changed.signal();
        }
        Presence { stage: self.clone(), number }
    }

    /// Takes somebody out whose [`Presence`] is lost.
    pub(crate) fn leave(&self, number: u64) {
        drop(Presence { stage: self.clone(), number });
    }

    /// Prints, for ever. Sleeps while nobody is in the stage.
    pub(crate) fn print(&self) {
        loop {
            match self.state.with(|state| state.look(self.arrow, self.plural, Instant::now())) {
                Some(next) => {
                    self.changed.wait_timeout(next.saturating_duration_since(Instant::now()));
                }
                None => self.changed.wait(),
            }
        }
    }
}

impl State {
    /// Does what is due, and says when to look again. `None`: when there is somebody.
    fn look(&mut self, arrow: &str, plural: &str, now: Instant) -> Option<Instant> {
        if self.members.is_empty() {
            return None;
        }
        if now >= self.next_sample {
            self.next_sample = now + SAMPLE;
            let all = self.traffic().bytes;
            self.rates.sample(now, all);
            for place in &mut self.members {
                place.rates.sample(now, place.member.bytes());
            }
        }
        if now >= self.next_line {
            self.next_line = now + self.interval;
            self.turn = if self.turn + 1 < self.members.len() { self.turn + 1 } else { 0 };
            let line = format!("{arrow} {}; {plural}={}", self.members[self.turn].line(now), self.line(now));
            as_client(self.members[self.turn].member.number(), || log::info!("{line}"));
        }
        Some(self.next_line.min(self.next_sample))
    }

    /// Takes a member out, and counts what it did with those who have left. The last one has its turn then.
    fn remove(&mut self, number: u64) -> Option<Place> {
        let at = self.indices.remove(&number)?;
        let place = self.members.swap_remove(at);
        if let Some(moved) = self.members.get(at) {
            self.indices.insert(moved.member.number(), at);
        }
        let traffic = place.traffic();
        self.left = self.left.plus(traffic);
        place.member.leave(traffic.messages);
        Some(place)
    }

    /// All of the stage, since the server started.
    fn traffic(&self) -> Traffic {
        self.members.iter().fold(self.left, |sum, place| sum.plus(place.traffic()))
    }

    fn line(&self, now: Instant) -> String {
        let Traffic { messages, bytes } = self.traffic();
        let [(okbps, ikbps), (okbps_long, ikbps_long)] = self.rates.kbps(now, bytes);
        format!(
            "{}, msgs={}, obytes={}, ibytes={}, okbps={okbps},{okbps_long}, ikbps={ikbps},{ikbps_long}, drops={}",
            self.members.len(),
            messages.passed,
            bytes.sent,
            bytes.received,
            messages.dropped,
        )
    }
}

impl Place {
    /// What the member has done here.
    fn traffic(&self) -> Traffic {
        Traffic { messages: self.member.messages(), bytes: self.member.bytes().since(self.before) }
    }

    fn line(&mut self, now: Instant) -> String {
        let bytes = self.member.bytes();
        let messages = self.member.messages();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let time = now.saturating_duration_since(self.since).as_millis();
        let (at, last) = std::mem::replace(&mut self.last, (now, bytes));
        let (okbps, ikbps) = bytes.since(last).kbps(now.saturating_duration_since(at));
        let [(okbps_30s, ikbps_30s), (okbps_5m, ikbps_5m)] = self.rates.kbps(now, bytes);
        format!(
            "clock={clock}, time={time}, msgs={}, obytes={}, ibytes={}, okbps={okbps},{okbps_30s},{okbps_5m}, \
             ikbps={ikbps},{ikbps_30s},{ikbps_5m}, drops={}{}",
            messages.passed,
            bytes.sent,
            bytes.received,
            messages.dropped,
            self.member.details(),
        )
    }
}

impl Bytes {
    fn since(self, before: Self) -> Self {
        Self { sent: self.sent.saturating_sub(before.sent), received: self.received.saturating_sub(before.received) }
    }

    /// As rates over `time`: sent, received.
    fn kbps(self, time: Duration) -> (u64, u64) {
        (kbps(self.sent, time), kbps(self.received, time))
    }
}

impl Traffic {
    fn plus(self, other: Self) -> Self {
        Self {
            messages: Messages {
                passed: self.messages.passed.saturating_add(other.messages.passed),
                dropped: self.messages.dropped.saturating_add(other.messages.dropped),
            },
            bytes: Bytes {
                sent: self.bytes.sent.saturating_add(other.bytes.sent),
                received: self.bytes.received.saturating_add(other.bytes.received),
            },
        }
    }
}

/// Rates over the [`WINDOWS`]: each that of the last whole window, and until one has passed, that of the time since the
/// beginning.
struct Rates([Window; WINDOWS.len()]);

#[derive(Clone, Copy)]
struct Window {
    since: Instant,
    /// Bytes until then.
    before: Bytes,
    /// Of the window before.
    last: Option<(u64, u64)>,
}

impl Rates {
    fn new(now: Instant, bytes: Bytes) -> Self {
        Self([Window { since: now, before: bytes, last: None }; WINDOWS.len()])
    }

    /// To be called each [`SAMPLE`] with the bytes so far.
    fn sample(&mut self, now: Instant, bytes: Bytes) {
        for (window, length) in self.0.iter_mut().zip(WINDOWS) {
            if now.saturating_duration_since(window.since) >= length {
                *window = Window { since: now, before: bytes, last: Some(window.rate(now, bytes)) };
            }
        }
    }

    fn kbps(&self, now: Instant, bytes: Bytes) -> [(u64, u64); WINDOWS.len()] {
        self.0.map(|window| window.last.unwrap_or_else(|| window.rate(now, bytes)))
    }
}

impl Window {
    fn rate(&self, now: Instant, bytes: Bytes) -> (u64, u64) {
        bytes.since(self.before).kbps(now.saturating_duration_since(self.since))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        let gone = self.stage.state.try_with(|state| state.remove(self.number));
        // What it holds may itself use a stage, or be the last handle to a player: so not inside.
        drop(gone);
    }
}

/// Kilobits a second.
fn kbps(bytes: u64, time: Duration) -> u64 {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(8) / ms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose messages are its number.
    struct Numbered(u64);

    impl Member for Numbered {
        fn number(&self) -> u64 {
            self.0
        }

        fn bytes(&self) -> Bytes {
            Bytes::default()
        }

        fn messages(&self) -> Messages {
            Messages { passed: self.0, dropped: 0 }
        }
    }

    /// Who is there in the order of their turns; each is found at once.
    fn turns(stage: &Stage) -> Vec<u64> {
        stage.state.with(|state| {
            let turns: Vec<_> = state.members.iter().map(|place| place.member.number()).collect();
            assert_eq!(state.indices, turns.iter().copied().zip(0..).collect());
            turns
        })
    }

    #[test]
    fn who_leaves_is_found_and_the_last_takes_the_turn() {
        crate::st::run(|| {
            let stage = Stage::new("->", "clients", Duration::from_secs(10));
            let mut all: Vec<_> = (1..=6).map(|number| stage.enter(Arc::new(Numbered(number)))).collect();
            drop(all.remove(1));
            assert_eq!(turns(&stage), [1, 6, 3, 4, 5]);
            drop(all.pop());
            assert_eq!(turns(&stage), [1, 5, 3, 4]);
            stage.leave(4);
            assert_eq!(turns(&stage), [1, 5, 3], "its presence was lost");
            stage.leave(4);
            stage.leave(7);
            let again = stage.enter(Arc::new(Numbered(1)));
            assert_eq!(turns(&stage), [3, 5, 1], "nobody is there twice");
            drop((all, again));
            assert_eq!(turns(&stage), []);
            assert_eq!(stage.state.with(|state| state.left.messages.passed), 1 + 2 + 3 + 4 + 5 + 6 + 1);
        })
        .unwrap();
    }

    #[test]
    fn kilobits_a_second() {
        assert_eq!(kbps(125_000, Duration::from_secs(2)), 500);
        assert_eq!(kbps(100, Duration::ZERO), 800);
        assert_eq!(kbps(u64::MAX, Duration::from_secs(1)), u64::MAX / 1000);
    }

    #[test]
    fn rates_are_those_of_the_last_whole_window() {
        let start = Instant::now();
        let second = |seconds: u64| start + Duration::from_secs(seconds);
        let bytes = |kilobytes: u64| Bytes { sent: kilobytes * 1000, received: kilobytes * 2000 };
        let mut rates = Rates::new(start, bytes(7));
        let own = |rates: &Rates, now, all| rates.kbps(now, all).map(|(sent, _)| sent);
        // 10 kilobytes a second for 30 seconds: at first, the time since the beginning.
        assert_eq!(own(&rates, second(5), bytes(57)), [80, 80]);
        for tick in 1..=3 {
            rates.sample(second(10 * tick), bytes(7 + 100 * tick));
        }
        // Nothing for 20 seconds: the short window shows the last whole one, the long one has not passed yet.
        assert_eq!(own(&rates, second(50), bytes(307)), [80, 48]);
        for tick in 4..=6 {
            rates.sample(second(10 * tick), bytes(307));
        }
        assert_eq!(own(&rates, second(60), bytes(307)), [0, 40]);
        for tick in 7..=30 {
            rates.sample(second(10 * tick), bytes(307));
        }
        assert_eq!(rates.kbps(second(310), bytes(999)), [(0, 0), (8, 16)]);
    }
}
