//! Messages before and after chunking (sections 5.3 and 7.1).

use std::fmt;

use bytes::Bytes;

/// A message type id. Unknown ids are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// Set Chunk Size, section 5.4.1.
    pub const SET_CHUNK_SIZE: Self = Self(1);
    /// Abort Message, section 5.4.2.
    pub const ABORT: Self = Self(2);
    /// Acknowledgement, section 5.4.3.
    pub const ACKNOWLEDGEMENT: Self = Self(3);
    /// User Control Message, section 6.2.
    pub const USER_CONTROL: Self = Self(4);
    /// Window Acknowledgement Size, section 5.4.4.
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: Self = Self(5);
    /// Set Peer Bandwidth, section 5.4.5.
    pub const SET_PEER_BANDWIDTH: Self = Self(6);
    /// Audio, section 7.1.4.
    pub const AUDIO: Self = Self(8);
    /// Video, section 7.1.5.
    pub const VIDEO: Self = Self(9);
    /// Data in AMF3: an AMF0 message after one byte, section 7.1.2.
    pub const DATA_AMF3: Self = Self(15);
    /// Shared object in AMF3, section 7.1.3.
    pub const SHARED_OBJECT_AMF3: Self = Self(16);
    /// Command in AMF3: an AMF0 message after one byte, section 7.1.1.
    pub const COMMAND_AMF3: Self = Self(17);
    /// Data in AMF0, section 7.1.2.
    pub const DATA: Self = Self(18);
    /// Shared object in AMF0, section 7.1.3.
    pub const SHARED_OBJECT: Self = Self(19);
    /// Command in AMF0, section 7.1.1.
    pub const COMMAND: Self = Self(20);
    /// Aggregate of FLV tags, section 7.1.6.
    pub const AGGREGATE: Self = Self(22);

    /// Returns whether this is audio, video or data.
    pub fn is_media(self) -> bool {
        matches!(self, Self::AUDIO | Self::VIDEO | Self::DATA | Self::DATA_AMF3)
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageType({})", self.0)
    }
}

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message type.
    pub kind: MessageType,
    /// The time stamp in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The message stream id; 0 is the connection itself.
    pub stream_id: u32,
    /// The payload without chunk headers.
    pub payload: Bytes,
}

/// User Control events that this server sends or understands (section 6.2). Other events are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserControl {
    /// The stream is ready to use.
    StreamBegin(u32),
    /// The playback of the stream has ended.
    StreamEof(u32),
    /// The buffer length of the client.
    SetBufferLength {
        /// The message stream id.
        stream_id: u32,
        /// The buffer length in milliseconds.
        milliseconds: u32,
    },
    /// A request for a [`UserControl::PingResponse`] with the same value.
    PingRequest(u32),
    /// The response to a [`UserControl::PingRequest`].
    PingResponse(u32),
}

impl UserControl {
    /// Decodes an event. `None`: unknown or truncated.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (kind, data) = payload.split_first_chunk::<2>()?;
        let (first, rest) = data.split_first_chunk::<4>()?;
        let value = u32::from_be_bytes(*first);
        match u16::from_be_bytes(*kind) {
            0 => Some(Self::StreamBegin(value)),
            1 => Some(Self::StreamEof(value)),
            3 => {
                let milliseconds = u32::from_be_bytes(*rest.first_chunk::<4>()?);
                Some(Self::SetBufferLength { stream_id: value, milliseconds })
            }
            6 => Some(Self::PingRequest(value)),
            7 => Some(Self::PingResponse(value)),
            _ => None,
        }
    }

    /// Encodes the event as the payload of a message.
    pub fn write(self) -> Bytes {
        let (kind, value, more): (u16, u32, Option<u32>) = match self {
            Self::StreamBegin(id) => (0, id, None),
            Self::StreamEof(id) => (1, id, None),
            Self::SetBufferLength { stream_id, milliseconds } => (3, stream_id, Some(milliseconds)),
            Self::PingRequest(time) => (6, time, None),
            Self::PingResponse(time) => (7, time, None),
        };
        let mut payload = Vec::with_capacity(10);
        payload.extend_from_slice(&kind.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
        if let Some(more) = more {
            payload.extend_from_slice(&more.to_be_bytes());
        }
        payload.into()
    }
}

/// An iterator over the messages of an aggregate (section 7.1.6). An aggregate can contain a million messages, so they are
/// not all decoded at once. Messages other than media are skipped; an encoder has no reason to put any there.
#[derive(Debug)]
pub struct Aggregate {
    /// Size of the whole payload: `rest` keeps all of it allocated.
    size: usize,
    rest: Bytes,
    timestamp: u32,
    stream_id: u32,
    /// Offset to add to the inner time stamps: the first message gets the time stamp of the aggregate.
    offset: Option<u32>,
}

