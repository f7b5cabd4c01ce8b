//! Audio frames for the muxer, with presentation times counted in samples.
//!
//! RTMP timestamps have milliseconds, and a frame of 1024 samples at 44100 Hz takes 23.22 ms: played at rounded times it clicks. So a
//! frame's time is the time of the first frame plus the samples since, at the stream's sample rate. This clock is set again only
//! when the encoder's timestamps have left it for good.

use crate::codec::aac::{self, ADTS_HEADER_SIZE, AacConfig};
use crate::codec::flv::{AudioPacket, AudioTag};
use crate::codec::mp3;
use crate::codec::ts::{AudioCodec, CLOCK_HZ};

/// Distance between timestamp and sample clock that is a jump: 200 ms, in units of [`CLOCK_HZ`].
const JUMP: u64 = 18_000;

/// Distance that counts as drift: 30 ms, in units of [`CLOCK_HZ`]. Rounding is below it. Encoders that stamp frames when they send
/// them jitter by as much.
const DRIFT: u64 = 2700;

/// Number of successive frames with drift to the same side that are taken for jitter. One more sets the clock again.
const MAX_DRIFTING_FRAMES: u32 = 64;

/// Maximum size of an MP3 message: several frames of the greatest size.
const MAX_MP3: usize = 16 * 1024;

/// The timing and header of a frame. Its data is the message from the body of its tag on.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) codec: AudioCodec,
    /// In units of [`CLOCK_HZ`].
    pub(super) pts: u64,
    /// In units of [`CLOCK_HZ`].
    pub(super) duration: u64,
    adts: Option<[u8; ADTS_HEADER_SIZE]>,
}

/// Reasons why a message gives no frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AudioError {
    /// A transport stream cannot carry this codec, or this form of it.
    Unsupported(String),
    /// The codec or its parameters have changed.
    Changed,
}

#[derive(Debug, Default)]
pub(super) struct AudioTrack {
    config: Option<AacConfig>,
    codec: Option<AudioCodec>,
    clock: Option<SampleClock>,
    resyncs: u64,
}

impl Frame {
    pub(super) fn header(&self) -> &[u8] {
        self.adts.as_ref().map_or(&[], |adts| adts)
    }
}

