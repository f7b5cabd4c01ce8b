//! The tracks of a stream.

use crate::rtmp::chunk::ChunkStreamId;
use crate::rtmp::message::MessageType;

/// A sequence of messages with its own chunk stream. Its times never run backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Audio messages.
    Audio = 0,
    /// Video messages.
    Video = 1,
    /// Metadata and other data messages.
    Data = 2,
    /// Status messages of the server, within the stream.
    Status = 3,
}

impl Track {
    pub(super) const COUNT: usize = 4;

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    pub(super) fn csid(self) -> ChunkStreamId {
        match self {
            Self::Audio => ChunkStreamId::AUDIO,
            Self::Video => ChunkStreamId::VIDEO,
            Self::Data => ChunkStreamId::DATA,
            Self::Status => ChunkStreamId::STATUS,
        }
    }

    pub(super) fn message_type(self) -> MessageType {
        match self {
            Self::Audio => MessageType::AUDIO,
            Self::Video => MessageType::VIDEO,
            Self::Data => MessageType::DATA,
            Self::Status => MessageType::COMMAND,
        }
    }
}
