//! A copy of this process.

use std::io;

use nix::unistd::ForkResult;

use super::allocator;

/// Creates a copy of this process, and returns in both: true in the copy. Call it before any thread starts: the copy has none but
/// the caller's, and what another one holds would be held for ever. Errors: those of fork(2).
#[allow(unsafe_code)]
pub fn fork() -> io::Result<bool> {
    // SAFETY: nobody else runs yet but the allocator's threads, for which the allocator gets ready before a fork.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            allocator::restart_threads();
            Ok(true)
        }
        ForkResult::Parent { .. } => Ok(false),
    }
}
