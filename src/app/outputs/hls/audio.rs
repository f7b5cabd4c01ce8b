//! Audio on its way into segments: each frame with what stands before it in a transport stream, and with a time that is counted
//! in samples.
//!
//! RTMP has times in milliseconds, and a frame of 1024 samples at 44100 Hz takes 23.22 of them: played by such times it clicks. So
//! the time of a frame is that of the first one and the samples since, at the rate that the stream says. It is set anew only
//! where the encoder's own times have left it for good.

use crate::codec::aac::{self, ADTS_HEADER, AacConfig};
use crate::codec::flv::{AudioPacket, AudioTag};
use crate::codec::mp3;
use crate::codec::ts::{AudioCodec, HZ};

/// A distance of this much between the two clocks is a jump: 200 ms.
const JUMP: u64 = 18_000;

/// A distance of this much, 30 ms, is more than rounding; encoders that stamp frames when they send them jitter by it.
const OFF: u64 = 2700;

/// So many frames in a row off, to the same side, are no jitter.
const PATIENCE: u32 = 64;

/// The longest message of MP3: several frames of the greatest size.
const MAX_MP3: usize = 16 * 1024;

/// A frame, ready for the muxer but for what the encoder sent: that is the message from the body of its tag on.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) codec: AudioCodec,
    /// In units of [`HZ`], as the next one.
    pub(super) pts: u64,
    pub(super) duration: u64,
    adts: Option<[u8; ADTS_HEADER]>,
}

/// Why a message gives no frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is of a codec that a transport stream cannot carry, or not in this form.
    Unsupported(String),
    /// It says that what follows is not as what came before.
    Changed,
}

/// The audio of a publication.
#[derive(Debug, Default)]
pub(super) struct Audio {
    config: Option<AacConfig>,
    /// What the last frame was.
    codec: Option<AudioCodec>,
    clock: Option<SampleClock>,
    resyncs: u64,
}

impl Frame {
    /// What stands before it.
    pub(super) fn header(&self) -> &[u8] {
        self.adts.as_ref().map_or(&[], |adts| adts)
    }
}

impl Audio {
    /// Takes a message that came at `time`, in units of [`HZ`]. `None`: it has no sound.
    ///
    /// # Errors
    /// [`Refused`]
    pub(super) fn on_message(&mut self, time: u64, tag: &AudioTag, payload: &[u8]) -> Result<Option<Frame>, Refused> {
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
            Err(Refused::Unsupported(tag.codec.to_string()))
        }
    }

    fn on_header(&mut self, body: &[u8]) -> Result<(), Refused> {
        let config = match aac::read_config(body) {
            Ok(config) => config,
            Err(error) => {
                self.config = None;
                return Err(Refused::Unsupported(error.to_string()));
            }
        };
        if self.config == Some(config) {
            return Ok(());
        }
        self.config = Some(config);
        let is_first = self.codec.is_none();
        if is_first { Ok(()) } else { Err(Refused::Changed) }
    }

    fn on_aac(&mut self, time: u64, body: &[u8]) -> Result<Option<Frame>, Refused> {
        let Some(config) = self.config else { return Ok(None) };
        let Some(adts) = config.adts_header(body.len()) else { return Ok(None) };
        let (pts, duration) = self.tick(time, config.sample_rate, aac::SAMPLES);
        self.frame(AudioCodec::Aac, pts, duration, Some(adts))
    }

    fn on_mp3(&mut self, time: u64, body: &[u8]) -> Result<Option<Frame>, Refused> {
        let Some((rate, samples)) = mp3::samples(body) else { return Ok(None) };
        let codec = if rate >= 32_000 { AudioCodec::Mp3 } else { AudioCodec::Mp3HalfRate };
        let (pts, duration) = self.tick(time, rate, samples);
        self.frame(codec, pts, duration, None)
    }

    fn frame(
        &mut self,
        codec: AudioCodec,
        pts: u64,
        duration: u64,
        adts: Option<[u8; ADTS_HEADER]>,
    ) -> Result<Option<Frame>, Refused> {
        // One frame is lost where the codec changes in the middle, which is where nothing can be saved.
        if self.codec.replace(codec).is_some_and(|last| last != codec) {
            return Err(Refused::Changed);
        }
        Ok(Some(Frame { codec, pts, duration, adts }))
    }

    /// The time of a frame of so many samples, and how long it is.
    fn tick(&mut self, time: u64, rate: u32, samples: u32) -> (u64, u64) {
        let last = self.clock.as_ref().map_or(0, |clock| clock.last);
        let clock = match &mut self.clock {
            Some(clock) if clock.rate == rate => clock,
            slot => slot.insert(SampleClock { last, ..SampleClock::new(time, rate) }),
        };
        if clock.is_off(time) {
            *clock = SampleClock { last: clock.last, ..SampleClock::new(time, rate) };
            self.resyncs += 1;
        }
        clock.tick(samples)
    }

    /// How often the clock was set again.
    #[cfg(test)]
    pub(super) fn resyncs(&self) -> u64 {
        self.resyncs
    }
}

