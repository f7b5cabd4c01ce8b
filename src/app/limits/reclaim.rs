//! Memory that features can give back while the server is short of it.

use super::fairness::TimeSlice;
use crate::memory::MemoryTracker;

pub(crate) trait Reclaim: Send + Sync {
    /// Sets `max_memory` in bytes, `usize::MAX` without a limit. Called at each check of the memory limiter.
    fn set_memory_limit(&self, _max: usize) {}

    /// Returns the bytes that no eviction of a client frees.
    fn unreclaimable_bytes(&self) -> usize {
        0
    }

    /// Frees what hurts least first, until the target is met. May yield by `slice`.
    fn reclaim(&self, target: &ReclaimTarget<'_>, slice: &mut TimeSlice) -> Reclaimed;
}

pub(crate) struct ReclaimTarget<'a> {
    memory: &'a MemoryTracker,
    enough: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    pub(crate) files: usize,
    pub(crate) responses: usize,
    pub(crate) pending_bytes: usize,
}

impl<'a> ReclaimTarget<'a> {
    /// Creates a target that is met when at most `enough` bytes are charged.
    pub(crate) fn new(memory: &'a MemoryTracker, enough: usize) -> Self {
        Self { memory, enough }
    }

    pub(crate) fn excess(&self) -> usize {
        self.memory.total().saturating_sub(self.enough)
    }

    pub(crate) fn is_met(&self) -> bool {
        self.excess() == 0
    }
}

impl std::ops::AddAssign for Reclaimed {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.responses += other.responses;
        self.pending_bytes += other.pending_bytes;
    }
}
