//! The configuration of an H.264 decoder: AVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 5.3.3.1), the sequence
//! header in RTMP. See [`super::nalu`] for the format of frames.

use super::nalu::{Codec, ConfigReader, Error, VideoConfig, read_length_size};
use super::parameter_sets;

/// Reads the record. The fields after the picture parameter sets (chroma format, extended sets) are ignored. Fails when
/// the record is malformed. A record without parameter sets is valid; they are in the keyframes then.
pub fn read_config(record: &[u8]) -> Result<VideoConfig, Error> {
    let mut fields = ConfigReader::new(record);
    let version = fields.u8()?;
    if version != 1 {
        return Err(Error::Version(version));
    }
    // Profile, compatibility, level.
    fields.take(3)?;
    let length_size = read_length_size(fields.u8()?)?;
    let mut parameter_sets = Vec::new();
    let sequence_sets = fields.u8()? & 0x1f;
    for _ in 0..sequence_sets {
        fields.read_parameter_set(&mut parameter_sets)?;
    }
    let picture_sets = fields.u8()?;
    for _ in 0..picture_sets {
        fields.read_parameter_set(&mut parameter_sets)?;
    }
    let parameter_sets = parameter_sets::sort(Codec::H264, &parameter_sets);
    Ok(VideoConfig { codec: Codec::H264, length_size, parameter_sets })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record of x264 in ffmpeg, with shortened sets.
    const RECORD: &[u8] = &[
        1, 0x64, 0x00, 0x1f, // version, High profile, level 3.1
        0xff, // lengths of 4 bytes
        0xe1, 0, 3, 0x67, 0x64, 0x00, // one sequence parameter set
        1, 0, 2, 0x68, 0xeb, // one picture parameter set
        0xfd, 0xf8, 0xf8, 0x00, // chroma format and depths
    ];

    #[test]
    fn the_record_of_x264() {
        let config = read_config(RECORD).unwrap();
        assert_eq!((config.codec, config.length_size), (Codec::H264, 4));
        assert_eq!(config.parameter_sets, [0, 0, 0, 1, 0x67, 0x64, 0, 0, 0, 0, 1, 0x68, 0xeb]);
    }

    #[test]
    fn a_truncated_record_is_an_error() {
        for end in 0..16 {
            assert_eq!(read_config(&RECORD[..end]), Err(Error::Short { at: end }));
        }
    }

    #[test]
    fn invalid_fields_are_errors() {
        assert_eq!(read_config(&[0, 0, 0, 1, 0x67]), Err(Error::Version(0)), "annex B instead of a record");
        assert_eq!(read_config(&[1, 0, 0, 0, 0xfe, 0xe0, 0]), Err(Error::LengthSize(3)));
        let mut large = vec![1, 0, 0, 0, 0xff, 0xe1, 0xff, 0xff];
        large.resize(large.len() + 0xffff, 0);
        large.push(0);
        assert_eq!(read_config(&large), Err(Error::ParameterSets(0xffff)));
        assert!(
            read_config(&[1, 0, 0, 0, 0xff, 0xe0, 0]).unwrap().parameter_sets.is_empty(),
            "sets are in the keyframes"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(config) = read_config(&bytes) {
                prop_assert!(config.parameter_sets.len() <= 3 * bytes.len());
            }
        }
    }
}
