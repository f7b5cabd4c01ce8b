//! Adaptive batching: scales the merge window of all streams with the load of the worker.
//!
//! ```text
//! busy share of the worker ──> step, every 200 ms ──> window_scale, 0 to 1 ──> window of a stream = scale × mw_latency
//! ```
//!
//! Fewer and larger writes cost less CPU time but delay the media. While the worker has time to spare, nothing waits. Above
//! [`HIGH_LOAD`] the windows grow in small steps until the load drops or they reach `mw_latency`. Low-priority work does not
//! count as load: larger windows would not reduce it.
//!
//! Many small streams cost less if the worker handles their messages a few at a time. So while publishers are read many times
//! a second, the worker lets events gather for up to [`GATHERING_TIME`], see [`st::gather_events`].
//!
//! The scale moves in steps because the windows themselves change the load. A scale computed from the load would oscillate
//! between long windows and none.

use std::time::{Duration, Instant};

use crate::st::{self, Shared};

/// Minimum time between two steps. The worker's load is measured every 100 ms.
const STEP_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) const HIGH_LOAD: f64 = 0.45;
const LOW_LOAD: f64 = 0.3;
/// Busy shares of the worker: the windows grow above the first, shrink below the second, and grow fast above the third.
const VERY_HIGH_LOAD: f64 = 0.9;

/// Reads of publishers per second from which events gather, and below which they no longer do.
const MANY_READS: f64 = 2500.0;
const FEW_READS: f64 = 1500.0;

/// Longest wait of a message for others. With 200 streams of one player each, the 99th percentile of latency is close to this time, and
/// has to stay below 5 ms.
const GATHERING_TIME: Duration = Duration::from_millis(4);

const GATHERING_EXPIRY: Duration = Duration::from_secs(1);

/// Smallest scale other than 0: one millisecond of the default `mw_latency`.
const MIN_SCALE: f64 = 0.003;

/// The scale of the merge windows. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Batching(Shared<State>);

#[derive(Default)]
struct State {
    last_step: Option<Instant>,
    scale: f64,
    /// Rounds of publishers since the last step, and whether one of them may not wait.
    rounds: u32,
    is_hurried: bool,
    gathers: bool,
}

impl Batching {
    /// Returns the scale, from 0 (write at once) to 1 (wait for `mw_latency`), after a step if one is due.
    pub(crate) fn window_scale(&self, now: Instant) -> f64 {
        self.0.with(|state| state.update(now))
    }

    /// Does the same for a round of a publisher, whose messages may wait for [`GATHERING_TIME`] or not.
    pub(crate) fn window_scale_of_round(&self, now: Instant, may_wait: bool) -> f64 {
        self.0.with(|state| {
            state.rounds += 1;
            state.is_hurried |= !may_wait;
            state.update(now)
        })
    }
}

impl State {
    fn update(&mut self, now: Instant) -> f64 {
        if self.last_step.is_none_or(|last| now.saturating_duration_since(last) >= STEP_INTERVAL) {
            self.step(now);
            if self.gathers {
                st::gather_events(GATHERING_TIME, now + GATHERING_EXPIRY);
            }
        }
        self.scale
    }

    fn step(&mut self, now: Instant) {
        let passed = self.last_step.replace(now).map_or(STEP_INTERVAL, |last| now.saturating_duration_since(last));
        self.scale = step(self.scale, st::busy_share());
        let rate = f64::from(self.rounds) / passed.as_secs_f64();
        self.gathers = !self.is_hurried && gathers(self.gathers, rate);
        (self.rounds, self.is_hurried) = (0, false);
    }
}

/// Returns whether events gather when publishers are read `rate` times a second. `before`: they did so far.
fn gathers(before: bool, rate: f64) -> bool {
    rate >= if before { FEW_READS } else { MANY_READS }
}

fn step(scale: f64, busy: f64) -> f64 {
    if busy > HIGH_LOAD {
        let factor = if busy > VERY_HIGH_LOAD { 2.0 } else { 1.25 };
        (scale * factor).clamp(MIN_SCALE, 1.0)
    } else if busy < LOW_LOAD {
        let smaller = scale * 0.8;
        if smaller < MIN_SCALE { 0.0 } else { smaller }
    } else {
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the busy share of a worker that writes 68 messages a second in windows of up to 350 ms, `per_write` each.
    fn busy(scale: f64, per_write: f64) -> f64 {
        (68.0 / (1.0 + 68.0 * 0.35 * scale) * per_write).min(1.0)
    }

    fn run(mut scale: f64, per_write: f64) -> Vec<f64> {
        let mut scales = Vec::new();
        for _ in 0..300 {
            scale = step(scale, busy(scale, per_write));
            scales.push(scale);
        }
        scales
    }

    #[test]
    fn events_gather_while_publishers_are_read_many_times_a_second() {
        assert!(!gathers(false, MANY_READS - 1.0) && gathers(false, MANY_READS));
        assert!(gathers(true, FEW_READS) && !gathers(true, FEW_READS - 1.0));
    }

    #[test]
    fn a_publisher_that_may_not_wait_ends_the_gathering() {
        let start = Instant::now();
        let mut state = State { last_step: Some(start), ..State::default() };
        let mut run = |second: u64, is_hurried: bool| {
            (state.rounds, state.is_hurried) = (100_000, is_hurried);
            state.step(start + Duration::from_secs(second));
            state.gathers
        };
        assert_eq!([run(1, false), run(2, true), run(3, false)], [true, false, true]);
    }

    #[test]
    fn nothing_waits_while_there_is_time_to_spare() {
        assert!(run(0.0, 0.4 / 68.0).iter().all(|&scale| scale == 0.0));
        assert_eq!(*run(1.0, 0.2 / 68.0).last().unwrap(), 0.0, "open windows close");
    }

    #[test]
    fn a_busy_worker_gets_time_to_spare_and_the_windows_stay_where_it_does() {
        for load in [0.6, 1.0, 3.0] {
            let settled = run(0.0, load / 68.0).split_off(100);
            let (first, rest) = settled.split_first().unwrap();
            assert!(rest.iter().all(|scale| scale == first), "{load}: {settled:?}");
            let busy = busy(*first, load / 68.0);
            assert!((LOW_LOAD..=HIGH_LOAD).contains(&busy), "{load}: {busy}");
        }
    }

    #[test]
    fn windows_never_exceed_mw_latency_and_grow_fast_when_they_must() {
        let scales = run(0.0, 1.0);
        assert_eq!(*scales.last().unwrap(), 1.0);
        let seconds = scales.iter().position(|&scale| scale == 1.0).unwrap() as f64 * STEP_INTERVAL.as_secs_f64();
        assert!(seconds < 3.0, "{seconds} s");
    }
}
