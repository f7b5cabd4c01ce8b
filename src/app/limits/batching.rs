//! When to write: how far the windows are open within which messages are merged, by how busy the worker is.
//!
//! Fewer and larger writes cost less, and make the media late. So nothing waits while the worker has time to spare, and when it
//! has not, the windows of all streams open, by small steps, until it has again or until they are at their vhost's `mw_latency`.
//! Time that is used with low priority counts as time to spare: windows are no remedy for that.
//! Steps and not a formula, because the windows themselves decide how busy the worker is: one that followed its load at once
//! would swing between waiting for long and not at all.

use std::time::{Duration, Instant};

use crate::st::{self, Shared};

/// How often the windows may change; the worker's load is known anew each 100 ms.
const STEP: Duration = Duration::from_millis(200);

/// Busy share of the worker above which the windows open, and below which they close. From `OVERLOADED` on they open fast.
pub(crate) const HIGH: f64 = 0.45;
const LOW: f64 = 0.3;
const OVERLOADED: f64 = 0.9;

/// The least that windows are open if they are not closed: a millisecond of the default `mw_latency`.
const LEAST: f64 = 0.003;

/// How far the merge windows are open. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Pace(Shared<State>);

#[derive(Default)]
struct State {
    changed: Option<Instant>,
    opening: f64,
}

impl Pace {
    /// From 0, nothing waits, to 1, all wait for `mw_latency`. Ask whenever something is about to be written.
    pub(crate) fn opening(&self, now: Instant) -> f64 {
        self.0.with(|state| {
            if state.changed.is_none_or(|changed| now.saturating_duration_since(changed) >= STEP) {
                state.changed = Some(now);
                state.opening = step(state.opening, st::busy_share());
            }
            state.opening
        })
    }
}

fn step(opening: f64, busy: f64) -> f64 {
    if busy > HIGH {
        let factor = if busy > OVERLOADED { 2.0 } else { 1.25 };
        (opening * factor).clamp(LEAST, 1.0)
    } else if busy < LOW {
        let closing = opening * 0.8;
        if closing < LEAST { 0.0 } else { closing }
    } else {
        opening
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How busy a worker is that writes 68 messages a second in windows of up to 350 ms, each write taking the given share.
    fn busy(opening: f64, a_write: f64) -> f64 {
        (68.0 / (1.0 + 68.0 * 0.35 * opening) * a_write).min(1.0)
    }

    /// The openings over a minute.
    fn run(mut opening: f64, a_write: f64) -> Vec<f64> {
        let mut openings = Vec::new();
        for _ in 0..300 {
            opening = step(opening, busy(opening, a_write));
            openings.push(opening);
        }
        openings
    }

    #[test]
    fn nothing_waits_while_there_is_time_to_spare() {
        assert!(run(0.0, 0.4 / 68.0).iter().all(|&opening| opening == 0.0));
        assert_eq!(*run(1.0, 0.2 / 68.0).last().unwrap(), 0.0, "and what was open closes");
    }

    #[test]
    fn a_busy_worker_gets_its_time_to_spare_and_the_windows_stay_where_it_does() {
        for load in [0.6, 1.0, 3.0] {
            let settled = run(0.0, load / 68.0).split_off(100);
            let (first, rest) = settled.split_first().unwrap();
            assert!(rest.iter().all(|opening| opening == first), "{load}: {settled:?}");
            let busy = busy(*first, load / 68.0);
            assert!((LOW..=HIGH).contains(&busy), "{load}: {busy}");
        }
    }

    #[test]
    fn windows_open_no_further_than_all_and_fast_when_they_must() {
        let openings = run(0.0, 1.0);
        assert_eq!(*openings.last().unwrap(), 1.0);
        let seconds = openings.iter().position(|&opening| opening == 1.0).unwrap() as f64 * STEP.as_secs_f64();
        assert!(seconds < 3.0, "{seconds} s");
    }
}
