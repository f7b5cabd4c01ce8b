//! Counters, and their periodic log lines.

pub(crate) mod reporter;