impl AudioTrack {
    /// Reads a message with a timestamp in units of [`CLOCK_HZ`]. Returns `None` if it has no sound.
    pub(super) fn on_message(
        &mut self,
        time: u64,
        tag: &AudioTag,
        payload: &[u8],
    ) -> Result<Option<Frame>, AudioError> {
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
            self.on_mp3(time, body)
        } else {
            Err(AudioError::Unsupported(tag.codec.to_string()))
        }
    }

    fn on_header(&mut self, body: &[u8]) -> Result<(), AudioError> {
        let config = match aac::read_config(body) {
            Ok(config) => config,
            Err(error) => {
                self.config = None;
                return Err(AudioError::Unsupported(error.to_string()));
            }
        };
        if self.config == Some(config) {
            return Ok(());
        }
        self.config = Some(config);
        let is_first = self.codec.is_none();
        if is_first { Ok(()) } else { Err(AudioError::Changed) }
    }

    fn on_aac(&mut self, time: u64, body: &[u8]) -> Result<Option<Frame>, AudioError> {
        let Some(config) = self.config else { return Ok(None) };
        let Some(adts) = config.adts_header(body.len()) else { return Ok(None) };
        let (pts, duration) = self.timestamp(time, config.sample_rate, aac::SAMPLES_PER_FRAME);
        self.frame(AudioCodec::Aac, pts, duration, Some(adts))
    }

    fn on_mp3(&mut self, time: u64, body: &[u8]) -> Result<Option<Frame>, AudioError> {
        let Some((rate, samples)) = mp3::count_samples(body) else { return Ok(None) };
        let codec = if rate >= 32_000 { AudioCodec::Mp3 } else { AudioCodec::Mp3HalfRate };
        let (pts, duration) = self.timestamp(time, rate, samples);
        self.frame(codec, pts, duration, None)
    }

    fn frame(
        &mut self,
        codec: AudioCodec,
        pts: u64,
        duration: u64,
        adts: Option<[u8; ADTS_HEADER_SIZE]>,
    ) -> Result<Option<Frame>, AudioError> {
        // A change of codec without a header loses this one frame.
        if self.codec.replace(codec).is_some_and(|last| last != codec) {
            return Err(AudioError::Changed);
        }
        Ok(Some(Frame { codec, pts, duration, adts }))
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
    pub(super) fn resyncs(&self) -> u64 {
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

    /// Returns whether the clock no longer matches the encoder's timestamps. `time` is the timestamp of the next frame.
    fn has_diverged(&mut self, time: u64) -> bool {
        let expected = self.time_at(self.samples);
        let distance = expected.abs_diff(time);
        self.drifting_frames = match (distance > DRIFT, time > expected) {
            (false, _) => 0,
            (true, true) => self.drifting_frames.max(0) + 1,
            (true, false) => self.drifting_frames.min(0) - 1,
        };
        distance > JUMP || self.drifting_frames.unsigned_abs() > u64::from(MAX_DRIFTING_FRAMES)
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
mod tests {
    use super::*;
    use crate::codec::flv;

    const HEADER_44100: &[u8] = &[0xaf, 0, 0x12, 0x10];
    const HEADER_48000: &[u8] = &[0xaf, 0, 0x11, 0x90];
    const HEADER_HE_22050: &[u8] = &[0xaf, 0, 0x2b, 0x92, 0x08, 0x00];

    fn send(audio: &mut AudioTrack, ms: u64, payload: &[u8]) -> Result<Option<Frame>, AudioError> {
        audio.on_message(ms * 90, &flv::read_audio_header(payload).unwrap(), payload)
    }

    fn aac(audio: &mut AudioTrack, ms: u64) -> u64 {
        send(audio, ms, &[0xaf, 1, 0x21, 0x10]).unwrap().unwrap().pts
    }

    #[test]
    fn ten_hours_at_each_rate_without_setting_the_clock() {
        for (header, rate) in [(HEADER_44100, 44_100u32), (HEADER_48000, 48_000), (HEADER_HE_22050, 22_050)] {
            let mut audio = AudioTrack::default();
            send(&mut audio, 0, header).unwrap();
            for n in 0..u64::from(rate) * 36_000 / 1024 {
                let exact = n * 1024 * CLOCK_HZ / u64::from(rate);
                assert_eq!(aac(&mut audio, n * 1024 * 1000 / u64::from(rate)), exact.max(1), "frame {n} at {rate} Hz");
            }
            assert_eq!(audio.resyncs(), 0);
        }
    }

    #[test]
    fn jitter_is_smoothed_and_a_jump_is_followed() {
        let mut audio = AudioTrack::default();
        send(&mut audio, 0, HEADER_48000).unwrap();
        for n in 0..1000 {
            let jitter = [0, 29, 3, 0, 17, 25][n as usize % 6];
            assert_eq!(aac(&mut audio, n * 64 / 3 + jitter), (n * 1920).max(1));
        }
        let later = 1000 * 64 / 3 + 500;
        assert_eq!(aac(&mut audio, later), later * 90, "half a second is missing");
        assert_eq!(audio.resyncs(), 1);
    }

    #[test]
    fn a_distance_that_stays_is_closed() {
        let mut audio = AudioTrack::default();
        send(&mut audio, 0, HEADER_48000).unwrap();
        let time = |n: u64| n * 64 / 3;
        for n in 0..10 {
            aac(&mut audio, time(n));
        }
        // Two frames were lost.
        let mut last = 0;
        for n in 12..112 {
            last = aac(&mut audio, time(n));
        }
        assert!(last.abs_diff(time(111) * 90) < 90, "{last}");
        assert_eq!(audio.resyncs(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_the_order() {
        let mut audio = AudioTrack::default();
        send(&mut audio, 0, HEADER_48000).unwrap();
        // The first frame was stamped late.
        let mut last = aac(&mut audio, 100);
        for n in 1..200u64 {
            let pts = aac(&mut audio, 40 + n * 64 / 3);
            assert!(pts > last);
            last = pts;
        }
        assert!(last.abs_diff((40 + 199 * 64 / 3) * 90) < 90);
    }

    /// Found by fuzzing.
    #[test]
    fn another_rate_keeps_the_order() {
        let mut audio = AudioTrack::default();
        let mp3 = |audio: &mut AudioTrack, ms, rates| {
            let mut message = vec![0; 418];
            message[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, rates, 0x64]);
            send(audio, ms, &message).unwrap().unwrap().pts
        };
        // Stamped closer together than they are long: the clock of 44100 Hz is ahead of the encoder's.
        let last = (0..4).map(|n| mp3(&mut audio, n * 10, 0x90)).last().unwrap();
        let of_48000 = mp3(&mut audio, 40, 0x94);
        assert!(last > 40 * 90 && of_48000 > last, "{of_48000} follows {last}");
    }

    #[test]
    fn what_has_no_place_in_a_transport_stream() {
        let mut audio = AudioTrack::default();
        let unsupported = |result| matches!(result, Err(AudioError::Unsupported(_)));
        assert!(unsupported(send(&mut audio, 0, &[0xb6, 1, 2]).map(drop)), "Speex");
        assert!(unsupported(send(&mut audio, 0, &[0xaf, 0, 0x12, 0x00]).map(drop)), "channels of its own");
        assert!(send(&mut audio, 0, &[0xaf, 1, 1]).unwrap().is_none(), "AAC without a header");
        send(&mut audio, 0, HEADER_44100).unwrap();
        assert!(send(&mut audio, 0, &[0xaf, 1]).unwrap().is_none(), "silence");
        let mut huge = vec![0; 9000];
        huge[..2].copy_from_slice(&[0xaf, 1]);
        assert!(send(&mut audio, 0, &huge).unwrap().is_none(), "longer than ADTS can say");
        aac(&mut audio, 0);
        assert_eq!(send(&mut audio, 0, HEADER_44100).map(drop), Ok(()), "the same again");
        assert_eq!(send(&mut audio, 0, HEADER_48000).map(drop), Err(AudioError::Changed));
    }

    #[test]
    fn mp3_has_its_own_rates() {
        let mut audio = AudioTrack::default();
        let mut message = vec![0; 418];
        message[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, 0x90, 0x64]);
        let frame = send(&mut audio, 100, &message).unwrap().unwrap();
        assert_eq!((frame.codec, frame.pts, frame.duration), (AudioCodec::Mp3, 9000, 1152 * 90_000 / 44_100));
        assert!(frame.header().is_empty());
        assert!(send(&mut audio, 126, &[0x2f, 0, 0, 0, 0]).unwrap().is_none(), "no frame");
    }
}
