//! The heap's memory that nobody uses.

/// A block of so many bytes or more has pages of its own, which the system has again as soon as it is freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// So many bytes at the end of a thread's part of the heap stay when they are freed.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 4 << 20;

/// Has the heap keep less of what was freed. To be called at the start.
///
/// By itself glibc takes the largest block that was ever freed, up to 32 MB, for the size of blocks that come and go, and keeps twice
/// as much at the end of each thread's part, where [`trim_heap`] does not reach: one message of 16 MB costs 33 MB for good.
#[allow(unsafe_code)] // No crate at hand has this call.
pub fn bound_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers, and no pointer.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Gives back to the system what the heap holds and nobody uses. Allocation on any thread may wait for it: milliseconds where
/// there is much. For when there is so much that it is worth the wait, and not on the worker. Elsewhere than with glibc it does nothing.
#[allow(unsafe_code)] // No crate at hand has this call.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer, may be called on any thread, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
