//! The kind of a coded picture, read from its payload, for encoders whose frame type is missing or wrong.
//!
//! Only the part up to the first slice is read, so the cost does not depend on the size of the picture.

use super::flv::VideoCodec;
use super::nalu::{MAX_NALUS, Nalus};

/// Length of the field before each NAL unit. Nearly all encoders use four bytes; with others the result is
/// [`PictureKind::Unknown`].
const NALU_LENGTH: usize = 4;

/// Maximum number of NAL units, OBUs, or SEI messages that are read. Real pictures have a few before the first slice.
const MAX_UNITS: usize = 32;

/// The kind of a coded picture, as its payload shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureKind {
    /// Decoding can start here.
    Key,
    /// Decoding can start here, but the picture may not be complete at first.
    Recovery,
    /// The picture depends on earlier ones.
    Dependent,
    /// The payload does not show it.
    Unknown,
}

/// Reads the kind of a coded picture from the codec data of a video message, of which only the first track counts.
pub fn picture_kind(codec: VideoCodec, data: &[u8]) -> PictureKind {
    kind(codec, data, true)
}

/// Returns whether [`picture_kind`] is [`PictureKind::Key`], which costs less: only an exact kind needs the SEI messages, which
/// can be as long as the picture, and the header of the slice.
pub fn is_key_picture(codec: VideoCodec, data: &[u8]) -> bool {
    kind(codec, data, false) == PictureKind::Key
}

fn kind(codec: VideoCodec, data: &[u8], exact: bool) -> PictureKind {
    let kind = match codec {
        codec if codec.is_h264() => h264(data, exact),
        codec if codec.is_h265() => h265(data, exact),
        VideoCodec::FourCc(fourcc) => match &fourcc {
            b"av01" => av1(data),
            b"vp09" => vp9(data),
            b"vp08" => data.first().map(|first| key_if(first & 1 == 0)),
            b"vvc1" => h266(data),
            _ => None,
        },
        _ => None,
    };
    kind.unwrap_or(PictureKind::Unknown)
}

/// Returns whether the codec data consist of whole NAL units, if the codec has any: so that data in another format are not taken
/// for what they resemble.
pub fn has_whole_units(codec: VideoCodec, data: &[u8]) -> bool {
    const FORBIDDEN_ZERO_BIT: u8 = 0x80;

    let has_nalus = codec.is_h264() || codec.is_h265() || codec == VideoCodec::FourCc(*b"vvc1");
    let is_valid = |nalu: &[u8]| nalu.first().is_some_and(|first| first & FORBIDDEN_ZERO_BIT == 0);
    !has_nalus || Nalus::new(data, NALU_LENGTH).take(MAX_NALUS).all(|nalu| nalu.is_ok_and(is_valid))
}

fn key_if(is_key: bool) -> PictureKind {
    if is_key { PictureKind::Key } else { PictureKind::Dependent }
}

fn nalus(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    Nalus::new(data, NALU_LENGTH).map_while(Result::ok).filter(|nalu| !nalu.is_empty()).take(MAX_UNITS)
}

/// Returns the kind of a picture of H.264 (table 7-1). Without `exact`, only a key picture has its kind.
fn h264(data: &[u8], exact: bool) -> Option<PictureKind> {
    const SLICE: u8 = 1;
    const PARTITION_A: u8 = 2;
    const IDR_SLICE: u8 = 5;
    const SEI: u8 = 6;

    let mut recovers = false;
    for nalu in nalus(data) {
        match nalu[0] & 0x1f {
            IDR_SLICE => return Some(PictureKind::Key),
            SEI => recovers |= exact && has_recovery_point(&nalu[1..]),
            SLICE | PARTITION_A if !exact => return None,
            SLICE | PARTITION_A if recovers => return Some(PictureKind::Recovery),
            // Some encoders start a GOP with a picture of I slices that is no IDR picture, and say nothing about it.
            SLICE | PARTITION_A => return is_p_or_b_slice(&nalu[1..]).then_some(PictureKind::Dependent),
            _ => {}
        }
    }
    None
}

/// Returns whether the header of an H.264 slice (section 7.3.3) has the type P or B.
fn is_p_or_b_slice(header: &[u8]) -> bool {
    let mut bits = Bits::new(header);
    let _first_macroblock = bits.exp_golomb();
    matches!(bits.exp_golomb(), Some(0 | 1 | 5 | 6))
}

/// Returns whether SEI messages (H.264, section 7.3.2.3; H.265, section 7.3.5) contain a recovery point.
fn has_recovery_point(mut sei: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;

    fn number(sei: &mut &[u8]) -> Option<usize> {
        let mut sum = 0;
        for _ in 0..MAX_UNITS {
            let (&byte, rest) = sei.split_first()?;
            *sei = rest;
            sum += usize::from(byte);
            if byte != 0xff {
                return Some(sum);
            }
        }
        None
    }

    for _ in 0..MAX_UNITS {
        // The last byte is the stop bit.
        if sei.len() < 2 {
            return false;
        }
        let (Some(kind), Some(size)) = (number(&mut sei), number(&mut sei)) else { return false };
        if kind == RECOVERY_POINT {
            return true;
        }
        sei = sei.get(size..).unwrap_or_default();
    }
    false
}

