//! The configuration of an AAC decoder: AudioSpecificConfig (ISO/IEC 14496-3, section 1.6.2.1), the sequence header in RTMP,
//! and frames without sound. See [`super::adts`] for the header that replaces it before each frame in MPEG-TS.

mod bits;
mod error;
mod layout;

pub use self::error::Error;

use self::bits::BitReader;
use self::layout::ProgramConfig;
use super::adts::{self, RATES};

/// Samples of the core codec in a frame. With spectral band replication (HE-AAC) a frame has twice as many samples at twice
/// the rate, so the duration is the same.
pub const SAMPLES_PER_FRAME: u32 = 1024;

const MAIN: u8 = 1;
const LTP: u8 = 4;
const SBR: u8 = 5;
const PS: u8 = 29;
const ESCAPE: u8 = 31;

/// The fields of a decoder configuration that ADTS contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AacConfig {
    /// 1 Main, 2 LC, 3 SSR, 4 LTP: the object type of the core codec, also with HE-AAC.
    pub object_type: u8,
    /// The sample rate of the core codec, in Hz.
    pub sample_rate: u32,
    rate_index: u8,
    /// The number of the channel layout, 1 to 7. With a program config element, that of a layout with as many channels.
    channel_configuration: u8,
    /// The description of a layout without a number.
    program_config: Option<ProgramConfig>,
}

/// Reads an AudioSpecificConfig. Fails when it is malformed, or ADTS cannot carry it.
pub fn read_config(bytes: &[u8]) -> Result<AacConfig, Error> {
    let mut bits = BitReader::new(bytes);
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
    if channels > 7 {
        return Err(Error::Channels(channels));
    }
    let mut config =
        AacConfig { object_type, sample_rate, rate_index, channel_configuration: channels, program_config: None };
    if channels == 0 {
        // Delay of a core coder, and the flag of an extension.
        if bits.take(1)? == 1 {
            bits.take(14)?;
        }
        bits.take(1)?;
        let program_config = ProgramConfig::read(&mut bits)?;
        if let Some(number) = program_config.standard_configuration() {
            config.channel_configuration = number;
        } else {
            // With the number 0, hls.js and the decoders of phones expect no channels, and show no picture either. Decoders
            // follow the program config element in the frame, whatever the number (those of ffmpeg, VLC and Chromium do).
            let count = program_config.channels();
            config.channel_configuration = layout::configuration_with(count).ok_or(Error::Layout(count))?;
            config.program_config = Some(program_config);
        }
    }
    Ok(config)
}

impl AacConfig {
    /// Returns the configuration in the header of an ADTS frame. `None`: only the frame describes the layout.
    pub fn from_adts(header: &adts::Header) -> Option<Self> {
        let adts::Header { object_type, sample_rate, rate_index, channels: channel_configuration, .. } = *header;
        let config = Self { object_type, sample_rate, rate_index, channel_configuration, program_config: None };
        (channel_configuration > 0).then_some(config)
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> u8 {
        self.program_config
            .as_ref()
            .map_or_else(|| layout::channels(self.channel_configuration), ProgramConfig::channels)
    }

    /// Returns what ADTS has in front of a frame of `length` bytes: the header and, for a layout without a number, the program
    /// config element, which is the first element of the frame then. `None`: the frame is too long.
    pub fn adts_header(&self, length: usize) -> Option<adts::Prefix> {
        let element = self.program_config.as_ref().map_or(&[][..], ProgramConfig::element);
        let header = adts::Header {
            object_type: self.object_type,
            sample_rate: self.sample_rate,
            rate_index: self.rate_index,
            channels: self.channel_configuration,
            header_size: adts::HEADER_SIZE,
            frame_size: adts::HEADER_SIZE + element.len() + length,
            blocks: 1,
        };
        adts::Prefix::new(&header, element)
    }

    /// Returns a frame without sound.
    pub fn silent_frame(&self) -> Vec<u8> {
        match &self.program_config {
            Some(program_config) => program_config.silent_frame(),
            None => layout::standard_silent_frame(self.channel_configuration),
        }
    }
}

impl BitReader<'_> {
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
        (config.object_type, config.sample_rate, config.channels())
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
        assert_eq!(read_config(&[0x12, 0x00]), Err(Error::Short { at: 16 }), "a layout that is described nowhere");
        assert_eq!(
            read_config(&[0x12, 0x58]),
            Err(Error::Channels(11)),
            "6.1 has a number, but ADTS has no room for it"
        );
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
        assert_eq!(header[..], [0xff, 0xf1, 0x50, 0x80, 0x2f, 0x1f, 0xfc], "LC, 44100 Hz, stereo, 376 bytes in all");
        assert!(config.adts_header(8184).is_some());
        assert!(config.adts_header(8185).is_none());
    }

    /// The configuration of 5.1(side) by ffmpeg 5.1, with its comment.
    const SURROUND: &[u8] = &[
        0x11, 0x80, 0x04, 0xc8, 0x44, 0x00, 0x20, 0x00, 0xc4, 0x0d, 0x4c, 0x61, 0x76, 0x63, 0x35, 0x39, 0x2e, 0x33,
        0x37, 0x2e, 0x31, 0x30, 0x30, 0x56, 0xe5, 0x00,
    ];

    #[test]
    fn a_layout_that_has_a_number_gets_it() {
        // The same by ffmpeg 8: a single channel, a pair, a pair and a channel of low frequencies, as in configuration 6.
        let bytes = [0x11, 0x80, 0x04, 0xc8, 0x05, 0x00, 0x01, 0x08, 0x80, 0x00];
        let config = read_config(&bytes).unwrap();
        let header = config.adts_header(100).unwrap();
        assert_eq!((header.len(), (header[2] & 1) << 2 | header[3] >> 6, config.channels()), (7, 6, 6));
    }

    #[test]
    fn a_layout_of_its_own_is_the_first_element_of_each_frame() {
        let config = read_config(SURROUND).unwrap();
        assert_eq!((config.channels(), config.sample_rate), (6, 48_000));
        let prefix = config.adts_header(100).unwrap();
        let (header, element) = prefix.split_at(adts::HEADER_SIZE);
        let size = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        assert_eq!(
            ((header[2] & 1) << 2 | header[3] >> 6, size),
            (6, prefix.len() + 100),
            "the number of six channels"
        );
        assert_eq!(element[0] >> 5, 5, "the identifier of a program config element");
        assert_eq!(element.last(), Some(&0), "without a comment");
    }

    #[test]
    fn seven_channels_have_no_number() {
        // ffmpeg's 6.1, version 5.1 and 8.
        let old = [0x11, 0x80, 0x04, 0xc8, 0x48, 0x00, 0x20, 0x00, 0xc4, 0x40, 0x00];
        let new = [0x11, 0x80, 0x04, 0xc8, 0x09, 0x00, 0x01, 0x08, 0x84, 0x00, 0x00];
        assert_eq!([old, new].map(|bytes| read_config(&bytes)), [Err(Error::Layout(7)), Err(Error::Layout(7))]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_configuration_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
            if let Ok(config) = read_config(&bytes) {
                prop_assert!(RATES.contains(&config.sample_rate));
                prop_assert!(config.adts_header(100).is_some() && config.silent_frame().len() < 700);
            }
        }
    }
}
