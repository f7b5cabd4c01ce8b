//! Cuts a stream into segments, with an injected clock and without any file or playlist.
//!
//! ```text
//! RTMP video ───────────────────────────────┐
//!                                           ├──► Muxer ──cut──► Segment (MPEG-TS, duration, discontinuity, wall-clock time)
//! RTMP audio ──► AudioTrack (sample clock) ─┘
//! ```
//!
//! | the stream has | a segment ends |
//! |---|---|
//! | video | before the first keyframe after `hls_fragment` |
//! | only audio | after `hls_fragment` |
//! | new parameters or codecs, a new publisher | at once; the next one follows a discontinuity |

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::audio::{AudioError, AudioTrack, Frame};
use super::buffer_pool::BufferPool;
use super::rate_limit::RateLimit;
use crate::app::stream::VIDEO_TIMEOUT_MS;
use crate::codec::flv::{AudioTag, VideoPacket, VideoTag};
use crate::codec::nalu::{self, MAX_PARAMETER_SETS, VideoConfig};
use crate::codec::ts::Muxer;
use crate::codec::{avc, hevc};
use crate::log::quoted;
use crate::st;

/// Units of the muxer's clock per millisecond.
const TICKS: u64 = 90;

/// Tolerance below `hls_fragment`, in milliseconds: a GOP of exactly that length may be rounded down.
const ROUNDING: u64 = 10;

/// Maximum time that audio at the start waits for the first keyframe, in milliseconds, since a segment should start with it. Also
/// the maximum age of a segment of audio that video may still join.
const MAX_WAIT_FOR_VIDEO: u64 = 1000;

/// Maximum number of waiting audio frames, whatever their timestamps.
const MAX_WAITING_FRAMES: usize = 256;

/// Maximum size of a sequence header, in bytes: twice the limit of its parameter sets.
const MAX_HEADER: usize = 2 * MAX_PARAMETER_SETS;

/// Maximum length of a GOP beyond `hls_fragment`, in milliseconds. It is then cut without a keyframe, else a stream without
/// keyframes would never have a segment. Longer segments only come from jumping timestamps when [`RateLimit`] allows no
/// cut. Playlists do not become longer for them.
pub(super) const MAX_GOP: u64 = 120_000;

/// Maximum size of a segment in bytes, since it is held in memory. Frames beyond it are dropped if no other segment may start yet.
const MAX_SEGMENT: usize = 64 * 1024 * 1024;

/// Maximum distance between media time and wall-clock time in the date of a segment.
const MAX_DATE_DRIFT: Duration = Duration::from_secs(1);

/// Source of wall-clock time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A part of the stream that can be played on its own.
#[derive(Debug)]
pub struct Segment {
    /// A transport stream.
    pub body: Bytes,
    /// Size of the buffer behind `body`, in bytes.
    pub capacity: usize,
    /// In milliseconds.
    pub duration: u64,
    /// The segment does not continue the one before it.
    pub discontinuity: bool,
    /// Wall-clock time of the first frame.
    pub started_at: SystemTime,
}

/// Times are those of the source: milliseconds that never decrease within a track.
pub struct Segmenter {
    stream: String,
    /// `hls_fragment` in milliseconds.
    fragment: u64,
    clock: Clock,
    muxer: Muxer,
    buffers: BufferPool,
    /// Size of the publisher's last segment, in bytes. The next one is expected to be about as large.
    last_size: usize,
    video: Option<VideoConfig>,
    video_header: Vec<u8>,
    audio: AudioTrack,
    waiting_audio: Vec<WaitingFrame>,
    open: Option<OpenSegment>,
    /// The next segment follows a discontinuity.
    discontinuity: bool,
    /// The next segment starts as soon as possible.
    cut_due: bool,
    needs_keyframe: bool,
    rate_limit: RateLimit,
    /// Start of the next segment by media time.
    next_start: Option<SystemTime>,
    unsupported_logged: bool,
    malformed_logged: bool,
}

/// A waiting audio frame. The body is a copy, as the message may be a part of a much larger one.
struct WaitingFrame {
    frame: Frame,
    body: Vec<u8>,
}

struct OpenSegment {
    /// Time of the first frame, in milliseconds.
    start: u64,
    started_at: SystemTime,
    discontinuity: bool,
    /// Time of the last video frame, and its distance from the one before, in milliseconds.
    video: Option<(u64, u64)>,
    /// End of the last audio frame, in milliseconds.
    audio_end: u64,
}

impl Frame {
    /// In milliseconds.
    fn time(&self) -> u64 {
        self.pts / TICKS
    }
}

