//! What a player needs before media: metadata and sequence headers, the last of each kind.

use bytes::Bytes;

use super::track::Track;
use crate::memory::{Account, Part};

/// How many are kept for joining players. A stream has three; multitrack ones a few more.
pub(super) const MAX_CONFIGS: usize = 16;

/// The greatest that is kept, in bytes; sequence headers have some hundred. And the most of all: each player that joins gets a copy.
pub(super) const MAX_CONFIG: usize = 64 * 1024;
pub(super) const MAX_CONFIGS_BYTES: usize = 2 * MAX_CONFIG;

/// The first values of data messages, as AMF0 strings: a marker, a length of two bytes, the text.
pub(super) const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
pub(super) const CLEAR_DATA_FRAME: &[u8] = b"\x02\x00\x0f@clearDataFrame";
pub(super) const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";

/// One of them.
pub(super) struct Config {
    pub(super) key: ConfigKey,
    pub(super) payload: Bytes,
    /// The number of the entry in the backlog that brought it.
    pub(super) number: u64,
}

/// Of those with the same key the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConfigKey {
    Metadata,
    Video { track: u8, colour: bool },
    Audio { track: u8, channels: bool },
}

impl ConfigKey {
    /// What it goes before.
    pub(super) fn track(self) -> Track {
        match self {
            Self::Metadata => Track::Data,
            Self::Video { .. } => Track::Video,
            Self::Audio { .. } => Track::Audio,
        }
    }
}

/// Those of a publication.
#[derive(Default)]
pub(super) struct Configs(Vec<Config>);

impl Configs {
    /// Keeps one for players that join, as far as there is room. Returns whether it is other than the one that stood in its place.
    pub(super) fn keep(&mut self, key: ConfigKey, payload: &Bytes, number: u64, account: &Account) -> bool {
        // A copy: the payload may be a small part of a large message.
        let kept = || account.count(Part::Media, Bytes::copy_from_slice(payload));
        let others: usize = self.0.iter().filter(|config| config.key != key).map(|config| config.payload.len()).sum();
        let fits = payload.len() <= MAX_CONFIG && others + payload.len() <= MAX_CONFIGS_BYTES;
        match self.0.iter().position(|config| config.key == key) {
            Some(index) if self.0[index].payload == *payload => {}
            Some(index) if !fits => {
                self.0.remove(index);
            }
            Some(index) => {
                self.0[index] = Config { key, payload: kept(), number };
                return true;
            }
            None if self.0.len() < MAX_CONFIGS && fits => {
                self.0.push(Config { key, payload: kept(), number });
            }
            None => {}
        }
        false
    }

    /// Forgets the one with this key.
    pub(super) fn remove(&mut self, key: ConfigKey) {
        self.0.retain(|config| config.key != key);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Config> {
        self.0.iter()
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|config| config.payload.len()).sum()
    }
}

/// Metadata as encoders send them: servers keep for players that join what comes behind `@setDataFrame`.
pub(super) fn set_data_frame(metadata: &[u8]) -> Vec<u8> {
    [SET_DATA_FRAME, metadata].concat()
}
