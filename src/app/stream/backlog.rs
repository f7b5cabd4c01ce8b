//! What a source has to send: encoded once, for every player.
//!
//! The messages of a stream stand in one row, each as the chunks that go over the wire. What makes the bytes the same for all
//! players: a message's time is a delta to the message before it on its chunk stream (type 1), all players have the same chunk
//! size, and a message of type 1 does not name the message stream. So a player needs the first message of each track with an
//! absolute time of its own (type 0), and from then on shares every byte.
//!
//! Messages are collected on an open page. Closing the page makes its bytes one immutable, contiguous buffer, which is what
//! players are offered; each message keeps its part of it. This costs a second copy of a payload (the first is its reassembly
//! from chunks), one a message and not one a player, and saves each player a gathering write.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::stretched::Stretched;
use super::track::Track;
use crate::memory::{Account, Held, Part};
use crate::rtmp::chunk::{ChunkHeader, MAX_DELTA, encode, encode_delta};
use crate::st;

/// What the open page is allotted at a time.
const PAGE: usize = 16 * 1024;

/// Entries that [`Backlog::since`] goes back at most.
const MAX_SEARCH: usize = 500;

/// What the open page may hold before it is closed, whatever time it is: bytes and messages.
const MAX_PAGE: usize = 256 * 1024;
const MAX_PENDING: usize = 1024;

/// So many entries are not dropped in passing: a hundred thousand take milliseconds, and a hundred streams may end at once.
const MANY: usize = 4096;

/// Room for so many entries is kept whether there are as many or not. Room is in no account.
const ROOM: usize = 256;

/// A message, encoded.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) track: Track,
    /// On the source's timeline, in milliseconds.
    pub(super) time: u64,
    pub(super) mark: Mark,
    /// Whether `bytes` carry a delta to the entry before, for players that have had it; if not, every player needs a copy of
    /// its own.
    pub(super) shared: bool,
    pub(super) bytes: Bytes,
    /// Of the chunks in `bytes`. It changes with the vhost's configuration; players are told when they get here.
    pub(super) chunk_size: u32,
    /// Of the first chunk in `bytes`.
    header_len: usize,
}

/// What a source has to know of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    Plain,
    /// A video keyframe: a player can begin here.
    Key,
    /// Sequence header or metadata: part of what a player needs before anything else.
    Config,
}

/// A page that was closed: messages in a row, as contiguous bytes.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) bytes: Bytes,
    /// The tracks that have messages in it, a bit each.
    pub(super) tracks: u8,
    /// Of all chunks in it.
    pub(super) chunk_size: u32,
    /// Whether all of it may be sent to any player that has had its tracks before.
    pub(super) shared: bool,
    pub(super) messages: u64,
}

/// The messages of a stream, from the earliest that anybody may still need.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Of what is appended.
    chunk_size: u32,
    entries: VecDeque<Entry>,
    /// The number of the first entry. Numbers are never used again.
    first: u64,
    /// Of all entries, what they are and what they hold.
    bytes: usize,
    open: BytesMut,
    pending: Vec<(Range<usize>, Entry)>,
    opened: Option<Instant>,
    /// The time of the last message of each track, what the next one's delta is to.
    times: [Option<u64>; Track::COUNT],
    account: Account,
    /// The open page and the row of entries. A closed page is counted by itself, until nobody has any of it.
    held: Held,
}

impl Backlog {
    pub(super) fn new(chunk_size: usize, account: &Account) -> Self {
        Self {
            chunk_size: chunk_size as u32,
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            open: BytesMut::new(),
            pending: Vec::new(),
            opened: None,
            times: [None; Track::COUNT],
            account: account.clone(),
            held: account.hold(Part::Media),
        }
    }

    pub(super) fn chunk_size(&self) -> usize {
        self.chunk_size as usize
    }

    /// Has what is appended from now on made of chunks of this size. There must be no open page.
    pub(super) fn set_chunk_size(&mut self, size: usize) {
        debug_assert!(self.pending.is_empty());
        self.chunk_size = size as u32;
    }

    /// Where what is made of entries is counted.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// The number of the earliest entry.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next entry on a closed page will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The number that the next message will have: behind those of the open page.
    pub(super) fn next(&self) -> u64 {
        self.end() + self.pending.len() as u64
    }

