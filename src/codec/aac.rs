//! The configuration of an AAC decoder: AudioSpecificConfig (ISO/IEC 14496-3, section 1.6.2.1), the sequence header in RTMP,
//! and the ADTS header, which replaces it before each frame in MPEG-TS (section 1.A.2.2).

/// Size of an ADTS header without checksum, in bytes.
pub const ADTS_HEADER_SIZE: usize = 7;

/// Maximum size of an ADTS frame with its header, in bytes: the length field has 13 bits.
const MAX_ADTS_FRAME: usize = 0x1fff;

/// Samples of the core codec in a frame. With spectral band replication (HE-AAC) a frame has twice as many samples at twice
/// the rate, so the duration is the same.
pub const SAMPLES_PER_FRAME: u32 = 1024;

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

const MAIN: u8 = 1;
const LTP: u8 = 4;
const SBR: u8 = 5;
const PS: u8 = 29;
const ESCAPE: u8 = 31;

/// The fields of a decoder configuration that ADTS contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacConfig {
    /// 1 Main, 2 LC, 3 SSR, 4 LTP: the object type of the core codec, also with HE-AAC.
    pub object_type: u8,
    /// The sample rate of the core codec, in Hz.
    pub sample_rate: u32,
    rate_index: u8,
    /// The channel configuration, 1 to 7; 7 means eight channels.
    pub channels: u8,
}

/// A malformed configuration, or one that ADTS cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration is truncated.
    #[error("AAC configuration truncated at bit {at}")]
    Short {
        /// The position of the first missing bit.
        at: usize,
    },
    /// An object type without a number in ADTS, such as low delay or USAC.
    #[error("AAC of object type {0} cannot be carried in MPEG-TS")]
    ObjectType(u8),
    /// A sample rate without a number in ADTS.
    #[error("AAC at {0} Hz cannot be carried in MPEG-TS")]
    SampleRate(u32),
    /// Channels described in the configuration itself.
    #[error("AAC of channel configuration {0} cannot be carried in MPEG-TS")]
    Channels(u8),
    /// Frames of 960 samples.
    #[error("AAC in frames of 960 samples cannot be carried in MPEG-TS")]
    ShortFrames,
}

/// Reads an AudioSpecificConfig.
///
/// # Errors
/// When it is malformed, or ADTS cannot carry it.
pub fn read_config(bytes: &[u8]) -> Result<AacConfig, Error> {
    let mut bits = BitReader { bytes, at: 0 };
    let mut object_type = bits.object_type()?;
    let (sample_rate, rate_index) = bits.sample_rate()?;
    let channels = bits.take(4)? as u8;
    if matches!(object_type, SBR | PS) {
        // The sample rate with the replicated band, then the object type of the core codec.
        bits.sample_rate()?;
        object_type = bits.object_type()?;
    }
    if !(MAIN..=LTP).contains(&object_type) {
        return Err(Error::ObjectType(object_type));
    }
    if bits.take(1)? == 1 {
        return Err(Error::ShortFrames);
    }
    // Some encoders write the value of a rate that has a number.
    let known = RATES.iter().position(|&rate| rate == sample_rate);
    let rate_index = rate_index.or(known.map(|index| index as u8)).ok_or(Error::SampleRate(sample_rate))?;
    if !(1..=7).contains(&channels) {
        return Err(Error::Channels(channels));
    }
    Ok(AacConfig { object_type, sample_rate, rate_index, channels })
}

