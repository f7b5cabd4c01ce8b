//! Gaps of audio while video goes on, such as those of a muted microphone, which are filled with silence.
//!
//! Players of HLS stop where one of the tracks has nothing, and start again at best after some seconds. With silence, a track
//! never comes and goes. Only AAC is filled.

use bytes::Bytes;

use super::segment::TICKS;
use crate::codec::ts::audio_track::{AudioTrack, Frame};

/// Time of video without any audio message after which the gap is filled, in milliseconds, whatever the distance of the tracks.
const FILL_AFTER: u64 = 1000;

/// Time of video without any audio frame from the start of a publication, in milliseconds, after which silence stands for it.
/// Tracks may start up to 5 s apart.
const FILL_START_AFTER: u64 = 5500;

/// Maximum number of silent frames in a segment: three minutes at 44100 Hz. Timestamps far apart cannot make a large segment from
/// little input.
const MAX_SILENT_FRAMES: usize = 8192;

/// Length of the silence that is written when a gap is found, in units of the muxer's clock: 280 ms, as what is further behind
/// video would move the clock references of the whole publication. Players bridge the rest of a second.
const FIRST_SILENCE: u64 = 25_200;

/// Distance by which a frame may be in front of the end of silence, in units of the muxer's clock: 200 ms.
const MAX_OVERLAP: u64 = 18_000;

#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Time of the first and of the last video frame, in milliseconds.
    first_video: Option<u64>,
    last_video: u64,
    /// Time up to which there was media when the last audio message came, in milliseconds, and the distance by which audio was
    /// behind that, in units of the muxer's clock.
    last_audio: Option<(u64, u64)>,
    /// End of the silence that was written, in units of the muxer's clock.
    filled_until: Option<u64>,
    count: usize,
}

impl Gaps {
    pub(super) fn on_segment(&mut self) {
        self.count = 0;
    }

    /// Handles the time of a video frame, in milliseconds.
    pub(super) fn on_video(&mut self, time: u64) {
        if self.first_video.is_none()
            && let Some((at, _)) = &mut self.last_audio
        {
            *at = time;
        }
        self.first_video.get_or_insert(time);
        self.last_video = time;
    }

    /// Handles the time of an audio message, in units of the muxer's clock. Returns false if silence has taken its place,
    /// because it is late.
    pub(super) fn on_audio(&mut self, time: u64) -> bool {
        let is_late = self.filled_until.is_some_and(|end| time + MAX_OVERLAP < end);
        if is_late {
            // More of them may follow, up to the end of the silence.
            if let Some((at, _)) = &mut self.last_audio {
                *at = self.last_video;
            }
            return false;
        }
        self.filled_until = None;
        self.last_audio = Some((self.last_video.max(time / TICKS), (self.last_video * TICKS).saturating_sub(time)));
        true
    }

    /// Returns the next silent frame up to the audio message at `time`, in units of the muxer's clock, in a gap that is being
    /// filled.
    pub(super) fn before_audio(&mut self, audio: &mut AudioTrack, time: u64) -> Option<(Frame, Bytes)> {
        self.filled_until?;
        self.next(audio, time, time)
    }

    /// Returns the next silent frame of a gap up to the last video frame, if the gap is long enough. `is_end` means that the
    /// segment has no audio and is about to end.
    pub(super) fn after_video(&mut self, audio: &mut AudioTrack, is_end: bool) -> Option<(Frame, Bytes)> {
        let (at, behind) = match self.last_audio {
            Some(last) => last,
            None if is_end && self.last_video.saturating_sub(self.first_video?) >= FILL_START_AFTER => (0, 0),
            None => return None,
        };
        let is_gap = is_end || self.filled_until.is_some() || self.last_video.saturating_sub(at) >= FILL_AFTER;
        if !is_gap {
            return None;
        }
        let end = (self.last_video * TICKS).saturating_sub(behind);
        let silence = self.next(audio, end.saturating_sub(FIRST_SILENCE), end)?;
        self.last_audio = Some((at, behind));
        Some(silence)
    }

    fn next(&mut self, audio: &mut AudioTrack, start: u64, end: u64) -> Option<(Frame, Bytes)> {
        if self.count >= MAX_SILENT_FRAMES {
            return None;
        }
        let (frame, data) = audio.silence(start, end)?;
        self.count += 1;
        self.filled_until = Some(frame.end());
        Some((frame, data))
    }
}
