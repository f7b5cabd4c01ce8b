//! The decisions of a recording, packet by packet: where a file starts and ends, and what of a stream is dropped while the
//! disk is slow. It touches no file.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::app::stream::{Packet, PacketKind, Tag, Track, VIDEO_TIMEOUT_MS};
use crate::codec::flv::recording::Recording;
use crate::codec::flv::{self, AudioPacket, VideoPacket};
use crate::config::{Dvr, DvrPlan, TimeJitter};

/// Bytes that are handed to the disk at a time.
const WRITE_BYTES: usize = 64 * 1024;

/// Time after which fewer are: what a crash can cost.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Time after a failure until the next file.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Interval of the index of a recording without video, in milliseconds.
const AUDIO_INDEX_MS: u64 = 1000;

/// Sequence headers that are kept for the next file.
const MAX_HEADERS: usize = 16;

/// First value of metadata, as an AMF0 string.
const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";

/// The files of a recording.
pub(super) trait Disk {
    /// Starts a file with these bytes. Returns whether it can.
    fn open(&mut self, head: Bytes) -> bool;
    /// Appends bytes to the file. Returns whether there was room for them.
    fn write(&mut self, bytes: Bytes) -> bool;
    /// Ends the file. `recording` makes its final head.
    fn close(&mut self, recording: Recording);
    /// Returns whether the file has failed since it was opened.
    fn has_failed(&self) -> bool;
    /// Returns whether a GOP may begin now.
    fn has_room_for_gop(&self) -> bool;
}

pub(super) struct Recorder<D> {
    disk: D,
    settings: Dvr,
    file: Option<File>,
    headers: Vec<Header>,
    /// The next file starts at a keyframe, if there is video.
    awaits_keyframe: bool,
    /// Until a keyframe for which there is room.
    is_dropping: bool,
    /// The next file is not opened before.
    retry_at: Option<Instant>,
    /// A file that ends at the next place.
    cut_requested: bool,
    last_video_time: Option<u64>,
    /// Messages that were not recorded because the disk was too slow.
    dropped: u64,
}

struct File {
    recording: Recording,
    /// Corrected time that is zero in the file, in milliseconds.
    start_time: u64,
    pending: BytesMut,
    written_at: Instant,
    /// Size of the file without what is pending.
    accepted: u64,
    last_indexed: Option<u64>,
    has_video: bool,
    has_audio: bool,
}

/// A header of the publication that the next file needs.
struct Header {
    key: (Track, u8, bool),
    payload: Bytes,
}

impl<D: Disk> Recorder<D> {
    /// Creates a recorder. With `from_start`, it is there before the first message of the publication.
    pub(super) fn new(disk: D, settings: &Dvr, from_start: bool) -> Self {
        Self {
            disk,
            settings: settings.clone(),
            file: None,
            headers: Vec::new(),
            awaits_keyframe: !from_start,
            is_dropping: false,
            retry_at: None,
            cut_requested: false,
            last_video_time: None,
            dropped: 0,
        }
    }

    /// Returns the messages that were not recorded because the disk was too slow.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Applies other settings. The path counts for the next file, which starts soon.
    pub(super) fn reconfigure(&mut self, settings: &Dvr) {
        self.cut_requested |= settings.path != self.settings.path;
        self.settings = settings.clone();
    }

    pub(super) fn packet(&mut self, packet: &Packet<'_>, now: Instant) {
        if self.file.is_some() && self.disk.has_failed() {
            self.fail(now);
        }
        let is_frame = is_frame(packet);
        if packet.kind == PacketKind::Header {
            self.keep_header(packet);
        } else if packet.track == Track::Video {
            self.last_video_time = Some(packet.dts);
        }
        let has_video = self.has_video(packet.dts);
        let starts_gop = packet.kind == PacketKind::Keyframe || (!has_video && is_frame);
        if starts_gop {
            self.start_gop(packet.dts);
        } else if is_frame && self.is_due(packet.dts) && !self.settings.wait_keyframe {
            self.close();
        }
        if self.is_dropping {
            self.dropped += u64::from(is_frame);
            return;
        }
        if self.file.is_none() {
            // Headers so far are at the start of the file.
            if !is_frame || (self.awaits_keyframe && !starts_gop) || !self.open(packet.dts, now) {
                return;
            }
        }
        self.append(packet, starts_gop, now);
    }

    /// Ends the recording. Returns the messages that were not recorded.
    pub(super) fn end(mut self) -> u64 {
        self.close();
        self.dropped
    }

    /// Decides at the start of a GOP whether a file ends, and whether the GOP is recorded.
    fn start_gop(&mut self, time: u64) {
        if self.file.is_some() && (self.cut_requested || self.is_due(time)) {
            self.close();
        }
        // Without video, any frame is the start of one: dropping begins where the queue is full.
        self.is_dropping = !self.disk.has_room_for_gop();
    }

    fn is_due(&self, time: u64) -> bool {
        let limit = u64::try_from(self.settings.duration.as_millis()).unwrap_or(u64::MAX);
        let is_long = |file: &File| time.saturating_sub(file.start_time) >= limit;
        self.settings.plan == DvrPlan::Segment && self.file.as_ref().is_some_and(is_long)
    }

