//! FLV files (FLV E.2 to E.4.1).

use byteorder::{BigEndian, ByteOrder};
use bytes::Bytes;

/// Tag type of an audio message.
pub const TAG_AUDIO: u8 = 8;
/// Tag type of a video message.
pub const TAG_VIDEO: u8 = 9;
/// Tag type of a data message, such as `onMetaData`.
pub const TAG_SCRIPT: u8 = 18;

const SIGNATURE: [u8; 3] = *b"FLV";
const FILE_HEADER_SIZE: u32 = 9;
/// Maximum size of a file header; version 1 has 9 bytes. Without a limit, a reader would wait for the claimed bytes.
const MAX_FILE_HEADER_SIZE: u32 = 4096;
const TAG_HEADER_SIZE: usize = 11;
/// Bytes of a tag beside its payload.
pub const TAG_OVERHEAD: usize = TAG_HEADER_SIZE + BACK_POINTER_SIZE;
/// Size of the field after each tag with the size of the tag, for reading backwards.
const BACK_POINTER_SIZE: usize = 4;
const MAX_TAG_SIZE: u32 = 0x00ff_ffff;
const FLAG_AUDIO: u8 = 0x04;
const FLAG_VIDEO: u8 = 0x01;
const FILTER_BIT: u8 = 0x20;
const KIND_MASK: u8 = 0x1f;

/// The header of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The version, 1.
    pub version: u8,
    /// True if audio tags follow. Many writers always set it.
    pub has_audio: bool,
    /// True if video tags follow. Many writers always set it.
    pub has_video: bool,
}

/// One tag, the equivalent of an RTMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`TAG_AUDIO`], [`TAG_VIDEO`], [`TAG_SCRIPT`] or another number below 32.
    pub kind: u8,
    /// The time stamp in milliseconds.
    pub timestamp: u32,
    /// The payload of the equivalent RTMP message, at most 16 MiB.
    pub payload: Bytes,
}

/// A malformed FLV file, or a tag that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file does not start with "FLV".
    #[error("flv file starts with \"{}\" at byte 0", .0.escape_ascii())]
    Signature([u8; 3]),
    /// The file header claims an invalid size.
    #[error("flv file header claims {0} bytes at byte 5")]
    HeaderSize(u32),
    /// The payload of a tag is encrypted.
    #[error("flv tag of type {kind} is encrypted")]
    Encrypted {
        /// The tag type.
        kind: u8,
    },
    /// The type of a tag to write has more than five bits.
    #[error("flv tag of type {kind} cannot be written")]
    Kind {
        /// The tag type.
        kind: u8,
    },
    /// The payload of a tag to write is too long for its length field.
    #[error("flv tag of type {kind} cannot hold {size} bytes")]
    PayloadSize {
        /// The tag type.
        kind: u8,
        /// The size of the payload in bytes.
        size: usize,
    },
}

/// Reads the header of a file and the empty back pointer after it. `None`: the header is incomplete, and `input` is
/// unchanged. Errors: [`Error::Signature`] or [`Error::HeaderSize`]; `input` is unchanged.
pub fn read_file_header(input: &mut &[u8]) -> Result<Option<FileHeader>, Error> {
    let Some(&[s0, s1, s2, version, flags, o0, o1, o2, o3]) = input.first_chunk() else { return Ok(None) };
    let signature = [s0, s1, s2];
    if signature != SIGNATURE {
        return Err(Error::Signature(signature));
    }
    let size = u32::from_be_bytes([o0, o1, o2, o3]);
    if !(FILE_HEADER_SIZE..=MAX_FILE_HEADER_SIZE).contains(&size) {
        return Err(Error::HeaderSize(size));
    }
    let Ok(size) = usize::try_from(size) else { return Ok(None) };
    let Some(rest) = input.get(size + BACK_POINTER_SIZE..) else { return Ok(None) };
    *input = rest;
    Ok(Some(FileHeader { version, has_audio: flags & FLAG_AUDIO != 0, has_video: flags & FLAG_VIDEO != 0 }))
}

/// Reads one tag and the back pointer after it, whose value is ignored because many writers get it wrong. `None`: the
/// tag is incomplete, and `input` is unchanged. Errors: [`Error::Encrypted`]; `input` is unchanged.
pub fn read_tag(input: &mut &[u8]) -> Result<Option<Tag>, Error> {
    let Some((header, rest)) = input.split_first_chunk::<TAG_HEADER_SIZE>() else { return Ok(None) };
    // The stream id in the last three bytes is always 0.
    let [first, size @ .., t2, t1, t0, t3, _, _, _] = header;
    let kind = first & KIND_MASK;
    if first & FILTER_BIT != 0 {
        return Err(Error::Encrypted { kind });
    }
    let Ok(size) = usize::try_from(BigEndian::read_u24(size)) else { return Ok(None) };
    let Some((payload, rest)) = rest.split_at_checked(size) else { return Ok(None) };
    let Some(rest) = rest.get(BACK_POINTER_SIZE..) else { return Ok(None) };
    // The fourth byte of the time stamp has the highest bits.
    let timestamp = u32::from_be_bytes([*t3, *t2, *t1, *t0]);
    *input = rest;
    Ok(Some(Tag { kind, timestamp, payload: Bytes::copy_from_slice(payload) }))
}

