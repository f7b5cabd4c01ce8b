//! The allocator of the process: jemalloc, which returns freed memory to the system by itself.
//!
//! With glibc's, the memory of a busy hour stayed in its arenas: after 6,000 streams had come and gone, 30 MB were kept for 2.8
//! MB in use, and returning them needed estimates and calls that stopped every thread for milliseconds. `trunk-scripts/soak.sh`
//! measures what is left. How jemalloc is set up stands in `.cargo/config.toml`.

use std::ptr;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Starts the threads that return freed memory in a copy of the process: it has none. If that fails, memory is returned by the
/// threads that allocate.
#[allow(unsafe_code)]
pub(super) fn restart_threads() {
    let mut is_on = true;
    // SAFETY: a name with a zero at its end, no buffer for the old value, and the new value with its size, as mallctl(3) asks for.
    unsafe {
        tikv_jemalloc_sys::mallctl(
            c"background_thread".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            (&raw mut is_on).cast(),
            size_of::<bool>(),
        );
    }
}
