//! Encodes messages as chunks.

use bytes::{BufMut, BytesMut};

use super::{ChunkStreamId, EXTENDED_TIMESTAMP, MAX_MESSAGE};
use crate::rtmp::message::MessageType;

/// The header fields of a message.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHeader {
    /// The chunk stream.
    pub csid: ChunkStreamId,
    /// The message type.
    pub kind: MessageType,
    /// The absolute time stamp, in milliseconds modulo 2^32.
    pub timestamp: u32,
    /// The message stream id.
    pub stream_id: u32,
}

/// Maximum delta of [`encode_delta`], in milliseconds: half the range, because some peers read a larger one as negative.
pub const MAX_DELTA: u32 = 0x7f_ffff;

/// Appends a message: a chunk of type 0 with the absolute time stamp, then chunks of type 3. Returns the length of the first
/// chunk header. Truncates a payload above [`MAX_MESSAGE`].
pub fn encode(out: &mut BytesMut, header: &ChunkHeader, payload: &[u8], chunk_size: usize) -> usize {
    let payload = &payload[..payload.len().min(MAX_MESSAGE)];
    let extended = (header.timestamp >= EXTENDED_TIMESTAMP).then_some(header.timestamp);
    let before = out.len();
    basic_header(out, 0, header.csid);
    let ([t2, t1, t0], [l2, l1, l0]) = (be24(header.timestamp.min(EXTENDED_TIMESTAMP)), be24(payload.len() as u32));
    let [i0, i1, i2, i3] = header.stream_id.to_le_bytes();
    out.put_slice(&[t2, t1, t0, l2, l1, l0, header.kind.0, i0, i1, i2, i3]);
    if let Some(extended) = extended {
        out.put_u32(extended);
    }
    let header_len = out.len() - before;
    put_payload(out, header.csid, extended, payload, chunk_size);
    header_len
}

/// Appends a message as [`encode`] does, but with a first chunk of type 1: the time stamp is `delta` milliseconds (at most
/// [`MAX_DELTA`]) after the previous message of the chunk stream, and the message stream is the same.
pub fn encode_delta(out: &mut BytesMut, header: &ChunkHeader, delta: u32, payload: &[u8], chunk_size: usize) -> usize {
    debug_assert!(delta <= MAX_DELTA);
    let payload = &payload[..payload.len().min(MAX_MESSAGE)];
    let before = out.len();
    basic_header(out, 1, header.csid);
    let ([d2, d1, d0], [l2, l1, l0]) = (be24(delta), be24(payload.len() as u32));
    out.put_slice(&[d2, d1, d0, l2, l1, l0, header.kind.0]);
    let header_len = out.len() - before;
    put_payload(out, header.csid, None, payload, chunk_size);
    header_len
}

/// Appends more payload of a message whose first part was [encoded](encode), as chunks of type 3.
pub fn encode_continuation(out: &mut BytesMut, header: &ChunkHeader, payload: &[u8], chunk_size: usize) {
    let extended = (header.timestamp >= EXTENDED_TIMESTAMP).then_some(header.timestamp);
    put_continuation(out, header.csid, extended, payload, chunk_size);
}

fn put_payload(out: &mut BytesMut, csid: ChunkStreamId, extended: Option<u32>, payload: &[u8], chunk_size: usize) {
    let (first, rest) = payload.split_at(payload.len().min(chunk_size));
    out.put_slice(first);
    put_continuation(out, csid, extended, rest, chunk_size);
}

fn put_continuation(out: &mut BytesMut, csid: ChunkStreamId, extended: Option<u32>, payload: &[u8], chunk_size: usize) {
    for piece in payload.chunks(chunk_size) {
        basic_header(out, 3, csid);
        if let Some(extended) = extended {
            out.put_u32(extended);
        }
        out.put_slice(piece);
    }
}

/// Returns the 24 low bits. A header is appended at once: each append costs a check of the buffer's capacity.
fn be24(value: u32) -> [u8; 3] {
    let [_, bytes @ ..] = value.to_be_bytes();
    bytes
}

/// Appends the basic header in its shortest form (section 5.3.1.1).
fn basic_header(out: &mut BytesMut, fmt: u8, ChunkStreamId(csid): ChunkStreamId) {
    let fmt = fmt << 6;
    match csid {
        // Both values fit in a byte.
        0..64 => out.put_u8(fmt | csid as u8),
        64..320 => out.put_slice(&[fmt, (csid - 64) as u8]),
        _ => {
            out.put_u8(fmt | 1);
            out.put_u16_le((csid - 64) as u16);
        }
    }
}
