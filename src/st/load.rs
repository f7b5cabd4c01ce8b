//! The load of the worker.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::clock;

/// Length of one measurement: long enough to even out bursts, short enough to follow a change of load.
const PERIOD: Duration = Duration::from_millis(100);

/// Guaranteed share of low priority: a server that is too busy to accept clients must still be able to tell them so.
pub(super) const MIN_LOW_PRIORITY_SHARE: f64 = 0.05;

/// Upper bounds in milliseconds of the lengths of runs that are counted together.
const RUN_BOUNDS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];

/// Lengths of the runs of low priority since the worker started: the times for which one held the worker without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLengths {
    /// Runs up to each of [`RUN_BOUNDS`], and above the last one.
    counts: [u64; RUN_BOUNDS.len() + 1],
    total: Duration,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    cpu: Duration,
    /// Part of `cpu` that coroutines of low priority used.
    low_priority: Duration,
    busy: f64,
}

thread_local! {
    static LAST: Cell<Option<Sample>> = const { Cell::new(None) };
    static RUNS: Cell<RunLengths> = const { Cell::new(RunLengths::NONE) };
}

/// Returns the time that coroutines of low priority have used since the worker started.
pub(super) fn low_priority_time() -> Duration {
    RUNS.get().total
}

/// Counts a run of a coroutine of low priority.
pub(super) fn add_low_priority_run(used: Duration) {
    let mut runs = RUNS.get();
    runs.add(used);
    RUNS.set(runs);
}

/// Returns the lengths of the runs of low priority. There are none outside of the worker.
pub fn low_priority_runs() -> RunLengths {
    RUNS.get()
}

impl RunLengths {
    const NONE: Self = Self { counts: [0; RUN_BOUNDS.len() + 1], total: Duration::ZERO };

    fn add(&mut self, used: Duration) {
        let class =
            RUN_BOUNDS.iter().position(|bound| used <= Duration::from_millis(*bound)).unwrap_or(RUN_BOUNDS.len());
        self.counts[class] += 1;
        self.total += used;
    }

    /// Returns the numbers of runs that were at most as long as each bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        RUN_BOUNDS.into_iter().zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((Duration::from_millis(bound), *sum))
        })
    }

    /// Returns the number of all runs.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the time of all runs.
    pub fn total(&self) -> Duration {
        self.total
    }
}

/// Returns the share of the worker's time, from 0 to 1, that coroutines of normal priority used in the last `PERIOD`. Time of
/// low priority counts as free, except for its guaranteed minimum. Measured on request, at most once per period.
pub fn busy_share() -> f64 {
    LAST.with(|last| {
        let now = clock::now();
        let previous = last.get();
        if let Some(previous) = previous
            && now.duration_since(previous.at) < PERIOD
        {
            return previous.busy;
        }
        let cpu = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        let low_priority = low_priority_time();
        let busy = previous.map_or(0.0, |previous| {
            let wall = now.duration_since(previous.at).as_secs_f64();
            let low = (low_priority - previous.low_priority).as_secs_f64() / wall;
            normal_share(cpu.saturating_sub(previous.cpu).as_secs_f64() / wall, low)
        });
        last.set(Some(Sample { at: now, cpu, low_priority, busy }));
        busy
    })
}

/// Returns the share of normal priority, given the share `all` of processor time and the share `low` of low priority.
///
/// `low` is wall-clock time: reading the processor time would be a system call at both ends of each run. So it includes time in
/// which other processes had the processor, and the result is too low by that, which is at most `1 - all`. Nothing is decided too
/// early for it: load shedding begins at 98 % by default, where others have 2 % at most. With a lower `max_busy`, on a machine
/// whose processor others use while low priority runs, it begins later.
fn normal_share(all: f64, low: f64) -> f64 {
    ((all - low) / (1.0 - low.min(MIN_LOW_PRIORITY_SHARE))).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_their_length() {
        let mut runs = RunLengths::NONE;
        for micros in [0, 1000, 1001, 5000, 7000, 100_000, 100_001] {
            runs.add(Duration::from_micros(micros));
        }
        let cumulative: Vec<_> = runs.cumulative().map(|(bound, count)| (bound.as_millis(), count)).collect();
        assert_eq!(cumulative, [(1, 2), (2, 3), (5, 4), (10, 5), (20, 5), (50, 5), (100, 6)]);
        assert_eq!((runs.count(), runs.total()), (7, Duration::from_micros(214_002)));
    }

    #[test]
    fn what_low_priority_takes_is_not_busy() {
        for (all, low, expected) in [
            (0.0, 0.0, 0.0),
            (0.4, 0.0, 0.4),
            (1.0, 0.9, 0.105),
            (1.0, 0.5, 0.526),
            // All of the time except for the minimum of low priority.
            (1.0, 0.05, 1.0),
            (1.0, 0.0, 1.0),
            // The worker was not scheduled while low priority ran.
            (0.5, 0.8, 0.0),
        ] {
            let share = normal_share(all, low);
            assert!((share - expected).abs() < 0.001, "{all}, {low}: {share}");
        }
    }

    #[test]
    fn time_of_other_processes_makes_the_worker_look_idler_by_no_more_than_that() {
        const STEPS: u32 = 20;
        let part = |steps: u32| f64::from(steps) / f64::from(STEPS);
        for (all, low) in (0..=STEPS).flat_map(|all| (0..=all).map(move |low| (all, low))) {
            let alone = normal_share(part(all), part(low));
            for others in 0..=STEPS - all {
                let shared = normal_share(part(all), part(low + others));
                let error = (alone - shared) * (1.0 - MIN_LOW_PRIORITY_SHARE);
                assert!((-1e-9..=part(others) + 1e-9).contains(&error), "{all} {low} {others}: {error}");
            }
        }
    }
}
