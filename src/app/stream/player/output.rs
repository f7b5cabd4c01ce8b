//! The messages that one player gets: headers before media, and absolute timestamps where a delta is not valid.

use bytes::{Bytes, BytesMut};

use super::Player;
use crate::app::stream::headers::{CachedHeader, HeaderCache, HeaderKey, set_data_frame};
use crate::app::stream::packet_log::{LogEntry, PacketKind, PacketLog};
use crate::app::stream::track::Track;
use crate::memory::Category;
use crate::rtmp::chunk::{ChunkHeader, ChunkStreamId, DEFAULT_CHUNK_SIZE, encode};
use crate::rtmp::message::MessageType;

/// Entries that are searched for the first time of a player: enough to find a message of each track.
const BASE_TIME_SEARCH: u64 = 64;

impl Player {
    /// Appends the sequence headers and metadata that the player needs at its cursor and has not got.
    pub(super) fn append_headers(&mut self, headers: &HeaderCache, log: &PacketLog, latest: u64, out: &mut Vec<Bytes>) {
        let is_missing = |header: &&CachedHeader| {
            let is_stale = self.headers_stale & header.key.track().bit() != 0;
            header.seq < self.cursor && (is_stale || header.seq >= self.headers_sent_to)
        };
        let mut missing: Vec<_> = headers.iter().filter(is_missing).collect();
        // Players expect metadata first, then video, then audio.
        missing.sort_by_key(|header| match header.key.track() {
            Track::Data => 0,
            Track::Video => 1,
            _ => 2,
        });
        // Not later than the media that follow.
        let time = first_media_time(log, self.cursor).unwrap_or(latest);
        let timestamp = self.base_time.map_or(0, |base| time.saturating_sub(base) as u32);
        for header in missing {
            let track = header.key.track();
            if self.wanted & track.bit() == 0 {
                continue;
            }
            let bytes = if self.is_forwarder && header.key == HeaderKey::Metadata {
                self.encode(track, timestamp, &set_data_frame(&header.payload), self.chunk_size)
            } else {
                self.encode(track, timestamp, &header.payload, self.chunk_size)
            };
            out.push(log.memory().charge_bytes(Category::Media, bytes));
            self.sent += 1;
            // The next delta of the packet log is not relative to this message.
            self.delta_valid &= !track.bit();
        }
        self.headers_sent_to = self.headers_sent_to.max(self.cursor);
        self.headers_stale &= !self.wanted;
    }

    /// Appends an entry, if the player wants its track and does not wait for a keyframe.
    pub(super) fn append_entry(&mut self, entry: &LogEntry, log: &PacketLog, out: &mut Vec<Bytes>) {
        let bit = entry.track.bit();
        if self.wanted & bit == 0 {
            self.delta_valid &= !bit;
            return;
        }
        if entry.track == Track::Video && self.awaits_keyframe && entry.kind != PacketKind::Header {
            if entry.kind != PacketKind::Keyframe {
                self.delta_valid &= !bit;
                return;
            }
            self.awaits_keyframe = false;
        }
        if entry.chunk_size != self.chunk_size {
            self.chunk_size = entry.chunk_size;
            out.push(encode_set_chunk_size(entry.chunk_size));
        }
        self.sent += 1;
        if entry.has_delta && self.delta_valid & bit != 0 {
            out.push(entry.bytes.clone());
            return;
        }
        let timestamp = self.timestamp(entry, log);
        // The timestamp on the wire has 32 bits and wraps.
        let wire_timestamp = timestamp.unwrap_or(0) as u32;
        if self.is_forwarder && entry.track == Track::Data {
            // A data message differs between what a publisher sends and what a player gets, so its bytes are never
            // shared.
            out.push(log.memory().charge_bytes(Category::Media, self.encode_published_data(entry, wire_timestamp)));
            return;
        }
        self.partial = entry.with_full_header(wire_timestamp, self.stream_id, out);
        self.continue_partial(log, out);
        // A forwarder gets the whole message at once: there is one per target, and its stream may end with this
        // message.
        while self.is_forwarder && self.continue_partial(log, out) {}
        // Without a true time, a delta to this message would be wrong.
        if timestamp.is_some() && entry.track != Track::Status {
            self.delta_valid |= bit;
        }
    }

    fn encode_published_data(&self, entry: &LogEntry, timestamp: u32) -> Bytes {
        let payload = entry.payload();
        let payload = if entry.kind == PacketKind::Header { set_data_frame(&payload) } else { payload };
        self.encode(entry.track, timestamp, &payload, entry.chunk_size)
    }

    fn encode(&self, track: Track, timestamp: u32, payload: &[u8], chunk_size: u32) -> Bytes {
        let header =
            ChunkHeader { csid: track.csid(), kind: track.message_type(), timestamp, stream_id: self.stream_id };
        let mut bytes = BytesMut::new();
        encode(&mut bytes, &header, payload, chunk_size as usize);
        bytes.freeze()
    }

    /// Returns an entry's time on the player's clock, which is zero where its media start. `None` if the entry is older
    /// than that.
    fn timestamp(&mut self, entry: &LogEntry, log: &PacketLog) -> Option<u64> {
        let is_media = matches!(entry.track, Track::Audio | Track::Video) && entry.kind != PacketKind::Header;
        if self.base_time.is_none() && is_media {
            self.base_time = Some(first_media_time(log, self.cursor).unwrap_or(entry.time));
        }
        entry.time.checked_sub(self.base_time?)
    }
}

/// Encodes Set Chunk Size (RTMP section 5.4.1), which fits one chunk of any size.
fn encode_set_chunk_size(size: u32) -> Bytes {
    let header =
        ChunkHeader { csid: ChunkStreamId::CONTROL, kind: MessageType::SET_CHUNK_SIZE, timestamp: 0, stream_id: 0 };
    let mut bytes = BytesMut::new();
    encode(&mut bytes, &header, &size.to_be_bytes(), DEFAULT_CHUNK_SIZE);
    bytes.freeze()
}

/// Returns the lower of the times of the first audio and the first video message from `seq` on.
fn first_media_time(log: &PacketLog, seq: u64) -> Option<u64> {
    let first_of = |track| {
        (seq..seq + BASE_TIME_SEARCH)
            .map_while(|seq| log.get(seq))
            .find(|entry| entry.track == track && entry.kind != PacketKind::Header)
            .map(|entry| entry.time)
    };
    match (first_of(Track::Audio), first_of(Track::Video)) {
        (Some(audio), Some(video)) => Some(audio.min(video)),
        (audio, video) => audio.or(video),
    }
}
