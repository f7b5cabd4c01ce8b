//! Where a stream is cut: frames in, segments out. It knows no file and no playlist.
//!
//! A segment begins with a keyframe and ends at the first one after `hls_fragment`; without video it is cut by time. What
//! changes the stream (its parameters, its codecs, a publisher that came back) begins a segment, and that one follows a
//! discontinuity.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::audio::{Audio, Frame};
use super::buffers::Buffers;
use crate::codec::flv::{AudioTag, VideoPacket, VideoTag};
use crate::codec::nalu::{self, MAX_PARAMETER_SETS, VideoConfig};
use crate::codec::ts::Muxer;
use crate::codec::{avc, hevc};

/// Units of the muxer's clock in a millisecond.
const TICKS: u64 = 90;

/// Time stamps are rounded to the millisecond, so a GOP of exactly a fragment may seem a little shorter.
const TOLERANCE: u64 = 10;

/// How long audio at the start waits for the first keyframe, in milliseconds: a segment is to begin with it. And how old a segment
/// of audio may be for video still to become a part of it.
const WAIT_FOR_VIDEO: u64 = 1000;

/// The same in frames, whatever their times say.
const MAX_HELD: usize = 256;

/// The longest sequence header, in bytes: twice what is taken of parameter sets.
const MAX_HEADER: usize = 2 * MAX_PARAMETER_SETS;

/// Video that has not come for so long, in milliseconds, is gone: what follows is cut by time.
const VIDEO_GONE: u64 = 10_000;

/// A GOP longer than this, beyond the fragment and in milliseconds, is cut where there is no keyframe: a stream whose encoder makes
/// none would never have a segment. Only times that jump make longer ones, when no cut is left (see [`CUTS`]): a playlist does not
/// become longer for them.
pub(super) const MAX_GOP: u64 = 120_000;

/// The same in bytes: what is in memory for one stream. What would be more is left out if there may be no other segment yet.
const MAX_SEGMENT: usize = 64 * 1024 * 1024;

/// Segments that a stream may have at once, whatever its times say, and how many a second after that: a file, or two, is written for
/// each. A file that is published as fast as it can be read has fewer. What would be one too many goes on, as far as it may in bytes.
const CUTS: u32 = 128;
const CUTS_A_SECOND: u32 = 4;

/// What tells the time of day.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A part of the stream that can be played by itself.
#[derive(Debug)]
pub struct Segment {
    /// A transport stream.
    pub body: Bytes,
    /// Bytes of the buffer that it is in, which may have room for more.
    pub room: usize,
    /// In milliseconds.
    pub duration: u64,
    /// It is not the continuation of the one before it.
    pub discontinuity: bool,
    /// The time of day at its start.
    pub at: SystemTime,
}

/// Cuts a stream into segments. Times are those of the source: milliseconds that do not run backwards within a track.
pub struct Segmenter {
    /// For the log.
    stream: String,
    fragment: u64,
    clock: Clock,
    muxer: Muxer,
    buffers: Buffers,
    /// Bytes of the publisher's last segment: the next one may be about as large.
    size: usize,
    video: Option<VideoConfig>,
    video_header: Vec<u8>,
    audio: Audio,
    /// Audio that waits for the first keyframe.
    held: Vec<Held>,
    open: Option<Open>,
    /// The next segment follows a discontinuity.
    discontinuity: bool,
    /// The next segment is to begin as soon as it can.
    cut_due: bool,
    /// Frames of video are of no use before a keyframe.
    needs_key: bool,
    /// Cuts that are left, and since when they are counted.
    cuts: u32,
    cuts_since: Instant,
    /// The time of day at which the next segment would begin if the clocks of encoder and server were one.
    next_at: Option<SystemTime>,
    has_said_unsupported: bool,
    has_said_broken: bool,
}

/// A frame of audio, and what the encoder sent for it. Its message may be a part of a much larger one, which is not kept for that.
struct Held {
    frame: Frame,
    body: Vec<u8>,
}

/// The segment that is being written.
struct Open {
    /// The time of its first frame.
    start: u64,
    at: SystemTime,
    discontinuity: bool,
    /// The time of the last frame of video, and its distance from the one before.
    video: Option<(u64, u64)>,
    /// The end of the last frame of audio.
    audio_end: u64,
}

impl Frame {
    /// In milliseconds.
    fn time(&self) -> u64 {
        self.pts / TICKS
    }
}

impl Segmenter {
    /// For the stream of this name.
    pub fn new(stream: &str, fragment: Duration, clock: Clock, buffers: Buffers) -> Self {
        let mut segmenter = Self {
            stream: stream.to_owned(),
            fragment: 0,
            clock,
            muxer: Muxer::new(),
            buffers,
            size: 0,
            video: None,
            video_header: Vec::new(),
            audio: Audio::default(),
            held: Vec::new(),
            open: None,
            discontinuity: false,
            cut_due: false,
            needs_key: true,
            cuts: CUTS,
            cuts_since: Instant::now(),
            next_at: None,
            has_said_unsupported: false,
            has_said_broken: false,
        };
        segmenter.set_fragment(fragment);
        segmenter
    }

