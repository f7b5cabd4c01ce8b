//! NAL units as RTMP carries them for H.264 and H.265: each behind its length (ISO/IEC 14496-15, section 5.3.3 and 8.3.3), and
//! what their decoder configurations have in common. MPEG-TS has them behind start codes instead (H.264 and H.265, annex B).

/// What stands before each NAL unit in annex B.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The most that the parameter sets of a stream may have, in bytes: they are repeated before keyframes. Real ones have some hundred.
pub const MAX_PARAMETER_SETS: usize = 16 * 1024;

/// The most NAL units that a frame may have. A slice each row of macroblocks, with what stands beside them, is some 300.
pub const MAX_NALUS: usize = 4096;

/// A codec whose data are NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264, also AVC.
    H264,
    /// H.265, also HEVC.
    H265,
}

/// What a decoder configuration says, as far as it is needed to hand the stream on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// The codec.
    pub codec: Codec,
    /// The size of the length before each NAL unit: 1, 2 or 4 bytes.
    pub length_size: usize,
    /// The parameter sets, each behind a start code.
    pub parameter_sets: Vec<u8>,
}

/// Why bytes are no decoder configuration, or no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("cut short at byte {at}")]
    Short {
        /// Where more was expected.
        at: usize,
    },
    /// A version other than 1.
    #[error("decoder configuration of version {0} at byte 0")]
    Version(u8),
    /// A length of 3 bytes, which is not allowed.
    #[error("lengths of {0} bytes before NAL units")]
    LengthSize(usize),
    /// No parameter sets, or far too many of them.
    #[error("{0} bytes of parameter sets")]
    ParameterSets(usize),
    /// A length that is longer than what is there.
    #[error("a NAL unit of {length} bytes at byte {at}, where there are {left}")]
    Length {
        /// Where the unit would begin.
        at: usize,
        /// What its length says.
        length: usize,
        /// What is there.
        left: usize,
    },
    /// Far too many units.
    #[error("more than {MAX_NALUS} NAL units")]
    Count,
}

impl Codec {
    /// An access unit delimiter that allows any kind of picture, behind its start code.
    pub fn delimiter(self) -> &'static [u8] {
        match self {
            Self::H264 => &[0, 0, 0, 1, 0x09, 0xf0],
            Self::H265 => &[0, 0, 0, 1, 0x46, 0x01, 0x50],
        }
    }

    /// The type of a NAL unit, from its first byte.
    pub fn nalu_type(self, first: u8) -> u8 {
        match self {
            Self::H264 => first & 0x1f,
            Self::H265 => first >> 1 & 0x3f,
        }
    }

    /// Whether a NAL unit of this type is an access unit delimiter.
    pub fn is_delimiter(self, nalu_type: u8) -> bool {
        nalu_type
            == match self {
                Self::H264 => 9,
                Self::H265 => 35,
            }
    }

    /// Whether a NAL unit of this type is a sequence parameter set, without which no keyframe can be shown.
    pub fn is_sequence_parameters(self, nalu_type: u8) -> bool {
        nalu_type
            == match self {
                Self::H264 => 7,
                Self::H265 => 33,
            }
    }
}

/// The NAL units of a frame, each behind a length of so many bytes. It ends at the first error.
#[derive(Debug, Clone)]
pub struct Nalus<'a> {
    frame: &'a [u8],
    at: usize,
    length_size: usize,
}

impl<'a> Nalus<'a> {
    /// `length_size` is that of a [`VideoConfig`].
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

/// Bytes of a configuration, from its start.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
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

    /// A parameter set behind its length, to be appended behind a start code.
    pub(super) fn parameter_set(&mut self, sets: &mut Vec<u8>) -> Result<(), Error> {
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

/// What the low bits of a configuration say of the lengths before NAL units.
pub(super) fn length_size(minus_one: u8) -> Result<usize, Error> {
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
        assert_eq!(nalus, Ok(vec![&[7][..], &[], &[5, 6]]), "an empty unit is one");
    }

    #[test]
    fn lengths_that_lie_end_the_frame() {
        let all = |frame: &[u8], size| Nalus::new(frame, size).collect::<Result<Vec<_>, _>>().err();
        assert_eq!(all(&[0xff, 0xff, 0xff, 0xff, 1], 4), Some(Error::Length { at: 4, length: 0xffff_ffff, left: 1 }));
        assert_eq!(all(&[0, 1, 7, 0], 2), Some(Error::Short { at: 3 }));
        assert_eq!(all(&[], 4), None);
        assert_eq!(Nalus::new(&[9, 9], 1).count(), 1, "one error, then the end");
    }
}
