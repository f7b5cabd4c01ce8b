//! RTMP chunks for one subscriber: headers before media, and absolute timestamps where a delta is not valid. Everything
//! else are the shared bytes of the packet log.

pub(crate) mod extended_timestamp;
pub(crate) mod shared;

use bytes::{Bytes, BytesMut};

use self::extended_timestamp::ExtendedTimestampEncoder;
use self::shared::SharedMessage;
use crate::app::stream::cursor::Cursor;
use crate::app::stream::headers::{HeaderCache, HeaderKey, set_data_frame};
use crate::app::stream::packet_log::{Batch, LogEntry, PacketKind, PacketLog};
use crate::app::stream::track::Track;
use crate::memory::{Category, MemoryTracker};
use crate::rtmp::chunk::{ChunkHeader, ChunkStreamId, DEFAULT_CHUNK_SIZE, encode};
use crate::rtmp::message::{MessageType, UserControl};

/// Entries that are searched for the first time of a subscriber: enough to find a message of each track.
const BASE_TIME_SEARCH: u64 = 64;

pub(crate) struct RtmpEncoder {
    stream_id: u32,
    chunk_size: u32,
    /// Tracks on which a delta is valid: the peer has had the previous message. A bit each.
    delta_valid: u8,
    /// Tracks whose headers have to be sent again, a bit each.
    headers_stale: u8,
    /// Encodes data as a publisher sends it, not as a player gets it.
    as_publisher: bool,
    /// Headers with a lower sequence number were sent.
    headers_sent_to: u64,
    /// Corrected time, in milliseconds, that is zero for the peer.
    base_time: Option<u64>,
    partial: Option<Box<ExtendedTimestampEncoder>>,
}

impl RtmpEncoder {
    /// Creates the encoder of a connection that knows `chunk_size`, for the message stream `stream_id`.
    pub(crate) fn new(stream_id: u32, chunk_size: usize) -> Self {
        Self {
            stream_id,
            chunk_size: chunk_size as u32,
            delta_valid: 0,
            headers_stale: 0,
            as_publisher: false,
            headers_sent_to: 0,
            base_time: None,
            partial: None,
        }
    }

    pub(crate) fn for_publishing(self) -> Self {
        Self { as_publisher: true, ..self }
    }

    pub(crate) fn restart(&mut self, stream_id: u32, chunk_size: usize) {
        *self = Self { as_publisher: self.as_publisher, ..Self::new(stream_id, chunk_size) };
    }

    pub(crate) fn chunk_size(&self) -> usize {
        self.chunk_size as usize
    }

    /// Returns whether the bytes of a batch can be sent as they are.
    pub(crate) fn shares(&self, batch: &Batch) -> bool {
        batch.all_delta && batch.chunk_size == self.chunk_size && batch.tracks & !self.delta_valid == 0
    }

    pub(crate) fn set_position(&mut self, seq: u64) {
        self.headers_sent_to = seq;
    }

    pub(crate) fn skip(&mut self, track: Track) {
        self.delta_valid &= !track.bit();
    }

    pub(crate) fn on_move(&mut self) {
        self.delta_valid = 0;
    }

    pub(crate) fn on_select(&mut self, track: Track, wanted: bool) {
        self.skip(track);
        if wanted {
            self.headers_stale |= track.bit();
        }
    }

    pub(crate) fn has_partial(&self) -> bool {
        self.partial.is_some()
    }

    pub(crate) fn continue_partial(&mut self, memory: &MemoryTracker, out: &mut Vec<Bytes>) -> bool {
        let Some(partial) = &mut self.partial else { return false };
        out.push(partial.next_piece(memory));
        if partial.is_done() {
            self.partial = None;
        }
        true
    }

    /// Appends the sequence headers and metadata that the subscriber needs at its cursor and has not got. Returns their number.
    pub(crate) fn append_headers(
        &mut self,
        cursor: &Cursor,
        headers: &HeaderCache,
        log: &PacketLog,
        latest: u64,
        out: &mut Vec<Bytes>,
    ) -> u64 {
        let missing = headers.missing(cursor.seq, self.headers_sent_to, self.headers_stale);
        // Not later than the media that follow.
        let time = first_media_time(log, cursor.seq).unwrap_or(latest);
        let timestamp = self.base_time.map_or(0, |base| time.saturating_sub(base) as u32);
        let mut count = 0;
        for header in missing {
            let track = header.key.track();
            if cursor.wanted & track.bit() == 0 {
                continue;
            }
            let bytes = if self.as_publisher && header.key == HeaderKey::Metadata {
                self.encode(track, timestamp, &set_data_frame(&header.payload), self.chunk_size)
            } else {
                self.encode(track, timestamp, &header.payload, self.chunk_size)
            };
            out.push(log.memory().charge_bytes(Category::Media, bytes));
            count += 1;
            // The next delta of the packet log is not relative to this message.
            self.skip(track);
        }
        self.headers_sent_to = self.headers_sent_to.max(cursor.seq);
        self.headers_stale &= !cursor.wanted;
        count
    }