    /// Bytes of all entries, those on the open page included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.open.len() + self.pending.len() * size_of::<Entry>()
    }

    /// Whether the open page holds so much that it has to be closed: less if nobody `waits` for it, since then a page is only
    /// a piece of the cache, and best is one that was allotted at once.
    pub(super) fn is_full(&self, waits: bool) -> bool {
        let bytes = if waits { MAX_PAGE } else { PAGE - PAGE / 4 };
        self.open.len() >= bytes || self.pending.len() >= MAX_PENDING
    }

    /// When the open page got its first message.
    pub(super) fn opened(&self) -> Option<Instant> {
        self.opened
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        let index = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The earliest entry that is not older than `time`.
    pub(super) fn since(&self, time: u64) -> u64 {
        // From the end: what is asked for is recent, and if very much is, less of it will do.
        let newer = self.entries.iter().rev().take(MAX_SEARCH).take_while(|entry| entry.time >= time).count();
        self.end() - newer as u64
    }

    /// Appends a message to the open page.
    pub(super) fn append(&mut self, track: Track, time: u64, mark: Mark, payload: &[u8], now: Instant) {
        let delta = self.times[track as usize].and_then(|last| u32::try_from(time.checked_sub(last)?).ok());
        let delta = delta.filter(|&delta| delta <= MAX_DELTA && track != Track::Status);
        self.times[track as usize] = Some(time);
        // With a byte for each chunk after the first, or five where the time is an extended one.
        let size = payload.len() + payload.len() / self.chunk_size() * 5 + 64;
        if self.open.capacity() - self.open.len() < size {
            self.open.reserve(PAGE.max(size));
        }
        let start = self.open.len();
        // Time and stream are the player's own; `Entry::absolute` puts them in.
        let header = ChunkHeader { csid: track.csid(), kind: track.kind(), timestamp: 0, stream_id: 0 };
        let size = self.chunk_size();
        let header_len = match delta {
            Some(delta) => encode_delta(&mut self.open, &header, delta, payload, size),
            None => encode(&mut self.open, &header, payload, size),
        };
        let chunk_size = self.chunk_size;
        let entry = Entry { track, time, mark, shared: delta.is_some(), bytes: Bytes::new(), chunk_size, header_len };
        self.pending.push((start..self.open.len(), entry));
        self.opened.get_or_insert(now);
        self.settle();
    }

    /// Closes the open page, if there is anything on it.
    pub(super) fn close_page(&mut self) -> Option<Page> {
        if self.pending.is_empty() {
            return None;
        }
        self.opened = None;
        let bytes = self.account.count(Part::Media, self.open.split().freeze());
        if bytes.len() > MAX_PAGE {
            // What is left of the buffer would keep all of it.
            self.open = BytesMut::new();
        }
        let messages = self.pending.len() as u64;
        let mut page = Page { bytes, tracks: 0, chunk_size: self.chunk_size, shared: true, messages };
        for (range, mut entry) in self.pending.drain(..) {
            page.tracks |= entry.track.bit();
            page.shared &= entry.shared;
            entry.bytes = page.bytes.slice(range);
            self.entries.push_back(entry);
        }
        if self.pending.capacity() > ROOM {
            self.pending = Vec::new();
        }
        self.bytes += page.bytes.len() + page.messages as usize * size_of::<Entry>();
        self.settle();
        Some(page)
    }

    /// Bytes that the open page has room for.
    #[cfg(test)]
    pub(super) fn room(&mut self) -> usize {
        // What was split off may keep more than this says, unless it is all that there is.
        let whole = self.open.try_reclaim(PAGE);
        if whole { self.open.capacity() } else { self.open.capacity().max(PAGE) }
    }

    /// Gives back the memory that only a stream in use needs.
    pub(super) fn release(&mut self) {
        if self.pending.is_empty() {
            self.open = BytesMut::new();
            self.pending = Vec::new();
        }
        self.entries.shrink_to_fit();
    }

    /// Forgets all entries before number `keep`, and as many more as it takes to hold at most `max_bytes`, none older than
    /// `oldest`.
    pub(super) fn trim(&mut self, keep: u64, oldest: u64, max_bytes: usize) {
        while let Some(entry) = self.entries.front() {
            if self.first >= keep && entry.time >= oldest && self.bytes <= max_bytes {
                break;
            }
            self.bytes -= entry.bytes.len() + size_of::<Entry>();
            self.first += 1;
            self.entries.pop_front();
        }
        let capacity = self.entries.capacity();
        if capacity > ROOM && self.entries.len() < capacity / 4 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        self.settle();
    }

    /// Forgets all entries before number `keep` if they are many and most of all, and has them dropped beside the worker. Until then
    /// they stay in the account.
    pub(super) fn forget_many(&mut self, keep: u64) {
        let length = self.entries.len();
        let unwanted = usize::try_from(keep.saturating_sub(self.first)).map_or(length, |count| count.min(length));
        if unwanted < MANY || unwanted < length / 2 {
            return;
        }
        let kept = self.entries.split_off(unwanted);
        st::drop_aside(std::mem::replace(&mut self.entries, kept));
        self.first += unwanted as u64;
        self.bytes = self.entries.iter().map(|entry| entry.bytes.len() + size_of::<Entry>()).sum();
        self.settle();
    }

    /// Brings the account up to date.
    fn settle(&self) {
        self.held.set(self.open.len() + (self.entries.len() + self.pending.len()) * size_of::<Entry>());
    }
}

