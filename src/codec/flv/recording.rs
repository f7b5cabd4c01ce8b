//! FLV files that are written while a stream goes on, and can be sought in when they are finished.
//!
//! ```text
//! file header │ onMetaData with room in reserve │ tag │ tag │ …
//!              └─ replaced in place at the end: duration, size and an index of keyframes
//! ```
//!
//! A file that was never finished plays all the same; it has no duration and no index.

use super::file::{TAG_SCRIPT, back_pointer, tag_header, write_header};
use crate::codec::amf0::{self, Object, Value};

/// Keyframes in the index. When there are more, it keeps every second one, and then every fourth, and so on.
const MAX_KEYFRAMES: usize = 1024;

/// Bytes of a keyframe in the index: its time and its position.
const BYTES_PER_KEYFRAME: usize = 18;

/// Bytes for the other values that are added at the end, with their names.
const OTHER_VALUES: usize = 512;

/// Bytes in reserve.
const RESERVE: usize = MAX_KEYFRAMES * BYTES_PER_KEYFRAME + OTHER_VALUES;

/// Values of the publisher's metadata that are kept, and the longest of their names and texts in bytes.
const MAX_VALUES: usize = 64;
const MAX_TEXT: usize = 256;

/// Values that the recording computes itself.
const OWN_VALUES: [&str; 10] = [
    "duration",
    "filesize",
    "lasttimestamp",
    "lastkeyframetimestamp",
    "hasKeyframes",
    "hasMetadata",
    "hasAudio",
    "hasVideo",
    "canSeekToEnd",
    "keyframes",
];

/// Start of the names of the values that fill the room in reserve, of two more digits.
const FILLER: &str = "filler";

/// Bytes of such a value beside its text: the lengths, a marker, and the name.
const FILLER_OVERHEAD: usize = 2 + FILLER.len() + 2 + 1 + 2;

/// Longest of these texts. ffmpeg stops to read metadata at one of 1024 bytes.
const MAX_FILLER_TEXT: usize = 512;

/// Length of a file header with the empty back pointer after it.
const FILE_HEADER_SIZE: u64 = 13;

/// Position of the tag with the metadata.
pub const METADATA_POSITION: u64 = FILE_HEADER_SIZE;

/// A recording: what its metadata say at the end.
#[derive(Debug)]
pub struct Recording {
    metadata: Object,
    /// Size of the payload of the metadata.
    metadata_size: usize,
    has_audio: bool,
    has_video: bool,
    /// Time of the last frame, and of the last keyframe, in milliseconds.
    last_time: u64,
    last_keyframe: u64,
    size: u64,
    index: Index,
}

/// Keyframes: time in milliseconds, and position.
#[derive(Debug)]
struct Index {
    keyframes: Vec<(u64, u64)>,
    /// Every so many-th keyframe is kept.
    stride: u64,
    seen: u64,
}

impl Recording {
    /// Starts a recording, and appends the start of the file to `out`. `metadata` is the payload of the publisher's
    /// metadata, from the values on; what is invalid of it is left out.
    pub fn start(metadata: &[u8], has_audio: bool, has_video: bool, out: &mut Vec<u8>) -> Self {
        let metadata = kept(metadata);
        let mut plain = Vec::new();
        write_metadata(&mut plain, metadata.clone());
        let mut recording = Self {
            metadata,
            metadata_size: plain.len() + RESERVE,
            has_audio,
            has_video,
            last_time: 0,
            last_keyframe: 0,
            size: 0,
            index: Index { keyframes: Vec::new(), stride: 1, seen: 0 },
        };
        let start = out.len();
        write_header(out, has_audio, has_video);
        recording.append_metadata(out);
        recording.size = (out.len() - start) as u64;
        recording
    }

    /// Records that a tag of `length` bytes follows. A frame that a player can start at is a keyframe.
    pub fn on_tag(&mut self, time: u64, length: usize, is_keyframe: bool) {
        self.last_time = self.last_time.max(time);
        if is_keyframe {
            self.last_keyframe = time;
            self.index.add(time, self.size);
        }
        self.size += length as u64;
    }

    /// Records that tracks were recorded which the start of the file does not name.
    pub fn add_tracks(&mut self, has_audio: bool, has_video: bool) {
        self.has_audio |= has_audio;
        self.has_video |= has_video;
    }

    /// Records that the file ends after `size` bytes: later tags were lost.
    pub fn truncate(&mut self, size: u64) {
        self.size = size;
        self.index.keyframes.retain(|&(_, position)| position < size);
    }