    pub(crate) fn append(&mut self, entry: &LogEntry, seq: u64, log: &mut PacketLog, out: &mut Vec<Bytes>) {
        let Some(message) = log.share(seq) else { return };
        let (track, layout) = (entry.track, entry.layout);
        if layout.chunk_size != self.chunk_size {
            self.chunk_size = layout.chunk_size;
            out.push(encode_set_chunk_size(layout.chunk_size));
        }
        if layout.has_delta && self.delta_valid & track.bit() != 0 {
            out.push(message.bytes);
            return;
        }
        match entry.kind {
            PacketKind::Begin => out.push(encode_user_control(UserControl::StreamBegin(self.stream_id))),
            // GStreamer's rtmp2src ends at nothing else.
            PacketKind::End => out.push(encode_user_control(UserControl::StreamEof(self.stream_id))),
            PacketKind::Regular | PacketKind::Keyframe | PacketKind::Header => {}
        }
        let timestamp = self.timestamp(entry, seq, log);
        // The timestamp on the wire has 32 bits and wraps.
        let wire_timestamp = timestamp.unwrap_or(0) as u32;
        if self.as_publisher && track == Track::Data {
            // Data differs between what a publisher sends and what a player gets, so its bytes are never shared.
            out.push(
                log.memory().charge_bytes(Category::Media, self.encode_published_data(entry, &message, wire_timestamp)),
            );
            return;
        }
        let header = ChunkHeader {
            csid: track.csid(),
            kind: track.message_type(),
            timestamp: wire_timestamp,
            stream_id: self.stream_id,
        };
        if !message.with_full_header(&header, out) {
            self.partial = Some(Box::new(ExtendedTimestampEncoder::new(message, header)));
            self.continue_partial(log.memory(), out);
        }
        // A forwarder gets the whole message at once: its stream may end with it.
        while self.as_publisher && self.continue_partial(log.memory(), out) {}
        // Without a true time, a delta to this message would be wrong.
        if timestamp.is_some() && track != Track::Status {
            self.delta_valid |= track.bit();
        }
    }

    fn encode_published_data(&self, entry: &LogEntry, message: &SharedMessage, timestamp: u32) -> Bytes {
        let payload = message.payload();
        let payload = if entry.kind == PacketKind::Header { set_data_frame(&payload) } else { payload };
        self.encode(entry.track, timestamp, &payload, entry.layout.chunk_size)
    }

    fn encode(&self, track: Track, timestamp: u32, payload: &[u8], chunk_size: u32) -> Bytes {
        let header =
            ChunkHeader { csid: track.csid(), kind: track.message_type(), timestamp, stream_id: self.stream_id };
        let mut bytes = BytesMut::new();
        encode(&mut bytes, &header, payload, chunk_size as usize);
        bytes.freeze()
    }

    /// Returns an entry's time on the peer's clock, which is zero where its media start. `None` if the entry is older than that.
    fn timestamp(&mut self, entry: &LogEntry, seq: u64, log: &PacketLog) -> Option<u64> {
        let is_media = matches!(entry.track, Track::Audio | Track::Video) && entry.kind != PacketKind::Header;
        if self.base_time.is_none() && is_media {
            self.base_time = Some(first_media_time(log, seq).unwrap_or(entry.time));
        }
        entry.time.checked_sub(self.base_time?)
    }
}

fn encode_set_chunk_size(size: u32) -> Bytes {
    encode_control(MessageType::SET_CHUNK_SIZE, &size.to_be_bytes())
}

fn encode_user_control(event: UserControl) -> Bytes {
    encode_control(MessageType::USER_CONTROL, &event.write())
}

/// Encodes a message of the connection (RTMP sections 5.4 and 6.2), which fits one chunk of any size.
fn encode_control(kind: MessageType, payload: &[u8]) -> Bytes {
    let header = ChunkHeader { csid: ChunkStreamId::CONTROL, kind, timestamp: 0, stream_id: 0 };
    let mut bytes = BytesMut::new();
    encode(&mut bytes, &header, payload, DEFAULT_CHUNK_SIZE);
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
