//! When the worker is asked for more than it can do: the newest clients are turned away, so that those who are here are served.
//!
//! Asked by those who publish and play, that is. HTTP, and whoever has only just come, have low priority ([`st::spawn_low`]): they get
//! what the others leave, and however much they ask for, it is no overload.
//!
//! Being busy is not yet being overloaded: first the windows open within which messages are merged (see [`crate::app::limits::batching`]), which
//! makes work less. Only a worker that stays as busy as `max_busy` says while they are open as far as they go cannot keep up, and
//! without a remedy all streams would be late together. Then
//!
//! 1. nobody new may publish, play, or watch over HTTP; and who says much, though not too much else, gets what the others leave, for
//!    a minute at least;
//! 2. if that does not help, players are closed with the reason, those first that came last, few at a time: what each costs shows
//!    within a second, and one more than needed is one too many.
//!
//! Publishers stay: a stream that is gone is gone for all its players. A worker that other processes keep from the processor is not
//! seen as busy: what is measured is the time that it has run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::limits::batching;
use crate::app::limits::fairness::MUCH;
use crate::app::server::Server;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::stream::Outlet;
use crate::st::{self, Shared};

/// How often the load is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The same while there are no clients: an idle server is to be left alone.
const IDLE: Duration = Duration::from_secs(1);

/// How long it has to last before nobody new is let in, and before players are closed. What is over sooner is the start of a
/// popular stream, or a keyframe for everybody.
const REFUSE_AFTER: Duration = Duration::from_secs(3);
const SHED_AFTER: Duration = Duration::from_secs(6);

/// How often players are closed, and which part of them at a time.
const SHED_EACH: Duration = Duration::from_secs(1);
const SHED_PART: usize = 200;

/// How long there has to be time to spare, and how much of all, before anybody new is let in.
const RELIEF: Duration = Duration::from_secs(3);
const SPARE: f64 = 0.05;

/// Then, and for so long after, who says a part of what else is too much (see [`MUCH`]) goes behind the others: it is 2,560
/// messages a second, or 40 Mbit/s. Else a hundred publishers, each just below the bound, would have all players closed.
const STRICT: Duration = Duration::from_secs(60);
const STRICT_PART: usize = 8;

/// How often it is mentioned.
const MENTION: Duration = Duration::from_secs(5);

/// Whether the worker is overloaded.
#[derive(Default)]
pub(crate) struct Overload(Shared<State>);

#[derive(Default)]
struct State {
    load: Load,
    /// Players that were closed since that was last mentioned.
    shed: usize,
    /// How many players there were when it was last looked at, without those that were closed then.
    players: usize,
    mentioned: Option<Instant>,
}

/// The load over time, and what it asks for.
#[derive(Debug, Default)]
struct Load {
    /// Since when there is too much of it.
    since: Option<Instant>,
    /// Since when there is time to spare.
    spare_since: Option<Instant>,
    is_refusing: bool,
    /// When nobody new was let in, last.
    refused: Option<Instant>,
    is_strict: bool,
    last_shed: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Serve,
    Refuse,
    /// Refuse, and close some players.
    Shed,
}

impl Overload {
    /// Looks after the load, for ever.
    pub(crate) fn guard(server: &Server) {
        loop {
            st::sleep(if server.has_clients() { LOOK } else { IDLE });
            let bound = f64::from(server.config().max_busy) / 100.0;
            let now = Instant::now();
            server.overload.look(server, bound, now);
        }
    }

    /// Why nobody new can be let in, if so.
    pub(crate) fn objection(&self) -> Option<CloseReason> {
        let is_refusing = self.0.with(|state| state.load.is_refusing);
        is_refusing.then(|| CloseReason::Overload("the server is overloaded".to_owned()))
    }

    /// What a client may have looked at in a tenth of a second and still go first, in units of [`crate::app::limits::fairness::work`].
    pub(crate) fn much(&self) -> usize {
        if self.0.with(|state| state.load.is_strict) { MUCH / STRICT_PART } else { MUCH }
    }

