//! The account of the bytes that are held for clients: what came of them and is not gone yet.
//!
//! It is exact because nothing is ever written down by hand: what holds bytes has a [`Held`], which is in the account for as long
//! as it lives, and a buffer that many share is [counted](Account::count) until the last of its handles is gone, whoever has that.
//! What is counted is payload, not what an allocator makes of it; of a segment of HLS the whole of the buffer that it is in, which
//! is as large as the segment before it needed.
//!
//! Who wants to know when it becomes too much has an [alarm](Account::set_alarm) ring, in the moment in which that happens.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// What bytes are held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// For players: the messages of streams, encoded, in backlogs and caches and on their way to sockets.
    Media = 0,
    /// What has come of messages that are not complete, or that nobody has looked at yet, and answers that a client does not take.
    Incoming = 1,
    /// Segments: being written, in memory, and on their way to the disk; and playlists.
    Hls = 2,
    /// Encrypted and not yet taken by sockets.
    Tls = 3,
    /// Pieces of files on disk, on their way to sockets of HTTP.
    Http = 4,
}

impl Part {
    const ALL: [(Self, &str); 5] = [
        (Self::Media, "media"),
        (Self::Incoming, "incoming"),
        (Self::Hls, "hls"),
        (Self::Tls, "tls"),
        (Self::Http, "http"),
    ];
}

/// How many bytes are held. Clones are the same account.
#[derive(Debug, Clone, Default)]
pub struct Account(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    parts: [AtomicUsize; Part::ALL.len()],
    /// Where all of it counts as well.
    whole: Option<Account>,
    alarm: Alarm,
}

