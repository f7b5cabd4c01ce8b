//! A message as RTMP chunks that are the same for all subscribers, except for the first header.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::app::stream::track::Track;
use crate::rtmp::chunk::{ChunkHeader, MAX_DELTA, encode, encode_delta};

/// Length of a type 0 chunk header without an extended timestamp, on the chunk streams used here.
const FULL_HEADER: usize = 12;

/// Bytes added for each chunk after the first: its header and, at most, an extended timestamp.
pub(super) const MAX_CONTINUATION_HEADER: usize = 5;

/// Bytes that are certainly enough for the header of a message.
pub(super) const MAX_MESSAGE_HEADER: usize = 64;

/// Position of the message length in a chunk header of type 0 or 1, with a chunk stream id of one byte.
const LENGTH_FIELD: Range<usize> = 4..7;

/// Layout of the chunks of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLayout {
    pub(crate) encoded_len: u32,
    /// It can change with the vhost's configuration.
    pub(crate) chunk_size: u32,
    header_len: u8,
    /// True if the first chunk carries a delta to the previous message of the track. If not, each subscriber needs a copy.
    pub(crate) has_delta: bool,
}

/// Handle to the chunks of a message.
#[derive(Debug, Clone)]
pub(crate) struct SharedMessage {
    pub(crate) bytes: Bytes,
    pub(crate) layout: MessageLayout,
}

impl MessageLayout {
    pub(crate) fn max_len(payload_len: usize, chunk_size: u32) -> usize {
        payload_len + payload_len / chunk_size as usize * MAX_CONTINUATION_HEADER + MAX_MESSAGE_HEADER
    }

    /// Appends a message to `out`.
    // Returned through memory, it is read before the payload is written out, and waits for that.
    #[inline]
    pub(crate) fn encode(
        out: &mut BytesMut,
        track: Track,
        since_last: Option<u64>,
        payload: &[u8],
        chunk_size: u32,
    ) -> Self {
        let delta = since_last.and_then(|time| u32::try_from(time).ok());
        let delta = delta.filter(|&delta| delta <= MAX_DELTA && track != Track::Status);
        // Timestamp and message stream differ by subscriber: `with_full_header` sets them.
        let header = ChunkHeader { csid: track.csid(), kind: track.message_type(), timestamp: 0, stream_id: 0 };
        let start = out.len();
        let header_len = match delta {
            Some(delta) => encode_delta(out, &header, delta, payload, chunk_size as usize),
            None => encode(out, &header, payload, chunk_size as usize),
        };
        // At most three bytes of basic header, eleven of message header, four of extended timestamp.
        let header_len = header_len as u8;
        let encoded_len = (out.len() - start) as u32;
        Self { encoded_len, chunk_size, header_len, has_delta: delta.is_some() }
    }

    pub(crate) fn payload_len(&self) -> usize {
        // Each chunk after the first has a header of one byte.
        let body = self.encoded_len as usize - usize::from(self.header_len);
        body - body.saturating_sub(1) / (self.chunk_size as usize + 1)
    }

    /// Appends the payload of a message that has this layout to `out`.
    #[cfg(feature = "http")]
    pub(crate) fn append_payload(&self, chunks: &[u8], out: &mut BytesMut) {
        let chunk_size = self.chunk_size as usize;
        for piece in chunks[usize::from(self.header_len)..].chunks(chunk_size + 1) {
            out.extend_from_slice(&piece[..piece.len().min(chunk_size)]);
        }
    }
}

impl SharedMessage {
    /// Appends the message to `out` with another header, which has an absolute timestamp. Returns false if that would be
    /// an extended timestamp, which is in each chunk; nothing is appended then.
    pub(crate) fn with_full_header(&self, header: &ChunkHeader, out: &mut Vec<Bytes>) -> bool {
        let mut head = BytesMut::new();
        let header_len = encode(&mut head, header, &[], self.layout.chunk_size as usize);
        if header_len != FULL_HEADER {
            return false;
        }
        self.set_message_length(&mut head);
        out.extend([head.freeze(), self.bytes.slice(usize::from(self.layout.header_len)..)]);
        true
    }

    /// Writes the length of the whole message into `head`, which was encoded with none or a part of the payload.
    pub(super) fn set_message_length(&self, head: &mut [u8]) {
        head[LENGTH_FIELD].copy_from_slice(&(self.layout.payload_len() as u32).to_be_bytes()[1..]);
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        self.payload_of_chunks(0, usize::MAX)
    }

    /// Returns a copy of the payload of `count` chunks after the first `skip`.
    pub(super) fn payload_of_chunks(&self, skip: usize, count: usize) -> Vec<u8> {
        let chunk_size = self.layout.chunk_size as usize;
        let body = &self.bytes[usize::from(self.layout.header_len)..];
        let left = self.layout.payload_len().saturating_sub(skip.saturating_mul(chunk_size));
        let mut payload = Vec::with_capacity(left.min(count.saturating_mul(chunk_size)));
        // Each piece but the last ends with the header of the next chunk.
        for piece in body.chunks(chunk_size + 1).skip(skip).take(count) {
            payload.extend_from_slice(&piece[..piece.len().min(chunk_size)]);
        }
        payload
    }
}
