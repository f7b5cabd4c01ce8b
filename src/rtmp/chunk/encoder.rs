//! Messages to chunks.

use bytes::{BufMut, BytesMut};

use super::{ChunkStreamId, EXTENDED, MAX_MESSAGE};
use crate::rtmp::message::MessageType;

/// What the chunks of a message say of it.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHeader {
    /// The chunk stream that it goes on.
    pub csid: ChunkStreamId,
    /// What kind of message.
    pub kind: MessageType,
    /// Absolute, in milliseconds modulo 2^32.
    pub timestamp: u32,
    /// The message stream.
    pub stream_id: u32,
}

/// The greatest delta that [`encode_delta`] can express, in milliseconds: half the range, since more means "back" to some.
pub const MAX_DELTA: u32 = 0x7f_ffff;

/// Appends a message: a chunk of type 0, with the absolute time stamp, and chunks of type 3.
/// Returns the length of the first chunk's header. A payload beyond the protocol's 16 MB is cut.
pub fn encode(out: &mut BytesMut, header: &ChunkHeader, payload: &[u8], chunk_size: usize) -> usize {
    let payload = &payload[..payload.len().min(MAX_MESSAGE)];
    let extended = (header.timestamp >= EXTENDED).then_some(header.timestamp);
    let before = out.len();
    basic_header(out, 0, header.csid);
    out.put_uint(header.timestamp.min(EXTENDED).into(), 3);
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(header.kind.0);
    out.put_u32_le(header.stream_id);
    if let Some(extended) = extended {
        out.put_u32(extended);
    }
    let header_len = out.len() - before;
    put_payload(out, header.csid, extended, payload, chunk_size);
    header_len
}

/// Appends a message as [`encode`] does, but with a chunk of type 1: its time is `delta` milliseconds (at most [`MAX_DELTA`])
/// after the message before it on this chunk stream, and its message stream is the same.
pub fn encode_delta(out: &mut BytesMut, header: &ChunkHeader, delta: u32, payload: &[u8], chunk_size: usize) -> usize {
    debug_assert!(delta <= MAX_DELTA);
    let payload = &payload[..payload.len().min(MAX_MESSAGE)];
    let before = out.len();
    basic_header(out, 1, header.csid);
    out.put_uint(delta.into(), 3);
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(header.kind.0);
    let header_len = out.len() - before;
    put_payload(out, header.csid, None, payload, chunk_size);
    header_len
}

/// Appends more of the payload of a message whose first part was [encoded](encode): chunks of type 3.
pub fn encode_rest(out: &mut BytesMut, header: &ChunkHeader, payload: &[u8], chunk_size: usize) {
    let extended = (header.timestamp >= EXTENDED).then_some(header.timestamp);
    put_rest(out, header.csid, extended, payload, chunk_size);
}

fn put_payload(out: &mut BytesMut, csid: ChunkStreamId, extended: Option<u32>, payload: &[u8], chunk_size: usize) {
    let (first, rest) = payload.split_at(payload.len().min(chunk_size));
    out.put_slice(first);
    put_rest(out, csid, extended, rest, chunk_size);
}

fn put_rest(out: &mut BytesMut, csid: ChunkStreamId, extended: Option<u32>, payload: &[u8], chunk_size: usize) {
    for piece in payload.chunks(chunk_size) {
        basic_header(out, 3, csid);
        if let Some(extended) = extended {
            out.put_u32(extended);
        }
        out.put_slice(piece);
    }
}

/// The basic header in its shortest form (section 5.3.1.1).
fn basic_header(out: &mut BytesMut, fmt: u8, ChunkStreamId(csid): ChunkStreamId) {
    let fmt = fmt << 6;
    match csid {
        // Below 64 and below 320, so both fit a byte.
        0..64 => out.put_u8(fmt | csid as u8),
        64..320 => out.put_slice(&[fmt, (csid - 64) as u8]),
        _ => {
            out.put_u8(fmt | 1);
            out.put_u16_le((csid - 64) as u16);
        }
    }
}
