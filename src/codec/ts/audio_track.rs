//! Audio frames for the muxer, with presentation times counted in samples.
//!
//! RTMP timestamps have milliseconds, and a frame of 1024 samples at 44100 Hz takes 23.22 ms: played at rounded times it
//! clicks. So a frame's time is the time of the first frame plus the samples since, at the stream's sample rate. This clock is
//! set again only when the encoder's timestamps have left it for good.

use std::sync::Arc;

use bytes::Bytes;

use super::{AudioCodec, CLOCK_HZ};
use crate::codec::aac::{self, AacConfig};
use crate::codec::adts;
use crate::codec::flv::{AudioPacket, AudioTag};
use crate::codec::mp3;

/// Distance between timestamp and sample clock that is a jump: 200 ms, in units of [`CLOCK_HZ`].
const MIN_JUMP: u64 = 18_000;

/// Distance that counts as drift: 30 ms, in units of [`CLOCK_HZ`]. Rounding is below it. Encoders that stamp frames when they
/// send them jitter by as much.
const MIN_DRIFT: u64 = 2700;

/// Number of successive frames with drift to the same side that are taken for jitter. One more sets the clock again.
const MAX_DRIFTING_FRAMES: u32 = 64;

/// Maximum size of an MP3 message: several frames of the greatest size.
const MAX_MP3: usize = 16 * 1024;

/// Number of AAC frames without a configuration after which that is an error. Some encoders send their first frames before it.
const MAX_UNCONFIGURED_FRAMES: u32 = 50;

/// The timing and header of a frame. Its data is the message from the body of its tag on.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The codec.
    pub codec: AudioCodec,
    /// Presentation time in units of [`CLOCK_HZ`].
    pub pts: u64,
    /// Length in units of [`CLOCK_HZ`].
    pub duration: u64,
    /// A number for codec, sample rate and channels, which changes with them.
    pub parameters: u32,
    prefix: Option<adts::Prefix>,
}

/// Reasons why a message gives no frame.
#[derive(Debug, PartialEq, Eq)]
pub enum AudioError {
    /// A transport stream cannot carry this codec, or this form of it.
    Unsupported(String),
    /// The frames cannot be read.
    Malformed(&'static str),
}

/// Codec and parameters of a frame.
#[derive(Debug, Clone, PartialEq)]
enum Parameters {
    Aac(Arc<AacConfig>),
    /// AAC in ADTS, by the parameters in its headers: object type, sample rate and channels.
    Adts(u8, u32, u8),
    Mp3(AudioCodec, u32),
}

/// The audio of a stream: reads messages into frames.
#[derive(Debug, Default)]
pub struct AudioTrack {
    config: Option<Arc<AacConfig>>,
    /// A frame without sound in `config`.
    silence: Bytes,
    parameters: Option<Parameters>,
    /// Number of changes of `parameters`.
    changes: u32,
    unconfigured_frames: u32,
    clock: Option<SampleClock>,
    resyncs: u64,
}

impl Frame {
    /// Returns what precedes its data in a transport stream: an ADTS header, or nothing.
    pub fn header(&self) -> &[u8] {
        self.prefix.as_ref().map_or(&[], |prefix| prefix)
    }

    /// Returns the time of the next frame, in units of [`CLOCK_HZ`].
    pub fn end(&self) -> u64 {
        self.pts + self.duration
    }
}

impl AudioTrack {
    /// Reads a message with a timestamp in units of [`CLOCK_HZ`]. Returns `None` if it has no sound. Errors:
    /// [`AudioError`].
    pub fn on_message(&mut self, time: u64, tag: &AudioTag, payload: &[u8]) -> Result<Option<Frame>, AudioError> {
        let Some(body) = payload.get(tag.body..) else { return Ok(None) };
        if tag.codec.is_aac() {
            match tag.packet {
                AudioPacket::SequenceHeader => self.on_header(body).map(|()| None),
                AudioPacket::Frame if !body.is_empty() => self.on_aac(time, body),
                _ => Ok(None),
            }
        } else if tag.codec.is_mp3() {
            if body.is_empty() || body.len() > MAX_MP3 {
                return Ok(None);
            }
            Ok(self.on_mp3(time, body))
        } else {
            Err(AudioError::Unsupported(tag.codec.to_string()))
        }
    }

    fn on_header(&mut self, body: &[u8]) -> Result<(), AudioError> {
        // Some encoders send the header of their first ADTS frame as the configuration.
        let of_adts = adts::Header::read(body).as_ref().and_then(AacConfig::from_adts);
        match of_adts.map_or_else(|| aac::read_config(body), Ok) {
            Ok(config) => {
                if self.config.as_deref() != Some(&config) {
                    (self.silence, self.config) = (config.silent_frame().into(), Some(Arc::new(config)));
                }
                Ok(())
            }
            Err(error) => {
                self.config = None;
                Err(AudioError::Unsupported(error.to_string()))
            }
        }
    }

    fn on_aac(&mut self, time: u64, body: &[u8]) -> Result<Option<Frame>, AudioError> {
        if let Some((header, blocks)) = adts::read_frames(body) {
            let parameters = Parameters::Adts(header.object_type, header.sample_rate, header.channels);
            let samples = blocks * aac::SAMPLES_PER_FRAME;
            return Ok(Some(self.frame(parameters, AudioCodec::Aac, time, (header.sample_rate, samples), None)));
        }
        let Some(config) = self.config.clone() else {
            self.unconfigured_frames += 1;
            return match self.unconfigured_frames {
                MAX_UNCONFIGURED_FRAMES.. => Err(AudioError::Malformed("AAC without a sequence header: no audio")),
                _ => Ok(None),
            };
        };
        let Some(prefix) = config.adts_header(body.len()) else { return Ok(None) };
        let samples = (config.sample_rate, aac::SAMPLES_PER_FRAME);
        Ok(Some(self.frame(Parameters::Aac(config), AudioCodec::Aac, time, samples, Some(prefix))))
    }

