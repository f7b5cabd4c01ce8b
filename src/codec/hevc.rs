//! The configuration of an H.265 decoder: HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 8.3.3.1), the sequence
//! header in RTMP. See [`super::nalu`] for the format of frames.

use super::nalu::{Codec, ConfigReader, Error, VideoConfig, read_length_size};
use super::parameter_sets;

/// Bytes between the version and the length size: profile, level, parallelism, chroma, depths, rate.
const PROFILE_TO_RATE: usize = 20;

/// Reads the record. Its arrays (video, sequence and picture parameter sets, and SEI messages for the whole stream) may
/// be in any order, and are sorted. Fails when the record is malformed. A record without parameter sets is valid; they
/// are in the keyframes then.
pub fn read_config(record: &[u8]) -> Result<VideoConfig, Error> {
    let mut fields = ConfigReader::new(record);
    let version = fields.u8()?;
    // Encoders from before the final standard write 0.
    if version > 1 {
        return Err(Error::Version(version));
    }
    fields.take(PROFILE_TO_RATE)?;
    let length_size = read_length_size(fields.u8()?)?;
    let mut parameter_sets = Vec::new();
    let arrays = fields.u8()?;
    for _ in 0..arrays {
        // Completeness, and the type of the units, which each unit contains itself.
        fields.u8()?;
        let count = fields.u16()?;
        for _ in 0..count {
            fields.read_parameter_set(&mut parameter_sets)?;
        }
    }
    let parameter_sets = parameter_sets::sort(Codec::H265, &parameter_sets);
    Ok(VideoConfig { codec: Codec::H265, length_size, parameter_sets })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Vec<u8> {
        let mut record = vec![1];
        record.extend([0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x5d]); // Main profile, level 3.1
        record.extend([0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0]); // segmentation, parallelism, chroma, depths, rate
        record.push(0x0f); // lengths of 4 bytes
        record.push(3); // arrays
        record.extend([0xa0, 0, 1, 0, 2, 0x40, 0x01]); // video parameter set
        record.extend([0xa1, 0, 1, 0, 3, 0x42, 0x01, 0x01]); // sequence parameter set
        record.extend([0xa2, 0, 1, 0, 2, 0x44, 0x01]); // picture parameter set
        record
    }

    #[test]
    fn the_sets_of_a_record() {
        let config = read_config(&record()).unwrap();
        assert_eq!((config.codec, config.length_size), (Codec::H265, 4));
        let sets = [&[0, 0, 0, 1, 0x40, 1][..], &[0, 0, 0, 1, 0x42, 1, 1], &[0, 0, 0, 1, 0x44, 1]].concat();
        assert_eq!(config.parameter_sets, sets);
    }

    #[test]
    fn arrays_in_any_order_are_sorted() {
        let mut reversed = record();
        reversed.truncate(23);
        reversed.extend([0xa2, 0, 1, 0, 2, 0x44, 0x01]);
        reversed.extend([0xa1, 0, 1, 0, 3, 0x42, 0x01, 0x01]);
        reversed.extend([0xa0, 0, 1, 0, 2, 0x40, 0x01]);
        assert_eq!(read_config(&reversed), read_config(&record()));
    }

    #[test]
    fn a_truncated_record_is_an_error() {
        let record = record();
        for end in 0..record.len() {
            assert_eq!(read_config(&record[..end]), Err(Error::Short { at: end }));
        }
    }

    #[test]
    fn wrong_counts_cost_nothing() {
        let mut record = record();
        record.truncate(22);
        record.extend([0xff, 0xa0, 0xff, 0xff]);
        record.resize(record.len() + 1000, 0);
        assert!(read_config(&record).is_err(), "65535 units of no bytes, 255 times, in 1000 bytes");
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
