//! Load shedding: rejects new clients, and then disconnects the newest players, while the worker cannot keep up.
//!
//! ```text
//! busy share of the worker, every 250 ms ──> Load::step ──> Serve
//! merge windows (batching)               ──>                Reject   no new publisher, player, or viewer over HTTP;
//!                                                                    work budgets are reduced for a minute at least
//!                                                           Evict    also close some players, newest first
//! ```
//!
//! A busy worker is not yet overloaded: first the merge windows grow (see [`crate::app::limits::batching`]), which saves work.
//! The worker is overloaded when its busy share stays at `max_busy` with all windows at their maximum. All streams would then
//! be late together.
//!
//! Only publishers and players count as load. HTTP and new connections run with low priority ([`st::spawn_low_priority`]), in
//! the time that the others leave. Publishers are never closed: losing one loses all of its players. Time during which other
//! processes use the CPU is not load: the run time of the worker is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::limits::admission::AdmissionControl;
use crate::app::limits::batching::{self, Batching};
use crate::app::session::client::Client;
use crate::app::session::clients::Clients;
use crate::app::session::close::CloseReason;
use crate::app::stream::ClientHandle;
use crate::config::ConfigCell;
use crate::log::Throttle;
use crate::st::{self, Shared};

const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Check interval without clients, so that an idle server stays idle.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time of overload until new clients are rejected, and until players are closed. Shorter are the starts of popular streams.
const REJECT_AFTER: Duration = Duration::from_secs(3);
const EVICT_AFTER: Duration = Duration::from_secs(6);

/// Interval of evictions, and the divisor of the number of players closed in each: the effect of one shows within a second,
/// and closing one player too many is a failure.
const EVICT_INTERVAL: Duration = Duration::from_secs(1);
const EVICT_DIVISOR: usize = 200;

/// Time with spare capacity before new clients are accepted again, and the spare share of the worker required.
const RECOVER_AFTER: Duration = Duration::from_secs(3);
const SPARE_SHARE: f64 = 0.05;

/// Time for which work budgets stay reduced after the last rejection.
const REDUCED_BUDGET_FOR: Duration = Duration::from_secs(60);
const LOG_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct LoadShedder {
    config: ConfigCell,
    clients: Clients,
    batching: Batching,
    admission: AdmissionControl,
    state: Shared<State>,
}

struct State {
    load: Load,
    evicted: usize,
    remaining_players: usize,
    warning: Throttle,
}

impl Default for State {
    fn default() -> Self {
        Self { load: Load::default(), evicted: 0, remaining_players: 0, warning: Throttle::new(LOG_INTERVAL) }
    }
}

#[derive(Debug, Default)]
struct Load {
    overloaded_since: Option<Instant>,
    spare_since: Option<Instant>,
    rejecting: bool,
    last_rejecting: Option<Instant>,
    budget_reduced: bool,
    last_eviction: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Serve,
    Reject,
    Evict,
}

impl LoadShedder {
    pub(crate) fn new(config: ConfigCell, clients: Clients, batching: Batching, admission: AdmissionControl) -> Self {
        Self { config, clients, batching, admission, state: Shared::default() }
    }

    pub(crate) fn run(&self) {
        loop {
            st::sleep(if self.clients.is_empty() { IDLE_CHECK_INTERVAL } else { CHECK_INTERVAL });
            let max_busy = f64::from(self.config.get().max_busy) / 100.0;
            self.check(max_busy, st::now());
        }
    }

    fn check(&self, max_busy: f64, now: Instant) {
        // In this order: the windows follow the same measurement.
        let (busy, window_scale) = (st::busy_share(), self.batching.window_scale(now));
        let action = self.state.with(|state| {
            let action = state.load.step(now, busy, window_scale, max_busy);
            self.admission.set_overloaded(state.load.rejecting);
            self.admission.set_budget_reduced(state.load.budget_reduced);
            action
        });
        let mut evicted = 0;
        if action != Action::Serve {
            let players: Vec<_> = self.clients.all().into_iter().filter(is_evictable).collect();
            // If some players left by themselves, the measured load is not that of the remaining ones.
            let evicts = action == Action::Evict && players.len() >= self.state.with(|state| state.remaining_players);
            let count = if evicts { players.len() / EVICT_DIVISOR + 1 } else { 0 };
            // Sorted by number, so the newest are last.
            for client in players.iter().rev().take(count) {
                let text = "server overloaded: newest players are disconnected first";
                client.close(CloseReason::Overload(text.to_owned()));
                evicted += 1;
            }
            self.state.with(|state| state.remaining_players = players.len() - evicted);
        }
        let warning = self.state.with(|state| {
            state.evicted += evicted;
            (action != Action::Serve && state.warning.pass(now)).then(|| std::mem::take(&mut state.evicted))
        });
        if let Some(evicted) = warning {
            log::warn!(
                "server overloaded, new clients rejected: busy_percent={:.0} max_busy={:.0} players_closed={evicted}",
                busy * 100.0,
                max_busy * 100.0,
            );
        }
    }
}

fn is_evictable(client: &Arc<Client>) -> bool {
    client.is_playing() && client.close_requested().is_none()
}

