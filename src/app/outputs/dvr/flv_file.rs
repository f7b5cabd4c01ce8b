//! An FLV file of a recording: tags are collected and handed to the disk, some at a time.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use super::file::{Disk, Ending, Header, WRITE_INTERVAL, Written};
use crate::app::stream::{Packet, PacketKind, Track};
use crate::codec::flv;
use crate::codec::flv::recording::Recording;

/// Size of the buffer of pending tags, in bytes, which is the memory that a recorded stream costs. The disk gets what fills it.
const WRITE_BYTES: usize = 32 * 1024;

/// Interval of the index of a recording without video, in milliseconds.
const AUDIO_INDEX_MS: u64 = 1000;

const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";

pub(super) struct FlvFile {
    recording: Recording,
    pending: BytesMut,
    written_at: Instant,
    accepted: u64,
    last_indexed: Option<u64>,
    has_video: bool,
    has_audio: bool,
}

impl FlvFile {
    /// Starts a file with these headers, at this time in it. `None` if that is not possible now.
    pub(super) fn open(disk: &mut impl Disk, headers: &[Header], time: u64, now: Instant) -> Option<Self> {
        let has = |track| headers.iter().any(|header| header.track() == track);
        let metadata = headers.iter().find(|header| header.track() == Track::Data);
        let metadata = metadata.and_then(|header| header.payload.strip_prefix(ON_META_DATA)).unwrap_or_default();
        let mut head = Vec::new();
        let recording = Recording::start(metadata, has(Track::Audio), has(Track::Video), &mut head);
        let mut file = Self {
            accepted: recording.size(),
            recording,
            pending: BytesMut::with_capacity(WRITE_BYTES),
            written_at: now,
            last_indexed: None,
            has_video: has(Track::Video),
            has_audio: has(Track::Audio),
        };
        for track in [Track::Video, Track::Audio] {
            for header in headers.iter().filter(|header| header.track() == track) {
                file.append_tag(track, time, &header.payload, false);
            }
        }
        disk.open(head.into(), Duration::ZERO).then_some(file)
    }

    pub(super) fn append(
        &mut self,
        disk: &mut impl Disk,
        packet: &Packet<'_>,
        time: u64,
        starts_gop: bool,
        now: Instant,
    ) -> Written {
        // Nothing is appended beyond the capacity, which would double it. The disk has written the last bytes, so it is used again.
        let size = self.pending.len() + packet.payload.len() + flv::TAG_OVERHEAD;
        if size > WRITE_BYTES && !self.flush_at(disk, now) {
            return Written::Lost(1);
        }
        let is_indexed = match packet.track {
            Track::Video => packet.kind == PacketKind::Keyframe,
            _ => starts_gop && self.last_indexed.is_none_or(|last| time >= last + AUDIO_INDEX_MS),
        };
        if is_indexed {
            self.last_indexed = Some(time);
        }
        self.has_video |= packet.track == Track::Video;
        self.has_audio |= packet.track == Track::Audio;
        self.append_tag(packet.track, time, packet.payload, is_indexed);
        let is_late = now.saturating_duration_since(self.written_at) >= WRITE_INTERVAL;
        if self.pending.len() < WRITE_BYTES && !is_late {
            return Written::Whole;
        }
        if self.flush_at(disk, now) { Written::Whole } else { Written::Lost(1) }
    }

    pub(super) fn close(mut self, disk: &mut impl Disk) -> u64 {
        let is_whole = self.flush(disk);
        self.abandon(disk);
        u64::from(!is_whole)
    }

    /// Ends the file as it is on the disk.
    pub(super) fn abandon(mut self, disk: &mut impl Disk) {
        self.recording.add_tracks(self.has_audio, self.has_video);
        disk.close(Ending::Flv(self.recording));
    }

    fn flush_at(&mut self, disk: &mut impl Disk, now: Instant) -> bool {
        self.written_at = now;
        self.flush(disk)
    }

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
