//! The packet log of a stream: each message encoded once, as RTMP chunks, for all players.
//!
//! ```text
//! message ─ append ─▶ open batch ─ close_batch ─▶ closed Batch ─ last_batch ─▶ sockets of those that have caught up
//!                                                   └─▶ LogEntry seq 7, 8, 9 … ─ share ─▶ Cursors that are behind
//!                     trim, evict_bulk ◀─ oldest entries
//! ```
//!
//! Three rules make the bytes equal for all players: a message's timestamp is a delta to the previous message of its
//! chunk stream (chunk header type 1), all players have the same chunk size, and a type 1 header does not name the
//! message stream. A player only needs the first message of each track with an absolute timestamp (type 0); after it,
//! it shares every byte.
//!
//! Batches follow each other in one allocation, which belongs to the log alone until it is full or somebody needs a handle to a
//! part of it. Then its closed batches become a [`Block`], which is shared and charged as a whole. So a message that all players
//! have taken at once costs no reference count, no charge and no allocation of its own.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::encode::rtmp::shared::{MessageLayout, SharedMessage};
use super::track::Track;
use crate::memory::{Category, Charge, MemoryTracker};
use crate::st;

/// The largest of the allocator's small sizes. Any larger buffer takes a page more than its size.
const BATCH_ALLOCATION: usize = 14 * 1024;

/// Size of the messages for which room is prefetched: most of those of a stream of 500 kbit/s.
const USUAL_MESSAGE: usize = 1024;

/// Limits at which the open batch is closed before its window has passed.
const MAX_BATCH_BYTES: usize = 256 * 1024;
const MAX_BATCH_ENTRIES: usize = 1024;

/// Evictions of at least this many blocks run in the background: thousands take milliseconds, and 100 streams may end at once.
const MIN_BULK_EVICTION: usize = 64;

/// Entries for which room is kept even when unused, and not charged.
const MIN_CAPACITY: usize = 256;

/// Entries by which the capacity grows at least, else by a quarter: doubled, a part of it would never be used in most streams.
const MIN_GROWTH: usize = 32;

/// Steps in which the entries of the open allocation are charged, so that most messages do not change the charge.
const ENTRIES_PER_CHARGE: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct LogEntry {
    pub(super) time: u64,
    /// Position of the message in its block or in the open allocation.
    offset: u32,
    pub(super) layout: MessageLayout,
    pub(super) track: Track,
    /// Number of the track within the video of a multitrack stream (E-RTMP).
    pub(super) video_track: u8,
    pub(super) kind: PacketKind,
}

const _: () = assert!(size_of::<LogEntry>() == 32, "two in a cache line");

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

/// Messages that are written to players together. [`PacketLog::last_batch`] has the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub(super) message_count: u64,
    pub(super) chunk_size: u32,
    pub(super) tracks: u8,
    pub(super) all_delta: bool,
}

/// Closed batches in one buffer, which is charged until its last handle drops.
#[derive(Debug)]
struct Block {
    end_seq: u64,
    bytes: Bytes,
    /// Bytes charged: the buffer and its entries.
    size: usize,
}

/// The messages of a stream, from the oldest that a player may still need. Each has a sequence number that is never reused.
// In the order of access: a message touches the first three cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct PacketLog {
    /// The open allocation: closed batches that nobody has a handle to, and the open batch.
    open: BytesMut,
    entries: VecDeque<LogEntry>,
    first_seq: u64,
    /// Sequence number of the first message in the open allocation.
    open_seq: u64,
    /// Bytes of the open allocation that belong to closed batches.
    closed_len: usize,
    /// Position of the last closed batch in the open allocation, or in the last block if that has no closed batch.
    last_batch_start: usize,
    /// Size of the entries of closed batches, with their messages.
    closed_bytes: usize,
    open_batch: Batch,
    /// Charge for the open allocation and its entries.
    charge: Charge,
    opened_at: Option<Instant>,
    chunk_size: u32,
    last_times: [Option<u64>; Track::COUNT],
    blocks: VecDeque<Block>,
    memory: MemoryTracker,
}

impl Batch {
    fn new(chunk_size: u32) -> Self {
        Self { message_count: 0, chunk_size, tracks: 0, all_delta: true }
    }
}

impl PacketLog {
    pub(super) fn new(chunk_size: usize, memory: &MemoryTracker) -> Self {
        Self {
            open: BytesMut::new(),
            entries: VecDeque::new(),
            first_seq: 0,
            open_seq: 0,
            closed_len: 0,
            last_batch_start: 0,
            closed_bytes: 0,
            open_batch: Batch::new(chunk_size as u32),
            charge: memory.charge(Category::Media),
            opened_at: None,
            chunk_size: chunk_size as u32,
            last_times: [None; Track::COUNT],
            blocks: VecDeque::new(),
            memory: memory.clone(),
        }
    }