/// Returns the kind of a picture of H.265 (table 7-1). `exact` as for H.264.
fn h265(data: &[u8], exact: bool) -> Option<PictureKind> {
    const FIRST_IRAP: u8 = 16;
    const LAST_IRAP: u8 = 23;
    const PREFIX_SEI: u8 = 39;
    const HEADER: usize = 2;

    let mut recovers = false;
    for nalu in nalus(data) {
        match nalu[0] >> 1 & 0x3f {
            0..FIRST_IRAP if recovers => return Some(PictureKind::Recovery),
            0..FIRST_IRAP => return Some(PictureKind::Dependent),
            FIRST_IRAP..=LAST_IRAP => return Some(PictureKind::Key),
            PREFIX_SEI => recovers |= exact && has_recovery_point(nalu.get(HEADER..).unwrap_or_default()),
            _ => {}
        }
    }
    None
}

/// Returns the kind of a picture of H.266 (table 5).
fn h266(data: &[u8]) -> Option<PictureKind> {
    nalus(data).find_map(|nalu| match nalu.get(1)? >> 3 {
        0..=6 => Some(PictureKind::Dependent),
        // IDR and CRA pictures.
        7..=9 => Some(PictureKind::Key),
        10 => Some(PictureKind::Recovery),
        _ => None,
    })
}

/// Returns the kind of a picture of AV1 (sections 5.3 and 5.9). The first frame header decides.
fn av1(mut data: &[u8]) -> Option<PictureKind> {
    const SEQUENCE_HEADER: u8 = 1;
    const FRAME_HEADER: u8 = 3;
    const FRAME: u8 = 6;

    let mut has_sequence_header = false;
    for _ in 0..MAX_UNITS {
        let (&header, rest) = data.split_first()?;
        let (kind, has_extension, has_size) = (header >> 3 & 0xf, header & 4 != 0, header & 2 != 0);
        data = if has_extension { rest.get(1..)? } else { rest };
        let size = if has_size { leb128(&mut data)? } else { data.len() };
        match kind {
            SEQUENCE_HEADER => has_sequence_header = true,
            FRAME_HEADER | FRAME => {
                let &first = data.first()?;
                let (shows_existing, frame_type, is_shown) = (first & 0x80 != 0, first >> 5 & 3, first & 0x10 != 0);
                if shows_existing {
                    return None;
                }
                // A key frame that is not shown yet is a delayed random access point if a sequence header precedes it.
                return Some(key_if(frame_type == 0 && (is_shown || has_sequence_header)));
            }
            _ => {}
        }
        data = data.get(size..)?;
    }
    None
}

