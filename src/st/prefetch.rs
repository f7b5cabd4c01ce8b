//! Prefetching of memory into the processor's cache.
//!
//! With hundreds of streams, nearly all that handling a message accesses has left the cache since the last one. Fetched one
//! after the other, on access, it costs more time than the work; fetched ahead, at the same time, next to none.

/// Size of a cache line.
const LINE: usize = 64;

/// Depth of the stack that handling a message needs, with a margin.
const STACK_DEPTH: usize = 1408;

/// Prefetches the beginning of `value`: for a loop over values that are far apart in memory, with long work between two of
/// them. Does nothing on other processors than x86-64.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    prefetch_line(std::ptr::from_ref(value).cast());
}

/// Prefetches all of `value`, without what it points to.
#[inline]
pub fn prefetch_all<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    let size = size_of_val(value);
    for at in (0..size).step_by(LINE) {
        prefetch_line(start.wrapping_add(at));
    }
    // A value need not start where a line does.
    prefetch_line(start.wrapping_add(size.saturating_sub(1)));
}

/// Prefetches the `bytes` that follow `value` in memory, such as the unused end of a buffer.
#[inline]
pub fn prefetch_after<T: ?Sized>(value: &T, bytes: usize) {
    let end = std::ptr::from_ref(value).cast::<u8>().wrapping_add(size_of_val(value));
    for at in (0..bytes).step_by(LINE) {
        prefetch_line(end.wrapping_add(at));
    }
}

/// Prefetches the part of the stack that the next calls use. Each coroutine has a stack of its own.
#[inline]
pub fn prefetch_stack() {
    let marker = 0u8;
    let here = std::ptr::from_ref(&marker);
    for below in (LINE..STACK_DEPTH).step_by(LINE) {
        prefetch_line(here.wrapping_sub(below));
    }
}

#[inline]
#[allow(unsafe_code)] // The language has no safe way yet to give this hint.
fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads and writes nothing and is allowed for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