    /// Returns the size of the file so far, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the time of the last frame, in milliseconds.
    pub fn duration(&self) -> u64 {
        self.last_time
    }

    /// Returns what replaces the start of the file, of which `size` bytes are complete. It has the same length.
    pub fn finish(mut self, size: u64) -> Vec<u8> {
        self.truncate(size);
        let seconds = |time: u64| time as f64 / 1000.0;
        let (times, positions): (Vec<_>, Vec<_>) = self
            .index
            .keyframes
            .iter()
            .map(|&(time, position)| (Value::Number(seconds(time)), Value::Number(position as f64)))
            .unzip();
        let keyframes =
            Object::new().with("times", Value::StrictArray(times)).with("filepositions", Value::StrictArray(positions));
        self.metadata = std::mem::take(&mut self.metadata)
            .with("duration", seconds(self.last_time))
            .with("filesize", size as f64)
            .with("lasttimestamp", seconds(self.last_time))
            .with("lastkeyframetimestamp", seconds(self.last_keyframe))
            .with("hasMetadata", true)
            .with("hasAudio", self.has_audio)
            .with("hasVideo", self.has_video)
            .with("hasKeyframes", !self.index.keyframes.is_empty())
            .with("canSeekToEnd", self.has_video && self.last_keyframe == self.last_time)
            .with("keyframes", keyframes);
        let mut out = Vec::new();
        write_header(&mut out, self.has_audio, self.has_video);
        self.append_metadata(&mut out);
        out
    }

    /// Appends the tag with the metadata, filled to its size.
    fn append_metadata(&self, out: &mut Vec<u8>) {
        let mut plain = Vec::new();
        write_metadata(&mut plain, self.metadata.clone());
        // The reserve is larger than all that is added, by far more than one of these values.
        let room = self.metadata_size.saturating_sub(plain.len());
        let count = room.div_ceil(FILLER_OVERHEAD + MAX_FILLER_TEXT).max(1);
        let mut text = room.saturating_sub(count * FILLER_OVERHEAD);
        let mut filled = self.metadata.clone();
        for number in 0..count {
            let length = text / (count - number);
            text -= length;
            filled.insert(format!("{FILLER}{number:02}"), " ".repeat(length));
        }
        let mut payload = Vec::with_capacity(self.metadata_size);
        write_metadata(&mut payload, filled);
        // Kept metadata have at most 64 short values.
        let size = payload.len() as u32;
        out.extend_from_slice(&tag_header(TAG_SCRIPT, 0, size));
        out.extend_from_slice(&payload);
        out.extend_from_slice(&back_pointer(size));
    }
}

impl Index {
    fn add(&mut self, time: u64, position: u64) {
        if self.keyframes.len() == MAX_KEYFRAMES {
            let mut number = 0;
            self.keyframes.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride *= 2;
        }
        if self.seen.is_multiple_of(self.stride) {
            self.keyframes.push((time, position));
        }
        self.seen += 1;
    }
}

/// Returns the plain values of metadata that are kept.
fn kept(mut metadata: &[u8]) -> Object {
    let mut object = Object::new();
    let Ok(value) = amf0::read(&mut metadata) else { return object };
    for (name, value) in value.as_object().into_iter().flat_map(Object::iter) {
        let is_plain = match value {
            Value::Number(number) => number.is_finite(),
            Value::Boolean(_) => true,
            Value::String(text) => text.len() <= MAX_TEXT,
            _ => false,
        };
        let is_own = OWN_VALUES.contains(&name) || name.starts_with(FILLER);
        if is_plain && object.len() < MAX_VALUES && name.len() <= MAX_TEXT && !is_own {
            object.insert(name, value.clone());
        }
    }
    object
}

fn write_metadata(out: &mut Vec<u8>, metadata: Object) {
    amf0::write(out, &Value::from("onMetaData"));
    amf0::write(out, &Value::EcmaArray(metadata));
}

#[cfg(test)]
mod tests {
    use super::super::{FileHeader, read_file_header, read_tag};
    use super::*;

    fn metadata(object: Object) -> Vec<u8> {
        let mut out = Vec::new();
        amf0::write(&mut out, &Value::EcmaArray(object));
        out
    }

    /// Returns the head of a file and its metadata.
    fn read(mut file: &[u8]) -> (FileHeader, Object) {
        let header = read_file_header(&mut file).unwrap().unwrap();
        let tag = read_tag(&mut file).unwrap().unwrap();
        assert!(file.is_empty());
        let mut payload = &tag.payload[..];
        assert_eq!(amf0::read(&mut payload).unwrap().as_str(), Some("onMetaData"));
        let object = amf0::read(&mut payload).unwrap().as_object().unwrap().clone();
        assert!(payload.is_empty());
        (header, object)
    }