    fn look(&self, server: &Server, bound: f64, now: Instant) {
        // Asked for in this order: the windows follow the same measurement.
        let (busy, opening) = (st::busy_share(), server.pace.opening(now));
        let verdict = self.0.with(|state| state.load.step(now, busy, opening, bound));
        let mut closed = 0;
        if verdict != Verdict::Serve {
            let players: Vec<_> = server.clients().into_iter().filter(is_to_go).collect();
            // Where some have left by themselves, the load that was measured is not that of those who are here.
            let is_shed = verdict == Verdict::Shed && players.len() >= self.0.with(|state| state.players);
            let count = if is_shed { players.len() / SHED_PART + 1 } else { 0 };
            // They come in the order of their numbers.
            for client in players.iter().rev().take(count) {
                client.close(CloseReason::Overload("the server is overloaded, and you came last".to_owned()));
                closed += 1;
            }
            self.0.with(|state| state.players = players.len() - closed);
        }
        let mention = self.0.with(|state| {
            state.shed += closed;
            let is_due = state.mentioned.is_none_or(|at| now.duration_since(at) >= MENTION);
            (is_due && verdict != Verdict::Serve).then(|| {
                state.mentioned = Some(now);
                std::mem::take(&mut state.shed)
            })
        });
        if let Some(shed) = mention {
            log::warn!(
                "overload: those who publish and play keep the worker busy for {:.0} % of its time, and max_busy is {:.0}; nobody \
                 new is let in, and {shed} players were closed lately",
                busy * 100.0,
                bound * 100.0,
            );
        }
    }
}

fn is_to_go(client: &Arc<Client>) -> bool {
    client.plays_now() && client.told().is_none()
}

