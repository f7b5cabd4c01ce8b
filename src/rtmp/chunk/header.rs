//! The headers of chunks (RTMP section 5.3.1), and the state of a chunk stream that they change.

use bytes::BytesMut;

use super::Error;
use crate::rtmp::message::MessageType;

#[derive(Debug)]
pub(super) struct ChunkStream {
    pub(super) csid: u32,
    pub(super) kind: MessageType,
    pub(super) length: usize,
    pub(super) stream_id: u32,
    pub(super) timestamp: u32,
    /// Added to the time stamp by the next message if it starts with a type-3 chunk.
    pub(super) delta: u32,
    /// The extended time stamp field as it was sent, if present.
    pub(super) extended: Option<u32>,
    /// The peer omits the extended time stamp in type-3 chunks.
    pub(super) omits_extended: bool,
    /// The received bytes of the incomplete message, if there is one.
    pub(super) payload: Option<BytesMut>,
}

/// The fields of a chunk's message header that are present in its type.
pub(super) struct MessageHeader {
    pub(super) fmt: u8,
    /// Time stamp (type 0) or delta (types 1 and 2).
    pub(super) time: Option<u32>,
    /// The extended time stamp field, if present.
    pub(super) extended: Option<u32>,
    pub(super) length_and_kind: Option<(usize, MessageType)>,
    pub(super) stream_id: Option<u32>,
}

impl ChunkStream {
    pub(super) fn apply(&mut self, new: &MessageHeader) -> Result<(), Error> {
        if let Some(payload) = &self.payload {
            return self.check_continuation(payload.len(), new);
        }
        if let Some((length, kind)) = new.length_and_kind {
            (self.length, self.kind) = (length, kind);
        }
        if let Some(stream_id) = new.stream_id {
            self.stream_id = stream_id;
        }
        match (new.fmt, new.time) {
            // The delta of a message that starts with type 3 after this one (section 5.3.1.2.4); ffmpeg relies on it.
            (0, Some(time)) => (self.timestamp, self.delta, self.extended) = (time, time, new.extended),
            (_, Some(delta)) => {
                self.extended = new.extended;
                self.delta = if new.extended.is_some() { delta } else { sign_extended(delta) };
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            (_, None) => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        self.payload = Some(BytesMut::new());
        Ok(())
    }

    /// Checks a chunk that continues a message: type 3, or a header that repeats length and type.
    fn check_continuation(&self, received: usize, new: &MessageHeader) -> Result<(), Error> {
        let same = new.length_and_kind.is_none_or(|again| again == (self.length, self.kind));
        if new.fmt == 0 || !same {
            let length = new.length_and_kind.map_or(self.length, |(length, _)| length);
            return Err(Error::HeaderInMessage { csid: self.csid, length, received, expected: self.length });
        }
        Ok(())
    }
}

/// Returns the type, chunk stream id and length of a basic header (section 5.3.1.1).
pub(super) fn basic_header(bytes: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *bytes.first()?;
    let (csid, len) = match first & 0x3f {
        0 => (64 + u32::from(*bytes.get(1)?), 2),
        1 => (64 + u32::from(*bytes.get(1)?) + 256 * u32::from(*bytes.get(2)?), 3),
        csid => (u32::from(csid), 1),
    };
    Some((first >> 6, csid, len))
}

pub(super) fn be24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}

/// Converts a 24-bit delta. More than half the range is negative: some encoders send it when their clock steps back, and no
/// stream pauses for two hours between two messages.
fn sign_extended(delta: u32) -> u32 {
    if delta >= 0x80_0000 { delta | 0xff00_0000 } else { delta }
}
