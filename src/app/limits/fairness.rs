//! Fair scheduling between clients: a client that causes more work than its budget loses its scheduling priority, and a
//! coroutine that has run for long yields.
//!
//! | type | use |
//! |---|---|
//! | [`WorkQuantum`] | yields after a fixed amount of work for one client |
//! | [`TimeSlice`] | yields after a fixed time in a long loop |
//! | [`PriorityController`] | raises and lowers the priority of one client's coroutine |

use std::time::{Duration, Instant};

use crate::rtmp::protocol::Protocol;
use crate::st;
use crate::st::net::TcpStream;

/// Work units per [`BUDGET_PERIOD`] above which a client runs with low priority: 20,480 messages/s, 40 MB/s of payload, or
/// 650 KB/s of TLS records without payload. The overload protection reduces it, see
/// [`crate::app::limits::overload::LoadShedder::work_budget`].
pub(crate) const WORK_BUDGET: usize = 2048;
const BUDGET_PERIOD: Duration = Duration::from_millis(100);

/// Work units after which a coroutine yields: 256 messages or 512 KiB. One read can contain many messages.
const QUANTUM: usize = 256;

/// Time without a yield while a report is made. A tenth of the latency of players at low load.
const REPORT_SLICE: Duration = Duration::from_millis(1);

/// TLS bytes without payload that count as one work unit. The smallest record is 22 bytes, a key update 27. At 50 Mbit/s in
/// records of 1 KB, the overhead is a fifth of [`WORK_BUDGET`].
const TLS_OVERHEAD_PER_UNIT: u64 = 32;

/// Returns the work done so far for a peer's input, in work units. Wraps around.
pub(crate) fn work_units(protocol: &Protocol<TcpStream>) -> usize {
    protocol.work_units().wrapping_add((protocol.stream().tls_overhead() / TLS_OVERHEAD_PER_UNIT) as usize)
}

#[derive(Default)]
pub(crate) struct WorkQuantum {
    work_at_start: usize,
}

impl WorkQuantum {
    /// Starts a new quantum after a wait. `work_units` is the total so far.
    pub(crate) fn restart(&mut self, work_units: usize) {
        self.work_at_start = work_units;
    }

    /// Returns whether `work_units`, the total so far, exceeds the quantum.
    pub(crate) fn is_used_up(&self, work_units: usize) -> bool {
        work_units.wrapping_sub(self.work_at_start) >= QUANTUM
    }

    /// Yields if `work_units`, the total so far, exceeds the quantum, and starts a new one.
    pub(crate) fn yield_if_used_up(&mut self, work_units: usize) {
        if self.is_used_up(work_units) {
            self.work_at_start = work_units;
            st::yield_now();
        }
    }
}

/// A time limit for long loops without a yield, such as the eviction of 100,000 packets or the visit of 10,000 streams.
pub(crate) struct TimeSlice {
    started: Instant,
    length: Duration,
}

impl TimeSlice {
    /// Creates a slice for reports of all clients or streams: their length is bounded only by what the server carries.
    pub(crate) fn for_report() -> Self {
        Self::new(REPORT_SLICE)
    }

    pub(crate) fn new(length: Duration) -> Self {
        Self { started: st::now(), length }
    }

    pub(crate) fn yield_if_used_up(&mut self) {
        if st::now().duration_since(self.started) >= self.length {
            st::yield_now();
            self.started = st::now();
        }
    }
}

/// The priority of a client: low once it exceeds its work budget, and normal again one period later.
pub(crate) struct PriorityController {
    period_end: Instant,
    work_at_start: usize,
    over_budget: bool,
    high_priority: Option<st::PriorityGuard>,
}

impl PriorityController {
    /// Creates a controller for a client that still has low priority. `work_units` is the total so far.
    pub(crate) fn new(now: Instant, work_units: usize) -> Self {
        Self { period_end: now + BUDGET_PERIOD, work_at_start: work_units, over_budget: false, high_priority: None }
    }

    /// Updates the priority by `work_units`, the total so far, and `budget`, per period. Only a client that `has_media` gets a
    /// high one.
    pub(crate) fn update(&mut self, now: Instant, work_units: usize, budget: usize, has_media: bool) {
        if !self.is_within(now, work_units, budget) {
            self.high_priority = None;
        } else if has_media && self.high_priority.is_none() {
            self.high_priority = Some(st::raise_priority());
        }
    }

    pub(crate) fn is_high(&self) -> bool {
        self.high_priority.is_some()
    }

    /// Returns whether the client keeps its priority, with the arguments of [`PriorityController::update`].
    pub(crate) fn is_within(&mut self, now: Instant, work_units: usize, budget: usize) -> bool {
        if self.check_budget(work_units, budget, now >= self.period_end) {
            self.period_end = now + BUDGET_PERIOD;
        }
        !self.over_budget
    }

    /// Compares the work of this period with the budget. Returns whether a new period starts.
    fn check_budget(&mut self, work_units: usize, budget: usize, period_over: bool) -> bool {
        let over_budget = work_units.wrapping_sub(self.work_at_start) > budget;
        if over_budget || period_over {
            (self.over_budget, self.work_at_start) = (over_budget, work_units);
        }
        over_budget || period_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exceeded_budget_is_noticed_at_once_and_forgiven_after_a_period() {
        let mut priority = PriorityController::new(Instant::now(), 10);
        assert!(!priority.check_budget(10 + WORK_BUDGET, WORK_BUDGET, false) && !priority.over_budget);
        assert!(
            priority.check_budget(11 + WORK_BUDGET, WORK_BUDGET, false) && priority.over_budget,
            "before the period is over"
        );
        let twice = 11 + 2 * WORK_BUDGET;
        assert!(
            !priority.check_budget(twice, WORK_BUDGET, false) && priority.over_budget,
            "for the rest of the period"
        );
        assert!(priority.check_budget(twice, WORK_BUDGET, true) && !priority.over_budget);
    }
}