    fn has_video(&self, time: u64) -> bool {
        let has_header = self.headers.iter().any(|header| header.key.0 == Track::Video);
        match self.last_video_time {
            Some(last) => time.saturating_sub(last) < VIDEO_TIMEOUT_MS,
            None => has_header,
        }
    }

    fn keep_header(&mut self, packet: &Packet<'_>) {
        let key = match &packet.tag {
            Some(Tag::Video(tag)) => (Track::Video, tag.track, tag.packet == VideoPacket::Metadata),
            Some(Tag::Audio(tag)) => (Track::Audio, tag.track, tag.packet != AudioPacket::SequenceHeader),
            None => (packet.track, 0, false),
        };
        let header = Header { key, payload: Bytes::copy_from_slice(packet.payload) };
        match self.headers.iter().position(|other| other.key == key) {
            Some(index) => self.headers[index] = header,
            None if self.headers.len() < MAX_HEADERS => self.headers.push(header),
            None => {}
        }
    }

    /// Starts a file with the headers so far. Returns false if that is not possible now.
    fn open(&mut self, time: u64, now: Instant) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        let has = |track| self.headers.iter().any(|header| header.key.0 == track);
        let metadata = self.headers.iter().find(|header| header.key.0 == Track::Data);
        let metadata = metadata.and_then(|header| header.payload.strip_prefix(ON_META_DATA)).unwrap_or_default();
        let mut head = Vec::new();
        let recording = Recording::start(metadata, has(Track::Audio), has(Track::Video), &mut head);
        let start_time = if self.settings.time_jitter == TimeJitter::Off { 0 } else { time };
        let mut file = File {
            accepted: recording.size(),
            recording,
            start_time,
            pending: BytesMut::new(),
            written_at: now,
            last_indexed: None,
            has_video: has(Track::Video),
            has_audio: has(Track::Audio),
        };
        for track in [Track::Video, Track::Audio] {
            for header in self.headers.iter().filter(|header| header.key.0 == track) {
                file.append_tag(track, time.saturating_sub(start_time), &header.payload, false);
            }
        }
        if !self.disk.open(head.into()) {
            self.retry_at = Some(now + RETRY_AFTER);
            return false;
        }
        (self.retry_at, self.cut_requested, self.awaits_keyframe) = (None, false, false);
        self.file = Some(file);
        true
    }

    fn append(&mut self, packet: &Packet<'_>, starts_gop: bool, now: Instant) {
        let Some(file) = &mut self.file else { return };
        if packet.track == Track::Status {
            return;
        }
        let time = packet.dts.saturating_sub(file.start_time);
        let is_indexed = match packet.track {
            Track::Video => packet.kind == PacketKind::Keyframe,
            _ => starts_gop && file.last_indexed.is_none_or(|last| time >= last + AUDIO_INDEX_MS),
        };
        if is_indexed {
            file.last_indexed = Some(time);
        }
        file.has_video |= packet.track == Track::Video;
        file.has_audio |= packet.track == Track::Audio;
        file.append_tag(packet.track, time, packet.payload, is_indexed);
        let is_late = now.saturating_duration_since(file.written_at) >= WRITE_INTERVAL;
        if file.pending.len() < WRITE_BYTES && !is_late {
            return;
        }
        file.written_at = now;
        if !file.flush(&mut self.disk) {
            // The rest of this GOP could not be decoded.
            (self.is_dropping, self.dropped) = (true, self.dropped + 1);
        }
    }

    fn close(&mut self) {
        let Some(mut file) = self.file.take() else { return };
        if !file.flush(&mut self.disk) {
            self.dropped += 1;
        }
        file.recording.add_tracks(file.has_audio, file.has_video);
        self.disk.close(file.recording);
    }

    /// Gives the file up that has failed.
    fn fail(&mut self, now: Instant) {
        if let Some(mut file) = self.file.take() {
            file.recording.add_tracks(file.has_audio, file.has_video);
            self.disk.close(file.recording);
        }
        (self.retry_at, self.awaits_keyframe) = (Some(now + RETRY_AFTER), true);
    }
}

impl File {
    /// Hands the pending bytes to the disk. Returns false if there was no room for them: they are lost.
    fn flush(&mut self, disk: &mut impl Disk) -> bool {
        let bytes = self.pending.split().freeze();
        if bytes.is_empty() || disk.write(bytes) {
            self.accepted = self.recording.size();
            return true;
        }
        self.recording.truncate(self.accepted);
        false
    }

    fn append_tag(&mut self, track: Track, time: u64, payload: &[u8], is_indexed: bool) {
        let kind = match track {
            Track::Audio => flv::TAG_AUDIO,
            Track::Video => flv::TAG_VIDEO,
            _ => flv::TAG_SCRIPT,
        };
        // A message of RTMP is at most as long as a tag can be. Timestamps have 32 bits and wrap.
        let size = payload.len() as u32;
        self.pending.put_slice(&flv::tag_header(kind, time as u32, size));
        self.pending.put_slice(payload);
        self.pending.put_slice(&flv::back_pointer(size));
        self.recording.on_tag(time, payload.len() + flv::TAG_OVERHEAD, is_indexed);
    }
}

/// Returns whether a packet is audio or video that is played.
fn is_frame(packet: &Packet<'_>) -> bool {
    matches!(packet.track, Track::Audio | Track::Video) && packet.kind != PacketKind::Header
}
