//! The time at which a changed directive takes effect.

use std::fmt;

/// The time at which a change takes effect. The text completes "takes effect …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At once, for these.
    Now(&'static str),
    /// For these; what runs already keeps the old value.
    Next(&'static str),
    /// After a restart only, for this reason.
    Restart(&'static str),
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reload::Now(clients) => write!(f, "at once for {clients}"),
            Reload::Next(clients) => write!(f, "for {clients}"),
            Reload::Restart(reason) => write!(f, "after a restart: {reason}"),
        }
    }
}