impl Entry {
    /// The message for one player: with an absolute time, on the player's message stream. Appended to `out`, in one piece or
    /// two; or given back, to be made piece by piece.
    pub(super) fn absolute(&self, timestamp: u32, stream_id: u32, out: &mut Vec<Bytes>) -> Option<Stretched> {
        let header = ChunkHeader { csid: self.track.csid(), kind: self.track.kind(), timestamp, stream_id };
        let mut head = BytesMut::new();
        let header_len = encode(&mut head, &header, &[], self.chunk_size as usize);
        if header_len != PLAIN_HEADER {
            return Some(Stretched::new(self, header));
        }
        // Only the first chunk's header differs; it says the length, which the empty payload above did not have.
        let length = self.payload_len() as u32;
        head[4..7].copy_from_slice(&length.to_be_bytes()[1..]);
        out.extend([head.freeze(), self.bytes.slice(self.header_len..)]);
        None
    }

    /// Without the headers, of one byte each, of the chunks after the first.
    pub(super) fn payload_len(&self) -> usize {
        let body = self.bytes.len() - self.header_len;
        body - body.saturating_sub(1) / (self.chunk_size as usize + 1)
    }

    /// The message itself.
    pub(super) fn payload(&self) -> Vec<u8> {
        self.payload_of(0, usize::MAX)
    }

    /// What is in so many of its chunks, those after the first `skip`.
    pub(super) fn payload_of(&self, skip: usize, chunks: usize) -> Vec<u8> {
        let chunk_size = self.chunk_size as usize;
        let body = &self.bytes[self.header_len..];
        let left = self.payload_len().saturating_sub(skip.saturating_mul(chunk_size));
        let mut payload = Vec::with_capacity(left.min(chunks.saturating_mul(chunk_size)));
        // Each piece but the last ends in the header of the next chunk.
        for piece in body.chunks(chunk_size + 1).skip(skip).take(chunks) {
            payload.extend_from_slice(&piece[..piece.len().min(chunk_size)]);
        }
        payload
    }
}

