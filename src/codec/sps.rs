//! Sequence parameter sets of H.264 (ITU-T H.264, section 7.3.2.1.1) and H.265 (ITU-T H.265, section 7.3.2.2): the size of
//! the picture, and the names of profiles.

use super::nalu::{Codec, START_CODE, VideoConfig};

/// Bytes of a parameter set that are read. The size of the picture is far in front.
const MAX_READ: usize = 1024;

/// Profiles of H.264 whose parameter sets have a chroma format.
const WITH_CHROMA_FORMAT: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Returns the name of a profile of H.264 (annex A.2).
pub fn h264_profile(profile_idc: u8) -> Option<&'static str> {
    Some(match profile_idc {
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4 Predictive",
        _ => return None,
    })
}

/// Returns the name of a profile of H.265 (annex A.3).
pub fn h265_profile(profile_idc: u8) -> Option<&'static str> {
    Some(match profile_idc {
        1 => "Main",
        2 => "Main 10",
        3 => "Main Still Picture",
        4 => "Range Extensions",
        _ => return None,
    })
}

/// Returns width and height of the picture, in pixels, from the first sequence parameter set. `None` if there is no valid
/// one.
pub fn picture_size(config: &VideoConfig) -> Option<(u32, u32)> {
    let sets = &config.parameter_sets;
    let is_sps = |first: u8| config.codec.is_sequence_parameters(config.codec.nalu_type(first));
    let start = sets.windows(START_CODE.len() + 1).position(|at| at[..4] == START_CODE && is_sps(at[4]))?;
    let set = &sets[start + START_CODE.len()..];
    let end = set.windows(START_CODE.len()).position(|at| at == START_CODE).unwrap_or(set.len());
    let bytes = without_emulation_prevention(&set[..end.min(MAX_READ)]);
    let mut bits = BitReader { bytes: &bytes, at: 0 };
    match config.codec {
        Codec::H264 => h264_size(&mut bits),
        Codec::H265 => h265_size(&mut bits),
    }
}

