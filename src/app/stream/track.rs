use crate::rtmp::chunk::ChunkStreamId;
use crate::rtmp::message::MessageType;

/// A sequence of messages with its own chunk stream. Its times never run backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    Audio = 0,
    Video = 1,
    Data = 2,
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

/// A set of video tracks of a multitrack stream, by number. Tracks from 64 on are in no set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VideoTracks(u64);

impl VideoTracks {
    pub(super) const ALL: Self = Self(u64::MAX);

    #[cfg(test)]
    pub(super) fn of(tracks: &[u8]) -> Self {
        let mut set = Self::default();
        tracks.iter().for_each(|&track| set.insert(track));
        set
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn contains(self, track: u8) -> bool {
        self.0 & Self::bit(track) != 0
    }

    pub(super) fn insert(&mut self, track: u8) {
        self.0 |= Self::bit(track);
    }

    pub(super) fn remove(&mut self, track: u8) {
        self.0 &= !Self::bit(track);
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn bit(track: u8) -> u64 {
        1u64.checked_shl(track.into()).unwrap_or(0)
    }
}
