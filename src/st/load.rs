//! The load of the worker.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::clock;

/// Length of one measurement: long enough to even out bursts, short enough to follow a change of load.
const PERIOD: Duration = Duration::from_millis(100);

/// Guaranteed share of low priority: a server that is too busy to accept clients must still be able to tell them so.
pub(super) const MIN_LOW_PRIORITY_SHARE: f64 = 0.05;

/// Time for which the longest run of low priority is known at least.
const LONGEST_PERIOD: Duration = Duration::from_secs(60);

/// The longest run of low priority in this period and in the one before.
#[derive(Clone, Copy)]
struct LongestRun {
    since: Instant,
    current: Duration,
    previous: Duration,
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
    static LOW_PRIORITY_TIME: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static LONGEST: Cell<Option<LongestRun>> = const { Cell::new(None) };
}

/// Returns the time that coroutines of low priority have used since the worker started.
pub(super) fn low_priority_time() -> Duration {
    LOW_PRIORITY_TIME.get()
}

/// Returns the processor time that the worker has used since it started.
pub(super) fn worker_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Counts a run of a coroutine of low priority, which ends now. `cpu_at_start` is the processor time of the worker at its start.
pub(super) fn add_low_priority_time(used: Duration, cpu_at_start: Duration, now: Instant) {
    LOW_PRIORITY_TIME.set(LOW_PRIORITY_TIME.get() + used);
    let longest = LongestRun::updated(now, LONGEST.get());
    let cpu = || worker_cpu_time().saturating_sub(cpu_at_start);
    // A run uses no more of the processor than it lasts, so that most need no look.
    let current = if used > longest.current { longest.current.max(cpu()) } else { longest.current };
    LONGEST.set(Some(LongestRun { current, ..longest }));
}

/// Returns the most processor time that a coroutine of low priority used without a break, in the last one to two minutes. Time in
/// which the system ran others instead of the worker does not count. Zero outside of the worker.
pub fn longest_low_priority_run() -> Duration {
    let longest = LongestRun::updated(clock::now(), LONGEST.get());
    longest.current.max(longest.previous)
}

impl LongestRun {
    /// Returns the state at `now`, after `last`.
    fn updated(now: Instant, last: Option<Self>) -> Self {
        let none = Self { since: now, current: Duration::ZERO, previous: Duration::ZERO };
        let Some(last) = last else { return none };
        match now.saturating_duration_since(last.since) {
            age if age < LONGEST_PERIOD => last,
            age if age < 2 * LONGEST_PERIOD => Self { previous: last.current, ..none },
            _ => none,
        }
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
        let cpu = worker_cpu_time();
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

/// Returns the share of normal priority, given the share `all` of processor time and the share `low` of low priority. `low` is
/// wall-clock time and includes time in which the worker was not scheduled.
fn normal_share(all: f64, low: f64) -> f64 {
    ((all - low) / (1.0 - low.min(MIN_LOW_PRIORITY_SHARE))).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_is_known_for_a_minute_or_two() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let longest = |last: LongestRun, seconds| {
            let longest = LongestRun::updated(at(seconds), Some(last));
            (longest.current.as_millis(), longest.previous.as_millis())
        };
        let last = LongestRun { since: start, current: Duration::from_millis(3), previous: Duration::from_millis(2) };
        let all = [0, 59, 60, 119, 120].map(|seconds| longest(last, seconds));
        assert_eq!(all, [(3, 2), (3, 2), (0, 3), (0, 3), (0, 0)]);
        assert_eq!(LongestRun::updated(at(7), None).since, at(7));
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
}