impl Segmenter {
    /// Creates a segmenter. `stream` is the name used in the log, `fragment` is `hls_fragment`.
    pub fn new(stream: &str, fragment: Duration, clock: Clock, buffers: BufferPool) -> Self {
        let mut segmenter = Self {
            stream: stream.to_owned(),
            fragment: 0,
            clock,
            muxer: Muxer::new(),
            buffers,
            last_size: 0,
            video: None,
            video_header: Vec::new(),
            audio: AudioTrack::default(),
            waiting_audio: Vec::new(),
            open: None,
            discontinuity: false,
            cut_due: false,
            needs_keyframe: true,
            rate_limit: RateLimit::new(st::now()),
            next_start: None,
            unsupported_logged: false,
            malformed_logged: false,
        };
        segmenter.set_fragment(fragment);
        segmenter
    }

    /// Changes the length of segments, including the open one.
    pub fn set_fragment(&mut self, fragment: Duration) {
        self.fragment = u64::try_from(fragment.as_millis()).unwrap_or(u64::MAX);
    }

    /// Starts the stream of a new publisher. Its first segment follows a discontinuity.
    pub fn start(&mut self) {
        self.clear_publisher();
        (self.discontinuity, self.cut_due, self.needs_keyframe) = (true, false, true);
        (self.unsupported_logged, self.malformed_logged) = (false, false);
    }

    /// Ends the publisher's stream and returns its last segment. Nothing is buffered afterwards.
    pub fn finish(&mut self) -> Option<Segment> {
        self.write_waiting_audio();
        let end = self.open.as_ref().map(|open| {
            let video_end = open.video.map_or(0, |(time, step)| time + step);
            video_end.max(open.audio_end)
        });
        let last = end.and_then(|end| self.cut(end));
        self.clear_publisher();
        last
    }

    fn clear_publisher(&mut self) {
        self.last_size = 0;
        self.video = None;
        self.video_header = Vec::new();
        self.audio = AudioTrack::default();
        self.waiting_audio = Vec::new();
    }

    /// Returns the memory in use, in bytes: the open segment's buffer, waiting audio and headers.
    pub fn buffered_bytes(&self) -> usize {
        let audio: usize = self.waiting_audio.iter().map(|waiting| waiting.body.len()).sum();
        let video = self.video.as_ref().map_or(0, |config| config.parameter_sets.len());
        self.muxer.capacity() + audio + self.video_header.len() + video
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn has_video(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.video.is_some())
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
        match tag.packet {
            VideoPacket::SequenceHeader => {
                self.on_video_header(tag, payload.get(tag.body..)?);
                None
            }
            VideoPacket::Frame => self.on_frame(time, tag, payload.get(tag.body..)?),
            _ => None,
        }
    }

    fn on_video_header(&mut self, tag: &VideoTag, header: &[u8]) {
        if self.video.is_some() && header == self.video_header {
            return;
        }
        let config = if header.len() > MAX_HEADER {
            Err(nalu::Error::ParameterSets(header.len()))
        } else if tag.codec.is_h264() {
            avc::read_config(header)
        } else {
            hevc::read_config(header)
        };
        let config = match config {
            Ok(config) => Some(config),
            Err(error) => {
                self.log_malformed(&format!("invalid {} sequence header: {error}", tag.codec));
                None
            }
        };
        if self.video.is_some() {
            (self.discontinuity, self.cut_due, self.needs_keyframe) = (true, true, true);
        }
        self.video_header = if config.is_some() { header.to_vec() } else { Vec::new() };
        self.video = config;
    }

    fn on_frame(&mut self, time: u64, tag: &VideoTag, frame: &[u8]) -> Option<Segment> {
        let config = self.video.as_ref()?;
        if tag.codec.is_h264() != (config.codec == crate::codec::nalu::Codec::H264) {
            return None;
        }
        let is_keyframe = tag.is_keyframe();
        if self.needs_keyframe && !is_keyframe {
            return None;
        }
        let mut finished = None;
        if let Some(open) = &self.open {
            let age = time.saturating_sub(open.start);
            let joins_late = open.video.is_none() && age >= MAX_WAIT_FOR_VIDEO;
            let is_gop_too_long = age >= self.fragment + MAX_GOP;
            let is_due =
                is_keyframe && (self.cut_due || joins_late || age + ROUNDING >= self.fragment) || is_gop_too_long;
            let is_full = self.muxer.len() >= MAX_SEGMENT;
            if (is_full || is_due) && self.take_token() {
                if !is_keyframe {
                    self.log_malformed("no keyframe within the limits of time and size: segments start without one");
                }
                self.discontinuity |= joins_late;
                finished = self.cut(time);
            } else if is_full {
                (self.discontinuity, self.needs_keyframe) = (true, true);
                return None;
            }
        }
        if self.open.is_none() {
            self.open_segment(time);
        }
        let Some(config) = &self.video else { return finished };
        let composition = i64::from(tag.composition_time) * TICKS as i64;
        if let Err(error) = self.muxer.video(config, time * TICKS, composition, is_keyframe, frame) {
            self.log_malformed(&format!("invalid {} frame dropped: {error}", tag.codec));
        } else if let Some(open) = &mut self.open {
            let step = open.video.map_or(0, |(last, step)| if time > last { time - last } else { step });
            open.video = Some((time, step));
            self.needs_keyframe = false;
        }
        self.write_waiting_audio();
        finished
    }