    /// Changes the length of segments, that of the one being written included.
    pub fn set_fragment(&mut self, fragment: Duration) {
        self.fragment = u64::try_from(fragment.as_millis()).unwrap_or(u64::MAX);
    }

    /// A publisher begins. What it sends does not continue what was there before.
    pub fn begin(&mut self) {
        self.forget();
        (self.discontinuity, self.cut_due, self.needs_key) = (true, false, true);
        (self.has_said_unsupported, self.has_said_broken) = (false, false);
    }

    /// The publisher has ended, or the stream goes elsewhere: the last segment. Nothing is held any more.
    pub fn end(&mut self) -> Option<Segment> {
        self.release_held();
        let end = self.open.as_ref().map(|open| {
            let video_end = open.video.map_or(0, |(time, step)| time + step);
            video_end.max(open.audio_end)
        });
        let last = end.and_then(|end| self.cut(end));
        self.forget();
        last
    }

    /// Lets go of what the publisher has said of its stream.
    fn forget(&mut self) {
        self.size = 0;
        self.video = None;
        self.video_header = Vec::new();
        self.audio = Audio::default();
        self.held = Vec::new();
    }

    /// Bytes of the segment that is open, with the room that its buffer has for more, of the audio that waits for it, and of what was
    /// said of the video.
    pub fn held(&self) -> usize {
        let audio: usize = self.held.iter().map(|held| held.body.len()).sum();
        let video = self.video.as_ref().map_or(0, |config| config.parameter_sets.len());
        self.muxer.room() + audio + self.video_header.len() + video
    }

