//! Audio data transport stream (ISO/IEC 14496-3, section 1.A.2.2): the header before each AAC frame in MPEG-TS. Some encoders
//! send it in RTMP, too, where it does not belong.

use std::ops::Deref;

/// Sample rates in Hz, by their number in headers and decoder configurations.
pub(super) const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Size of a header without checksum, in bytes.
pub const HEADER_SIZE: usize = 7;

/// Size of a checksum, in bytes.
const CHECKSUM_SIZE: usize = 2;

/// Maximum size of a frame with its header, in bytes: the length field has 13 bits.
const MAX_FRAME: usize = 0x1fff;

/// Maximum size of a program config element without a comment, in bytes: 388 bits, and the length of the comment.
const MAX_ELEMENT: usize = 50;

/// The fields of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 1 Main, 2 LC, 3 SSR, 4 LTP.
    pub object_type: u8,
    /// The sample rate in Hz.
    pub sample_rate: u32,
    /// The number of the sample rate.
    pub rate_index: u8,
    /// The channel configuration. With 0, a program config element in the frame describes the layout.
    pub channels: u8,
    /// The size of the header with its checksum, in bytes.
    pub header_size: usize,
    /// The size of the frame with its header, in bytes.
    pub frame_size: usize,
    /// The number of raw data blocks, each with 1024 samples.
    pub blocks: u32,
}

/// The bytes before a frame: a header, and a program config element if the layout needs one.
#[derive(Debug, Clone, Copy)]
pub struct Prefix {
    bytes: [u8; HEADER_SIZE + MAX_ELEMENT],
    len: usize,
}

impl Header {
    /// Reads a header. `None`: the bytes do not start with a valid one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_SIZE] = bytes.first_chunk()?;
        // The sync word, and the layer, which is 0.
        if header[0] != 0xff || header[1] & 0xf6 != 0xf0 {
            return None;
        }
        let has_checksum = header[1] & 1 == 0;
        let rate_index = header[2] >> 2 & 0x0f;
        let sample_rate = *RATES.get(usize::from(rate_index))?;
        let header_size = HEADER_SIZE + if has_checksum { CHECKSUM_SIZE } else { 0 };
        let frame_size =
            usize::from(header[3] & 0x03) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        (frame_size >= header_size).then_some(Self {
            object_type: (header[2] >> 6) + 1,
            sample_rate,
            rate_index,
            channels: (header[2] & 1) << 2 | header[3] >> 6,
            header_size,
            frame_size,
            blocks: u32::from(header[6] & 0x03) + 1,
        })
    }
}

/// Returns the header of the first frame and the number of raw data blocks, if the bytes are nothing but frames with headers,
/// all with the same parameters. A frame as RTMP has it does not begin like this: it would end with its first element.
pub fn read_frames(bytes: &[u8]) -> Option<(Header, u32)> {
    let first = Header::read(bytes)?;
    let (mut rest, mut blocks) = (bytes, 0);
    while !rest.is_empty() {
        let header = Header::read(rest)?;
        let parameters = |header: &Header| (header.object_type, header.rate_index, header.channels);
        if parameters(&header) != parameters(&first) {
            return None;
        }
        rest = rest.get(header.frame_size..)?;
        blocks += header.blocks;
    }
    Some((first, blocks))
}

impl Prefix {
    /// Returns the prefix of a frame with this header, whose size includes `element`. `None`: the frame is too long.
    pub(super) fn new(header: &Header, element: &[u8]) -> Option<Self> {
        if header.frame_size > MAX_FRAME || element.len() > MAX_ELEMENT {
            return None;
        }
        let length = header.frame_size as u32;
        let mut bytes = [0; HEADER_SIZE + MAX_ELEMENT];
        bytes[..HEADER_SIZE].copy_from_slice(&[
            0xff,
            0xf1, // MPEG-4, no checksum
            (header.object_type - 1) << 6 | header.rate_index << 2 | header.channels >> 2,
            (header.channels & 0x03) << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            ((length & 0x07) << 5) as u8 | 0x1f,
            0xfc, // buffer fullness of a variable rate; one frame
        ]);
        let len = HEADER_SIZE + element.len();
        bytes[HEADER_SIZE..len].copy_from_slice(element);
        Some(Self { bytes, len })
    }
}

impl Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(size: usize) -> Vec<u8> {
        let header = Header {
            object_type: 2,
            sample_rate: 48_000,
            rate_index: 3,
            channels: 2,
            header_size: 7,
            frame_size: size,
            blocks: 1,
        };
        let mut frame = Prefix::new(&header, &[]).unwrap().to_vec();
        frame.resize(size, 0x21);
        frame
    }

    #[test]
    fn frames_with_headers_are_told_from_others() {
        let two = [frame(100), frame(50)].concat();
        let (first, blocks) = read_frames(&two).unwrap();
        assert_eq!((first.object_type, first.rate_index, first.channels, first.frame_size, blocks), (2, 3, 2, 100, 2));
        assert_eq!(read_frames(&two[..149]), None, "truncated");
        assert_eq!(read_frames(&[&two[..], &[0]].concat()), None, "another byte");
        assert_eq!(read_frames(&[0x21, 0x10, 4, 0x60]), None, "a frame without a header");
        assert_eq!(read_frames(&[]), None);
        assert_eq!(Header::read(&[0xff, 0xf1, 0x7c, 0x80, 0x0c, 0x9f, 0xfc]), None, "a reserved sample rate");
    }
}
