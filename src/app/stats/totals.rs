//! Number of closed connections by reason.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::app::session::close::{CLOSE_CODES, CloseReason};
use crate::st::{self, Cond};

const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub(crate) struct CloseTotals(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counts: [AtomicU64; CLOSE_CODES.len()],
    changed: Cond,
}

impl CloseTotals {
    pub(crate) fn count(&self, reason: &CloseReason) {
        // 64 bits: at a million a second they last for half a million years.
        self.0.counts[reason.index()].fetch_add(1, Ordering::Relaxed);
        self.0.changed.signal();
    }

    /// Returns each code with its count, zeros included, in a fixed order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLOSE_CODES.iter().zip(&self.0.counts).map(|(&code, count)| (code, count.load(Ordering::Relaxed)))
    }

    pub(crate) fn run(&self) {
        loop {
            self.0.changed.wait();
            st::sleep(LOG_INTERVAL);
            log::info!("connections closed since start: {self}");
        }
    }
}

/// The counts that are not zero: `by-peer=3 refused=1`.
impl fmt::Display for CloseTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (code, count) in self.all().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{code}={count}")?;
            separator = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_shown_by_code_without_zeros() {
        let totals = CloseTotals::default();
        assert_eq!(totals.to_string(), "");
        totals.count(&CloseReason::ByPeer);
        totals.count(&CloseReason::ByPeer);
        totals.count(&CloseReason::Crashed);
        assert_eq!(totals.to_string(), "by-peer=2 crashed=1");
        assert_eq!(totals.all().count(), CLOSE_CODES.len());
    }
}
