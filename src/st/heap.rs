//! Return of unused heap memory to the system, with glibc. With other C libraries these functions do nothing.

/// Block size, in bytes, from which a block has its own pages, which the system gets back as soon as the block is freed.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 1 << 20;

/// Freed bytes at the end of a thread's part of the heap that are kept.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: libc::c_int = 4 << 20;

/// Makes the heap keep less freed memory. Call it at the start.
///
/// By default glibc adjusts the block size to the largest block that was ever freed, up to 32 MB, and keeps twice as much at
/// the end of each thread's part, where [`trim_heap`] does not reach: one message of 16 MB costs 33 MB for good.
#[allow(unsafe_code)] // No crate at hand has this call.
pub fn limit_heap_retention() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers, and no pointer.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    }
}

/// Returns unused heap memory to the system. Meanwhile allocations on any thread may wait, for milliseconds if there is much.
/// Call it on another thread than the worker.
#[allow(unsafe_code)] // No crate at hand has this call.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer, may be called on any thread, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
