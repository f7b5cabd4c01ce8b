//! Prefetching of memory into the processor's cache.

/// Prefetches the beginning of `value`: for a loop over values that are far apart in memory, with long work between two of
/// them. Does nothing on other processors than x86-64.
#[inline]
#[allow(unsafe_code)] // The language has no safe way yet to give this hint.
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads and writes nothing and is allowed for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
