//! Samples in, fragments out.

use bytes::Bytes;
use mp4_atom::{Encode, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use super::head::{self, OTHER_SAMPLE, SYNC_SAMPLE};
use super::recording::{Recording, Start};
use super::track::TrackConfig;
use super::{BOX_HEADER, Kind};

/// Duration of a track's only sample, in milliseconds.
const UNKNOWN_DURATION: u32 = 1;

/// A frame of audio or video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Decoding time in milliseconds.
    pub dts: u64,
    /// Presentation time less decoding time, in milliseconds.
    pub composition: i32,
    /// A player can start here.
    pub is_sync: bool,
    /// The coded frame.
    pub data: Bytes,
}

/// A part of a file that can be decoded if the head and, for video, the parts since a keyframe are there.
#[derive(Debug)]
pub struct Fragment {
    /// The boxes.
    pub bytes: Bytes,
    /// Number of its samples.
    pub samples: usize,
    starts: [Option<Start>; Kind::ALL.len()],
    end: u64,
}

/// Makes a file of samples.
///
/// The duration of a sample is the time to the next one of its track, so the last sample of each track is held back for the next
/// fragment. Samples are not copied before a fragment is made of them.
#[derive(Debug, Default)]
pub struct Muxer {
    tracks: [Track; Kind::ALL.len()],
    /// The tracks of the file and its index; `None` until its head is made.
    recording: Option<Recording>,
    sequence_number: u32,
    /// Bytes of all samples.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Track {
    config: Option<TrackConfig>,
    /// The rest has another description, which needs another file.
    is_ended: bool,
    /// Samples whose duration is known.
    whole: Vec<(Sample, u32)>,
    held: Option<Sample>,
    last_duration: u32,
}

impl Muxer {
    /// Describes a track. Returns false if the file has no such track, or another one, and can no longer be changed: the track
    /// needs another file.
    pub fn configure(&mut self, kind: Kind, config: &TrackConfig) -> bool {
        let track = &mut self.tracks[kind as usize];
        let is_same = track.config.as_ref() == Some(config);
        let is_open = self.recording.is_none() && track.is_empty();
        track.is_ended = !is_same && !is_open;
        if is_open {
            track.config = Some(config.clone());
        }
        !track.is_ended
    }

    /// Returns whether the file has, or will have, this track.
    pub fn has(&self, kind: Kind) -> bool {
        self.tracks[kind as usize].config.is_some()
    }

    /// Adds a sample. One of a track that is not described, or that needs another file, is left out.
    pub fn push(&mut self, kind: Kind, sample: Sample) {
        let track = &mut self.tracks[kind as usize];
        if track.config.is_none() || track.is_ended {
            return;
        }
        self.bytes = self.bytes.saturating_add(sample.data.len());
        track.finish_held(Some(sample.dts));
        track.held = Some(sample);
    }

    /// Returns the number of samples that the next fragment has, and the bytes of these and of those that are held back.
    pub fn pending(&self) -> (usize, usize) {
        (self.tracks.iter().map(|track| track.whole.len()).sum(), self.bytes)
    }

    /// Returns the earliest decoding time of all samples, in milliseconds.
    pub fn start(&self) -> Option<u64> {
        self.tracks.iter().filter_map(|track| track.samples().next().map(|sample| sample.dts)).min()
    }

    /// Returns the head of the file. Its tracks are those that are described so far. `None` if there is none.
    pub fn head(&mut self) -> Option<Vec<u8>> {
        let tracks = Kind::ALL.into_iter().zip(&self.tracks);
        let tracks: Vec<_> =
            tracks.filter_map(|(kind, track)| track.config.clone().map(|config| (kind, config))).collect();
        if tracks.is_empty() {
            return None;
        }
        let head = head::encode(&tracks, None).ok()?;
        self.recording = Some(Recording::new(tracks, head.len() as u64));
        Some(head)
    }

    /// Returns a fragment of all samples whose duration is known. `None` if there are none.
    pub fn fragment(&mut self) -> Option<Fragment> {
        let samples = self.pending().0;
        if samples == 0 {
            return None;
        }
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let taken = Kind::ALL.map(|kind| (kind, std::mem::take(&mut self.tracks[kind as usize].whole)));
        let size: usize = taken.iter().flat_map(|(_, whole)| whole).map(|(sample, _)| sample.data.len()).sum();
        self.bytes = self.bytes.saturating_sub(size);
        let bytes = encode(self.sequence_number, &taken, size).ok()?.into();
        let ends = taken.iter().filter_map(|(_, whole)| whole.last());
        let end = ends.map(|(sample, duration)| sample.dts.saturating_add((*duration).into())).max().unwrap_or(0);
        let (mut starts, mut number) = ([None; Kind::ALL.len()], 0);
        for (kind, whole) in &taken {
            number += u32::from(!whole.is_empty());
            let first = whole.iter().position(|(sample, _)| *kind == Kind::Audio || sample.is_sync);
            starts[*kind as usize] = first.map(|first| {
                let Sample { dts, composition, .. } = whole[first].0;
                let time = dts.saturating_add_signed(composition.into());
                Start { time, track: number, sample: first as u32 + 1 }
            });
        }
        Some(Fragment { bytes, samples, starts, end })
    }

