//! A segment while it grows, and when it is finished.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

pub(super) const TICKS: u64 = 90;

pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A part of the stream that can be played on its own.
#[derive(Debug)]
pub struct Segment {
    pub body: Bytes,
    pub capacity: usize,
    pub duration: u64,
    /// The segment does not continue the one before it.
    pub discontinuity: bool,
    pub is_first: bool,
    pub started_at: SystemTime,
}

/// The segment that is being written. Times are in milliseconds.
pub(super) struct OpenSegment {
    pub(super) start: u64,
    /// Presentation time of the first frame. Lengths are those of the presentation: with open GOPs, a keyframe is decoded before
    /// frames that are shown before it.
    pub(super) start_pts: i64,
    pub(super) started_at: SystemTime,
    pub(super) discontinuity: bool,
    pub(super) video: Option<VideoSpan>,
    pub(super) audio_end: i64,
    pub(super) tracks: Tracks,
}

#[derive(Clone, Copy)]
pub(super) struct VideoSpan {
    pub(super) last: u64,
    pub(super) last_pts: i64,
}

/// The tracks of a segment by the numbers of their parameters, which change with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tracks {
    pub(super) video: Option<u32>,
    pub(super) audio: Option<u32>,
}

impl OpenSegment {
    pub(super) fn new(start: u64, start_pts: i64, started_at: SystemTime, discontinuity: bool) -> Self {
        let (video, audio_end, tracks) = (None, 0, Tracks::default());
        Self { start, start_pts, started_at, discontinuity, video, audio_end, tracks }
    }

    /// Returns the length up to a presentation time.
    pub(super) fn length(&self, pts: i64) -> u64 {
        u64::try_from(pts - self.start_pts).unwrap_or(0)
    }

    pub(super) fn on_video(&mut self, time: u64, pts: i64, parameters: u32) {
        let last_pts = self.video.map_or(pts, |video| video.last_pts.max(pts));
        (self.video, self.tracks.video) = (Some(VideoSpan { last: time, last_pts }), Some(parameters));
    }

    /// Returns the end of the last frame, if a video frame takes `step`.
    pub(super) fn end(&self, step: u64) -> i64 {
        let video_end = self.video.map_or(i64::MIN, |video| video.last_pts.saturating_add_unsigned(step));
        video_end.max(self.audio_end)
    }
}