    pub(super) fn chunk_size(&self) -> usize {
        self.chunk_size as usize
    }

    pub(super) fn set_chunk_size(&mut self, size: usize) {
        debug_assert!(self.open_count() == 0);
        self.chunk_size = size as u32;
        self.open_batch = Batch::new(self.chunk_size);
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

    /// Returns the size of all messages with their entries.
    pub(super) fn bytes(&self) -> usize {
        self.closed_bytes + self.batch_len() + self.open_count() * size_of::<LogEntry>()
    }

    /// Returns the bytes charged for the messages: whole blocks and allocations.
    pub(super) fn held(&self) -> usize {
        self.blocks.iter().map(|block| block.size).sum::<usize>() + self.charge.get()
    }

    pub(super) fn is_batch_full(&self, has_players: bool) -> bool {
        let limit = if has_players { MAX_BATCH_BYTES } else { BATCH_ALLOCATION };
        self.batch_len() >= limit || self.open_count() >= MAX_BATCH_ENTRIES
    }

    /// Returns whether the open batch can take a message without a move to a larger allocation, which would leave a part of the
    /// present one unused.
    pub(super) fn has_room(&self, payload_len: usize) -> bool {
        let room = self.open.capacity() - self.open.len();
        self.open_count() == 0 || room >= MessageLayout::max_len(payload_len, self.chunk_size)
    }

    fn open_count(&self) -> usize {
        self.open_batch.message_count as usize
    }

    /// Returns the size of the open batch.
    fn batch_len(&self) -> usize {
        self.open.len() - self.closed_len
    }

    pub(super) fn batch_opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    pub(super) fn get(&self, seq: u64) -> Option<&LogEntry> {
        let index = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        if index < self.closed_count() { self.entries.get(index) } else { None }
    }

    /// Returns an entry with the chunks of its message.
    #[cfg(feature = "http")]
    pub(super) fn chunks(&self, seq: u64) -> Option<(&LogEntry, &[u8])> {
        let entry = self.get(seq)?;
        let buffer = if seq < self.open_seq { &self.block(seq)?.bytes[..] } else { &self.open[..] };
        Some((entry, &buffer[entry.range()]))
    }

    /// Returns a handle to the chunks of a message.
    pub(super) fn share(&mut self, seq: u64) -> Option<SharedMessage> {
        let entry = *self.get(seq)?;
        if seq >= self.open_seq {
            self.seal();
        }
        Some(SharedMessage { bytes: self.block(seq)?.bytes.slice(entry.range()), layout: entry.layout })
    }

    fn block(&self, seq: u64) -> Option<&Block> {
        self.blocks.get(self.blocks.partition_point(|block| block.end_seq <= seq))
    }

    /// Returns the bytes of the batch that was closed last, before it is trimmed.
    pub(super) fn last_batch(&self) -> &[u8] {
        if self.closed_len > 0 {
            return &self.open[self.last_batch_start..self.closed_len];
        }
        self.blocks.back().map_or(&[], |last| &last.bytes[self.last_batch_start..])
    }

    /// Returns a handle to the batch that was closed last, before it is trimmed.
    pub(super) fn share_last_batch(&mut self) -> Bytes {
        self.seal();
        self.blocks.back().map_or_else(Bytes::new, |last| last.bytes.slice(self.last_batch_start..))
    }

    fn closed_count(&self) -> usize {
        self.entries.len() - self.open_count()
    }

    /// Returns the sequence number of the oldest entry that is not before `time`, among the last `max`.
    pub(super) fn first_since(&self, time: u64, max: usize) -> u64 {
        let newer =
            self.entries.range(..self.closed_count()).rev().take(max).take_while(|entry| entry.time >= time).count();
        self.end_seq() - newer as u64
    }

    pub(super) fn prefetch(&self) {
        if let Some(last) = self.entries.back() {
            st::prefetch_after(last, size_of::<LogEntry>());
        }
        st::prefetch_after(&*self.open, USUAL_MESSAGE);
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
        let max_len = MessageLayout::max_len(payload.len(), self.chunk_size);
        if self.open.capacity() - self.open.len() < max_len {
            self.replace_allocation(max_len);
        }
        let offset = self.open.len() as u32;
        let layout = MessageLayout::encode(&mut self.open, track, since_last, payload, self.chunk_size);
        let entry = LogEntry { time, offset, layout, track, video_track, kind };
        let count = self.entries.len();
        if count == self.entries.capacity() {
            self.entries.reserve_exact(MIN_GROWTH.max(count / 4));
        }
        self.entries.push_back(entry);
        self.open_batch.message_count += 1;
        self.open_batch.tracks |= track.bit();
        self.open_batch.all_delta &= layout.has_delta;
        self.opened_at.get_or_insert(now);
    }

    /// Moves the open batch to an allocation with room for `max_len` bytes more.
    fn replace_allocation(&mut self, max_len: usize) {
        self.seal();
        let room = BATCH_ALLOCATION.max(max_len);
        if self.open.is_empty() {
            self.open = BytesMut::with_capacity(room);
        } else {
            self.open.reserve(room);
        }
    }

    /// Makes the closed batches of the open allocation a block.
    fn seal(&mut self) {
        if self.closed_len == 0 {
            return;
        }
        let (end_seq, closed_count) = (self.end_seq(), self.closed_count());
        let entries = end_seq - self.open_seq.max(self.first_seq);
        let bytes = self.open.split_to(self.closed_len).freeze();
        let size = bytes.len() + entries as usize * size_of::<LogEntry>();
        let bytes = self.memory.charge_buffer(Category::Media, bytes, size);
        self.blocks.push_back(Block { end_seq, bytes, size });
        for entry in self.entries.range_mut(closed_count..) {
            entry.offset -= self.closed_len as u32;
        }
        (self.open_seq, self.closed_len) = (end_seq, 0);
        self.update_charge();
    }

    /// Closes the open batch. Returns `None` if it is empty. Call [`PacketLog::trim`] after it.
    pub(super) fn close_batch(&mut self) -> Option<Batch> {
        if self.open_count() == 0 {
            return None;
        }
        self.opened_at = None;
        self.closed_bytes += self.batch_len() + self.open_count() * size_of::<LogEntry>();
        (self.last_batch_start, self.closed_len) = (self.closed_len, self.open.len());
        let batch = std::mem::replace(&mut self.open_batch, Batch::new(self.chunk_size));
        if self.open.len() > MAX_BATCH_BYTES {
            self.seal();
            self.open = BytesMut::new();
        }
        Some(batch)
    }

    pub(super) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.open = BytesMut::new();
        }
        self.entries.shrink_to_fit();
        self.blocks.shrink_to_fit();
    }

    /// Evicts all entries before `keep_seq`, then those before the time `oldest`, then as many as exceed `max_bytes`.
    pub(super) fn trim(&mut self, keep_seq: u64, oldest: u64, max_bytes: usize) {
        while self.closed_count() > 0
            && let Some(entry) = self.entries.front()
        {
            if self.first_seq >= keep_seq && entry.time >= oldest && self.closed_bytes <= max_bytes {
                break;
            }
            self.closed_bytes -= entry.size();
            self.first_seq += 1;
            self.entries.pop_front();
        }
        while self.blocks.front().is_some_and(|block| block.end_seq <= self.first_seq) {
            self.blocks.pop_front();
        }
        if self.entries.is_empty() {
            self.restart_allocation();
        }
        let capacity = self.entries.capacity();
        if capacity > MIN_CAPACITY && self.entries.len() < capacity / 4 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        self.update_charge();
    }

    /// Continues at the start of the open allocation, of which nothing is needed any more.
    fn restart_allocation(&mut self) {
        if self.open.capacity() > BATCH_ALLOCATION {
            self.open = BytesMut::new();
        }
        self.open.clear();
        (self.open_seq, self.closed_len) = (self.first_seq, 0);
    }

    /// Evicts the blocks before `keep_seq` in the background, if they are many. Their bytes stay charged until they are
    /// dropped.
    pub(super) fn evict_bulk(&mut self, keep_seq: u64) {
        let count = self.blocks.partition_point(|block| block.end_seq <= keep_seq);
        if count < MIN_BULK_EVICTION {
            return;
        }
        let evicted: Vec<Block> = self.blocks.drain(..count).collect();
        let end = evicted[count - 1].end_seq;
        st::drop_in_background(evicted);
        let entries = end.saturating_sub(self.first_seq) as usize;
        self.closed_bytes -= self.entries.drain(..entries).map(|entry| entry.size()).sum::<usize>();
        self.first_seq = self.first_seq.max(end);
    }

    /// Charges the open allocation to the memory tracker: once for all messages of a read.
    pub(super) fn update_charge(&self) {
        let entries = (self.next_seq() - self.open_seq) as usize;
        let size = entries.next_multiple_of(ENTRIES_PER_CHARGE) * size_of::<LogEntry>();
        self.charge.set(if entries == 0 { 0 } else { self.open.capacity() + size });
    }
}

impl LogEntry {
    fn range(&self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.layout.encoded_len as usize
    }

    /// Returns the size of the entry with its message.
    fn size(&self) -> usize {
        self.layout.encoded_len as usize + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests;