    fn on_mp3(&mut self, time: u64, body: &[u8]) -> Option<Frame> {
        let (rate, samples) = mp3::count_samples(body)?;
        let codec = if rate >= 32_000 { AudioCodec::Mp3 } else { AudioCodec::Mp3HalfRate };
        Some(self.frame(Parameters::Mp3(codec, rate), codec, time, (rate, samples), None))
    }

    fn frame(
        &mut self,
        parameters: Parameters,
        codec: AudioCodec,
        time: u64,
        (rate, samples): (u32, u32),
        prefix: Option<adts::Prefix>,
    ) -> Frame {
        if self.parameters.as_ref() != Some(&parameters) {
            self.parameters = Some(parameters);
            self.changes += 1;
        }
        let (pts, duration) = self.timestamp(time, rate, samples);
        Frame { codec, pts, duration, parameters: self.changes, prefix }
    }

    /// Returns a frame without sound that ends not later than `end`, in units of [`CLOCK_HZ`], and its data. It follows the last
    /// frame, or starts at `start` if that was long before. `None` if it does not fit, or the codec has no such frames here.
    pub fn silence(&mut self, start: u64, end: u64) -> Option<(Frame, Bytes)> {
        // After frames of another kind, the configuration does not say what is missing.
        let config = match &self.parameters {
            Some(Parameters::Aac(config)) => config.clone(),
            Some(_) => return None,
            None => self.config.clone()?,
        };
        let next = self.clock.as_ref().map(SampleClock::next).filter(|next| next + MIN_JUMP >= start).unwrap_or(start);
        let duration = u64::from(aac::SAMPLES_PER_FRAME) * CLOCK_HZ / u64::from(config.sample_rate);
        if next + duration > end || self.config.as_ref() != Some(&config) {
            return None;
        }
        let (silence, samples) = (self.silence.clone(), (config.sample_rate, aac::SAMPLES_PER_FRAME));
        let prefix = config.adts_header(silence.len())?;
        let frame = self.frame(Parameters::Aac(config), AudioCodec::Aac, next, samples, Some(prefix));
        Some((frame, silence))
    }

    /// Returns whether a sequence header has announced frames.
    pub fn is_configured(&self) -> bool {
        self.config.is_some()
    }

    /// Returns the presentation time and the duration of a frame, both in units of [`CLOCK_HZ`].
    fn timestamp(&mut self, time: u64, rate: u32, samples: u32) -> (u64, u64) {
        let last_pts = self.clock.as_ref().map_or(0, |clock| clock.last_pts);
        let clock = match &mut self.clock {
            Some(clock) if clock.rate == rate => clock,
            slot => slot.insert(SampleClock { last_pts, ..SampleClock::new(time, rate) }),
        };
        if clock.has_diverged(time) {
            *clock = SampleClock { last_pts, ..SampleClock::new(time, rate) };
            self.resyncs += 1;
        }
        clock.advance(samples)
    }

    #[cfg(test)]
    pub(crate) fn resyncs(&self) -> u64 {
        self.resyncs
    }
}

/// A clock that counts samples. Times are in units of [`CLOCK_HZ`].
#[derive(Debug)]
struct SampleClock {
    /// In Hz.
    rate: u32,
    /// Time of the first sample.
    base: u64,
    samples: u64,
    /// Time of the last frame. The next one is later.
    last_pts: u64,
    /// Number of successive frames with drift, negative if their timestamps were early.
    drifting_frames: i64,
}

impl SampleClock {
    fn new(base: u64, rate: u32) -> Self {
        Self { rate, base, samples: 0, last_pts: 0, drifting_frames: 0 }
    }

    fn time_at(&self, samples: u64) -> u64 {
        // Years at any rate are far below 2^64.
        self.base + samples * CLOCK_HZ / u64::from(self.rate)
    }

    /// Returns the time of the next frame.
    fn next(&self) -> u64 {
        self.time_at(self.samples).max(self.last_pts + 1)
    }

    /// Returns whether the clock no longer matches the encoder's timestamps. `time` is the timestamp of the next frame.
    fn has_diverged(&mut self, time: u64) -> bool {
        let expected = self.time_at(self.samples);
        let distance = expected.abs_diff(time);
        self.drifting_frames = match (distance > MIN_DRIFT, time > expected) {
            (false, _) => 0,
            (true, true) => self.drifting_frames.max(0) + 1,
            (true, false) => self.drifting_frames.min(0) - 1,
        };
        distance > MIN_JUMP || self.drifting_frames.unsigned_abs() > u64::from(MAX_DRIFTING_FRAMES)
    }

    fn advance(&mut self, samples: u32) -> (u64, u64) {
        let pts = self.time_at(self.samples);
        self.samples += u64::from(samples);
        let duration = self.time_at(self.samples) - pts;
        // After a step back the clock advances by one unit a frame until it has caught up: frames keep their order.
        self.last_pts = pts.max(self.last_pts + 1);
        (self.last_pts, duration)
    }
}

#[cfg(test)]
mod tests;
