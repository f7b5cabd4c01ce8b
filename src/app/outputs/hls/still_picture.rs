//! Gaps of video while audio goes on, such as those of a slide show or a camera that is off: the last picture is repeated, if
//! it can be decoded on its own.
//!
//! A player in a browser stops where video has nothing, for good, and does not even start with one frame in a segment. With
//! repeated pictures, segments keep their length and start with a keyframe.

use super::rate_limit::RateLimit;
use crate::codec::nalu::{Codec, Nalus, VideoConfig};
use crate::st;

/// Time of audio without any video message after which the picture is repeated, in milliseconds.
const REPEAT_AFTER: u64 = 2500;

/// Minimum time by which audio is ahead of video then, in milliseconds: less is audio that was late.
const MIN_AUDIO_LEAD: u64 = 2000;

const INTERVAL: u64 = 500;

/// Maximum time for which a picture is repeated, in milliseconds. Then the stream counts as one without video.
const MAX_GAP: u64 = 120_000;

/// Distance of repeated pictures behind audio, in milliseconds: room for the first frame after the gap. What is further behind
/// would move the clock references of the whole publication.
const PICTURE_DELAY: u64 = 280;

const MAX_PICTURE: usize = 1024 * 1024;

pub(super) struct StillPicture {
    /// Empty if the last keyframe cannot be repeated.
    frame: Vec<u8>,
    composition_time: i32,
    /// Time of the last video frame, in milliseconds, and of audio when it came.
    last_video: Option<(u64, Option<u64>)>,
    last_audio: Option<u64>,
    repeated_at: Option<u64>,
    rate_limit: RateLimit,
}

impl StillPicture {
    pub(super) fn new() -> Self {
        Self {
            frame: Vec::new(),
            composition_time: 0,
            last_video: None,
            last_audio: None,
            repeated_at: None,
            rate_limit: RateLimit::new(st::now()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Handles a video frame. Returns false if a repeated picture has taken its place, because it is late.
    pub(super) fn on_video(&mut self, time: u64) -> bool {
        if self.repeated_at.is_some_and(|at| time <= at) {
            return false;
        }
        (self.last_video, self.repeated_at) = (Some((time, self.last_audio)), None);
        true
    }

    /// Stores a copy of a keyframe: the message may be a part of a much larger one.
    pub(super) fn store(&mut self, config: &VideoConfig, composition_time: i32, frame: &[u8]) {
        self.frame.clear();
        if frame.len() <= MAX_PICTURE && is_independent(config, frame) {
            self.frame.extend_from_slice(frame);
            self.composition_time = composition_time;
        }
    }

    /// Handles audio. Returns the time of the picture that is due, if any.
    pub(super) fn on_audio(&mut self, time: u64) -> Option<u64> {
        self.last_audio = Some(time);
        let (video, since) = self.last_video.as_mut()?;
        let gap = time.saturating_sub(*since.get_or_insert(time));
        let at = (*video + gap).min(time).saturating_sub(PICTURE_DELAY);
        let is_gap =
            (REPEAT_AFTER..=MAX_GAP).contains(&gap) && time >= *video + MIN_AUDIO_LEAD && !self.frame.is_empty();
        let is_due = is_gap && self.repeated_at.is_none_or(|last| at >= last + INTERVAL);
        if !is_due || !self.rate_limit.take_token(st::now()) {
            return None;
        }
        self.repeated_at = Some(at);
        Some(at)
    }

    pub(super) fn frame(&self) -> (Vec<u8>, i32) {
        (self.frame.clone(), self.composition_time)
    }
}

/// Returns whether a keyframe starts anew for the decoder, so that it can stand anywhere.
fn is_independent(config: &VideoConfig, frame: &[u8]) -> bool {
    Nalus::new(frame, config.length_size).flatten().filter_map(|nalu| nalu.first()).any(|&first| {
        let kind = config.codec.nalu_type(first);
        match config.codec {
            Codec::H264 => kind == 5,
            Codec::H265 => matches!(kind, 19 | 20),
        }
    })
}