    /// Whether a segment is being written.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the segment that is open has video.
    pub(super) fn has_video(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.video.is_some())
    }

    /// Takes a message of video. Gives back the segment that ends before it.
    pub fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) -> Option<Segment> {
        // The first track is sent without naming it by encoders that mean it for everybody.
        if tag.multitrack {
            return None;
        }
        if !tag.codec.is_h264() && !tag.codec.is_h265() {
            self.say_unsupported(&tag.codec.to_string());
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
                self.say_broken(&format!("{} with a sequence header that is none: {error}", tag.codec));
                None
            }
        };
        if self.video.is_some() {
            (self.discontinuity, self.cut_due, self.needs_key) = (true, true, true);
        }
        self.video_header = if config.is_some() { header.to_vec() } else { Vec::new() };
        self.video = config;
    }

    fn on_frame(&mut self, time: u64, tag: &VideoTag, frame: &[u8]) -> Option<Segment> {
        let config = self.video.as_ref()?;
        // A header for a codec that the frames are not of.
        if tag.codec.is_h264() != (config.codec == crate::codec::nalu::Codec::H264) {
            return None;
        }
        let is_key = tag.is_keyframe();
        if self.needs_key && !is_key {
            return None;
        }
        let mut done = None;
        if let Some(open) = &self.open {
            let age = time.saturating_sub(open.start);
            let joins_late = open.video.is_none() && age >= WAIT_FOR_VIDEO;
            let is_endless = age >= self.fragment + MAX_GOP;
            let is_due = is_key && (self.cut_due || joins_late || age + TOLERANCE >= self.fragment) || is_endless;
            let is_full = self.muxer.len() >= MAX_SEGMENT;
            if (is_full || is_due) && self.may_cut() {
                if !is_key {
                    self.say_broken("no keyframe for too long, or for too many bytes: segments begin without one");
                }
                self.discontinuity |= joins_late;
                done = self.cut(time);
            } else if is_full {
                // What follows begins with a keyframe.
                (self.discontinuity, self.needs_key) = (true, true);
                return None;
            }
        }
        if self.open.is_none() {
            self.begin_segment(time);
        }
        let Some(config) = &self.video else { return done };
        let composition = i64::from(tag.composition_time) * TICKS as i64;
        if let Err(error) = self.muxer.video(config, time * TICKS, composition, is_key, frame) {
            self.say_broken(&format!("a frame of {} is left out: {error}", tag.codec));
        } else if let Some(open) = &mut self.open {
            let step = open.video.map_or(0, |(last, step)| if time > last { time - last } else { step });
            open.video = Some((time, step));
            self.needs_key = false;
        }
        self.release_held();
        done
    }

    /// Takes a message of audio. Gives back the segment that ends before it.
    pub fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) -> Option<Segment> {
        if tag.multitrack {
            return None;
        }
        let frame = match self.audio.on_message(time * TICKS, tag, payload) {
            Ok(frame) => frame?,
            Err(super::audio::Refused::Unsupported(what)) => {
                self.say_unsupported(&what);
                return None;
            }
            Err(super::audio::Refused::Changed) => {
                (self.discontinuity, self.cut_due) = (self.discontinuity | self.open.is_some(), self.open.is_some());
                return None;
            }
        };
        let body = payload.get(tag.body..)?;
        let time = frame.time();
        if self.open.is_none() && self.video.is_some() && self.needs_key {
            let first = self.held.first().map_or(time, |held| held.frame.time());
            if time.saturating_sub(first) < WAIT_FOR_VIDEO && self.held.len() < MAX_HELD {
                self.held.push(Held { frame, body: body.to_vec() });
                return None;
            }
        }
        // Also where the video that it waited for is none: a header came that cannot be read.
        self.release_held();
        self.put_audio(&frame, body)
    }

    fn put_audio(&mut self, frame: &Frame, body: &[u8]) -> Option<Segment> {
        let time = frame.time();
        let mut done = None;
        if let Some(open) = &self.open {
            let age = time.saturating_sub(open.start);
            let is_video_gone = open.video.is_some_and(|(last, _)| time.saturating_sub(last) >= VIDEO_GONE);
            let is_due = self.cut_due || age + TOLERANCE >= self.fragment;
            let is_full = self.muxer.len() >= MAX_SEGMENT;
            if (is_full || (open.video.is_none() || is_video_gone) && is_due) && self.may_cut() {
                // Video that comes back begins with a keyframe.
                self.needs_key |= !is_full;
                self.discontinuity |= is_video_gone;
                done = self.cut(time);
            } else if is_full {
                self.discontinuity = true;
                return None;
            }
        }
        self.write_audio(frame, body);
        done
    }

    fn write_audio(&mut self, frame: &Frame, body: &[u8]) {
        if self.open.is_none() {
            self.begin_segment(frame.time());
        }
        // A segment has one kind of audio: another begins with the next one.
        if self.muxer.audio_codec().is_some_and(|codec| codec != frame.codec) {
            return;
        }
        self.muxer.audio(frame.codec, frame.pts, frame.duration, frame.header(), body);
        if let Some(open) = &mut self.open {
            open.audio_end = (frame.pts + frame.duration).div_ceil(TICKS);
        }
    }

    fn release_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.write_audio(&held.frame, &held.body);
        }
    }

    fn begin_segment(&mut self, time: u64) {
        const SAME: Duration = Duration::from_secs(1);
        let now = (self.clock)();
        // As the media counts, so that dates agree with durations; until that has gone away from the time of day.
        let is_near = |at: &SystemTime| {
            let distance = now.duration_since(*at).or_else(|_| at.duration_since(now));
            distance.is_ok_and(|distance| distance < SAME)
        };
        let at = self.next_at.filter(is_near).unwrap_or(now);
        let discontinuity = std::mem::take(&mut self.discontinuity);
        self.cut_due = false;
        if self.size > 0 {
            self.muxer.write_into(self.buffers.take(self.size));
        }
        self.open = Some(Open { start: time, at, discontinuity, video: None, audio_end: 0 });
    }

    /// Whether the stream may have another segment now. If so, it is one less of those that it may have.
    fn may_cut(&mut self) -> bool {
        let more = self.cuts_since.elapsed().as_millis() * u128::from(CUTS_A_SECOND) / 1000;
        if more > 0 {
            self.cuts_since = Instant::now();
            self.cuts = self.cuts.saturating_add(more as u32).min(CUTS);
        }
        let may = self.cuts > 0;
        self.cuts = self.cuts.saturating_sub(1);
        if !may {
            self.say_broken(
                "more than four segments a second: they are made longer, and what is too much for one is left out",
            );
        }
        may
    }

    fn cut(&mut self, end: u64) -> Option<Segment> {
        let Open { start, at, discontinuity, .. } = self.open.take()?;
        let Some(mut body) = self.muxer.finish() else {
            self.discontinuity |= discontinuity;
            return None;
        };
        self.size = body.len();
        // What is left of a stream may be little, and lives for as long as the playlist names it.
        if body.len() < body.capacity() / 2 {
            body.shrink_to_fit();
        }
        let duration = end.saturating_sub(start).max(1);
        self.next_at = Some(at + Duration::from_millis(duration));
        Some(Segment { room: body.capacity(), body: self.buffers.lend(body), duration, discontinuity, at })
    }

    fn say_unsupported(&mut self, what: &str) {
        if !std::mem::replace(&mut self.has_said_unsupported, true) {
            log::warn!("HLS of {}: {what} has no place in a transport stream and is left out", self.stream);
        }
    }

    fn say_broken(&mut self, what: &str) {
        if !std::mem::replace(&mut self.has_said_broken, true) {
            log::warn!("HLS of {}: {what}", self.stream);
        }
    }

    /// How often the clock of audio was set again.
    #[cfg(test)]
    pub(super) fn audio_resyncs(&self) -> u64 {
        self.audio.resyncs()
    }
}
