//! Cuts a stream into segments, with an injected clock and without any file or playlist.
//!
//! ```text
//! RTMP video ───────────────────────────────┐
//!                                           ├──► SegmentBuilder ──cut──► Segment (MPEG-TS, duration, discontinuity, date)
//! RTMP audio ──► AudioTrack (sample clock) ─┘
//! ```
//!
//! | the stream has | a segment ends |
//! |---|---|
//! | video | before the first keyframe after `hls_fragment` |
//! | only audio | after `hls_fragment` |
//! | new parameters or codecs, a new publisher | at once, with video before the next keyframe; audio waits for that |
//!
//! A segment that has other tracks than the one before it, or other parameters, follows a discontinuity.

use std::time::Duration;

use bytes::Bytes;

use super::announced::Announced;
use super::buffer_pool::BufferPool;
use super::gaps::Gaps;
use super::rate_limit::RateLimit;
pub use super::segment::{Clock, Segment};
use super::segment::{OpenSegment, TICKS};
use super::segment_builder::SegmentBuilder;
use super::still_picture::StillPicture;
use super::waiting_audio::WaitingAudio;
use crate::app::stream::VIDEO_TIMEOUT_MS;
use crate::codec::flv::{AudioPacket, AudioTag, VideoPacket, VideoTag};
use crate::codec::ts::audio_track::{AudioError, AudioTrack, Frame};
use crate::codec::ts::video_track::{self, Configuration, VideoTrack};
use crate::log::quoted;
use crate::st;

/// Tolerance below `hls_fragment`, in milliseconds: a GOP of exactly that length may be rounded down.
const ROUNDING: u64 = 10;

/// Maximum time that audio at the start waits for the first keyframe, in milliseconds, since a segment should start with it. Also
/// the maximum age of a segment of audio that video may still join.
const MAX_WAIT_FOR_VIDEO: u64 = 1000;

/// Maximum time beyond `hls_fragment`, in milliseconds, that the first segment waits for audio which is announced.
const MAX_WAIT_FOR_AUDIO: u64 = 1000;

/// Maximum length of a GOP beyond `hls_fragment`, in milliseconds. It is then cut without a keyframe, else a stream without
/// keyframes would never have a segment. Longer segments only come from jumping timestamps when [`RateLimit`] allows no
/// cut. Playlists do not become longer for them.
pub(super) const MAX_GOP: u64 = 120_000;

/// Times are those of the source: milliseconds that never decrease within a track.
pub struct Segmenter {
    stream: String,
    fragment: u64,
    builder: SegmentBuilder,
    video: VideoTrack,
    audio: AudioTrack,
    announced: Announced,
    waiting_audio: WaitingAudio,
    gaps: Gaps,
    picture: StillPicture,
    cut_due: bool,
    needs_keyframe: bool,
    rate_limit: RateLimit,
    unsupported_logged: bool,
    malformed_logged: bool,
}

impl Segmenter {
    /// Creates a segmenter. `stream` is the name used in the log, `fragment` is `hls_fragment`.
    pub fn new(stream: &str, fragment: Duration, clock: Clock, buffers: BufferPool) -> Self {
        let mut segmenter = Self {
            stream: stream.to_owned(),
            fragment: 0,
            builder: SegmentBuilder::new(clock, buffers),
            video: VideoTrack::default(),
            audio: AudioTrack::default(),
            announced: Announced::default(),
            waiting_audio: WaitingAudio::default(),
            gaps: Gaps::default(),
            picture: StillPicture::new(),
            cut_due: false,
            needs_keyframe: true,
            rate_limit: RateLimit::new(st::now()),
            unsupported_logged: false,
            malformed_logged: false,
        };
        segmenter.set_fragment(fragment);
        segmenter
    }

    pub fn set_fragment(&mut self, fragment: Duration) {
        self.fragment = u64::try_from(fragment.as_millis()).unwrap_or(u64::MAX);
    }

    /// Starts the stream of a new publisher. Its first segment follows a discontinuity.
    pub fn start(&mut self) {
        self.clear_publisher();
        self.builder.start_publication();
        (self.cut_due, self.needs_keyframe) = (false, true);
        (self.unsupported_logged, self.malformed_logged) = (false, false);
    }

    /// Ends the publisher's stream and returns its last segment. Nothing is buffered afterwards.
    pub fn finish(&mut self) -> Option<Segment> {
        self.write_waiting_audio();
        let step = self.video.step().min(self.fragment);
        let last = self.builder.open_segment().map(|open| open.end(step)).and_then(|end| self.builder.finish(end));
        self.clear_publisher();
        last
    }

    fn clear_publisher(&mut self) {
        self.builder.end_publication();
        self.announced = Announced::default();
        (self.video, self.audio, self.gaps) = (VideoTrack::default(), AudioTrack::default(), Gaps::default());
        (self.waiting_audio, self.picture) = (WaitingAudio::default(), StillPicture::new());
    }

    pub fn buffered_bytes(&self) -> usize {
        self.builder.capacity() + self.waiting_audio.bytes() + self.video.bytes() + self.picture.bytes()
    }

