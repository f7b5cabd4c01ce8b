//! An MP4 file of a recording: frames are collected, and handed to the disk as fragments.
//!
//! A fragment ends before a keyframe, and otherwise after a second, so that a crash costs as much as with FLV. The head follows
//! from the tracks of the first fragment, which is written with it.

use std::time::Instant;

use bytes::Bytes;

use super::file::{Disk, Ending, Header, WRITE_INTERVAL, Written};
use crate::app::stream::{Packet, PacketKind, Tag, Track};
use crate::codec::amf0::{self, Value};
use crate::codec::flv::{
    AudioPacket, AudioTag, FrameKind, VideoPacket, VideoTag, read_audio_header, read_video_header,
};
use crate::codec::mp4::{Fragment, Kind, Muxer, Reason, Sample, audio_config, mp3_config, video_config};

/// Duration of a fragment in milliseconds: at least, before a keyframe; and at most.
const MIN_FRAGMENT_MS: u64 = 500;
const MAX_FRAGMENT_MS: u64 = 1000;

/// Bytes and samples after which a fragment ends in any case. The frame of each track that is held back comes to that.
const MAX_FRAGMENT_BYTES: usize = 1024 * 1024;
const MAX_FRAGMENT_SAMPLES: usize = 4096;

pub(super) struct Mp4File {
    muxer: Muxer,
    started_at: Instant,
    written_at: Instant,
    is_open: bool,
    /// Width and height in the publisher's metadata, for codecs whose sequence header has none.
    picture_size: (u32, u32),
}

impl Mp4File {
    /// Creates a file with these headers. It is opened with its first fragment.
    pub(super) fn new(headers: &[Header], now: Instant) -> Self {
        let metadata = headers.iter().find(|header| header.track() == Track::Data);
        let picture_size = metadata.map_or((0, 0), |header| picture_size(&header.payload));
        let mut file = Self { muxer: Muxer::default(), started_at: now, written_at: now, is_open: false, picture_size };
        for header in headers {
            let tag = match header.track() {
                Track::Video => read_video_header(&header.payload).map(Tag::Video),
                Track::Audio => read_audio_header(&header.payload).map(Tag::Audio),
                _ => None,
            };
            // A track that is not possible is refused with its first frame.
            let _ = file.frame(tag, &header.payload);
        }
        file
    }

    pub(super) fn append(&mut self, disk: &mut impl Disk, packet: &Packet<'_>, time: u64, now: Instant) -> Written {
        let (kind, composition, data) = match self.frame(packet.tag, packet.payload) {
            Frame::Media(kind, composition, data) => (kind, composition, data),
            Frame::Refused(kind, reason) => return Written::Refused(kind, reason),
            Frame::NeedsFile => return Written::NeedsFile,
            Frame::None => return Written::Whole,
        };
        let is_keyframe = packet.kind == PacketKind::Keyframe;
        let is_sync = is_keyframe || kind == Kind::Audio;
        self.muxer.push(kind, Sample { dts: time, composition, is_sync, data });
        let (samples, bytes) = self.muxer.pending();
        let length = time.saturating_sub(self.muxer.start().unwrap_or(time));
        let is_due = (is_keyframe && length >= MIN_FRAGMENT_MS)
            || length >= MAX_FRAGMENT_MS
            || bytes >= MAX_FRAGMENT_BYTES
            || samples >= MAX_FRAGMENT_SAMPLES
            || now.saturating_duration_since(self.written_at) >= WRITE_INTERVAL;
        if !is_due || samples == 0 {
            return Written::Whole;
        }
        self.written_at = now;
        let fragment = self.muxer.fragment();
        self.write(disk, fragment, now)
    }

    pub(super) fn close(mut self, disk: &mut impl Disk, now: Instant) -> u64 {
        let fragment = self.muxer.last_fragment();
        let count = fragment.as_ref().map_or(0, |fragment| fragment.samples as u64);
        let lost = match self.write(disk, fragment, now) {
            Written::Lost(lost) => lost,
            Written::NotOpened => count,
            _ => 0,
        };
        self.abandon(disk);
        lost
    }

