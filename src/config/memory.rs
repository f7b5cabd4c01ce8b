//! How much memory something may take.

/// As many bytes, or a part of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// 0 for no limit.
    Bytes(u64),
    /// Of the memory that the process may have: 1 to 100.
    Percent(u8),
}

impl Memory {
    /// In bytes, where there are `there` of them; 0 for no limit. A share of what is not known is none.
    pub fn bytes(self, there: Option<u64>) -> usize {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(share) => there.map_or(0, |there| (there / 100).saturating_mul(share.into()).max(1)),
        };
        // Only 4 GiB on a 32-bit machine does not fit, where the largest there is means the same.
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_of_what_there_is() {
        assert_eq!(Memory::Bytes(5).bytes(Some(1000)), 5);
        assert_eq!(Memory::Bytes(0).bytes(Some(1000)), 0);
        assert_eq!(Memory::Percent(50).bytes(Some(1000)), 500);
        assert_eq!(Memory::Percent(50).bytes(None), 0, "no limit");
        assert_eq!(Memory::Percent(1).bytes(Some(10)), 1, "a limit all the same");
        assert_eq!(Memory::Percent(100).bytes(Some(u64::MAX)), usize::MAX - 15);
    }
}
