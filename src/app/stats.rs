//! Counters and the periodic lines of the log.

pub(crate) mod reporter;
