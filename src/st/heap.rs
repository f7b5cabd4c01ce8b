//! The heap's memory that nobody uses.

/// Gives back to the system what the heap holds and nobody uses. Allocation on any thread may wait for it: milliseconds where
/// there is much. For when nobody is there; elsewhere than with glibc it does nothing.
#[allow(unsafe_code)] // No crate at hand has this call.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer, may be called on any thread, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