impl Load {
    /// Takes a measurement. `busy` is the worker's busy share and `window_scale` the scale of the merge windows, both from 0 to
    /// 1. `max_busy` is the share that counts as overload; 0 disables load shedding.
    fn step(&mut self, now: Instant, busy: f64, window_scale: f64, max_busy: f64) -> Action {
        if max_busy <= 0.0 {
            *self = Self::default();
            return Action::Serve;
        }
        // The windows do not grow below HIGH_LOAD, so such a limit is reached without them.
        let overloaded = busy >= max_busy && (window_scale >= 1.0 || max_busy < batching::HIGH_LOAD);
        let since = if overloaded { Some(*self.overloaded_since.get_or_insert(now)) } else { None };
        self.overloaded_since = since;
        if busy < max_busy - SPARE_SHARE.min(max_busy / 2.0) {
            let spare_since = *self.spare_since.get_or_insert(now);
            if now.duration_since(spare_since) >= RECOVER_AFTER {
                self.rejecting = false;
            }
        } else {
            self.spare_since = None;
        }
        let lasting = since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.rejecting |= since.is_some() && lasting >= REJECT_AFTER;
        if self.rejecting {
            self.last_rejecting = Some(now);
        }
        self.budget_reduced = self.last_rejecting.is_some_and(|at| now.duration_since(at) < REDUCED_BUDGET_FOR);
        let eviction_due = self.last_eviction.is_none_or(|at| now.duration_since(at) >= EVICT_INTERVAL);
        match self.rejecting {
            true if lasting >= EVICT_AFTER && eviction_due => {
                self.last_eviction = Some(now);
                Action::Evict
            }
            true => Action::Reject,
            false => Action::Serve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BUSY: f64 = 0.98;

    /// Feeds loads, each `(busy, window_scale, seconds)`. Returns the action of each check.
    fn run(load: &mut Load, from: Instant, loads: &[(f64, f64, u32)]) -> Vec<Action> {
        let mut now = from;
        let mut actions = Vec::new();
        for &(busy, window_scale, seconds) in loads {
            for _ in 0..seconds * 4 {
                now += CHECK_INTERVAL;
                actions.push(load.step(now, busy, window_scale, MAX_BUSY));
            }
        }
        actions
    }

    fn count(actions: &[Action], of: Action) -> usize {
        actions.iter().filter(|&&action| action == of).count()
    }

    #[test]
    fn a_busy_worker_is_not_overloaded() {
        for (busy, window_scale) in [(0.97, 1.0), (1.0, 0.9), (0.5, 1.0)] {
            let actions = run(&mut Load::default(), Instant::now(), &[(busy, window_scale, 60)]);
            assert_eq!(count(&actions, Action::Serve), actions.len(), "busy {busy}, window scale {window_scale}");
        }
    }

    #[test]
    fn short_peaks_are_not_an_overload() {
        let peaks = [(1.0, 1.0, 2), (0.9, 1.0, 1)].repeat(20);
        let actions = run(&mut Load::default(), Instant::now(), &peaks);
        assert_eq!(count(&actions, Action::Serve), actions.len());
    }

    #[test]
    fn first_newcomers_are_rejected_then_players_are_closed_one_by_one() {
        let actions = run(&mut Load::default(), Instant::now(), &[(1.0, 1.0, 16)]);
        assert_eq!(actions.iter().position(|&action| action == Action::Reject), Some(12), "after three seconds");
        assert_eq!(actions.iter().position(|&action| action == Action::Evict), Some(24), "after six");
        assert_eq!(count(&actions[24..], Action::Evict), 10, "one a second");
    }

    #[test]
    fn evictions_end_with_the_overload_and_rejections_when_there_is_time_to_spare() {
        let mut load = Load::default();
        let actions = run(&mut load, Instant::now(), &[(1.0, 1.0, 10), (0.96, 1.0, 20)]);
        assert_eq!(count(&actions[40..], Action::Reject), 80, "neither too much nor to spare");
        let later = Instant::now() + Duration::from_secs(30);
        let actions = run(&mut load, later, &[(0.8, 1.0, 2), (0.96, 1.0, 1), (0.8, 1.0, 4), (1.0, 1.0, 2)]);
        assert_eq!(actions.iter().position(|&action| action == Action::Serve), Some(24), "three seconds in a row");
        assert_eq!(count(&actions[24..], Action::Serve), actions.len() - 24, "and it does not flap");
    }

    #[test]
    fn budgets_are_reduced_from_the_first_rejection_until_a_minute_after_the_last() {
        let mut load = Load::default();
        let start = Instant::now();
        run(&mut load, start, &[(1.0, 1.0, 2)]);
        assert!(!load.budget_reduced);
        run(&mut load, start + Duration::from_secs(2), &[(1.0, 1.0, 3), (0.5, 1.0, 50)]);
        assert!(load.budget_reduced && !load.rejecting);
        run(&mut load, start + Duration::from_secs(55), &[(0.5, 1.0, 20)]);
        assert!(!load.budget_reduced);
    }

    /// Each player costs a fixed share, and newcomers come in unless they are rejected. The remaining load can be served.
    #[test]
    fn the_remaining_players_can_be_served() {
        let (mut load, mut players, mut now) = (Load::default(), 1300usize, Instant::now());
        for _ in 0..4 * 120 {
            now += CHECK_INTERVAL;
            let busy = (players as f64 / 1000.0).min(1.0);
            match load.step(now, busy, 1.0, MAX_BUSY) {
                Action::Evict => players -= players / EVICT_DIVISOR + 1,
                Action::Reject => {}
                Action::Serve => players += 2,
            }
        }
        assert!((960..1000).contains(&players), "{players}");
    }

    #[test]
    fn it_can_be_switched_off_at_any_time() {
        let mut load = Load::default();
        run(&mut load, Instant::now(), &[(1.0, 1.0, 10)]);
        assert_eq!(load.step(Instant::now(), 1.0, 1.0, 0.0), Action::Serve);
        assert!(!load.rejecting);
    }
}