/// The length of a type-0 header without an extended time stamp, on the chunk streams used here.
const PLAIN_HEADER: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::chunk::ChunkDecoder;
    use crate::rtmp::message::Message;

    const CHUNK_SIZE: usize = 128;

    fn decode(pieces: &[Bytes]) -> Vec<Message> {
        let mut decoder = ChunkDecoder::new();
        let mut messages = Vec::new();
        for piece in pieces {
            let mut rest = &piece[..];
            while let Some(message) = decoder.decode(&mut rest).unwrap() {
                messages.push(message);
            }
        }
        messages
    }

    #[test]
    fn an_entry_made_absolute_decodes_to_its_message_at_any_size_and_time() {
        for size in [0, 1, 127, 128, 129, 255, 256, 257, 1000, 128 * 1024, 128 * 1024 + 1, 300_000] {
            for time in [0, 5, 0xff_fffe, 0xff_ffff, 0x1234_5678] {
                let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
                let mut backlog = Backlog::new(CHUNK_SIZE, &Account::default());
                let now = Instant::now();
                backlog.append(Track::Video, 40, Mark::Plain, b"before", now);
                backlog.append(Track::Video, 80, Mark::Plain, &payload, now);
                backlog.close_page().unwrap();
                for number in [0, 1] {
                    let mut out = Vec::new();
                    if let Some(mut rest) = backlog.get(number).unwrap().absolute(time, 7, &mut out) {
                        while out.is_empty() || !rest.is_done() {
                            out.push(rest.next_piece(&Account::default()));
                            assert!(out[out.len() - 1].len() < 140_000);
                        }
                    }
                    let messages = decode(&out);
                    assert_eq!(messages.len(), 1);
                    let expected = if number == 0 { b"before" } else { &payload[..] };
                    assert_eq!((messages[0].timestamp, messages[0].stream_id), (time, 7));
                    assert_eq!(&messages[0].payload[..], expected);
                }
            }
        }
    }

    #[test]
    fn room_that_is_in_no_account_is_not_kept() {
        let mut backlog = Backlog::new(CHUNK_SIZE, &Account::default());
        for time in 0..10_000 {
            backlog.append(Track::Audio, time, Mark::Plain, &[1], Instant::now());
            if backlog.is_full(true) {
                backlog.close_page();
            }
        }
        backlog.close_page();
        assert!(backlog.pending.capacity() <= ROOM);
        for keep in (0..=10_000).step_by(100) {
            backlog.trim(keep, 0, usize::MAX);
            assert!(backlog.entries.capacity() <= ROOM.max(4 * backlog.entries.len()), "at {keep}");
        }
        assert_eq!((backlog.first(), backlog.end()), (10_000, 10_000));
    }

    #[test]
    fn a_page_is_its_entries_in_a_row() {
        let mut backlog = Backlog::new(CHUNK_SIZE, &Account::default());
        let now = Instant::now();
        for time in 0..10u64 {
            backlog.append(Track::Audio, time * 23, Mark::Plain, &[1; 50], now);
            backlog.append(Track::Video, time * 40, Mark::Plain, &[2; 500], now);
        }
        assert_eq!((backlog.end(), backlog.next()), (0, 20));
        let page = backlog.close_page().unwrap();
        assert!(backlog.close_page().is_none() && backlog.opened().is_none());
        assert_eq!(
            (page.tracks, page.shared, page.messages),
            (0b11, false, 20),
            "the first of each track is not shared"
        );
        let entries: Vec<u8> = (0..20).flat_map(|number| backlog.get(number).unwrap().bytes.to_vec()).collect();
        assert_eq!(entries, page.bytes);
        assert_eq!(backlog.bytes(), page.bytes.len() + 20 * size_of::<Entry>());
    }

    #[test]
    fn a_delta_that_cannot_be_written_is_not_shared() {
        let mut backlog = Backlog::new(CHUNK_SIZE, &Account::default());
        let now = Instant::now();
        for time in [1000, 1040, 1000, 1_000 + u64::from(MAX_DELTA), 2_001 + 2 * u64::from(MAX_DELTA)] {
            backlog.append(Track::Video, time, Mark::Plain, &[1], now);
        }
        backlog.close_page();
        let shared: Vec<_> = (0..5).map(|number| backlog.get(number).unwrap().shared).collect();
        assert_eq!(shared, [false, true, false, true, false], "the first, a step back, a step too far");
    }

    #[test]
    fn trimming_keeps_what_is_needed_within_its_bounds() {
        let mut backlog = Backlog::new(CHUNK_SIZE, &Account::default());
        for time in 0..10 {
            backlog.append(Track::Video, time * 100, Mark::Plain, &[1; 92], Instant::now());
        }
        backlog.close_page();
        let entry = backlog.get(9).unwrap().bytes.len() + size_of::<Entry>();
        backlog.trim(3, 0, usize::MAX);
        assert_eq!((backlog.first(), backlog.get(2).is_none()), (3, true));
        backlog.trim(3, 450, usize::MAX);
        assert_eq!(backlog.first(), 5, "what is too old goes though it is needed");
        backlog.trim(3, 0, 2 * entry);
        assert_eq!((backlog.first(), backlog.bytes()), (8, 2 * entry), "and what is too much");
        assert_eq!(backlog.since(850), 9);
        backlog.trim(u64::MAX, 0, 0);
        assert_eq!((backlog.first(), backlog.end(), backlog.bytes()), (10, 10, 0));
    }

    #[test]
    fn many_are_forgotten_at_once_and_few_in_their_time() {
        let filled = || {
            let mut backlog = Backlog::new(CHUNK_SIZE, &Account::default());
            for time in 0..MANY as u64 + 10 {
                backlog.append(Track::Audio, time, Mark::Plain, &[1; 10], Instant::now());
            }
            backlog.close_page();
            backlog
        };
        let (mut backlog, mut other) = (filled(), filled());
        let all = backlog.entries.len() as u64;
        backlog.forget_many(100);
        assert_eq!((backlog.first(), backlog.end()), (0, all));
        backlog.forget_many(all - 10);
        other.trim(all - 10, 0, usize::MAX);
        assert_eq!((backlog.first(), backlog.end(), backlog.bytes()), (other.first(), all, other.bytes()));
        assert_eq!(backlog.get(all - 10).unwrap().bytes, other.get(all - 10).unwrap().bytes);
        let mut backlog = filled();
        backlog.forget_many(u64::MAX);
        assert_eq!((backlog.first(), backlog.end(), backlog.bytes()), (all, all, 0));
    }
}