/// Maximum number of consecutive messages in an aggregate that are not media.
const MAX_SKIPPED: usize = 256;

/// An aggregate with inconsistent sizes, or with too many consecutive messages that are not media.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an aggregate message with inconsistent sizes, or without media")]
pub struct BadAggregate;

impl Aggregate {
    /// Creates an iterator over the messages of this aggregate.
    pub fn new(message: Message) -> Self {
        let Message { timestamp, stream_id, payload, .. } = message;
        Self { size: payload.len(), rest: payload, timestamp, stream_id, offset: None }
    }

    /// Returns the bytes that stay allocated until the iterator is dropped.
    pub fn allocated(&self) -> usize {
        self.size
    }

    /// Returns the next message; `None` at the end. Fails when the size of a message exceeds the remaining payload, or
    /// more than 256 consecutive messages are not media.
    pub fn next_message(&mut self) -> Result<Option<Message>, BadAggregate> {
        const HEADER: usize = 11;
        const BACK_POINTER: usize = 4;
        let mut skipped = 0;
        while !self.rest.is_empty() {
            if skipped > MAX_SKIPPED {
                return Err(BadAggregate);
            }
            skipped += 1;
            let header: [u8; HEADER] = *self.rest.first_chunk().ok_or(BadAggregate)?;
            let [kind, s2, s1, s0, t2, t1, t0, t3, ..] = header;
            let end = HEADER + u32::from_be_bytes([0, s2, s1, s0]) as usize;
            let timestamp = u32::from_be_bytes([t3, t2, t1, t0]);
            if self.rest.len() < end {
                return Err(BadAggregate);
            }
            let payload = self.rest.slice(HEADER..end);
            // Some encoders omit the last back pointer.
            self.rest = self.rest.slice((end + BACK_POINTER).min(self.rest.len())..);
            let offset = *self.offset.get_or_insert_with(|| self.timestamp.wrapping_sub(timestamp));
            let kind = MessageType(kind);
            if matches!(kind, MessageType::AUDIO | MessageType::VIDEO | MessageType::DATA) {
                let timestamp = timestamp.wrapping_add(offset);
                return Ok(Some(Message { kind, timestamp, stream_id: self.stream_id, payload }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_control_round_trip() {
        for event in [
            UserControl::StreamBegin(1),
            UserControl::StreamEof(2),
            UserControl::SetBufferLength { stream_id: 1, milliseconds: 3000 },
            UserControl::PingRequest(0xffff_ffff),
            UserControl::PingResponse(7),
        ] {
            assert_eq!(UserControl::read(&event.write()), Some(event));
        }
        assert_eq!(UserControl::read(&[0, 3, 0, 0, 0, 1]), None, "truncated");
        assert_eq!(UserControl::read(&[0, 99, 0, 0, 0, 1]), None, "unknown");
        assert_eq!(UserControl::read(&[0]), None);
    }

    fn split(payload: &[u8]) -> Result<Vec<Message>, BadAggregate> {
        let payload = Bytes::copy_from_slice(payload);
        let mut aggregate =
            Aggregate::new(Message { kind: MessageType::AGGREGATE, timestamp: 5000, stream_id: 1, payload });
        let mut messages = Vec::new();
        while let Some(message) = aggregate.next_message()? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn an_aggregate_is_split_and_its_times_are_shifted() {
        let messages = split(&[
            8, 0, 0, 2, 0, 0, 10, 0, 0, 0, 0, // audio, 2 bytes, at 10 ms, stream 0
            0xaf, 0x01, 0, 0, 0, 13, // payload and back pointer
            9, 0, 0, 1, 0, 0, 30, 0, 0, 0, 0, // video, 1 byte, at 30 ms
            0x17, 0, 0, 0, 12,
        ])
        .unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].timestamp, messages[0].stream_id), (MessageType::AUDIO, 5000, 1));
        assert_eq!(&messages[0].payload[..], [0xaf, 0x01]);
        assert_eq!((messages[1].kind, messages[1].timestamp), (MessageType::VIDEO, 5020));
    }

    #[test]
    fn an_aggregate_with_inconsistent_sizes_is_an_error() {
        assert_eq!(split(&[8, 0, 0, 3, 0, 0, 10, 0, 0, 0, 0, 1, 2]), Err(BadAggregate), "longer than the payload");
        assert_eq!(split(&[8, 0, 0]), Err(BadAggregate), "truncated in the header");
        assert_eq!(split(&[]), Ok(vec![]));
        let nested = [22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
        assert_eq!(split(&nested), Ok(vec![]), "only media is returned");
        assert_eq!(split(&nested.repeat(MAX_SKIPPED)), Ok(vec![]));
        assert_eq!(split(&nested.repeat(MAX_SKIPPED + 2)), Err(BadAggregate), "too many messages that are not media");
    }
}