    /// Ends the file as it is on the disk.
    pub(super) fn abandon(self, disk: &mut impl Disk) {
        if self.is_open
            && let Some(recording) = self.muxer.into_recording()
        {
            disk.close(Ending::Mp4(recording));
        }
    }

    fn write(&mut self, disk: &mut impl Disk, fragment: Option<Fragment>, now: Instant) -> Written {
        let Some(fragment) = fragment else { return Written::Whole };
        if !self.is_open {
            // Samples are of tracks, so there is a head.
            let head = self.muxer.head().unwrap_or_default();
            if !disk.open(head.into(), now.saturating_duration_since(self.started_at)) {
                return Written::NotOpened;
            }
            self.is_open = true;
        }
        if disk.write_fragment(fragment.bytes.clone()) {
            self.muxer.accept(&fragment);
            return Written::Whole;
        }
        // The frames held back depend on what was lost.
        let lost = fragment.samples + self.muxer.discard();
        Written::Lost(lost as u64)
    }

    fn frame(&mut self, tag: Option<Tag>, payload: &Bytes) -> Frame {
        let frame = match tag {
            // As for HLS: encoders send the first track without multitrack.
            Some(Tag::Video(tag)) if !tag.multitrack => self.video(&tag, payload),
            Some(Tag::Audio(tag)) if !tag.multitrack => self.audio(&tag, payload),
            _ => return Frame::None,
        };
        match frame {
            Frame::Media(_, _, data) if data.is_empty() => Frame::None,
            frame => frame,
        }
    }

    fn video(&mut self, tag: &VideoTag, payload: &Bytes) -> Frame {
        let kind = Kind::Video;
        let data = payload.slice(tag.body.min(payload.len())..);
        let is_frame = match tag.packet {
            VideoPacket::Frame => true,
            // Codecs without packet types have no sequence header, and none of them is possible.
            VideoPacket::Raw => tag.frame != FrameKind::Command,
            _ => false,
        };
        if tag.is_sequence_header() || (is_frame && !self.muxer.has(kind)) {
            let record: &[u8] = if is_frame { &[] } else { &data };
            match video_config(tag.codec, tag.packet, record, self.picture_size) {
                Ok(config) if !self.muxer.configure(kind, &config) => return Frame::NeedsFile,
                Ok(_) => {}
                Err(reason) => return Frame::Refused(kind, reason),
            }
        }
        if is_frame { Frame::Media(kind, tag.composition_time, data) } else { Frame::None }
    }

    fn audio(&mut self, tag: &AudioTag, payload: &Bytes) -> Frame {
        let kind = Kind::Audio;
        let data = payload.slice(tag.body.min(payload.len())..);
        let is_frame = matches!(tag.packet, AudioPacket::Frame | AudioPacket::Raw);
        let config = if is_frame && tag.codec.is_mp3() {
            // A frame that is none stays in the track of those before.
            mp3_config(&data).map(Some).or_else(|reason| self.muxer.has(kind).then_some(None).ok_or(reason))
        } else if tag.is_sequence_header() {
            audio_config(tag.codec, &data).map(Some)
        } else if is_frame && !self.muxer.has(kind) {
            audio_config(tag.codec, &[]).map(Some)
        } else {
            Ok(None)
        };
        match config {
            Ok(Some(config)) if !self.muxer.configure(kind, &config) => Frame::NeedsFile,
            Ok(_) if is_frame => Frame::Media(kind, 0, data),
            Ok(_) => Frame::None,
            Err(reason) => Frame::Refused(kind, reason),
        }
    }
}

enum Frame {
    /// A coded frame, with its presentation time less its decoding time.
    Media(Kind, i32, Bytes),
    /// It describes a track otherwise than the head of the file does.
    NeedsFile,
    Refused(Kind, Reason),
    None,
}

/// Returns width and height in the publisher's metadata, 0 for what is not there.
fn picture_size(mut metadata: &[u8]) -> (u32, u32) {
    let mut value = || amf0::read(&mut metadata).ok();
    let values = value().and_then(|_| value());
    let number = |name| {
        let number = values.as_ref().and_then(Value::as_object).and_then(|object| object.get(name)?.as_number());
        // Saturates; not-a-number is 0.
        number.unwrap_or_default() as u32
    };
    (number("width"), number("height"))
}
