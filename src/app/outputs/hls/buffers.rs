//! Buffers that segments are written into, used again.
//!
//! A segment is large and lives for as long as the playlist names it: what an allocator does with such blocks is to map and to unmap
//! them, and the system clears each page of a new one. That is half of what a segment costs, so those that have served are kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::st;

/// How many buffers are kept that nobody uses. A stream needs one when it is cut and gives one back with what leaves its playlist,
/// which is looked for once a second: so many cuts a second find one.
const MAX_SPARE: usize = 64;

/// The same in bytes.
const MAX_SPARE_BYTES: usize = 32 * 1024 * 1024;

/// What is not freed in passing, in bytes.
const LARGE: usize = 1 << 20;

/// Buffers that wait to be used again. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Spare>>);

#[derive(Debug)]
struct Spare {
    /// How many bytes of them are kept at most.
    limit: usize,
    /// Those that were given back last are last.
    buffers: Vec<Vec<u8>>,
    /// How many there were at least since [`Buffers::tidy`]: so many were of no use.
    least: usize,
}

/// A buffer that goes back where it came from.
struct Recycled {
    bytes: Vec<u8>,
    buffers: Buffers,
}

impl Buffers {
    /// An empty buffer for about as much as `size` bytes.
    pub(super) fn take(&self, size: usize) -> Vec<u8> {
        let mut spare = self.spare();
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= size && buffer.capacity() / 2 <= size;
        // The last one is the likeliest to be in a cache.
        match spare.buffers.iter().rposition(fits) {
            Some(at) => {
                let buffer = spare.buffers.remove(at);
                spare.least = spare.least.min(spare.buffers.len());
                buffer
            }
            // An eighth more, so that what is a little larger does not have to move.
            None => Vec::with_capacity(size + size / 8),
        }
    }

    /// What was written into a buffer. When the last handle to it is gone, the buffer is used again.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Recycled { bytes, buffers: self.clone() })
    }

    /// Keeps nothing of what there is, and gives what it was.
    pub(super) fn take_spare(&self) -> Vec<Vec<u8>> {
        let mut spare = self.spare();
        spare.least = 0;
        std::mem::take(&mut spare.buffers)
    }

    /// Keeps no more than so many bytes from now on, and no more than 32 MB anyhow.
    pub(super) fn limit(&self, bytes: usize) {
        self.spare().limit = bytes.min(MAX_SPARE_BYTES);
    }

    /// Lets go of as many as were not used since the last call.
    pub(super) fn tidy(&self) {
        let mut spare = self.spare();
        let unused = spare.least;
        let unused: Vec<_> = spare.buffers.drain(..unused).collect();
        spare.least = spare.buffers.len();
        drop(spare);
        free(unused);
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.spare().bytes()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.spare();
        spare.buffers.push(buffer);
        // The oldest go: nobody has wanted them. With the last of them the bytes are none.
        let (mut unwanted, mut bytes) = (0, spare.bytes());
        while spare.buffers.len() - unwanted > MAX_SPARE || bytes > spare.limit {
            bytes -= spare.buffers[unwanted].capacity();
            unwanted += 1;
        }
        let unwanted = spare.buffers.drain(..unwanted).collect();
        spare.least = spare.least.min(spare.buffers.len());
        drop(spare);
        free(unwanted);
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Spare {
    fn default() -> Self {
        Self { limit: MAX_SPARE_BYTES, buffers: Vec::new(), least: 0 }
    }
}

impl Spare {
    fn bytes(&self) -> usize {
        self.buffers.iter().map(Vec::capacity).sum()
    }
}

/// Frees buffers, out of the way if they are large: it may be the worker that is here, and a hundred megabytes take it ten milliseconds.
fn free(buffers: Vec<Vec<u8>>) {
    if buffers.iter().map(Vec::capacity).sum::<usize>() >= LARGE {
        st::drop_aside(buffers);
    }
}

impl AsRef<[u8]> for Recycled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_handle() {
        let buffers = Buffers::default();
        let mut first = buffers.take(1000);
        let (at, capacity) = (first.as_ptr(), first.capacity());
        first.extend_from_slice(&[7; 900]);
        let lent = buffers.lend(first);
        let part = lent.slice(100..200);
        drop(lent);
        let other = buffers.take(1000);
        assert_ne!(other.as_ptr(), at, "a part of the first is held");
        assert_eq!(part, &[7; 100][..]);
        drop(part);
        let second = buffers.take(1000);
        assert_eq!((second.as_ptr(), second.capacity(), second.len()), (at, capacity, 0));
    }

    #[test]
    fn what_is_too_small_or_far_too_large_is_not_taken() {
        let buffers = Buffers::default();
        drop(buffers.lend(Vec::with_capacity(1000)));
        assert!(buffers.take(1001).capacity() > 1000);
        assert!(buffers.take(400).capacity() < 1000);
        assert_eq!(buffers.take(600).capacity(), 1000);
    }

    #[test]
    fn what_nobody_wants_goes() {
        let buffers = Buffers::default();
        let kept = || buffers.spare().buffers.iter().map(Vec::capacity).collect::<Vec<_>>();
        for n in 1..=MAX_SPARE + 4 {
            drop(buffers.lend(Vec::with_capacity(n * 100)));
        }
        assert_eq!((kept().len(), kept()[0]), (MAX_SPARE, 500));
        drop(buffers.lend(Vec::with_capacity(MAX_SPARE_BYTES)));
        assert_eq!(kept(), [MAX_SPARE_BYTES]);
        drop(buffers.lend(Vec::with_capacity(MAX_SPARE_BYTES + 1)));
        assert!(kept().is_empty());
        drop(buffers.lend(Vec::with_capacity(100)));
        assert_eq!(buffers.take_spare().len(), 1);
        assert!(kept().is_empty());
    }

    #[test]
    fn what_is_kept_can_be_limited() {
        let buffers = Buffers::default();
        buffers.limit(2500);
        for _ in 0..5 {
            drop(buffers.lend(Vec::with_capacity(1000)));
        }
        assert_eq!(buffers.bytes(), 2000);
        drop(buffers.lend(Vec::with_capacity(3000)));
        assert_eq!(buffers.bytes(), 0, "and they were older");
        buffers.limit(usize::MAX);
        drop(buffers.lend(Vec::with_capacity(MAX_SPARE_BYTES)));
        assert_eq!(buffers.bytes(), MAX_SPARE_BYTES);
    }

    #[test]
    fn what_nobody_has_wanted_for_a_while_goes() {
        let buffers = Buffers::default();
        for _ in 0..5 {
            drop(buffers.lend(Vec::with_capacity(1000)));
        }
        buffers.tidy();
        assert_eq!(buffers.bytes(), 5000, "they have just come");
        let both = (buffers.take(1000), buffers.take(1000));
        drop((buffers.lend(both.0), buffers.lend(both.1)));
        buffers.tidy();
        assert_eq!(buffers.bytes(), 2000, "two of five were of use");
        buffers.tidy();
        assert_eq!(buffers.bytes(), 0);
        drop(buffers.lend(Vec::with_capacity(1000)));
        buffers.tidy();
        buffers.take_spare();
        buffers.tidy();
        assert_eq!(buffers.bytes(), 0, "they had gone before it could be seen that they were of no use");
    }
}