/// Reads a number of AV1, section 4.10.5.
fn leb128(data: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for index in 0..8 {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// Returns the kind of a picture of VP9 (section 6.2).
fn vp9(data: &[u8]) -> Option<PictureKind> {
    let mut bits = Bits::new(data);
    let marker = [bits.bit()?, bits.bit()?];
    let profile = bits.bit()? + 2 * bits.bit()?;
    if marker != [1, 0] {
        return None;
    }
    if profile == 3 {
        bits.bit()?;
    }
    let shows_existing = bits.bit()? == 1;
    (!shows_existing).then_some(key_if(bits.bit()? == 0))
}

/// The first 64 bits of some data.
struct Bits {
    /// The bits that follow, from the highest one on.
    next: u64,
    left: u32,
}

impl Bits {
    fn new(data: &[u8]) -> Self {
        let len = data.len().min(size_of::<u64>());
        let mut bytes = [0; size_of::<u64>()];
        bytes[..len].copy_from_slice(&data[..len]);
        Self { next: u64::from_be_bytes(bytes), left: len as u32 * u8::BITS }
    }

    /// Reads a number of up to 32 bits.
    fn number(&mut self, bits: u32) -> Option<u32> {
        self.left = self.left.checked_sub(bits)?;
        // Two steps: a shift by all bits would overflow.
        let value = self.next >> 1 >> (u64::BITS - 1 - bits);
        self.next = self.next.checked_shl(bits).unwrap_or(0);
        Some(value as u32)
    }

    fn bit(&mut self) -> Option<u32> {
        self.number(1)
    }

    /// Reads ue(v) of H.264, section 9.1.
    fn exp_golomb(&mut self) -> Option<u32> {
        let zeros = self.next.leading_zeros();
        if zeros > 31 {
            return None;
        }
        self.number(zeros)?;
        // The bits begin with a one.
        Some(self.number(zeros + 1)? - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const H264: VideoCodec = VideoCodec::Avc;
    const H265: VideoCodec = VideoCodec::FourCc(*b"hvc1");
    const H266: VideoCodec = VideoCodec::FourCc(*b"vvc1");
    const AV1: VideoCodec = VideoCodec::FourCc(*b"av01");
    const VP9: VideoCodec = VideoCodec::FourCc(*b"vp09");
    const VP8: VideoCodec = VideoCodec::FourCc(*b"vp08");

    fn frame(nalus: &[&[u8]]) -> Vec<u8> {
        nalus.iter().flat_map(|nalu| [&(nalu.len() as u32).to_be_bytes(), *nalu].concat()).collect()
    }

    #[test]
    fn nal_units() {
        use PictureKind::{Dependent, Key, Recovery, Unknown};
        let (delimiter, sps): (&[u8], &[u8]) = (&[0x09, 0xf0], &[0x67, 0x64, 0, 0x1f]);
        // First macroblock 0, then the slice type: P (0), B (1), I (7).
        let (p, b, i): (&[u8], &[u8], &[u8]) = (&[0x41, 0xc0], &[0x01, 0xa0], &[0x41, 0x88, 0x80]);
        let recovery: &[u8] = &[0x06, 5, 1, 0xaa, 6, 1, 0x84, 0x80];
        for (codec, nalus, expected) in [
            (H264, vec![delimiter, sps, &[0x65, 0x88, 0x80]], Key),
            (H264, vec![delimiter, p], Dependent),
            (H264, vec![b], Dependent),
            (H264, vec![delimiter, i], Unknown),
            (H264, vec![delimiter, recovery, i], Recovery),
            (H264, vec![&[0x06, 5, 1, 0xaa, 0x80], p], Dependent),
            (H264, vec![delimiter], Unknown),
            (H265, vec![&[0x46, 1, 0x50], &[0x40, 1], &[0x26, 1, 0xaf]], Key),
            (H265, vec![&[0x2a, 1, 0xaf]], Key),
            (H265, vec![&[0x02, 1, 0xd0]], Dependent),
            (H265, vec![&[0x4e, 1, 6, 1, 0x80, 0x80], &[0x02, 1, 0xd0]], Recovery),
            (H266, vec![&[0x00, 0x79], &[0x00, 0x39]], Key),
            (H266, vec![&[0x00, 0x01]], Dependent),
        ] {
            assert_eq!(picture_kind(codec, &frame(&nalus)), expected, "{codec} {nalus:02x?}");
            assert_eq!(is_key_picture(codec, &frame(&nalus)), expected == Key, "{codec} {nalus:02x?}");
        }
        assert_eq!(picture_kind(H264, &[0, 0, 0, 9, 0x65]), Unknown, "truncated");
        assert_eq!(picture_kind(H264, &[]), Unknown);
        assert!(has_whole_units(H264, &frame(&[delimiter, p])) && has_whole_units(AV1, &[0xff]));
        assert!(!has_whole_units(H264, &[0, 0, 0, 1, 0x65, 9]), "truncated after the first");
        assert!(!has_whole_units(H264, &[0, 0, 0, 1, 0xe5]), "no type of a NAL unit");
    }

    #[test]
    fn av1_and_vp9() {
        use PictureKind::{Dependent, Key, Unknown};
        for (codec, data, expected) in [
            // Temporal delimiter, sequence header of one byte, frame: shown key frame.
            (AV1, &[0x12, 0, 0x0a, 1, 0xff, 0x32, 2, 0x10, 0][..], Key),
            (AV1, &[0x32, 1, 0x10], Key),
            (AV1, &[0x30, 0x10], Key),
            (AV1, &[0x36, 0, 1, 0x10], Key),
            (AV1, &[0x0a, 1, 0xff, 0x32, 1, 0x00], Key),
            (AV1, &[0x32, 1, 0x00], Dependent),
            (AV1, &[0x12, 0, 0x32, 1, 0x30], Dependent),
            (AV1, &[0x1a, 1, 0x80], Unknown),
            (AV1, &[0x12, 0], Unknown),
            (AV1, &[0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80], Unknown),
            (VP9, &[0x82, 0x49, 0x83], Key),
            (VP9, &[0x86], Dependent),
            (VP9, &[0x8a], Unknown),
            (VP9, &[0xb1, 0], Key),
            (VP9, &[0x02], Unknown),
            (VP8, &[0x10], Key),
            (VP8, &[0x11], Dependent),
        ] {
            assert_eq!(picture_kind(codec, data), expected, "{codec} {data:02x?}");
            assert_eq!(is_key_picture(codec, data), expected == Key, "{codec} {data:02x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_data_does_not_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
            for codec in [H264, H265, H266, AV1, VP9, VP8, VideoCodec::Vp6] {
                for data in [&data, &frame(&[&data])] {
                    assert_eq!(picture_kind(codec, data) == PictureKind::Key, is_key_picture(codec, data));
                }
                has_whole_units(codec, &data);
            }
        }
    }
}