/// Appends the header of a file and the empty back pointer after it.
pub fn write_header(out: &mut Vec<u8>, has_audio: bool, has_video: bool) {
    let audio = if has_audio { FLAG_AUDIO } else { 0 };
    let video = if has_video { FLAG_VIDEO } else { 0 };
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[1, audio | video]);
    out.extend_from_slice(&FILE_HEADER_SIZE.to_be_bytes());
    out.extend_from_slice(&[0; BACK_POINTER_SIZE]);
}

/// Appends a tag and the back pointer after it. Errors: [`Error::Kind`] or [`Error::PayloadSize`] if a value exceeds
/// its field; nothing is appended.
pub fn write_tag(out: &mut Vec<u8>, tag: &Tag) -> Result<(), Error> {
    let kind = tag.kind;
    if kind & !KIND_MASK != 0 {
        return Err(Error::Kind { kind });
    }
    let size = u32::try_from(tag.payload.len()).ok().filter(|size| *size <= MAX_TAG_SIZE);
    let Some(size) = size else { return Err(Error::PayloadSize { kind, size: tag.payload.len() }) };
    out.extend_from_slice(&tag_header(kind, tag.timestamp, size));
    out.extend_from_slice(&tag.payload);
    out.extend_from_slice(&back_pointer(size));
    Ok(())
}

/// Returns the header of a tag with `size` bytes of payload, at most 2^24 - 1. `kind` has at most five bits.
pub fn tag_header(kind: u8, timestamp: u32, size: u32) -> [u8; TAG_HEADER_SIZE] {
    debug_assert!(kind <= KIND_MASK && size <= MAX_TAG_SIZE);
    let [_, s2, s1, s0] = size.to_be_bytes();
    let [t3, t2, t1, t0] = timestamp.to_be_bytes();
    [kind, s2, s1, s0, t2, t1, t0, t3, 0, 0, 0]
}

/// Returns the field after a tag with `size` bytes of payload.
pub fn back_pointer(size: u32) -> [u8; BACK_POINTER_SIZE] {
    (size + TAG_HEADER_SIZE as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with one tag.
    const FILE: &[&[u8]] = &[
        b"FLV",              // signature
        b"\x01",             // version
        b"\x05",             // audio and video
        b"\x00\x00\x00\x09", // size of this header
        b"\x00\x00\x00\x00", // size of the tag before
        b"\x08",             // audio tag
        b"\x00\x00\x03",     // size of the payload
        b"\x23\x45\x67\x01", // time: low 24 bits, then the high 8
        b"\x00\x00\x00",     // stream id
        b"\xaf\x01\x21",     // payload
        b"\x00\x00\x00\x0e", // size of the tag
    ];

    #[test]
    fn file_round_trip() {
        let file = FILE.concat();
        let mut input = file.as_slice();
        let header = read_file_header(&mut input).unwrap().unwrap();
        assert_eq!(header, FileHeader { version: 1, has_audio: true, has_video: true });
        let tag = read_tag(&mut input).unwrap().unwrap();
        assert_eq!(tag, Tag { kind: TAG_AUDIO, timestamp: 0x0123_4567, payload: Bytes::from_static(b"\xaf\x01\x21") });
        assert_eq!(read_tag(&mut input), Ok(None));
        let mut out = Vec::new();
        write_header(&mut out, true, true);
        write_tag(&mut out, &tag).unwrap();
        assert_eq!(out, file);
    }

    #[test]
    fn file_truncated_at_every_byte() {
        let file = FILE.concat();
        for end in 0..13 {
            let mut input = &file[..end];
            assert_eq!(read_file_header(&mut input), Ok(None));
            assert_eq!(input.len(), end);
        }
        for end in 13..file.len() {
            let mut input = &file[13..end];
            assert_eq!(read_tag(&mut input), Ok(None));
            assert_eq!(input.len(), end - 13);
        }
    }

    #[test]
    fn file_errors() {
        assert_eq!(read_file_header(&mut &b"FLW\x01\x05\x00\x00\x00\x09"[..]), Err(Error::Signature(*b"FLW")));
        assert_eq!(read_file_header(&mut &b"FLV\x01\x05\xff\xff\xff\xff"[..]), Err(Error::HeaderSize(u32::MAX)));
        assert_eq!(read_file_header(&mut &b"FLV\x01\x05\x00\x00\x00\x08"[..]), Err(Error::HeaderSize(8)));
        assert_eq!(
            read_tag(&mut &b"\x29\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"[..]),
            Err(Error::Encrypted { kind: 9 })
        );
        let tag = |kind, size| Tag { kind, timestamp: 0, payload: vec![0; size].into() };
        let mut out = Vec::new();
        assert_eq!(write_tag(&mut out, &tag(0x28, 0)), Err(Error::Kind { kind: 0x28 }));
        assert_eq!(write_tag(&mut out, &tag(9, 1 << 24)), Err(Error::PayloadSize { kind: 9, size: 1 << 24 }));
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn tags_round_trip(kind in 0..32_u8, timestamp in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let tag = Tag { kind, timestamp, payload: payload.into() };
            let mut out = Vec::new();
            write_tag(&mut out, &tag).unwrap();
            let mut input = out.as_slice();
            prop_assert_eq!(read_tag(&mut input), Ok(Some(tag)));
            prop_assert!(input.is_empty());
        }
    }
}
