//! Memory that is about to be looked at.

/// Has the processor fetch where `value` begins, so that it is there when it is looked at. For a loop that has long work to do
/// between two values which are far apart. Elsewhere than on x86-64 it does nothing.
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