impl Load {
    /// Takes a measurement: the worker's busy share and how far the windows are open, both from 0 to 1. `bound`: the share that is
    /// too much; 0 for none.
    fn step(&mut self, now: Instant, busy: f64, opening: f64, bound: f64) -> Verdict {
        if bound <= 0.0 {
            *self = Self::default();
            return Verdict::Serve;
        }
        // A bound that is below where windows open is reached with closed ones.
        let is_too_much = busy >= bound && (opening >= 1.0 || bound < batching::HIGH);
        let since = if is_too_much { Some(*self.since.get_or_insert(now)) } else { None };
        self.since = since;
        if busy < bound - SPARE.min(bound / 2.0) {
            let spare_since = *self.spare_since.get_or_insert(now);
            if now.duration_since(spare_since) >= RELIEF {
                self.is_refusing = false;
            }
        } else {
            self.spare_since = None;
        }
        let lasts = since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.is_refusing |= since.is_some() && lasts >= REFUSE_AFTER;
        if self.is_refusing {
            self.refused = Some(now);
        }
        self.is_strict = self.refused.is_some_and(|at| now.duration_since(at) < STRICT);
        let is_shed_due = self.last_shed.is_none_or(|at| now.duration_since(at) >= SHED_EACH);
        match self.is_refusing {
            true if lasts >= SHED_AFTER && is_shed_due => {
                self.last_shed = Some(now);
                Verdict::Shed
            }
            true => Verdict::Refuse,
            false => Verdict::Serve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: f64 = 0.98;

    /// Feeds loads, each for so many seconds; what was asked for in each of the looks.
    fn run(load: &mut Load, from: Instant, loads: &[(f64, f64, u32)]) -> Vec<Verdict> {
        let mut now = from;
        let mut verdicts = Vec::new();
        for &(busy, opening, seconds) in loads {
            for _ in 0..seconds * 4 {
                now += LOOK;
                verdicts.push(load.step(now, busy, opening, BOUND));
            }
        }
        verdicts
    }

    fn count(verdicts: &[Verdict], of: Verdict) -> usize {
        verdicts.iter().filter(|&&verdict| verdict == of).count()
    }

    #[test]
    fn a_busy_worker_is_not_overloaded() {
        for (busy, opening) in [(0.97, 1.0), (1.0, 0.9), (0.5, 1.0)] {
            let verdicts = run(&mut Load::default(), Instant::now(), &[(busy, opening, 60)]);
            assert_eq!(count(&verdicts, Verdict::Serve), verdicts.len(), "busy {busy}, opening {opening}");
        }
    }

    #[test]
    fn short_peaks_are_not_an_overload() {
        let peaks = [(1.0, 1.0, 2), (0.9, 1.0, 1)].repeat(20);
        let verdicts = run(&mut Load::default(), Instant::now(), &peaks);
        assert_eq!(count(&verdicts, Verdict::Serve), verdicts.len());
    }

    #[test]
    fn first_newcomers_are_refused_then_players_are_closed_one_by_one() {
        let verdicts = run(&mut Load::default(), Instant::now(), &[(1.0, 1.0, 16)]);
        assert_eq!(verdicts.iter().position(|&verdict| verdict == Verdict::Refuse), Some(12), "after three seconds");
        assert_eq!(verdicts.iter().position(|&verdict| verdict == Verdict::Shed), Some(24), "after six");
        assert_eq!(count(&verdicts[24..], Verdict::Shed), 10, "one a second");
    }

    #[test]
    fn closing_ends_with_the_overload_and_refusing_when_there_is_time_to_spare() {
        let mut load = Load::default();
        let verdicts = run(&mut load, Instant::now(), &[(1.0, 1.0, 10), (0.96, 1.0, 20)]);
        assert_eq!(count(&verdicts[40..], Verdict::Refuse), 80, "neither too much nor to spare");
        let later = Instant::now() + Duration::from_secs(30);
        let verdicts = run(&mut load, later, &[(0.8, 1.0, 2), (0.96, 1.0, 1), (0.8, 1.0, 4), (1.0, 1.0, 2)]);
        assert_eq!(verdicts.iter().position(|&verdict| verdict == Verdict::Serve), Some(24), "three seconds in a row");
        assert_eq!(count(&verdicts[24..], Verdict::Serve), verdicts.len() - 24, "and it does not flap");
    }

    #[test]
    fn who_says_much_goes_behind_from_the_first_refusal_until_a_minute_after_the_last() {
        let mut load = Load::default();
        let start = Instant::now();
        run(&mut load, start, &[(1.0, 1.0, 2)]);
        assert!(!load.is_strict);
        run(&mut load, start + Duration::from_secs(2), &[(1.0, 1.0, 3), (0.5, 1.0, 50)]);
        assert!(load.is_strict && !load.is_refusing);
        run(&mut load, start + Duration::from_secs(55), &[(0.5, 1.0, 20)]);
        assert!(!load.is_strict);
    }

    /// Players cost a share each, those who come are let in unless they are refused: what is left is what can be served.
    #[test]
    fn what_is_left_can_be_served() {
        let (mut load, mut players, mut now) = (Load::default(), 1300usize, Instant::now());
        for _ in 0..4 * 120 {
            now += LOOK;
            let busy = (players as f64 / 1000.0).min(1.0);
            match load.step(now, busy, 1.0, BOUND) {
                Verdict::Shed => players -= players / SHED_PART + 1,
                Verdict::Refuse => {}
                Verdict::Serve => players += 2,
            }
        }
        assert!((960..1000).contains(&players), "{players}");
    }

    #[test]
    fn it_can_be_switched_off_at_any_time() {
        let mut load = Load::default();
        run(&mut load, Instant::now(), &[(1.0, 1.0, 10)]);
        assert_eq!(load.step(Instant::now(), 1.0, 1.0, 0.0), Verdict::Serve);
        assert!(!load.is_refusing);
    }
}
