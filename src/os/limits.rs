//! The limit of open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The result of [`raise_file_limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLimit {
    /// The limit was high enough.
    Enough,
    /// The limit was raised.
    Raised {
        /// The old limit.
        before: u64,
        /// The new limit.
        after: u64,
    },
    /// The limit is too low and cannot be raised further.
    TooFew(u64),
}

/// Raises the limit of open files to at least `needed`: the soft limit up to the hard one, and the hard one too if the process
/// may.
pub fn raise_file_limit(needed: u64) -> FileLimit {
    // Fails only for an unknown resource.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return FileLimit::Enough };
    if soft >= needed {
        return FileLimit::Enough;
    }
    if hard < needed && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_ok() {
        return FileLimit::Raised { before: soft, after: needed };
    }
    let reached = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    if reached >= needed { FileLimit::Raised { before: soft, after: reached } } else { FileLimit::TooFew(reached) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_lowered() {
        assert_eq!(raise_file_limit(1), FileLimit::Enough);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        match raise_file_limit(hard.min(1 << 30)) {
            FileLimit::Enough => assert!(soft >= hard),
            FileLimit::Raised { before, after } => assert!(before == soft && after >= hard),
            FileLimit::TooFew(reached) => panic!("the limit is {reached} and not the hard limit {hard}"),
        }
    }
}
