//! The end of a file: what completes it, of either format.

use crate::codec::flv;
use crate::codec::mp4::{self, recording::Completion};

/// A recording whose last frame was written.
#[derive(Debug)]
pub(super) enum Ending {
    Flv(flv::recording::Recording),
    Mp4(mp4::recording::Recording),
}

impl Ending {
    /// Returns the duration in milliseconds.
    pub(super) fn duration(&self) -> u64 {
        match self {
            Self::Flv(recording) => recording.duration(),
            Self::Mp4(recording) => recording.duration(),
        }
    }

    /// Returns what completes the file, of which `size` bytes are written.
    pub(super) fn finish(self, size: u64) -> Completion {
        match self {
            Self::Flv(recording) => Completion { head: recording.finish(size), tail: Vec::new() },
            Self::Mp4(recording) => recording.finish(size),
        }
    }
}
