//! Fragmented MP4 files (ISO/IEC 14496-12) that are written while a stream goes on.
//!
//! ```text
//! ftyp │ moov: tracks, no samples │ moof, mdat │ moof, mdat │ … │ mfra: index of keyframes
//!              └─ replaced in place at the end: duration             └─ added at the end
//! ```
//!
//! A file that was never finished, or that is cut at any byte, plays up to its last whole fragment; it has no duration in its
//! head and no index. All times are milliseconds, as in RTMP. The boxes are those of the crate `mp4-atom`, which no other
//! module names; decoder configurations are copied as the publisher sent them.

mod head;
mod muxer;
pub mod recording;
#[cfg(test)]
mod tests;
mod track;

pub use muxer::{Fragment, Muxer, Sample};
pub use track::{Media, Reason, TrackConfig, audio_config, mp3_config, video_config};

/// Units of time in a second.
const TIMESCALE: u32 = 1000;

/// A track of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

impl Kind {
    /// Both kinds, in their order in a file.
    pub const ALL: [Self; 2] = [Self::Video, Self::Audio];

    /// Returns the number of the track in a file. A number never changes, whichever tracks the file has.
    fn id(self) -> u32 {
        match self {
            Self::Video => 1,
            Self::Audio => 2,
        }
    }
}