    /// Handles an audio message. Returns the segment that ends before it, if any.
    pub fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) -> Option<Segment> {
        if tag.multitrack {
            return None;
        }
        let frame = match self.audio.on_message(time * TICKS, tag, payload) {
            Ok(frame) => frame?,
            Err(AudioError::Unsupported(codec)) => {
                self.log_unsupported(&codec);
                return None;
            }
            Err(AudioError::Changed) => {
                (self.discontinuity, self.cut_due) = (self.discontinuity | self.open.is_some(), self.open.is_some());
                return None;
            }
        };
        let body = payload.get(tag.body..)?;
        let time = frame.time();
        if self.open.is_none() && self.video.is_some() && self.needs_keyframe {
            let first = self.waiting_audio.first().map_or(time, |waiting| waiting.frame.time());
            if time.saturating_sub(first) < MAX_WAIT_FOR_VIDEO && self.waiting_audio.len() < MAX_WAITING_FRAMES {
                self.waiting_audio.push(WaitingFrame { frame, body: body.to_vec() });
                return None;
            }
        }
        // Audio may also wait for video whose next header turns out to be invalid.
        self.write_waiting_audio();
        self.on_audio_frame(&frame, body)
    }

    fn on_audio_frame(&mut self, frame: &Frame, body: &[u8]) -> Option<Segment> {
        let time = frame.time();
        let mut finished = None;
        if let Some(open) = &self.open {
            let age = time.saturating_sub(open.start);
            let is_video_gone = open.video.is_some_and(|(last, _)| time.saturating_sub(last) >= VIDEO_TIMEOUT_MS);
            let is_due = self.cut_due || age + ROUNDING >= self.fragment;
            let is_full = self.muxer.len() >= MAX_SEGMENT;
            if (is_full || (open.video.is_none() || is_video_gone) && is_due) && self.take_token() {
                // Video that comes back starts with a keyframe.
                self.needs_keyframe |= !is_full;
                self.discontinuity |= is_video_gone;
                finished = self.cut(time);
            } else if is_full {
                self.discontinuity = true;
                return None;
            }
        }
        self.write_audio(frame, body);
        finished
    }

    fn write_audio(&mut self, frame: &Frame, body: &[u8]) {
        if self.open.is_none() {
            self.open_segment(frame.time());
        }
        // A segment has one audio codec. Another one starts with the next segment.
        if self.muxer.audio_codec().is_some_and(|codec| codec != frame.codec) {
            return;
        }
        self.muxer.audio(frame.codec, frame.pts, frame.duration, frame.header(), body);
        if let Some(open) = &mut self.open {
            open.audio_end = (frame.pts + frame.duration).div_ceil(TICKS);
        }
    }

    fn write_waiting_audio(&mut self) {
        for waiting in std::mem::take(&mut self.waiting_audio) {
            self.write_audio(&waiting.frame, &waiting.body);
        }
    }

    fn open_segment(&mut self, time: u64) {
        let now = (self.clock)();
        // Dates follow the media time, so that they agree with durations, until that has left the wall-clock time.
        let is_near = |date: &SystemTime| {
            let distance = now.duration_since(*date).or_else(|_| date.duration_since(now));
            distance.is_ok_and(|distance| distance < MAX_DATE_DRIFT)
        };
        let started_at = self.next_start.filter(is_near).unwrap_or(now);
        let discontinuity = std::mem::take(&mut self.discontinuity);
        self.cut_due = false;
        if self.last_size > 0 {
            self.muxer.reuse_buffer(self.buffers.acquire(self.last_size));
        }
        self.open = Some(OpenSegment { start: time, started_at, discontinuity, video: None, audio_end: 0 });
    }

    fn take_token(&mut self) -> bool {
        let has_token = self.rate_limit.take_token(st::now());
        if !has_token {
            self.log_malformed("too many segments per second: they are merged, and frames that do not fit are dropped");
        }
        has_token
    }

    fn cut(&mut self, end: u64) -> Option<Segment> {
        let OpenSegment { start, started_at, discontinuity, .. } = self.open.take()?;
        let Some(mut body) = self.muxer.finish() else {
            self.discontinuity |= discontinuity;
            return None;
        };
        self.last_size = body.len();
        // The last segment of a stream may be small, and lives as long as the playlist lists it.
        if body.len() < body.capacity() / 2 {
            body.shrink_to_fit();
        }
        let duration = end.saturating_sub(start).max(1);
        self.next_start = Some(started_at + Duration::from_millis(duration));
        let capacity = body.capacity();
        Some(Segment { body: self.buffers.freeze(body), capacity, duration, discontinuity, started_at })
    }

    /// Logs once per publisher.
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