fn h264_size(bits: &mut BitReader<'_>) -> Option<(u32, u32)> {
    bits.take(8)?;
    let profile = bits.take(8)?;
    // Constraint flags and level; the number of the set.
    bits.take(16)?;
    bits.golomb()?;
    let mut chroma_format = 1;
    if WITH_CHROMA_FORMAT.contains(&profile) {
        chroma_format = bits.golomb()?;
        if chroma_format == 3 && bits.flag()? {
            // Separate planes are cropped like monochrome.
            chroma_format = 0;
        }
        // Bit depths, transform bypass.
        bits.golomb()?;
        bits.golomb()?;
        bits.flag()?;
        if bits.flag()? {
            let lists = if chroma_format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.flag()? {
                    bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    // Bits of the frame number; picture order.
    bits.golomb()?;
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.flag()?;
            bits.golomb()?;
            bits.golomb()?;
            for _ in 0..bits.golomb()?.min(255) {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    // Reference frames, gaps.
    bits.golomb()?;
    bits.flag()?;
    let width = bits.golomb()?.checked_add(1)?.checked_mul(16)?;
    let height = bits.golomb()?.checked_add(1)?.checked_mul(16)?;
    let fields = if bits.flag()? { 1 } else { 2 };
    if fields == 2 {
        bits.flag()?;
    }
    bits.flag()?;
    let (unit_x, unit_y) = chroma_units(chroma_format);
    let [left, right, top, bottom] = bits.crop()?;
    let cropped_x = left.checked_add(right)?.checked_mul(unit_x)?;
    let cropped_y = top.checked_add(bottom)?.checked_mul(unit_y * fields)?;
    Some((width.checked_sub(cropped_x)?, height.checked_mul(fields)?.checked_sub(cropped_y)?))
}

/// Returns the number of a parameter set, by which pictures refer to it. `None` if the set is truncated.
pub(super) fn set_number(codec: Codec, set: &[u8]) -> Option<u32> {
    let bytes = without_emulation_prevention(&set[..set.len().min(MAX_READ)]);
    let mut bits = BitReader { bytes: &bytes, at: 0 };
    match (codec, codec.nalu_type(*set.first()?)) {
        // Header of the NAL unit; profile, constraint flags and level.
        (Codec::H264, 7 | 15) => bits.skip(32)?,
        (Codec::H264, _) => bits.skip(8)?,
        (Codec::H265, 32) => {
            bits.skip(16)?;
            return bits.take(4);
        }
        (Codec::H265, 33) => skip_h265_profile(&mut bits)?,
        (Codec::H265, _) => bits.skip(16)?,
    }
    bits.golomb()
}

/// Skips what is in front of the number of a sequence parameter set.
fn skip_h265_profile(bits: &mut BitReader<'_>) -> Option<()> {
    // Header of the NAL unit, number of the video parameter set.
    bits.take(20)?;
    let sub_layers = bits.take(3)? as usize;
    bits.flag()?;
    // Profile, tier and level of the stream.
    bits.skip(96)?;
    let mut present = [(false, false); 7];
    for layer in &mut present[..sub_layers] {
        *layer = (bits.flag()?, bits.flag()?);
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 })?;
    }
    Some(())
}

fn h265_size(bits: &mut BitReader<'_>) -> Option<(u32, u32)> {
    skip_h265_profile(bits)?;
    bits.golomb()?;
    let mut chroma_format = bits.golomb()?;
    if chroma_format == 3 && bits.flag()? {
        chroma_format = 0;
    }
    let (width, height) = (bits.golomb()?, bits.golomb()?);
    let (unit_x, unit_y) = chroma_units(chroma_format);
    let [left, right, top, bottom] = bits.crop()?;
    let cropped_x = left.checked_add(right)?.checked_mul(unit_x)?;
    let cropped_y = top.checked_add(bottom)?.checked_mul(unit_y)?;
    Some((width.checked_sub(cropped_x)?, height.checked_sub(cropped_y)?))
}

/// Returns the pixels of luma for each of chroma, in both directions.
fn chroma_units(chroma_format: u32) -> (u32, u32) {
    match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    }
}

/// Removes the 3 of each 0, 0, 3 (H.264 and H.265, section 7.3.1.1).
fn without_emulation_prevention(nalu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(nalu.len());
    let mut zeros = 0;
    for &byte in nalu {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        bytes.push(byte);
    }
    bytes
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// Reads an unsigned Exp-Golomb code (section 9.1 of H.264, 9.2 of H.265). A signed one has the same length.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        Some((1u32 << zeros) - 1 + self.take(zeros)?)
    }

    fn signed_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.golomb()?);
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 })
    }

    /// Skips a scaling list of H.264 (section 7.3.2.1.1.1), which ends where the next scale is 0.
    fn skip_scaling_list(&mut self, size: usize) -> Option<()> {
        let (mut last, mut next) = (8, 8);
        for _ in 0..size {
            if next != 0 {
                next = (last + self.signed_golomb()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
        Some(())
    }

    /// Reads the offsets of the cropped picture: left, right, top, bottom.
    fn crop(&mut self) -> Option<[u32; 4]> {
        if !self.flag()? {
            return Some([0; 4]);
        }
        Some([self.golomb()?, self.golomb()?, self.golomb()?, self.golomb()?])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Set of x264 in ffmpeg: High profile, level 3.1, 1280x720.
    pub(crate) const H264_1280X720: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    ];

    fn size(codec: Codec, set: &[u8]) -> Option<(u32, u32)> {
        // Other sets around it.
        let other: &[u8] = if codec == Codec::H264 { &[0, 0, 0, 1, 0x68, 0xeb] } else { &[0, 0, 0, 1, 0x40, 1] };
        let parameter_sets = [other, &START_CODE, set, other].concat();
        picture_size(&VideoConfig { codec, length_size: 4, parameter_sets })
    }

    /// Sets of x264 and x265 in ffmpeg.
    #[test]
    fn sizes_of_encoders() {
        assert_eq!(size(Codec::H264, H264_1280X720), Some((1280, 720)));
        let cropped = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
            0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60, 0xc6, 0x58,
        ];
        assert_eq!(size(Codec::H264, &cropped), Some((1920, 1080)));
        let interlaced = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x04, 0x4f, 0xde, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0x20,
            0x00, 0x00, 0x06, 0x43, 0xe2, 0xc5, 0xb2, 0xc0,
        ];
        assert_eq!(size(Codec::H264, &interlaced), Some((1920, 1080)));
        let yuv444 = [
            0x67, 0xf4, 0x00, 0x1e, 0x91, 0x9b, 0x28, 0x14, 0x05, 0xfc, 0xf1, 0x78, 0x08, 0x80, 0x00, 0x00, 0x03, 0x00,
            0x80, 0x00, 0x00, 0x19, 0x07, 0x8b, 0x16, 0xcb,
        ];
        assert_eq!(size(Codec::H264, &yuv444), Some((634, 358)));
        let baseline = [
            0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00,
            0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48,
        ];
        assert_eq!(size(Codec::H264, &baseline), Some((640, 360)));
        let h265 = [
            0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x78,
            0xa0, 0x03, 0xc0, 0x80, 0x10, 0xe7, 0x55, 0x96, 0x56, 0x69, 0x24, 0xca, 0xf0, 0x16, 0x80, 0x80, 0x00, 0x00,
            0x03, 0x00, 0x80, 0x00, 0x00, 0x0c, 0x84,
        ];
        assert_eq!(size(Codec::H265, &h265), Some((1918, 1078)));
        let with_sub_layers = [
            0x42, 0x01, 0x02, 0x04, 0x08, 0x00, 0x00, 0x03, 0x00, 0x9d, 0x08, 0x00, 0x00, 0x03, 0x00, 0x00, 0x3f, 0x00,
            0x00, 0xb0, 0x05, 0x02, 0x01, 0x71, 0xf3, 0xb6, 0x59, 0x59, 0x8a, 0xcd, 0x24, 0x99, 0x5e, 0x02, 0xd0, 0x10,
            0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0x90, 0x80,
        ];
        assert_eq!(size(Codec::H265, &with_sub_layers), Some((640, 362)));
    }

    #[test]
    fn without_a_set_there_is_no_size() {
        for end in 0..8 {
            assert_eq!(size(Codec::H264, &H264_1280X720[..end]), None, "{end} bytes");
        }
        assert_eq!(picture_size(&VideoConfig { codec: Codec::H265, length_size: 4, parameter_sets: vec![] }), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_set_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), is_h264: bool) {
            let (codec, header): (_, &[u8]) = if is_h264 { (Codec::H264, &[0x67, 100]) } else { (Codec::H265, &[0x42, 1]) };
            let _ = size(codec, &[header, &bytes].concat());
        }
    }
}
