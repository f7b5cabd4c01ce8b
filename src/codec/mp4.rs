//! Fragmented MP4 files (ISO/IEC 14496-12) that are written while a stream goes on.
//!
//! ```text
//! ftyp │ moov: tracks, no samples │ moof, mdat │ moof, mdat │ … │ mfra: index of keyframes
//!              └─ replaced in place at the end: duration             └─ added at the end
//! ```
//!
//! A file that was never finished plays up to its last whole fragment; it has no duration in its head and no index. Readers
//! such as ffmpeg refuse a file that ends within a `moof`, so a fragment begins as a box that they skip, see
//! [`free_box_header`]. All times are milliseconds, as in RTMP. The boxes are those of the crate `mp4-atom`, which no other
//! module names; decoder configurations are copied as the publisher sent them.

mod head;
mod muxer;
pub mod recording;
#[cfg(test)]
pub(crate) mod tests;
mod track;

pub use muxer::{Fragment, Muxer, Sample};
pub use track::{Media, Reason, TrackConfig, audio_config, mp3_config, video_config};

/// Units of time in a second.
const TIMESCALE: u32 = 1000;

/// Length of the header of a box: its size and its type.
pub const BOX_HEADER: usize = 8;

/// Position of the type of a box.
pub const BOX_TYPE: usize = 4;

/// Returns the first bytes of a fragment while it is being written, of a box that readers skip. When all of it is in the file,
/// its own type takes the place of this one, in a write that no kill interrupts: whatever a crash leaves can be read.
pub fn free_box_header(fragment: &[u8]) -> Option<[u8; BOX_HEADER]> {
    let [s0, s1, s2, s3, ..] = *fragment.first_chunk::<BOX_HEADER>()?;
    Some([s0, s1, s2, s3, b'f', b'r', b'e', b'e'])
}

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
