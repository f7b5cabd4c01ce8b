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
//! The scale moves in steps because the windows themselves change the load. A scale computed from the load would oscillate
//! between long windows and none.

use std::time::{Duration, Instant};

use crate::st::{self, Shared};

/// Minimum time between two steps. The worker's load is measured every 100 ms.
const STEP_INTERVAL: Duration = Duration::from_millis(200);

/// Busy share of the worker above which the windows grow.
pub(crate) const HIGH_LOAD: f64 = 0.45;
/// Busy share below which the windows shrink.
const LOW_LOAD: f64 = 0.3;
/// Busy share above which the windows grow fast.
const VERY_HIGH_LOAD: f64 = 0.9;

/// Smallest scale other than 0: one millisecond of the default `mw_latency`.
const MIN_SCALE: f64 = 0.003;

/// Scale of the merge windows. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Batching(Shared<State>);

#[derive(Default)]
struct State {
    last_step: Option<Instant>,
    scale: f64,
}

impl Batching {
    /// Returns the scale, from 0 (write at once) to 1 (wait for `mw_latency`), after a step if one is due.
    pub(crate) fn window_scale(&self, now: Instant) -> f64 {
        self.0.with(|state| {
            if state.last_step.is_none_or(|last| now.saturating_duration_since(last) >= STEP_INTERVAL) {
                state.last_step = Some(now);
                state.scale = step(state.scale, st::busy_share());
            }
            state.scale
        })
    }
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

    /// Returns the scales over one minute.
    fn run(mut scale: f64, per_write: f64) -> Vec<f64> {
        let mut scales = Vec::new();
        for _ in 0..300 {
            scale = step(scale, busy(scale, per_write));
            scales.push(scale);
        }
        scales
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
