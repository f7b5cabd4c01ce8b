//! Reader and writer of FLV files. Shares no code with the server, so that an error in the server's parser cannot hide.

use std::path::Path;

pub(crate) const AUDIO: u8 = 8;
pub(crate) const VIDEO: u8 = 9;
pub(crate) const DATA: u8 = 18;

const FILE_HEADER: usize = 9 + 4;
const TAG_HEADER: usize = 11;
const BACK_POINTER: usize = 4;

/// An FLV tag. RTMP sends each tag as one message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: u8,
    /// In milliseconds.
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.payload[..self.payload.len().min(6)];
        write!(f, "type {} at {} ms, {} bytes {start:02x?}…", self.kind, self.timestamp, self.payload.len())
    }
}

impl Tag {
    /// Returns true for a coded frame: not data, not a sequence header, not an end of sequence.
    pub(crate) fn is_frame(&self) -> bool {
        let Some((&first, rest)) = self.payload.split_first() else { return false };
        let second = rest.first().copied();
        match self.kind {
            // Enhanced RTMP: CodedFrames or CodedFramesX.
            VIDEO if first & 0x80 != 0 => matches!(first & 0x0f, 1 | 3),
            VIDEO if first & 0x0f == 7 => second == Some(1),
            VIDEO => true,
            AUDIO if first >> 4 == 9 => first & 0x0f == 1,
            AUDIO if first >> 4 == 10 => second == Some(1),
            AUDIO => true,
            _ => false,
        }
    }

    /// Returns true for a sequence header.
    pub(crate) fn is_header(&self) -> bool {
        let Some((&first, rest)) = self.payload.split_first() else { return false };
        let second = rest.first().copied();
        match self.kind {
            VIDEO if first & 0x80 != 0 => first & 0x0f == 0,
            VIDEO => first & 0x0f == 7 && second == Some(0),
            AUDIO if first >> 4 == 9 => first & 0x0f == 0,
            AUDIO => first >> 4 == 10 && second == Some(0),
            _ => false,
        }
    }

    /// Returns the presentation time in milliseconds: the timestamp, plus the composition time for H.264 in its original form.
    pub(crate) fn presentation_time(&self) -> i64 {
        let composition = match self.payload[..] {
            // A signed number of 24 bits.
            [first, 1, a, b, c, ..] if self.kind == VIDEO && first & 0x8f == 7 => i32::from_be_bytes([a, b, c, 0]) >> 8,
            _ => 0,
        };
        i64::from(self.timestamp) + i64::from(composition)
    }

    /// Returns true for a video keyframe.
    pub(crate) fn is_keyframe(&self) -> bool {
        self.kind == VIDEO && self.is_frame() && self.payload[0] >> 4 & 0x07 == 1
    }
}

/// Reads the tags of a file up to the first incomplete one: the file may still be growing.
pub(crate) fn read(path: &Path) -> Vec<Tag> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    let mut tags = Vec::new();
    while let Some((tag, next)) = split(rest) {
        tags.push(tag);
        rest = next;
    }
    tags
}

fn split(bytes: &[u8]) -> Option<(Tag, &[u8])> {
    let (header, rest) = bytes.split_at_checked(TAG_HEADER)?;
    let size = u32::from_be_bytes([0, header[1], header[2], header[3]]);
    let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
    let (payload, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    let rest = rest.get(BACK_POINTER..)?;
    Some((Tag { kind: header[0], timestamp, payload: payload.to_vec() }, rest))
}

/// Writes an FLV file of these tags.
pub(crate) fn write(path: &Path, tags: &[Tag]) {
    let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for Tag { kind, timestamp, payload } in tags {
        let size = u32::try_from(payload.len()).expect("a payload of a test is small");
        let time = timestamp.to_be_bytes();
        bytes.push(*kind);
        bytes.extend_from_slice(&size.to_be_bytes()[1..]);
        bytes.extend_from_slice(&[time[1], time[2], time[3], time[0], 0, 0, 0]);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&(size + 11).to_be_bytes());
    }
    std::fs::write(path, bytes).expect("an flv file can be written");
}
