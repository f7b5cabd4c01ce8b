//! NAL units of H.264 and H.265 in RTMP: each unit follows its length (ISO/IEC 14496-15, sections 5.3.3 and 8.3.3). Also the
//! common parts of the decoder configurations. In MPEG-TS, NAL units follow start codes instead (H.264 and H.265, annex B).

/// The start code before each NAL unit in annex B.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Maximum size of the parameter sets of a stream, in bytes: they are repeated before keyframes. Real streams have a few
/// hundred bytes.
pub const MAX_PARAMETER_SETS: usize = 16 * 1024;

/// Maximum number of NAL units of a frame. A frame with one slice per row of macroblocks has about 300.
pub const MAX_NALUS: usize = 4096;

/// A codec with NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264, also AVC.
    H264,
    /// H.265, also HEVC.
    H265,
}

/// The fields of a decoder configuration that are needed to write MPEG-TS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// The codec.
    pub codec: Codec,
    /// The size of the length field before each NAL unit: 1, 2 or 4 bytes.
    pub length_size: usize,
    /// The parameter sets, each after a start code, in the order of the stream.
    pub parameter_sets: Vec<u8>,
}

/// A malformed decoder configuration or frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The data is truncated.
    #[error("truncated at byte {at}")]
    Short {
        /// The position of the first missing byte.
        at: usize,
    },
    /// A version other than 1.
    #[error("decoder configuration of version {0} at byte 0")]
    Version(u8),
    /// A length field of 3 bytes, which is not allowed.
    #[error("length fields of {0} bytes before NAL units")]
    LengthSize(usize),
    /// Parameter sets above [`MAX_PARAMETER_SETS`], in bytes.
    #[error("{0} bytes of parameter sets, at most {MAX_PARAMETER_SETS} are allowed")]
    ParameterSets(usize),
    /// A length that exceeds the remaining bytes.
    #[error("a NAL unit of {length} bytes at byte {at}, but only {left} bytes follow")]
    Length {
        /// The position of the unit.
        at: usize,
        /// The claimed length.
        length: usize,
        /// The remaining bytes.
        left: usize,
    },
    /// More than [`MAX_NALUS`] units.
    #[error("more than {MAX_NALUS} NAL units")]
    Count,
}

impl Codec {
    /// Returns an access unit delimiter for any kind of picture, with its start code.
    pub fn delimiter(self) -> &'static [u8] {
        match self {
            Self::H264 => &[0, 0, 0, 1, 0x09, 0xf0],
            Self::H265 => &[0, 0, 0, 1, 0x46, 0x01, 0x50],
        }
    }

    /// Returns the type of a NAL unit from its first byte.
    pub fn nalu_type(self, first: u8) -> u8 {
        match self {
            Self::H264 => first & 0x1f,
            Self::H265 => first >> 1 & 0x3f,
        }
    }

    /// Returns true if a NAL unit of this type is an access unit delimiter.
    pub fn is_delimiter(self, nalu_type: u8) -> bool {
        nalu_type
            == match self {
                Self::H264 => 9,
                Self::H265 => 35,
            }
    }

    /// Returns true if a NAL unit of this type is a sequence parameter set, which a player needs to show a keyframe.
    pub fn is_sequence_parameters(self, nalu_type: u8) -> bool {
        nalu_type
            == match self {
                Self::H264 => 7,
                Self::H265 => 33,
            }
    }
}

/// An iterator over the NAL units of a frame, each after its length field. It ends at the first error.
#[derive(Debug, Clone)]
pub struct Nalus<'a> {
    frame: &'a [u8],
    at: usize,
    length_size: usize,
}

impl<'a> Nalus<'a> {
    /// Creates an iterator; `length_size` is the one of the [`VideoConfig`].
    pub fn new(frame: &'a [u8], length_size: usize) -> Self {
        Self { frame, at: 0, length_size }
    }
}

impl<'a> Iterator for Nalus<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.frame.get(self.at..).filter(|rest| !rest.is_empty())?;
        let Some((length, rest)) = rest.split_at_checked(self.length_size) else {
            let at = std::mem::replace(&mut self.at, self.frame.len());
            return Some(Err(Error::Short { at }));
        };
        let length = length.iter().fold(0usize, |length, &byte| length << 8 | usize::from(byte));
        let at = self.at + self.length_size;
        let Some(nalu) = rest.get(..length) else {
            self.at = self.frame.len();
            return Some(Err(Error::Length { at, length, left: rest.len() }));
        };
        self.at = at + length;
        Some(Ok(nalu))
    }
}

/// A reader of the fields of a decoder configuration.
pub(super) struct ConfigReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ConfigReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let taken = taken.ok_or(Error::Short { at: self.bytes.len() })?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Reads a parameter set after its length, and appends it to `sets` with a start code.
    pub(super) fn read_parameter_set(&mut self, sets: &mut Vec<u8>) -> Result<(), Error> {
        let length = self.u16()?;
        let set = self.take(length.into())?;
        if sets.len() + START_CODE.len() + set.len() > MAX_PARAMETER_SETS {
            return Err(Error::ParameterSets(sets.len() + set.len()));
        }
        if !set.is_empty() {
            sets.extend_from_slice(&START_CODE);
            sets.extend_from_slice(set);
        }
        Ok(())
    }
}

/// Decodes the size of the length fields before NAL units.
pub(super) fn read_length_size(minus_one: u8) -> Result<usize, Error> {
    match usize::from(minus_one & 0x03) + 1 {
        3 => Err(Error::LengthSize(3)),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_at_its_lengths() {
        let frame = [0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 3, 0x65, 1, 2];
        let nalus: Result<Vec<_>, _> = Nalus::new(&frame, 4).collect();
        assert_eq!(nalus, Ok(vec![&[9, 0xf0][..], &[0x65, 1, 2]]));
        let nalus: Result<Vec<_>, _> = Nalus::new(&[1, 7, 0, 2, 5, 6], 1).collect();
        assert_eq!(nalus, Ok(vec![&[7][..], &[], &[5, 6]]), "an empty unit is valid");
    }

    #[test]
    fn wrong_lengths_end_the_frame() {
        let all = |frame: &[u8], size| Nalus::new(frame, size).collect::<Result<Vec<_>, _>>().err();
        assert_eq!(all(&[0xff, 0xff, 0xff, 0xff, 1], 4), Some(Error::Length { at: 4, length: 0xffff_ffff, left: 1 }));
        assert_eq!(all(&[0, 1, 7, 0], 2), Some(Error::Short { at: 3 }));
        assert_eq!(all(&[], 4), None);
        assert_eq!(Nalus::new(&[9, 9], 1).count(), 1, "one error, then the end");
    }
}
