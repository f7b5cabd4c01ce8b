//! How busy the worker is.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::priority;

/// How long one measurement lasts: long enough to even out single bursts, short enough to follow a change of load.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    cpu: Duration,
    /// Time that coroutines of low priority used, of `cpu`.
    low: Duration,
    share: f64,
}

thread_local! {
    static LAST: Cell<Option<Sample>> = const { Cell::new(None) };
}

/// The share of the last tenth of a second, from 0 to 1, that coroutines of normal priority used the worker: of the time that those of
/// low priority cannot but leave to them. Measured when asked for, at most every 100 ms; a server that nobody asks does no work for it.
pub fn busy_share() -> f64 {
    LAST.with(|last| {
        let now = Instant::now();
        let previous = last.get();
        if let Some(previous) = previous
            && now.duration_since(previous.at) < PERIOD
        {
            return previous.share;
        }
        let cpu = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        let low = priority::used();
        let share = previous.map_or(0.0, |previous| {
            let wall = now.duration_since(previous.at).as_secs_f64();
            share(cpu.saturating_sub(previous.cpu).as_secs_f64() / wall, (low - previous.low).as_secs_f64() / wall)
        });
        last.set(Some(Sample { at: now, cpu, low, share }));
        share
    })
}

/// `all` and `low` are shares of the time, that of low priority by the clock: it counts where the worker did not run as well.
fn share(all: f64, low: f64) -> f64 {
    ((all - low) / (1.0 - low.min(priority::LEAST))).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_low_priority_takes_is_not_busy() {
        for (all, low, due) in [
            (0.0, 0.0, 0.0),
            (0.4, 0.0, 0.4),
            (1.0, 0.9, 0.105),
            (1.0, 0.5, 0.526),
            // All that there is, but for what low priority has in any case.
            (1.0, 0.05, 1.0),
            (1.0, 0.0, 1.0),
            // It was kept from running in the middle of it.
            (0.5, 0.8, 0.0),
        ] {
            assert!((share(all, low) - due).abs() < 0.001, "{all}, {low}: {}", share(all, low));
        }
    }
}
