//! The cache of what a player needs before media: metadata and sequence headers, the last of each kind.

use bytes::Bytes;

use super::track::Track;
use crate::codec::amf0;
use crate::memory::{Category, MemoryTracker};

/// Most cached headers. A stream has three; multitrack streams have a few more.
pub(super) const MAX_HEADERS: usize = 16;

/// Largest cached header, in bytes. Sequence headers have some hundred.
pub(super) const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Largest size of all cached headers, in bytes. Each player that joins gets a copy.
const MAX_TOTAL_BYTES: usize = 2 * MAX_HEADER_BYTES;

/// First values of data messages, as AMF0 strings: a marker, a length of two bytes, the text.
pub(super) const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
pub(super) const CLEAR_DATA_FRAME: &[u8] = b"\x02\x00\x0f@clearDataFrame";
pub(super) const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";

pub(super) struct CachedHeader {
    pub(super) key: HeaderKey,
    pub(super) payload: Bytes,
    pub(super) seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderKey {
    Metadata,
    Video {
        track: u8,
        /// Colour information (E-RTMP), not a sequence header.
        color_info: bool,
    },
    Audio {
        track: u8,
        /// Multichannel configuration (E-RTMP), not a sequence header.
        channel_config: bool,
    },
}

impl HeaderKey {
    pub(super) fn track(self) -> Track {
        match self {
            Self::Metadata => Track::Data,
            Self::Video { .. } => Track::Video,
            Self::Audio { .. } => Track::Audio,
        }
    }
}

#[derive(Default)]
pub(super) struct HeaderCache(Vec<CachedHeader>);

impl HeaderCache {
    /// Stores a header if there is room. Returns whether it replaced a different one.
    pub(super) fn insert(&mut self, key: HeaderKey, payload: &Bytes, seq: u64, memory: &MemoryTracker) -> bool {
        // A copy: the payload may be a small part of a large message.
        let copy = || memory.charge_bytes(Category::Media, Bytes::copy_from_slice(payload));
        let others: usize = self.0.iter().filter(|header| header.key != key).map(|header| header.payload.len()).sum();
        let fits = payload.len() <= MAX_HEADER_BYTES && others + payload.len() <= MAX_TOTAL_BYTES;
        match self.0.iter().position(|header| header.key == key) {
            Some(index) if self.0[index].payload == *payload => {}
            Some(index) if !fits => {
                self.0.remove(index);
            }
            Some(index) => {
                self.0[index] = CachedHeader { key, payload: copy(), seq };
                return true;
            }
            None if self.0.len() < MAX_HEADERS && fits => {
                self.0.push(CachedHeader { key, payload: copy(), seq });
            }
            None => {}
        }
        false
    }

    pub(super) fn remove(&mut self, key: HeaderKey) {
        self.0.retain(|header| header.key != key);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CachedHeader> {
        self.0.iter()
    }

    /// Returns the headers that a subscriber at sequence number `seq` needs and has not got, in the order that players
    /// expect: metadata, video, audio. Those before `sent_to` were sent, but are stale on the tracks `stale`, a bit each.
    pub(super) fn missing(&self, seq: u64, sent_to: u64, stale: u8) -> Vec<&CachedHeader> {
        let is_missing = |header: &&CachedHeader| {
            let is_stale = stale & header.key.track().bit() != 0;
            header.seq < seq && (is_stale || header.seq >= sent_to)
        };
        let mut missing: Vec<_> = self.0.iter().filter(is_missing).collect();
        missing.sort_by_key(|header| match header.key.track() {
            Track::Data => 0,
            Track::Video => 1,
            _ => 2,
        });
        missing
    }

    pub(super) fn announce(&self, track: Track) -> bool {
        let (audio, video) = self.tracks_of_metadata();
        let in_metadata = if track == Track::Audio { audio } else { video };
        in_metadata || self.0.iter().any(|header| header.key.track() == track)
    }

    /// Returns whether the metadata name audio, and whether they name video.
    pub(super) fn tracks_of_metadata(&self) -> (bool, bool) {
        let Some(metadata) = self.0.iter().find(|header| header.key == HeaderKey::Metadata) else {
            return (false, false);
        };
        let Ok(value) = amf0::read(&mut &metadata.payload[ON_META_DATA.len()..]) else { return (false, false) };
        let names =
            |keys: [&str; 2]| value.as_object().is_some_and(|object| keys.iter().any(|key| object.get(key).is_some()));
        (names(["audiocodecid", "audiosamplerate"]), names(["videocodecid", "width"]))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|header| header.payload.len()).sum()
    }
}

/// Returns metadata as encoders publish it: after `@setDataFrame`, which has a server keep the rest for players that join.
pub(super) fn set_data_frame(metadata: &[u8]) -> Vec<u8> {
    [SET_DATA_FRAME, metadata].concat()
}
