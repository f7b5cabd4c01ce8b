//! The system priority of a thread.

/// Sets the nice value of the current thread, which a process without other threads has as a whole. A refusal changes nothing.
#[allow(unsafe_code)] // No crate at hand has this call.
pub fn set_nice(nice: i32) {
    // SAFETY: plain numbers; on Linux, 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
