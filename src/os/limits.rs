//! How many files the process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What came of asking for files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// There were enough.
    Enough,
    /// The limit was this and is now the second.
    Raised(u64, u64),
    /// There are only so many, and they cannot be made more.
    TooFew(u64),
}

/// Sees to it that the process may have `needed` files open: raises its own limit up to the hard one, and the hard one too where it
/// may.
pub fn raise_file_limit(needed: u64) -> Files {
    // Fails only for a resource that does not exist.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Files::Enough };
    if soft >= needed {
        return Files::Enough;
    }
    if hard < needed && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_ok() {
        return Files::Raised(soft, needed);
    }
    let reached = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    if reached >= needed { Files::Raised(soft, reached) } else { Files::TooFew(reached) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_lowered() {
        assert_eq!(raise_file_limit(1), Files::Enough);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        match raise_file_limit(hard.min(1 << 30)) {
            Files::Enough => assert!(soft >= hard),
            Files::Raised(before, after) => assert!(before == soft && after >= hard),
            Files::TooFew(reached) => panic!("the hard limit {hard} was not reached, but {reached}"),
        }
    }
}