impl AacConfig {
    /// Returns the ADTS header of a frame of `length` bytes. `None`: the frame is too long.
    pub fn adts_header(&self, length: usize) -> Option<[u8; ADTS_HEADER_SIZE]> {
        let length = length + ADTS_HEADER_SIZE;
        if length > MAX_ADTS_FRAME {
            return None;
        }
        let length = length as u32;
        Some([
            0xff,
            0xf1, // MPEG-4, no checksum
            (self.object_type - 1) << 6 | self.rate_index << 2 | self.channels >> 2,
            (self.channels & 0x03) << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            ((length & 0x07) << 5) as u8 | 0x1f,
            0xfc, // buffer fullness of a variable rate; one frame
        ])
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, count: usize) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8).ok_or(Error::Short { at: self.at })?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u8, Error> {
        let object_type = self.take(5)? as u8;
        Ok(if object_type == ESCAPE { 32 + self.take(6)? as u8 } else { object_type })
    }

    /// Returns the rate in Hz, and its number if it is written as a number.
    fn sample_rate(&mut self) -> Result<(u32, Option<u8>), Error> {
        const EXPLICIT_RATE: u32 = 15;
        let index = self.take(4)?;
        if index == EXPLICIT_RATE {
            return Ok((self.take(24)?, None));
        }
        let rate = RATES.get(index as usize).ok_or(Error::SampleRate(0))?;
        Ok((*rate, Some(index as u8)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_fields(bytes: &[u8]) -> (u8, u32, u8) {
        let config = read_config(bytes).unwrap();
        (config.object_type, config.sample_rate, config.channels)
    }

    #[test]
    fn configurations_of_encoders() {
        assert_eq!(read_fields(&[0x12, 0x10]), (2, 44_100, 2), "ffmpeg, LC");
        assert_eq!(read_fields(&[0x11, 0x90, 0x56, 0xe5, 0x00]), (2, 48_000, 2), "ffmpeg, with a sync extension");
        assert_eq!(
            read_fields(&[0x13, 0x90, 0x56, 0xe5, 0xa5, 0x48, 0x80]),
            (2, 22_050, 2),
            "HE-AAC, signalled at the end"
        );
        assert_eq!(read_fields(&[0x2b, 0x92, 0x08, 0x00]), (2, 22_050, 2), "HE-AAC, signalled at the start");
        assert_eq!(read_fields(&[0xeb, 0x8a, 0x08, 0x00]), (2, 22_050, 1), "HE-AAC version 2");
        assert_eq!(
            read_fields(&[0x17, 0x80, 0x56, 0x22, 0x10]),
            (2, 44_100, 2),
            "the value of a rate that has a number"
        );
    }

    #[test]
    fn configurations_that_adts_cannot_carry_are_errors() {
        assert_eq!(read_config(&[0x12, 0x00]), Err(Error::Channels(0)));
        assert_eq!(read_config(&[0x12, 0x14]), Err(Error::ShortFrames));
        assert_eq!(read_config(&[0xba, 0x10, 0, 0]), Err(Error::ObjectType(23)), "low delay");
        assert_eq!(read_config(&[0xf9, 0x46, 0x40, 0]), Err(Error::ObjectType(42)), "USAC");
        assert_eq!(read_config(&[0x17, 0x80, 0x50, 0x00, 0x10]), Err(Error::SampleRate(40_960)));
        assert_eq!(read_config(&[0x16, 0x90]), Err(Error::SampleRate(0)), "a reserved number");
        assert_eq!(read_config(&[0x12]), Err(Error::Short { at: 8 }));
        assert_eq!(read_config(&[]), Err(Error::Short { at: 0 }));
    }

    #[test]
    fn an_adts_header() {
        let config = read_config(&[0x12, 0x10]).unwrap();
        let header = config.adts_header(0x171).unwrap();
        assert_eq!(header, [0xff, 0xf1, 0x50, 0x80, 0x2f, 0x1f, 0xfc], "LC, 44100 Hz, stereo, 376 bytes in all");
        assert!(config.adts_header(8184).is_some());
        assert!(config.adts_header(8185).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_configuration_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
            if let Ok(config) = read_config(&bytes) {
                prop_assert!(RATES.contains(&config.sample_rate));
                prop_assert!(config.adts_header(100).is_some());
            }
        }
    }
}