    pub(super) fn is_open(&self) -> bool {
        self.builder.open_segment().is_some()
    }

    pub(super) fn has_video(&self) -> bool {
        self.builder.open_segment().is_some_and(|open| open.video.is_some())
    }

    pub fn on_data(&mut self, payload: &[u8]) {
        if self.builder.is_first()
            && let Some(announced) = Announced::read(payload)
        {
            self.announced = announced;
        }
    }

    /// Handles a video message. Returns the segment that ends before it, if any.
    pub fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) -> Option<Segment> {
        // Encoders send the first track, which all players understand, without multitrack.
        if tag.multitrack {
            return None;
        }
        if !tag.codec.is_h264() && !tag.codec.is_h265() {
            self.log_unsupported(&tag.codec.to_string());
            return None;
        }
        let body = payload.get(tag.body..)?;
        match tag.packet {
            VideoPacket::SequenceHeader => {
                match self.video.on_header(tag, body) {
                    Ok(false) => {}
                    Ok(true) => {
                        self.needs_keyframe = true;
                        self.request_cut();
                    }
                    Err(reason) => {
                        self.log_malformed(&reason);
                        self.needs_keyframe = true;
                        if self.has_video() {
                            self.request_cut();
                        }
                    }
                }
                None
            }
            VideoPacket::Frame => self.on_frame(time, tag, body),
            _ => None,
        }
    }

    fn on_frame(&mut self, time: u64, tag: &VideoTag, frame: &[u8]) -> Option<Segment> {
        let is_keyframe = tag.is_keyframe();
        match self.video.on_frame(time, tag, frame) {
            Ok(Configuration::Missing) => return None,
            Ok(Configuration::Same) => {}
            Ok(Configuration::Changed) if self.has_video() => self.request_cut(),
            Ok(Configuration::Changed) => {}
            Err(reason) => {
                self.log_malformed(&reason);
                return None;
            }
        }
        if self.needs_keyframe && !is_keyframe || !self.picture.on_video(time) {
            return None;
        }
        if is_keyframe && let Some((config, _)) = self.video.config() {
            self.picture.store(config, tag.composition_time, frame);
        }
        self.add_frame(time, tag.composition_time, is_keyframe, frame)
    }

    fn add_frame(&mut self, time: u64, composition: i32, is_keyframe: bool, frame: &[u8]) -> Option<Segment> {
        let pts = video_track::presentation_time(time, composition);
        let mut finished = None;
        if let Some(open) = self.builder.open_segment() {
            let age = time.saturating_sub(open.start);
            let joins_late = open.video.is_none() && age >= MAX_WAIT_FOR_VIDEO;
            let is_gop_too_long = age >= self.fragment + MAX_GOP;
            let is_long_enough = open.length(pts) + ROUNDING >= self.fragment && !self.waits_for_audio(open, age);
            let is_due = is_keyframe && (self.cut_due || joins_late || is_long_enough) || is_gop_too_long;
            let is_full = self.builder.is_full();
            if (is_full || is_due) && self.take_token() {
                if !is_keyframe {
                    self.log_malformed("no keyframe within the limits of time and size: segments start without one");
                }
                self.builder.add_discontinuity(joins_late);
                self.fill_gap(true);
                finished = self.builder.finish(pts);
            } else if is_full {
                self.builder.add_discontinuity(true);
                self.needs_keyframe = true;
                return None;
            }
        }
        if !self.is_open() {
            self.open_segment(time, pts);
            if !self.builder.is_first() {
                self.waiting_audio.start_at(time * TICKS);
            }
        }
        self.write_video(time, composition, is_keyframe, frame);
        self.write_waiting_audio();
        self.fill_gap(false);
        finished
    }

    fn write_video(&mut self, time: u64, composition: i32, is_keyframe: bool, frame: &[u8]) {
        match self.builder.write_video(&self.video, time, composition, is_keyframe, frame) {
            Ok(true) => {
                self.needs_keyframe = false;
                self.gaps.on_video(time);
            }
            Ok(false) => {}
            Err(reason) => self.log_malformed(&reason),
        }
    }

    /// Repeats the last picture if video has a gap at this time of audio, in milliseconds.
    fn repeat_picture(&mut self, time: u64) -> Option<Segment> {
        let at = self.picture.on_audio(time)?;
        let (frame, composition) = self.picture.frame();
        let finished = self.add_frame(at, composition, true, &frame);
        // Frames after the gap do not refer to the repeated picture.
        self.needs_keyframe = true;
        finished
    }

    /// Returns whether a segment of this age, in milliseconds, goes on because audio is announced that has not come yet.
    fn waits_for_audio(&self, open: &OpenSegment, age: u64) -> bool {
        let is_announced = self.announced.audio || self.audio.is_configured();
        let is_missing = self.builder.is_first() && open.tracks.audio.is_none();
        is_announced && is_missing && !self.cut_due && age < self.fragment + MAX_WAIT_FOR_AUDIO
    }

    pub fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) -> Option<Segment> {
        if tag.multitrack {
            return None;
        }
        let has_sound = matches!(tag.packet, AudioPacket::Frame | AudioPacket::Raw) && payload.len() > tag.body;
        if has_sound {
            while let Some((frame, data)) = self.gaps.before_audio(&mut self.audio, time * TICKS) {
                self.write_audio(&frame, &data);
            }
            if !self.gaps.on_audio(time * TICKS) {
                return None;
            }
        }
        let frame = match self.audio.on_message(time * TICKS, tag, payload) {
            Ok(frame) => frame?,
            Err(AudioError::Unsupported(codec)) => {
                self.log_unsupported(&codec);
                return None;
            }
            Err(AudioError::Malformed(reason)) => {
                self.log_malformed(reason);
                return None;
            }
        };
        let body = payload.get(tag.body..)?;
        let expects_video = self.video.config().is_some() || self.announced.video && self.builder.is_first();
        if !self.is_open() && expects_video && self.needs_keyframe {
            let waited = frame.pts.saturating_sub(self.waiting_audio.first_pts().unwrap_or(frame.pts));
            if waited < MAX_WAIT_FOR_VIDEO * TICKS && !self.waiting_audio.is_full() {
                self.waiting_audio.push(frame, body);
                return None;
            }
        }
        // Audio may also wait for video whose next header turns out to be invalid.
        if !self.is_open() {
            self.write_waiting_audio();
        }
        if let Some(finished) = self.repeat_picture(frame.pts / TICKS) {
            self.write_audio(&frame, body);
            return Some(finished);
        }
        self.on_audio_frame(frame, body)
    }

    fn on_audio_frame(&mut self, frame: Frame, body: &[u8]) -> Option<Segment> {
        let time = frame.pts / TICKS;
        let mut finished = None;
        if let Some(open) = self.builder.open_segment() {
            let is_other = open.tracks.audio.is_some_and(|parameters| parameters != frame.parameters);
            let video_gap = open.video.map(|video| time.saturating_sub(video.last));
            let is_video_gone = video_gap.is_some_and(|gap| gap >= VIDEO_TIMEOUT_MS);
            let is_due = self.cut_due || is_other || open.length(time as i64) + ROUNDING >= self.fragment;
            let is_full = self.builder.is_full();
            if (is_full || (open.video.is_none() || is_video_gone) && is_due) && self.take_token() {
                // Video that comes back starts with a keyframe.
                self.needs_keyframe |= !is_full;
                self.builder.add_discontinuity(is_video_gone);
                finished = self.builder.finish(time as i64);
                self.waiting_audio.start_at(frame.pts);
                self.write_waiting_audio();
            } else if is_full {
                self.builder.add_discontinuity(true);
                return None;
            } else if is_other {
                // A segment has one set of parameters: players would take these frames for frames of the others.
                self.request_cut();
                self.waiting_audio.push_last(frame, body);
                return None;
            }
        }
        self.write_audio(&frame, body);
        finished
    }

    fn write_audio(&mut self, frame: &Frame, body: &[u8]) {
        if !self.is_open() {
            let time = frame.pts / TICKS;
            self.open_segment(time, time as i64);
        }
        self.builder.write_audio(frame, body);
    }

    fn write_waiting_audio(&mut self) {
        // Frames with other parameters wait on.
        let parameters = self.builder.open_segment().and_then(|open| open.tracks.audio);
        while let Some((frame, body)) = self.waiting_audio.pop(parameters) {
            self.write_audio(&frame, &body);
        }
    }

    /// Writes silence where audio is missing. `is_end` means that the segment is about to end.
    fn fill_gap(&mut self, is_end: bool) {
        let Some(open) = self.builder.open_segment().filter(|_| self.waiting_audio.is_empty()) else { return };
        let is_end = is_end && open.tracks.audio.is_none();
        while let Some((frame, data)) = self.gaps.after_video(&mut self.audio, is_end) {
            self.write_audio(&frame, &data);
        }
    }

    fn open_segment(&mut self, time: u64, pts: i64) {
        self.cut_due = false;
        self.gaps.on_segment();
        self.builder.open(time, pts);
    }

    fn request_cut(&mut self) {
        self.cut_due = true;
        self.builder.add_discontinuity(true);
    }

    fn take_token(&mut self) -> bool {
        let has_token = self.rate_limit.take_token(st::now());
        if !has_token {
            self.log_malformed("too many segments per second: they are merged, and frames that do not fit are dropped");
        }
        has_token
    }

    fn log_unsupported(&mut self, codec: &str) {
        if !std::mem::replace(&mut self.unsupported_logged, true) {
            log::warn!("HLS track skipped, not supported in MPEG-TS: stream={} codec={}", self.stream, quoted(codec));
        }
    }

    /// Logs once per publisher.
    fn log_malformed(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.malformed_logged, true) {
            log::warn!("HLS input malformed: stream={} reason={}", self.stream, quoted(reason));
        }
    }

    #[cfg(test)]
    pub(super) fn audio_resyncs(&self) -> u64 {
        self.audio.resyncs()
    }
}
