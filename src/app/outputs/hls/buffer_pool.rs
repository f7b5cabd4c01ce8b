//! A pool of buffers that segments are written into.
//!
//! A segment is large and lives as long as the playlist lists it. The allocator maps and unmaps such blocks, and the system
//! clears every page of a new one: half of the cost of a segment. So used buffers are kept and used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::st;

/// Maximum number of idle buffers. Each cut takes one buffer, and expired segments give theirs back once a second, so this many
/// cuts per second find a buffer in the pool.
const MAX_IDLE: usize = 64;

const MAX_IDLE_BYTES: usize = 32 * 1024 * 1024;

/// Size in bytes from which buffers are freed on another thread: freeing 100 MB takes the worker 10 ms.
const FREE_IN_BACKGROUND: usize = 1 << 20;

#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<Mutex<Idle>>);

#[derive(Debug)]
struct Idle {
    limit: usize,
    buffers: Vec<Vec<u8>>,
    /// Lowest number of buffers since the last [`BufferPool::trim`]: this many were not needed.
    low_mark: usize,
}

struct PooledBuffer {
    bytes: Vec<u8>,
    pool: BufferPool,
}

impl BufferPool {
    /// Returns an empty buffer for about `size` bytes: an idle one that fits, or a new one.
    pub(super) fn acquire(&self, size: usize) -> Vec<u8> {
        let mut idle = self.lock();
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= size && buffer.capacity() / 2 <= size;
        // The latest is the most likely to be in the processor's cache.
        match idle.buffers.iter().rposition(fits) {
            Some(index) => {
                let buffer = idle.buffers.remove(index);
                idle.low_mark = idle.low_mark.min(idle.buffers.len());
                buffer
            }
            // An eighth more, so that a slightly larger segment does not have to move.
            None => Vec::with_capacity(size + size / 8),
        }
    }

    /// Makes a written buffer immutable. It returns to the pool when its last handle is dropped.
    pub(super) fn freeze(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(PooledBuffer { bytes, pool: self.clone() })
    }

    pub(super) fn drain(&self) -> Vec<Vec<u8>> {
        let mut idle = self.lock();
        idle.low_mark = 0;
        std::mem::take(&mut idle.buffers)
    }

    /// Limits the size of all idle buffers to `bytes`, and to [`MAX_IDLE_BYTES`] in any case.
    pub(super) fn set_limit(&self, bytes: usize) {
        self.lock().limit = bytes.min(MAX_IDLE_BYTES);
    }

    pub(super) fn trim(&self) {
        let mut idle = self.lock();
        let unused = idle.low_mark;
        let unused: Vec<_> = idle.buffers.drain(..unused).collect();
        idle.low_mark = idle.buffers.len();
        drop(idle);
        free(unused);
    }

    fn release(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.lock();
        idle.buffers.push(buffer);
        // The oldest are freed first: nobody has needed them.
        let (mut excess, mut bytes) = (0, idle.bytes());
        while idle.buffers.len() - excess > MAX_IDLE || bytes > idle.limit {
            bytes -= idle.buffers[excess].capacity();
            excess += 1;
        }
        let excess = idle.buffers.drain(..excess).collect();
        idle.low_mark = idle.low_mark.min(idle.buffers.len());
        drop(idle);
        free(excess);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Idle {
    fn default() -> Self {
        Self { limit: MAX_IDLE_BYTES, buffers: Vec::new(), low_mark: 0 }
    }
}

impl Idle {
    fn bytes(&self) -> usize {
        self.buffers.iter().map(Vec::capacity).sum()
    }
}

fn free(buffers: Vec<Vec<u8>>) {
    if buffers.iter().map(Vec::capacity).sum::<usize>() >= FREE_IN_BACKGROUND {
        st::drop_in_background(buffers);
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.release(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_handle() {
        let pool = BufferPool::default();
        let mut first = pool.acquire(1000);
        let (address, capacity) = (first.as_ptr(), first.capacity());
        first.extend_from_slice(&[7; 900]);
        let frozen = pool.freeze(first);
        let part = frozen.slice(100..200);
        drop(frozen);
        let other = pool.acquire(1000);
        assert_ne!(other.as_ptr(), address, "a part of the first is held");
        assert_eq!(part, &[7; 100][..]);
        drop(part);
        let second = pool.acquire(1000);
        assert_eq!((second.as_ptr(), second.capacity(), second.len()), (address, capacity, 0));
    }

    #[test]
    fn what_is_too_small_or_far_too_large_is_not_taken() {
        let pool = BufferPool::default();
        drop(pool.freeze(Vec::with_capacity(1000)));
        assert!(pool.acquire(1001).capacity() > 1000);
        assert!(pool.acquire(400).capacity() < 1000);
        assert_eq!(pool.acquire(600).capacity(), 1000);
    }

    #[test]
    fn what_nobody_wants_goes() {
        let pool = BufferPool::default();
        let idle = || pool.lock().buffers.iter().map(Vec::capacity).collect::<Vec<_>>();
        for n in 1..=MAX_IDLE + 4 {
            drop(pool.freeze(Vec::with_capacity(n * 100)));
        }
        assert_eq!((idle().len(), idle()[0]), (MAX_IDLE, 500));
        drop(pool.freeze(Vec::with_capacity(MAX_IDLE_BYTES)));
        assert_eq!(idle(), [MAX_IDLE_BYTES]);
        drop(pool.freeze(Vec::with_capacity(MAX_IDLE_BYTES + 1)));
        assert!(idle().is_empty());
        drop(pool.freeze(Vec::with_capacity(100)));
        assert_eq!(pool.drain().len(), 1);
        assert!(idle().is_empty());
    }

    #[test]
    fn what_is_kept_can_be_limited() {
        let pool = BufferPool::default();
        pool.set_limit(2500);
        for _ in 0..5 {
            drop(pool.freeze(Vec::with_capacity(1000)));
        }
        assert_eq!(pool.lock().bytes(), 2000);
        drop(pool.freeze(Vec::with_capacity(3000)));
        assert_eq!(pool.lock().bytes(), 0, "the others were older");
        pool.set_limit(usize::MAX);
        drop(pool.freeze(Vec::with_capacity(MAX_IDLE_BYTES)));
        assert_eq!(pool.lock().bytes(), MAX_IDLE_BYTES);
    }

    #[test]
    fn what_nobody_has_wanted_for_a_while_goes() {
        let pool = BufferPool::default();
        for _ in 0..5 {
            drop(pool.freeze(Vec::with_capacity(1000)));
        }
        pool.trim();
        assert_eq!(pool.lock().bytes(), 5000, "they have just been returned");
        let both = (pool.acquire(1000), pool.acquire(1000));
        drop((pool.freeze(both.0), pool.freeze(both.1)));
        pool.trim();
        assert_eq!(pool.lock().bytes(), 2000, "two of five were needed");
        pool.trim();
        assert_eq!(pool.lock().bytes(), 0);
        drop(pool.freeze(Vec::with_capacity(1000)));
        pool.trim();
        pool.drain();
        pool.trim();
        assert_eq!(pool.lock().bytes(), 0, "drained before they could count as unused");
    }
}
