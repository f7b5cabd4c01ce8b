//! Exact accounting of the bytes held for clients.
//!
//! | type | use |
//! |---|---|
//! | [`MemoryTracker`] | counts bytes by [`Category`]; a child's bytes count in its parent too |
//! | [`Charge`] | RAII guard: its bytes are counted until it is dropped |
//! | [`MemoryTracker::charge_bytes`] | counts a shared buffer until its last handle is dropped |
//! | [`MemoryTracker::on_high`] | calls back at the moment when a watermark is exceeded |
//!
//! Payload is counted, not the allocator's overhead. A segment of HLS counts with its whole buffer, which has the size that
//! the previous segment needed, and the packet log of a stream with the whole allocation that it fills.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// Purpose of counted bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Encoded messages for players: in packet logs, in caches, and on the way to sockets.
    Media = 0,
    /// Client input that is incomplete or not yet handled, and replies that the client does not read.
    Incoming = 1,
    /// Segments of HLS being written, in memory, or queued for the disk; and playlists.
    Hls = 2,
    /// Encrypted bytes that sockets have not taken yet.
    Tls = 3,
    /// File chunks on their way to HTTP sockets.
    Http = 4,
    /// Recordings on their way to the disk.
    Dvr = 5,
}

impl Category {
    const ALL: [(Self, &str); 6] = [
        (Self::Media, "media"),
        (Self::Incoming, "incoming"),
        (Self::Hls, "hls"),
        (Self::Tls, "tls"),
        (Self::Http, "http"),
        (Self::Dvr, "dvr"),
    ];
}

/// Counter of held bytes. Clones share one counter.
#[derive(Debug, Clone, Default)]
pub struct MemoryTracker(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: [AtomicUsize; Category::ALL.len()],
    parent: Option<MemoryTracker>,
    watermark: Watermark,
}

/// Threshold in bytes that calls back once when it is exceeded.
#[derive(Default)]
struct Watermark {
    /// 0 disables it.
    limit: AtomicUsize,
    on_high: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Number of bytes counted in a [`MemoryTracker`]. Dropping it subtracts them.
#[derive(Debug)]
pub struct Charge {
    tracker: MemoryTracker,
    category: Category,
    bytes: AtomicUsize,
}

struct ChargedBuffer {
    bytes: Bytes,
    _charge: Charge,
}

impl MemoryTracker {
    /// Creates a tracker whose bytes also count in `parent`.
    pub fn child_of(parent: &Self) -> Self {
        Self(Arc::new(Inner { parent: Some(parent.clone()), ..Inner::default() }))
    }

    /// Registers the function that is called when the watermark is exceeded. Only the first registration counts.
    ///
    /// The function runs inside the allocation that exceeded the watermark, so it must neither block nor charge anything.
    /// Only a tracker without a parent has a watermark.
    pub fn on_high(&self, callback: impl Fn() + Send + Sync + 'static) {
        debug_assert!(self.0.parent.is_none());
        let _ = self.0.watermark.on_high.set(Box::new(callback));
    }

