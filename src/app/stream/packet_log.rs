//! The packet log of a stream: each message encoded once, as RTMP chunks, for all players.
//!
//! ```text
//! message ─ append ─▶ open batch ─ close_batch ─▶ closed Batch (one buffer) ─▶ sockets of those that have caught up
//!                                                   └─▶ LogEntry seq 7, 8, 9 … ─ get ─▶ Cursors that are behind
//!                     trim, evict_bulk ◀─ oldest entries
//! ```
//!
//! Three rules make the bytes equal for all players: a message's timestamp is a delta to the previous message of its
//! chunk stream (chunk header type 1), all players have the same chunk size, and a type 1 header does not name the
//! message stream. A player only needs the first message of each track with an absolute timestamp (type 0); after it,
//! it shares every byte.
//!
//! Closing the open batch makes one immutable, contiguous buffer of which each entry is a slice. That costs one more
//! copy of each payload (the first is its reassembly from chunks), per message and not per player, and saves each
//! player a gathering write.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::encode::rtmp::shared::SharedMessage;
use super::track::Track;
use crate::memory::{Category, Charge, MemoryTracker};
use crate::st;

/// The largest of the allocator's small sizes. Any larger buffer takes a page more than its size.
const BATCH_ALLOCATION: usize = 14 * 1024;

/// Limits at which the open batch is closed before its window has passed.
const MAX_BATCH_BYTES: usize = 256 * 1024;
const MAX_BATCH_ENTRIES: usize = 1024;

/// Evictions of at least this many entries run in the background: 100,000 take milliseconds, and 100 streams may end at once.
const MIN_BULK_EVICTION: usize = 4096;

/// Entries for which room is kept even when unused, and not charged.
const MIN_CAPACITY: usize = 256;

/// Entries by which the capacity grows at least, else by a quarter: doubled, a part of it would never be used in most streams.
const MIN_GROWTH: usize = 32;

#[derive(Debug, Clone)]
pub(super) struct LogEntry {
    pub(super) track: Track,
    /// Number of the track within the video of a multitrack stream (E-RTMP).
    pub(super) video_track: u8,
    pub(super) time: u64,
    pub(super) kind: PacketKind,
    pub(super) message: SharedMessage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    Regular,
    /// Video keyframe: a player can start here. Outputs get it on track 0 only.
    Keyframe,
    /// Sequence header or metadata, which a player needs before any media.
    Header,
    /// Status message of the server at the start of a publication. Players get StreamBegin as well.
    Begin,
    /// The same at the end. Players get StreamEof as well.
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) bytes: Bytes,
    pub(super) tracks: u8,
    pub(super) chunk_size: u32,
    pub(super) all_delta: bool,
    pub(super) message_count: u64,
}

/// The messages of a stream, from the oldest that a player may still need. Each has a sequence number that is never reused.
#[derive(Debug)]
pub(super) struct PacketLog {
    chunk_size: u32,
    entries: VecDeque<LogEntry>,
    open_count: usize,
    first_seq: u64,
    /// Size of the entries of closed batches, with their messages.
    closed_bytes: usize,
    open: BytesMut,
    opened_at: Option<Instant>,
    last_times: [Option<u64>; Track::COUNT],
    memory: MemoryTracker,
    /// Charge for the open batch. A closed batch and its entries have their own, until the last handle to its bytes drops.
    charge: Charge,
}

impl PacketLog {
    pub(super) fn new(chunk_size: usize, memory: &MemoryTracker) -> Self {
        Self {
            chunk_size: chunk_size as u32,
            entries: VecDeque::new(),
            open_count: 0,
            first_seq: 0,
            closed_bytes: 0,
            open: BytesMut::new(),
            opened_at: None,
            last_times: [None; Track::COUNT],
            memory: memory.clone(),
            charge: memory.charge(Category::Media),
        }
    }

    pub(super) fn chunk_size(&self) -> usize {
        self.chunk_size as usize
    }

    pub(super) fn set_chunk_size(&mut self, size: usize) {
        debug_assert!(self.open_count == 0);
        self.chunk_size = size as u32;
    }

    pub(super) fn memory(&self) -> &MemoryTracker {
        &self.memory
    }

    pub(super) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Returns the sequence number after the last entry of a closed batch.
    pub(super) fn end_seq(&self) -> u64 {
        self.first_seq + self.closed_count() as u64
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.first_seq + self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.closed_bytes + self.open.len() + self.open_count * size_of::<LogEntry>()
    }

    pub(super) fn is_batch_full(&self, has_players: bool) -> bool {
        let limit = if has_players { MAX_BATCH_BYTES } else { BATCH_ALLOCATION };
        self.open.len() >= limit || self.open_count >= MAX_BATCH_ENTRIES
    }

    /// Returns whether the open batch can take a message without a move to a larger allocation, which would leave a part of the
    /// present one unused.
    pub(super) fn has_room(&self, payload_len: usize) -> bool {
        let room = self.open.capacity() - self.open.len();
        self.open_count == 0 || room >= SharedMessage::max_len(payload_len, self.chunk_size)
    }

    pub(super) fn batch_opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    pub(super) fn get(&self, seq: u64) -> Option<&LogEntry> {
        let index = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        if index < self.closed_count() { self.entries.get(index) } else { None }
    }

