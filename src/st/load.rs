//! How busy the worker is.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How long one measurement lasts: long enough to even out single bursts, short enough to follow a change of load.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    cpu: Duration,
    share: f64,
}

thread_local! {
    static LAST: Cell<Option<Sample>> = const { Cell::new(None) };
}

/// The share of the last tenth of a second, from 0 to 1, that the worker used the processor. Measured when asked for, at most
/// every 100 ms; a server that nobody asks does no work for it.
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
        let share = previous.map_or(0.0, |previous| {
            let used = cpu.saturating_sub(previous.cpu).as_secs_f64();
            (used / now.duration_since(previous.at).as_secs_f64()).min(1.0)
        });
        last.set(Some(Sample { at: now, cpu, share }));
        share
    })
}
