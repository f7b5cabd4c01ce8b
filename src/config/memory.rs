//! Limits of memory.

/// A limit in bytes, or as a share of the available memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Bytes; 0 means no limit.
    Bytes(u64),
    /// Percent of the memory that the process may use, 1 to 100.
    Percent(u8),
}

impl MemoryLimit {
    /// Returns the limit in bytes; 0 means no limit. A share of an unknown amount (`available` is none) is no limit.
    pub fn bytes(self, available: Option<u64>) -> usize {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(share) => {
                available.map_or(0, |available| (available / 100).saturating_mul(share.into()).max(1))
            }
        };
        // Only 4 GiB on a 32-bit machine does not fit, where the maximum means the same.
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_of_what_there_is() {
        assert_eq!(MemoryLimit::Bytes(5).bytes(Some(1000)), 5);
        assert_eq!(MemoryLimit::Bytes(0).bytes(Some(1000)), 0);
        assert_eq!(MemoryLimit::Percent(50).bytes(Some(1000)), 500);
        assert_eq!(MemoryLimit::Percent(50).bytes(None), 0, "no limit");
        assert_eq!(MemoryLimit::Percent(1).bytes(Some(10)), 1, "still a limit");
        assert_eq!(MemoryLimit::Percent(100).bytes(Some(u64::MAX)), usize::MAX - 15);
    }
}