    /// Returns a fragment of all samples that are left.
    pub fn last_fragment(&mut self) -> Option<Fragment> {
        self.tracks.iter_mut().for_each(|track| track.finish_held(None));
        self.fragment()
    }

    /// Records that a fragment is in the file.
    pub fn accept(&mut self, fragment: &Fragment) {
        if let Some(recording) = &mut self.recording {
            recording.add(fragment.starts, fragment.bytes.len(), fragment.end);
        }
    }

    /// Drops all samples: frames before them were lost. Returns their number.
    pub fn discard(&mut self) -> usize {
        self.bytes = 0;
        let discard = |track: &mut Track| {
            let count = track.samples().count();
            track.whole.clear();
            track.held = None;
            count
        };
        self.tracks.iter_mut().map(discard).sum()
    }

    /// Returns what the end of the file needs. `None` if it has no head.
    pub fn into_recording(self) -> Option<Recording> {
        self.recording
    }
}

impl Track {
    fn is_empty(&self) -> bool {
        self.samples().next().is_none()
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.whole.iter().map(|(sample, _)| sample).chain(&self.held)
    }

    /// Sets the duration of the sample that is held back: up to the time `next`, or else that of the sample before.
    fn finish_held(&mut self, next: Option<u64>) {
        let Some(sample) = self.held.take() else { return };
        let duration = match next {
            Some(next) => u32::try_from(next.saturating_sub(sample.dts)).unwrap_or(u32::MAX),
            None => self.last_duration.max(UNKNOWN_DURATION),
        };
        self.last_duration = duration;
        self.whole.push((sample, duration));
    }
}

/// Encodes a fragment with `size` bytes of samples. Fails when it is too large for its fields.
fn encode(sequence_number: u32, tracks: &[(Kind, Vec<(Sample, u32)>)], size: usize) -> mp4_atom::Result<Vec<u8>> {
    let tracks = || tracks.iter().filter(|(_, whole)| !whole.is_empty());
    let traf = tracks().map(|(kind, whole)| track_fragment(*kind, whole)).collect();
    let mut moof = Moof { mfhd: Mfhd { sequence_number }, traf };
    let mut out = Vec::new();
    moof.encode(&mut out)?;
    // The samples follow; their positions count from the start of the moof, whose length does not depend on them.
    let mut position = out.len() + BOX_HEADER;
    out.reserve_exact(size + BOX_HEADER);
    for (traf, (_, whole)) in moof.traf.iter_mut().zip(tracks()) {
        let offset = i32::try_from(position).map_err(|_| mp4_atom::Error::InvalidSize)?;
        traf.trun.iter_mut().for_each(|trun| trun.data_offset = Some(offset));
        position += whole.iter().map(|(sample, _)| sample.data.len()).sum::<usize>();
    }
    out.clear();
    moof.encode(&mut out)?;
    let length = u32::try_from(size + BOX_HEADER).map_err(|_| mp4_atom::Error::InvalidSize)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(b"mdat");
    tracks().flat_map(|(_, whole)| whole).for_each(|(sample, _)| out.extend_from_slice(&sample.data));
    Ok(out)
}

fn track_fragment(kind: Kind, whole: &[(Sample, u32)]) -> Traf {
    let is_video = kind == Kind::Video;
    // A keyframe is mostly the first sample, or there is none: then the others need no flags.
    let has_later_keyframe = whole.iter().skip(1).any(|(sample, _)| sample.is_sync);
    let has_composition = is_video && whole.iter().any(|(sample, _)| sample.composition != 0);
    let entry = |(index, (sample, duration)): (usize, &(Sample, u32))| TrunEntry {
        duration: Some(*duration),
        size: Some(sample.data.len() as u32),
        flags: (is_video && (has_later_keyframe || (index == 0 && sample.is_sync))).then_some(if sample.is_sync {
            SYNC_SAMPLE
        } else {
            OTHER_SAMPLE
        }),
        cts: has_composition.then_some(sample.composition.into()),
    };
    let samples: Vec<_> = whole.iter().enumerate().map(entry).collect();
    let start = whole.first().map_or(0, |(sample, _)| sample.dts);
    Traf {
        tfhd: Tfhd { track_id: kind.id(), default_base_is_moof: true, ..Tfhd::default() },
        tfdt: Some(Tfdt { base_media_decode_time: start }),
        trun: vec![Trun { data_offset: Some(0), samples: samples.into() }],
        ..Traf::default()
    }
}
