//! The clocks of the server. No other file reads one, which clippy checks, so that a simulation can replace the time.

#![allow(clippy::disallowed_methods, reason = "the only place that reads the clocks of the system")]

use std::time::{Instant, SystemTime};

/// Returns the present time of the clock for durations and deadlines, which never goes back.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the present date and time, which an operator may set.
#[inline]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}