/// Rings once when more is held than `above`.
#[derive(Default)]
struct Alarm {
    /// 0: it does not ring.
    above: AtomicUsize,
    ring: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Bytes that somebody holds. Dropping it takes them out of the account.
#[derive(Debug)]
pub struct Held {
    account: Account,
    part: Part,
    bytes: AtomicUsize,
}

/// A buffer that is in the account.
struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl Account {
    /// An account whose bytes are also in the account `whole`.
    pub fn within(whole: &Self) -> Self {
        Self(Arc::new(Inner { whole: Some(whole.clone()), ..Inner::default() }))
    }

    /// Has `ring` called whenever the alarm goes off, by whoever holds too much and in the middle of that: it must not wait, nor hold
    /// anything. The first call counts. The account has to be one that is within no other.
    pub fn on_alarm(&self, ring: impl Fn() + Send + Sync + 'static) {
        debug_assert!(self.0.whole.is_none());
        let _ = self.0.alarm.ring.set(Box::new(ring));
    }

    /// Has the alarm go off once, as soon as more than `above` bytes are held; 0 for never.
    pub fn set_alarm(&self, above: usize) {
        self.0.alarm.above.store(above, Ordering::Relaxed);
    }

    /// Bytes of one part.
    pub fn part(&self, part: Part) -> usize {
        self.0.parts[part as usize].load(Ordering::Relaxed)
    }

    /// Bytes of all parts.
    pub fn total(&self) -> usize {
        self.0.total()
    }

    /// Nothing yet, by somebody who will hold bytes.
    pub fn hold(&self, part: Part) -> Held {
        Held { account: self.clone(), part, bytes: AtomicUsize::new(0) }
    }

    /// The same bytes, in the account until the last handle to any of them is gone.
    pub fn count(&self, part: Part, bytes: Bytes) -> Bytes {
        let size = bytes.len();
        self.count_as(part, bytes, size)
    }

    /// The same, for bytes in a buffer that is larger: it is `size` bytes of memory that are held with them.
    pub fn count_as(&self, part: Part, bytes: Bytes, size: usize) -> Bytes {
        let held = self.hold(part);
        held.set(size);
        Bytes::from_owner(Counted { bytes, _held: held })
    }

    fn change(&self, part: Part, before: usize, now: usize) {
        let mut account = Some(self);
        while let Some(Self(inner)) = account {
            let counter = &inner.parts[part as usize];
            // Nothing is published by it: whoever reads it wants a number.
            if now > before {
                counter.fetch_add(now - before, Ordering::Relaxed);
                if inner.whole.is_none() {
                    inner.alarm.look(|| inner.total());
                }
            } else {
                counter.fetch_sub(before - now, Ordering::Relaxed);
            }
            account = inner.whole.as_ref();
        }
    }
}

impl Inner {
    fn total(&self) -> usize {
        self.parts.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

impl Alarm {
    fn look(&self, held: impl FnOnce() -> usize) {
        let above = self.above.load(Ordering::Relaxed);
        if above > 0
            && held() > above
            // Of several that are too much at a time one rings.
            && self.above.swap(0, Ordering::Relaxed) > 0
            && let Some(ring) = self.ring.get()
        {
            ring();
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alarm(above {})", self.above.load(Ordering::Relaxed))
    }
}

impl Held {
    /// So many bytes are held now.
    pub fn set(&self, bytes: usize) {
        if self.get() != bytes {
            let before = self.bytes.swap(bytes, Ordering::Relaxed);
            self.account.change(self.part, before, bytes);
        }
    }

    /// How many bytes are held.
    pub fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The sum and its parts: `1500 (media=1000, incoming=0, hls=500, tls=0, http=0)`.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Read once, so that the sum is that of the parts.
        let parts = Part::ALL.map(|(part, name)| (name, self.part(part)));
        write!(f, "{} (", parts.iter().map(|(_, bytes)| bytes).sum::<usize>())?;
        for (index, (name, bytes)) in parts.iter().enumerate() {
            write!(f, "{}{name}={bytes}", if index > 0 { ", " } else { "" })?;
        }
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [Part; 5] = [Part::Media, Part::Incoming, Part::Hls, Part::Tls, Part::Http];

    #[test]
    fn the_alarm_rings_once_when_more_is_held_than_may_be() {
        let whole = Account::default();
        let rung = Arc::new(AtomicUsize::new(0));
        let counter = rung.clone();
        whole.on_alarm(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let rung = || rung.load(Ordering::Relaxed);
        let parts = [Account::within(&whole), Account::within(&whole)];
        let helds = [parts[0].hold(Part::Media), parts[1].hold(Part::Incoming)];
        helds[0].set(1000);
        assert_eq!(rung(), 0, "nobody has asked");
        whole.set_alarm(1000);
        helds[0].set(600);
        helds[1].set(400);
        assert_eq!(rung(), 0, "as much as may be is not too much");
        helds[1].set(401);
        helds[1].set(5000);
        assert_eq!(rung(), 1, "once, until it is set again");
        whole.set_alarm(6000);
        let bytes = parts[0].count(Part::Hls, vec![0; 401].into());
        assert_eq!(rung(), 2);
        whole.set_alarm(100);
        drop(bytes);
        helds[1].set(0);
        assert_eq!(rung(), 2, "it does not ring for less");
        whole.set_alarm(0);
        helds[1].set(10_000);
        assert_eq!(rung(), 2);
    }

    proptest! {
        /// Whatever is held, cut up, handed on and let go of, the account is what is there; and in the end nothing.
        #[test]
        fn the_account_is_what_is_there(steps in prop::collection::vec((0..5u8, 0..PARTS.len(), 0..5000usize), 1..200)) {
            let whole = Account::default();
            let accounts = [Account::within(&whole), Account::within(&whole)];
            let mut helds: Vec<Held> = Vec::new();
            // Handles to buffers, and of which buffer of what size they are.
            let mut handles: Vec<(usize, usize, Bytes)> = Vec::new();
            for (number, (step, part, size)) in steps.into_iter().enumerate() {
                let account = &accounts[size % 2];
                match step {
                    0 => helds.push(account.hold(PARTS[part])),
                    1 if !helds.is_empty() => helds[size % helds.len()].set(size),
                    2 => handles.push((number, size, account.count(PARTS[part], vec![7; size].into()))),
                    3 if !handles.is_empty() => {
                        let (of, whole_size, bytes) = &handles[size % handles.len()];
                        let part = bytes.slice(..bytes.len() / 2);
                        // A handle to nothing of it keeps nothing.
                        if !part.is_empty() {
                            handles.push((*of, *whole_size, part));
                        }
                    }
                    _ if size % 2 == 0 && !helds.is_empty() => drop(helds.swap_remove(size % helds.len())),
                    _ if !handles.is_empty() => drop(handles.swap_remove(size % handles.len())),
                    _ => {}
                }
                let mut buffers: Vec<_> = handles.iter().map(|(of, size, _)| (*of, *size)).collect();
                buffers.sort_unstable();
                buffers.dedup();
                let there = helds.iter().map(Held::get).sum::<usize>() + buffers.iter().map(|(_, size)| size).sum::<usize>();
                prop_assert_eq!(whole.total(), there);
                prop_assert_eq!(accounts[0].total() + accounts[1].total(), there);
            }
            drop((helds, handles));
            prop_assert_eq!(whole.total(), 0);
            prop_assert_eq!(whole.to_string(), "0 (media=0, incoming=0, hls=0, tls=0, http=0)");
        }
    }
}
