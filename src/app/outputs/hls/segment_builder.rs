//! The segment that is being written: takes frames, and becomes a [`Segment`] with its duration, date and discontinuity.

use std::time::{Duration, SystemTime};

use super::buffer_pool::BufferPool;
use super::segment::{Clock, OpenSegment, Segment, TICKS, Tracks};
use crate::codec::ts::Muxer;
use crate::codec::ts::audio_track::Frame;
use crate::codec::ts::video_track::{self, VideoTrack};

/// Bytes, since it is held in memory.
const MAX_SEGMENT: usize = 64 * 1024 * 1024;

/// Maximum distance between media time and wall-clock time in the date of a segment.
const MAX_DATE_DRIFT: Duration = Duration::from_secs(1);

pub(super) struct SegmentBuilder {
    clock: Clock,
    muxer: Muxer,
    buffers: BufferPool,
    /// Size of the publisher's last segment, in bytes. The next one is expected to be about as large.
    last_size: usize,
    open: Option<OpenSegment>,
    last_tracks: Option<Tracks>,
    discontinuity: bool,
    next_start: Option<SystemTime>,
}

impl SegmentBuilder {
    pub(super) fn new(clock: Clock, buffers: BufferPool) -> Self {
        Self {
            clock,
            muxer: Muxer::new(),
            buffers,
            last_size: 0,
            open: None,
            last_tracks: None,
            discontinuity: false,
            next_start: None,
        }
    }

    pub(super) fn start_publication(&mut self) {
        self.end_publication();
        self.muxer.start_publication();
        self.discontinuity = true;
    }

    pub(super) fn end_publication(&mut self) {
        (self.last_size, self.last_tracks) = (0, None);
    }

    pub(super) fn add_discontinuity(&mut self, is_discontinuous: bool) {
        self.discontinuity |= is_discontinuous;
    }

    pub(super) fn open_segment(&self) -> Option<&OpenSegment> {
        self.open.as_ref()
    }

    pub(super) fn is_first(&self) -> bool {
        self.last_tracks.is_none()
    }

    pub(super) fn is_full(&self) -> bool {
        self.muxer.len() >= MAX_SEGMENT
    }

    pub(super) fn capacity(&self) -> usize {
        self.muxer.capacity()
    }

    /// Opens a segment whose first frame has this decoding and presentation time, in milliseconds.
    pub(super) fn open(&mut self, time: u64, pts: i64) {
        let now = (self.clock)();
        // Dates follow the media time, so that they agree with durations, until that has left the wall-clock time.
        let is_near = |date: &SystemTime| {
            let distance = now.duration_since(*date).or_else(|_| date.duration_since(now));
            distance.is_ok_and(|distance| distance < MAX_DATE_DRIFT)
        };
        let started_at = self.next_start.filter(is_near).unwrap_or(now);
        let discontinuity = std::mem::take(&mut self.discontinuity);
        if self.last_size > 0 {
            self.muxer.reuse_buffer(self.buffers.acquire(self.last_size));
        }
        self.open = Some(OpenSegment::new(time, pts, started_at, discontinuity));
    }

    pub(super) fn write_video(
        &mut self,
        video: &VideoTrack,
        time: u64,
        composition: i32,
        is_keyframe: bool,
        frame: &[u8],
    ) -> Result<bool, String> {
        let Some((config, parameters)) = video.config() else { return Ok(false) };
        let pts = video_track::presentation_time(time, composition);
        let composition = i64::from(composition) * TICKS as i64;
        self.muxer
            .video(config, time * TICKS, composition, is_keyframe, frame)
            .map_err(|error| format!("invalid video frame dropped: {error}"))?;
        let Some(open) = &mut self.open else { return Ok(false) };
        open.on_video(time, pts, parameters);
        Ok(true)
    }

    /// Writes an audio frame into the open segment, unless that has audio with other parameters.
    pub(super) fn write_audio(&mut self, frame: &Frame, body: &[u8]) {
        let Some(open) = &mut self.open else { return };
        if open.tracks.audio.is_some_and(|parameters| parameters != frame.parameters) {
            return;
        }
        self.muxer.audio(frame.codec, frame.pts, frame.duration, frame.header(), body);
        open.audio_end = frame.end().div_ceil(TICKS) as i64;
        open.tracks.audio = Some(frame.parameters);
    }

    pub(super) fn finish(&mut self, end: i64) -> Option<Segment> {
        let open = self.open.take()?;
        let Some(mut body) = self.muxer.finish() else {
            self.discontinuity |= open.discontinuity;
            return None;
        };
        self.last_size = body.len();
        // The last segment of a stream may be small, and lives as long as the playlist lists it.
        if body.len() < body.capacity() / 2 {
            body.shrink_to_fit();
        }
        let duration = open.length(end).max(1);
        self.next_start = Some(open.started_at + Duration::from_millis(duration));
        let last_tracks = self.last_tracks.replace(open.tracks);
        let have_tracks_changed = last_tracks.is_some_and(|last| last != open.tracks);
        Some(Segment {
            capacity: body.capacity(),
            body: self.buffers.freeze(body),
            duration,
            discontinuity: open.discontinuity || have_tracks_changed || self.muxer.has_jumped(),
            is_first: last_tracks.is_none(),
            started_at: open.started_at,
        })
    }
}