    /// Arms the watermark to fire once, when more than `limit` bytes are held. 0 disarms it.
    pub fn set_watermark(&self, limit: usize) {
        self.0.watermark.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns the bytes held in one category.
    pub fn bytes_in(&self, category: Category) -> usize {
        self.0.bytes[category as usize].load(Ordering::Relaxed)
    }

    /// Returns the bytes held in each category, by its name.
    pub fn by_category(&self) -> impl Iterator<Item = (&'static str, usize)> {
        Category::ALL.iter().map(|(category, name)| (*name, self.bytes_in(*category)))
    }

    /// Returns the bytes held in all categories.
    pub fn total(&self) -> usize {
        self.0.total()
    }

    /// Creates a charge of 0 bytes.
    pub fn charge(&self, category: Category) -> Charge {
        Charge { tracker: self.clone(), category, bytes: AtomicUsize::new(0) }
    }

    /// Returns the same bytes, charged until the last handle to any part of them is dropped.
    pub fn charge_bytes(&self, category: Category, bytes: Bytes) -> Bytes {
        let size = bytes.len();
        self.charge_buffer(category, bytes, size)
    }

    /// Does the same for bytes that keep a larger buffer of `size` bytes alive.
    pub fn charge_buffer(&self, category: Category, bytes: Bytes, size: usize) -> Bytes {
        self.update(category, 0, size);
        let charge = Charge { tracker: self.clone(), category, bytes: AtomicUsize::new(size) };
        Bytes::from_owner(ChargedBuffer { bytes, _charge: charge })
    }

    fn update(&self, category: Category, before: usize, now: usize) {
        let mut tracker = Some(self);
        while let Some(Self(inner)) = tracker {
            let counter = &inner.bytes[category as usize];
            // Relaxed: the counter publishes no other data.
            if now > before {
                counter.fetch_add(now - before, Ordering::Relaxed);
                if inner.parent.is_none() {
                    inner.watermark.check(|| inner.total());
                }
            } else {
                counter.fetch_sub(before - now, Ordering::Relaxed);
            }
            tracker = inner.parent.as_ref();
        }
    }
}

impl Inner {
    fn total(&self) -> usize {
        self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Watermark {
    fn check(&self, held: impl FnOnce() -> usize) {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0
            && held() > limit
            // One of several threads that exceed it at the same time calls back.
            && self.limit.swap(0, Ordering::Relaxed) > 0
            && let Some(on_high) = self.on_high.get()
        {
            on_high();
        }
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watermark({})", self.limit.load(Ordering::Relaxed))
    }
}

impl Charge {
    /// Sets the number of bytes held.
    pub fn set(&self, bytes: usize) {
        if self.get() != bytes {
            let before = self.bytes.swap(bytes, Ordering::Relaxed);
            self.tracker.update(self.category, before, bytes);
        }
    }

    /// Returns the number of bytes held.
    pub fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        if bytes > 0 {
            self.tracker.update(self.category, bytes, 0);
        }
    }
}

impl AsRef<[u8]> for ChargedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The sum and its categories: `1500 media=1000 incoming=0 hls=500 tls=0 http=0`.
impl fmt::Display for MemoryTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Read once, so that the sum is that of the categories shown.
        let categories = Category::ALL.map(|(category, name)| (name, self.bytes_in(category)));
        write!(f, "{}", categories.iter().map(|(_, bytes)| bytes).sum::<usize>())?;
        for (name, bytes) in categories {
            write!(f, " {name}={bytes}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CATEGORIES: [Category; 5] =
        [Category::Media, Category::Incoming, Category::Hls, Category::Tls, Category::Http];

    #[test]
    fn the_watermark_fires_once_when_more_is_held_than_may_be() {
        let parent = MemoryTracker::default();
        let fired = Arc::new(AtomicUsize::new(0));
        let counter = fired.clone();
        parent.on_high(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let fired = || fired.load(Ordering::Relaxed);
        let children = [MemoryTracker::child_of(&parent), MemoryTracker::child_of(&parent)];
        let charges = [children[0].charge(Category::Media), children[1].charge(Category::Incoming)];
        charges[0].set(1000);
        assert_eq!(fired(), 0, "not armed");
        parent.set_watermark(1000);
        charges[0].set(600);
        charges[1].set(400);
        assert_eq!(fired(), 0, "at the limit is not above it");
        charges[1].set(401);
        charges[1].set(5000);
        assert_eq!(fired(), 1, "once, until it is armed again");
        parent.set_watermark(6000);
        let bytes = children[0].charge_bytes(Category::Hls, vec![0; 401].into());
        assert_eq!(fired(), 2);
        parent.set_watermark(100);
        drop(bytes);
        charges[1].set(0);
        assert_eq!(fired(), 2, "a decrease does not fire it");
        parent.set_watermark(0);
        charges[1].set(10_000);
        assert_eq!(fired(), 2);
    }

    proptest! {
        /// Charges, slices and drops buffers at random, and compares the tracker with the buffers that exist.
        #[test]
        fn the_tracker_counts_exactly_what_exists(
            steps in prop::collection::vec((0..5u8, 0..CATEGORIES.len(), 0..5000usize), 1..200)
        ) {
            let parent = MemoryTracker::default();
            let children = [MemoryTracker::child_of(&parent), MemoryTracker::child_of(&parent)];
            let mut charges: Vec<Charge> = Vec::new();
            // Handles to buffers: the buffer's number, its size, the handle.
            let mut handles: Vec<(usize, usize, Bytes)> = Vec::new();
            for (number, (step, category, size)) in steps.into_iter().enumerate() {
                let tracker = &children[size % 2];
                match step {
                    0 => charges.push(tracker.charge(CATEGORIES[category])),
                    1 if !charges.is_empty() => charges[size % charges.len()].set(size),
                    2 => handles.push((number, size, tracker.charge_bytes(CATEGORIES[category], vec![7; size].into()))),
                    3 if !handles.is_empty() => {
                        let (of, whole_size, bytes) = &handles[size % handles.len()];
                        let slice = bytes.slice(..bytes.len() / 2);
                        // An empty slice keeps no buffer alive.
                        if !slice.is_empty() {
                            handles.push((*of, *whole_size, slice));
                        }
                    }
                    _ if size % 2 == 0 && !charges.is_empty() => drop(charges.swap_remove(size % charges.len())),
                    _ if !handles.is_empty() => drop(handles.swap_remove(size % handles.len())),
                    _ => {}
                }
                let mut buffers: Vec<_> = handles.iter().map(|(of, size, _)| (*of, *size)).collect();
                buffers.sort_unstable();
                buffers.dedup();
                let held = charges.iter().map(Charge::get).sum::<usize>() + buffers.iter().map(|(_, size)| size).sum::<usize>();
                prop_assert_eq!(parent.total(), held);
                prop_assert_eq!(children[0].total() + children[1].total(), held);
            }
            drop((charges, handles));
            prop_assert_eq!(parent.total(), 0);
            prop_assert_eq!(parent.to_string(), "0 media=0 incoming=0 hls=0 tls=0 http=0 dvr=0");
        }
    }
}
