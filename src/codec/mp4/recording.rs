//! The end of a file: its duration, and the index of its keyframes.

use mp4_atom::{Encode, FragmentInfo, Mfra, Mfro, Tfra};

use super::track::TrackConfig;
use super::{Kind, head};

/// Fragments in the index. When there are more, it keeps every second one, and then every fourth, and so on.
pub(super) const MAX_ENTRIES: usize = 4096;

/// A recording: what is written at its end.
#[derive(Debug)]
pub struct Recording {
    tracks: Vec<(Kind, TrackConfig)>,
    size: u64,
    /// End of the last sample, in milliseconds.
    duration: u64,
    index: Vec<Entry>,
    /// Every so many-th fragment is kept.
    stride: u64,
    seen: u64,
}

/// The first sample of each track in a fragment that a player can start at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) starts: [Option<Start>; Kind::ALL.len()],
}

/// A sample that a player can start at: presentation time in milliseconds, number of its track in the fragment, and its own in
/// the track, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) time: u64,
    pub(super) track: u32,
    pub(super) sample: u32,
}

/// The end of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Replaces the head, of the same length. Empty if it stays.
    pub head: Vec<u8>,
    /// Follows the last fragment.
    pub tail: Vec<u8>,
}

impl Recording {
    pub(super) fn new(tracks: Vec<(Kind, TrackConfig)>, size: u64) -> Self {
        Self { tracks, size, duration: 0, index: Vec::new(), stride: 1, seen: 0 }
    }

    /// Records that a fragment of `length` bytes follows, which ends at the time `end`.
    pub(super) fn add(&mut self, starts: [Option<Start>; Kind::ALL.len()], length: usize, end: u64) {
        let leads = if self.has_video() { starts[0] } else { starts[1] };
        if leads.is_some() {
            self.index(Entry { position: self.size, starts });
        }
        self.size += length as u64;
        self.duration = self.duration.max(end);
    }

    /// Returns the time of the end, in milliseconds.
    pub fn duration(&self) -> u64 {
        self.duration
    }

    /// Returns what completes the file, of which `size` bytes are written.
    pub fn finish(mut self, size: u64) -> Completion {
        self.index.retain(|entry| entry.position < size);
        let head = head::encode(&self.tracks, Some(self.duration));
        let (Ok(head), Ok(tail)) = (head, self.encode_index()) else { return Completion::default() };
        Completion { head, tail }
    }

    fn has_video(&self) -> bool {
        self.tracks.iter().any(|(kind, _)| *kind == Kind::Video)
    }

    fn index(&mut self, entry: Entry) {
        if self.index.len() == MAX_ENTRIES {
            let mut number = 0;
            self.index.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride *= 2;
        }
        if self.seen.is_multiple_of(self.stride) {
            self.index.push(entry);
        }
        self.seen += 1;
    }

    fn encode_index(&self) -> mp4_atom::Result<Vec<u8>> {
        let mut mfra = Mfra { tfra: Vec::new(), mfro: Mfro { parent_size: 0 } };
        for (kind, _) in &self.tracks {
            let entry = |entry: &Entry| {
                let start = entry.starts[*kind as usize]?;
                Some(FragmentInfo {
                    time: start.time,
                    moof_offset: entry.position,
                    traf_number: start.track,
                    trun_number: 1,
                    sample_delta: start.sample,
                })
            };
            mfra.tfra.push(Tfra { track_id: kind.id(), entries: self.index.iter().filter_map(entry).collect() });
        }
        let mut out = Vec::new();
        mfra.encode(&mut out)?;
        // A reader finds the index by its size in the last four bytes of the file.
        mfra.mfro.parent_size = out.len() as u32;
        out.clear();
        mfra.encode(&mut out)?;
        Ok(out)
    }
}
