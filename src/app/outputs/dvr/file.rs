//! The interface of a recording with its files of either format, and with the disk.

use std::time::Duration;

use bytes::Bytes;

use crate::app::stream::Track;
use crate::codec::flv;
use crate::codec::mp4::{self, Kind, Reason, recording::Completion};

/// Time after which what is collected is handed to the disk: what a crash can cost.
pub(super) const WRITE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) trait Disk {
    /// Starts a file with these bytes, whose first frame was received so long ago. Returns whether it can.
    fn open(&mut self, head: Bytes, age: Duration) -> bool;
    /// Appends bytes to the file. Returns whether there was room for them.
    fn write(&mut self, bytes: Bytes) -> bool;
    /// Appends a fragment of MP4, which readers see when it is whole. Returns whether there was room for it.
    fn write_fragment(&mut self, bytes: Bytes) -> bool;
    fn close(&mut self, ending: Ending);
    fn has_failed(&self) -> bool;
    fn has_room_for_gop(&self) -> bool;
}

pub(super) enum Written {
    /// It is written, collected, or not for a file of this format.
    Whole,
    /// The disk has no room: this number of messages is lost, and the rest of the GOP cannot be decoded.
    Lost(u64),
    NotOpened,
    /// The rest needs another file, from the next GOP on.
    NeedsFile,
    Refused(Kind, Reason),
}

/// A header of the publication that the next file needs.
pub(super) struct Header {
    /// Its track, the number of this in a multitrack stream, and whether it is another header than the sequence header.
    pub(super) key: (Track, u8, bool),
    pub(super) payload: Bytes,
}

impl Header {
    pub(super) fn track(&self) -> Track {
        self.key.0
    }
}

#[derive(Debug)]
pub(super) enum Ending {
    Flv(flv::recording::Recording),
    Mp4(mp4::recording::Recording),
}

impl Ending {
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