    #[test]
    fn the_end_has_the_length_of_the_start() {
        let published = metadata(
            Object::new()
                .with("width", 1280.0)
                .with("encoder", "x")
                .with("duration", 0.0)
                .with("nested", Object::new())
                .with("nan", f64::NAN)
                .with("long", "x".repeat(1000)),
        );
        let mut start = Vec::new();
        let mut recording = Recording::start(&published, true, false, &mut start);
        let (header, object) = read(&start);
        assert_eq!((header.has_audio, header.has_video), (true, false));
        assert_eq!(object.iter().map(|(name, _)| name).take(3).collect::<Vec<_>>(), ["width", "encoder", "filler00"]);
        let texts = object.iter().filter_map(|(_, value)| value.as_str());
        assert!(texts.into_iter().all(|text| text.len() <= MAX_FILLER_TEXT), "ffmpeg reads them");
        recording.add_tracks(false, true);
        for n in 0..5 {
            recording.on_tag(n * 1000, 100, n % 2 == 0);
        }
        let size = recording.size();
        assert_eq!((size, recording.duration()), (start.len() as u64 + 500, 4000));
        let end = recording.finish(size);
        assert_eq!(end.len(), start.len());
        let (header, object) = read(&end);
        assert_eq!((header.has_audio, header.has_video), (true, true));
        let number = |name| object.get(name).and_then(Value::as_number);
        assert_eq!(
            (number("duration"), number("filesize"), number("width")),
            (Some(4.0), Some(size as f64), Some(1280.0))
        );
        let keyframes = object.get("keyframes").unwrap().as_object().unwrap();
        let at = |n: u64| Value::Number((start.len() as u64 + n) as f64);
        assert_eq!(keyframes.get("filepositions"), Some(&Value::StrictArray(vec![at(0), at(200), at(400)])));
    }

    #[test]
    fn many_keyframes_fit_at_wider_steps() {
        let mut start = Vec::new();
        let many = (0..200).fold(Object::new(), |object, n| object.with(format!("value{n}"), "y".repeat(250)));
        let mut recording = Recording::start(&metadata(many), true, true, &mut start);
        for n in 0..10_000_u64 {
            recording.on_tag(n * 2000, 5000, true);
        }
        let size = recording.size() - 5000;
        let end = recording.finish(size);
        assert_eq!(end.len(), start.len());
        let (_, object) = read(&end);
        let Some(Value::StrictArray(times)) = object.get("keyframes").unwrap().as_object().unwrap().get("times") else {
            panic!("an array")
        };
        let times: Vec<_> = times.iter().map(|time| time.as_number().unwrap()).collect();
        assert!(times.len() > MAX_KEYFRAMES / 2);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 32.0), "every 16th");
    }

    #[test]
    fn ten_hours_are_more_than_four_gigabytes() {
        let mut start = Vec::new();
        let mut recording = Recording::start(&[], true, true, &mut start);
        for n in 0..10 * 3600 * 25_u64 {
            recording.on_tag(n * 40, 8000, n.is_multiple_of(50));
        }
        let (size, duration) = (recording.size(), recording.duration());
        assert!(size > 1 << 32 && duration == 35_999_960);
        let end = recording.finish(size);
        let (_, object) = read(&end);
        let number = |name| object.get(name).and_then(Value::as_number);
        assert_eq!((number("duration"), number("filesize")), (Some(35_999.96), Some(size as f64)));
        let keyframes = object.get("keyframes").unwrap().as_object().unwrap();
        let Some(Value::StrictArray(positions)) = keyframes.get("filepositions") else { panic!("an array") };
        let positions: Vec<_> = positions.iter().map(|position| position.as_number().unwrap()).collect();
        let at = |tag: u64| (start.len() as u64 + tag * 8000) as f64;
        assert!(
            positions.windows(2).all(|pair| pair[1] - pair[0] == 32.0 * 50.0 * 8000.0),
            "every 32nd, of each minute"
        );
        assert!(positions.len() == 563 && positions[562] == at(562 * 32 * 50));
    }

    #[test]
    fn metadata_that_is_no_object_is_left_out() {
        for bad in [&b""[..], b"\x02\x00\x01a", b"\x08\xff\xff\xff\xff", b"\xff"] {
            let mut start = Vec::new();
            let recording = Recording::start(bad, true, true, &mut start);
            let size = recording.size();
            assert_eq!(recording.finish(size).len(), start.len());
        }
    }
}