    fn closed_count(&self) -> usize {
        self.entries.len() - self.open_count
    }

    /// Returns the sequence number of the oldest entry that is not before `time`, among the last `max`.
    pub(super) fn first_since(&self, time: u64, max: usize) -> u64 {
        let newer =
            self.entries.range(..self.closed_count()).rev().take(max).take_while(|entry| entry.time >= time).count();
        self.end_seq() - newer as u64
    }

    pub(super) fn prefetch(&self) {
        if let Some(last) = self.entries.back() {
            st::prefetch_all(last);
        }
        st::prefetch(&self.open[self.open.len()..]);
    }

    pub(super) fn append(&mut self, track: Track, time: u64, kind: PacketKind, payload: &[u8], now: Instant) {
        self.append_on(track, 0, time, kind, payload, now);
    }

    /// Encodes a message on a video track into the open batch. Call [`PacketLog::update_charge`] after the last one of a read.
    pub(super) fn append_on(
        &mut self,
        track: Track,
        video_track: u8,
        time: u64,
        kind: PacketKind,
        payload: &[u8],
        now: Instant,
    ) {
        let since_last = self.last_times[track as usize].and_then(|last| time.checked_sub(last));
        self.last_times[track as usize] = Some(time);
        let max_len = SharedMessage::max_len(payload.len(), self.chunk_size);
        if self.open.capacity() - self.open.len() < max_len {
            self.open.reserve(BATCH_ALLOCATION.max(max_len));
        }
        let message = SharedMessage::encode(&mut self.open, track, since_last, payload, self.chunk_size);
        let entry = LogEntry { track, video_track, time, kind, message };
        let count = self.entries.len();
        if count == self.entries.capacity() {
            self.entries.reserve_exact(MIN_GROWTH.max(count / 4));
        }
        self.entries.push_back(entry);
        self.open_count += 1;
        self.opened_at.get_or_insert(now);
    }

    /// Closes the open batch. Returns `None` if it is empty. Call [`PacketLog::trim`] after it.
    pub(super) fn close_batch(&mut self) -> Option<Batch> {
        if self.open_count == 0 {
            return None;
        }
        self.opened_at = None;
        let bytes = self.open.split().freeze();
        let size = bytes.len() + self.open_count * size_of::<LogEntry>();
        let bytes = self.memory.charge_buffer(Category::Media, bytes, size);
        if bytes.len() > MAX_BATCH_BYTES {
            self.open = BytesMut::new();
        }
        let message_count = self.open_count as u64;
        let mut batch = Batch { bytes, tracks: 0, chunk_size: self.chunk_size, all_delta: true, message_count };
        let (first_open, mut start) = (self.closed_count(), 0);
        for entry in self.entries.range_mut(first_open..) {
            batch.tracks |= entry.track.bit();
            batch.all_delta &= entry.message.has_delta;
            let end = start + entry.message.encoded_len as usize;
            entry.message.bytes = batch.bytes.slice(start..end);
            start = end;
        }
        self.open_count = 0;
        self.closed_bytes += batch.bytes.len() + batch.message_count as usize * size_of::<LogEntry>();
        Some(batch)
    }

    pub(super) fn shrink(&mut self) {
        if self.open_count == 0 {
            self.open = BytesMut::new();
        }
        self.entries.shrink_to_fit();
    }

    /// Evicts all entries before `keep_seq`, then those before the time `oldest`, then as many as exceed `max_bytes`.
    pub(super) fn trim(&mut self, keep_seq: u64, oldest: u64, max_bytes: usize) {
        while self.closed_count() > 0
            && let Some(entry) = self.entries.front()
        {
            if self.first_seq >= keep_seq && entry.time >= oldest && self.closed_bytes <= max_bytes {
                break;
            }
            self.closed_bytes -= entry.message.bytes.len() + size_of::<LogEntry>();
            self.first_seq += 1;
            self.entries.pop_front();
        }
        let capacity = self.entries.capacity();
        if capacity > MIN_CAPACITY && self.entries.len() < capacity / 4 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        self.update_charge();
    }

    /// Evicts all entries before `keep_seq` in the background, if they are many and at least half of all. Their bytes
    /// stay charged until they are dropped.
    pub(super) fn evict_bulk(&mut self, keep_seq: u64) {
        let length = self.closed_count();
        let evicted =
            usize::try_from(keep_seq.saturating_sub(self.first_seq)).map_or(length, |count| count.min(length));
        if evicted < MIN_BULK_EVICTION || evicted < length / 2 {
            return;
        }
        let kept = self.entries.split_off(evicted);
        st::drop_in_background(std::mem::replace(&mut self.entries, kept));
        self.first_seq += evicted as u64;
        self.closed_bytes = self
            .entries
            .range(..self.closed_count())
            .map(|entry| entry.message.bytes.len() + size_of::<LogEntry>())
            .sum();
        self.update_charge();
    }

    /// Charges the open batch to the memory tracker: once for all messages of a read.
    pub(super) fn update_charge(&self) {
        self.charge.set(self.open.len() + self.open_count * size_of::<LogEntry>());
    }
}

#[cfg(test)]
mod tests;