/// Time counted in samples.
#[derive(Debug)]
struct SampleClock {
    rate: u32,
    /// The time of the first sample.
    base: u64,
    samples: u64,
    /// What was given out last: the next is later.
    last: u64,
    /// Frames in a row whose own time was off, before (negative) or behind.
    off: i64,
}

impl SampleClock {
    fn new(base: u64, rate: u32) -> Self {
        Self { rate, base, samples: 0, last: 0, off: 0 }
    }

    fn at(&self, samples: u64) -> u64 {
        // Years at any rate are far below 2^64.
        self.base + samples * HZ / u64::from(self.rate)
    }

    /// Whether this clock has nothing to do with the encoder's any more, whose time for the next frame is this.
    fn is_off(&mut self, time: u64) -> bool {
        let due = self.at(self.samples);
        self.off = match (due.abs_diff(time) > OFF, time > due) {
            (false, _) => 0,
            (true, true) => self.off.max(0) + 1,
            (true, false) => self.off.min(0) - 1,
        };
        due.abs_diff(time) > JUMP || self.off.unsigned_abs() > u64::from(PATIENCE)
    }

    fn tick(&mut self, samples: u32) -> (u64, u64) {
        let pts = self.at(self.samples);
        self.samples += u64::from(samples);
        let duration = self.at(self.samples) - pts;
        // A clock that was set back goes slowly until it is where it was: frames keep their order.
        self.last = pts.max(self.last + 1);
        (self.last, duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flv;

    const HEADER_44100: &[u8] = &[0xaf, 0, 0x12, 0x10];
    const HEADER_48000: &[u8] = &[0xaf, 0, 0x11, 0x90];
    const HEADER_HE_22050: &[u8] = &[0xaf, 0, 0x2b, 0x92, 0x08, 0x00];

    fn send(audio: &mut Audio, ms: u64, payload: &[u8]) -> Result<Option<Frame>, Refused> {
        audio.on_message(ms * 90, &flv::audio(payload).unwrap(), payload)
    }

    fn aac(audio: &mut Audio, ms: u64) -> u64 {
        send(audio, ms, &[0xaf, 1, 0x21, 0x10]).unwrap().unwrap().pts
    }

    #[test]
    fn ten_hours_at_each_rate_without_setting_the_clock() {
        for (header, rate) in [(HEADER_44100, 44_100u32), (HEADER_48000, 48_000), (HEADER_HE_22050, 22_050)] {
            let mut audio = Audio::default();
            send(&mut audio, 0, header).unwrap();
            for n in 0..u64::from(rate) * 36_000 / 1024 {
                let exact = n * 1024 * HZ / u64::from(rate);
                assert_eq!(aac(&mut audio, n * 1024 * 1000 / u64::from(rate)), exact.max(1), "frame {n} at {rate} Hz");
            }
            assert_eq!(audio.resyncs(), 0);
        }
    }

    #[test]
    fn jitter_is_smoothed_and_a_jump_is_followed() {
        let mut audio = Audio::default();
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
        let mut audio = Audio::default();
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
        let mut audio = Audio::default();
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
        let mut audio = Audio::default();
        let mp3 = |audio: &mut Audio, ms, rates| {
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
        let mut audio = Audio::default();
        let unsupported = |refused| matches!(refused, Err(Refused::Unsupported(_)));
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
        assert_eq!(send(&mut audio, 0, HEADER_48000).map(drop), Err(Refused::Changed));
    }

    #[test]
    fn mp3_has_its_own_rates() {
        let mut audio = Audio::default();
        let mut message = vec![0; 418];
        message[..5].copy_from_slice(&[0x2f, 0xff, 0xfb, 0x90, 0x64]);
        let frame = send(&mut audio, 100, &message).unwrap().unwrap();
        assert_eq!((frame.codec, frame.pts, frame.duration), (AudioCodec::Mp3, 9000, 1152 * 90_000 / 44_100));
        assert!(frame.header().is_empty());
        assert!(send(&mut audio, 126, &[0x2f, 0, 0, 0, 0]).unwrap().is_none(), "no frame");
    }
}
