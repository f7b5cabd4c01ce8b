//! The decisions of a recording, packet by packet: where a file starts and ends, and what of a stream is dropped while the
//! disk is slow. It touches no file.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::file::{Disk, Header, Written};
use super::flv_file::FlvFile;
use super::mp4_file::Mp4File;
use crate::app::stream::{Packet, PacketKind, Tag, Track, VIDEO_TIMEOUT_MS};
use crate::codec::flv::{AudioPacket, VideoPacket};
use crate::codec::mp4::{Kind, Reason};
use crate::config::{Dvr, DvrFormat, DvrPlan, TimeJitter};

const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Minimum time between two files that other parameters of the stream start, and how many may be earlier: a publisher can change
/// them with each keyframe.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_EARLY_CHANGES: u32 = 16;

const MAX_HEADERS: usize = 16;

pub(super) struct Recorder<D> {
    disk: D,
    settings: Dvr,
    file: Option<File>,
    headers: Vec<Header>,
    /// The next file starts at a keyframe, if there is video.
    awaits_keyframe: bool,
    /// Until a keyframe for which there is room.
    is_dropping: bool,
    retry_at: Option<Instant>,
    /// A file that ends at the next place.
    cut_requested: bool,
    needs_file: bool,
    changed_at: Option<Instant>,
    early_changes: u32,
    last_video_time: Option<u64>,
    /// Messages that were not recorded because the disk was too slow.
    dropped: u64,
    /// Tracks that were not recorded, and those of them that are not reported yet.
    refused: Vec<(Kind, Reason)>,
    refusals: Vec<Refusal>,
}

struct File {
    content: Content,
    /// Corrected time that is zero in the file, in milliseconds.
    start_time: u64,
}

enum Content {
    Flv(FlvFile),
    Mp4(Box<Mp4File>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) codec: String,
    pub(super) reason: Reason,
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
            needs_file: false,
            changed_at: None,
            early_changes: 0,
            last_video_time: None,
            dropped: 0,
            refused: Vec::new(),
            refusals: Vec::new(),
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the tracks that are not recorded, each once.
    pub(super) fn take_refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refusals)
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
            self.store_header(packet);
        } else if packet.track == Track::Video {
            self.last_video_time = Some(packet.dts);
        }
        let has_video = self.has_video(packet.dts);
        let starts_gop = packet.kind == PacketKind::Keyframe || (!has_video && is_frame);
        if starts_gop {
            self.start_gop(packet.dts, now);
        } else if is_frame && self.is_due(packet.dts) && !self.settings.wait_keyframe {
            self.close(now);
        }
        // Headers count for the GOPs to come.
        if self.is_dropping && is_frame {
            self.dropped += 1;
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

    pub(super) fn finish(mut self, now: Instant) -> u64 {
        self.close(now);
        self.dropped
    }

    /// Decides at the start of a GOP whether a file ends, and whether the GOP is recorded.
    fn start_gop(&mut self, time: u64, now: Instant) {
        let is_due = self.cut_requested || self.is_due(time);
        if self.file.is_some() && (is_due || (self.needs_file && self.may_change(now))) {
            self.close(now);
        }
        // Without video, any frame is the start of one: dropping begins where the queue is full.
        self.is_dropping = !self.disk.has_room_for_gop();
    }

    fn may_change(&mut self, now: Instant) -> bool {
        if self.changed_at.is_some_and(|at| now.saturating_duration_since(at) < CHANGE_INTERVAL) {
            if self.early_changes == MAX_EARLY_CHANGES {
                return false;
            }
            self.early_changes += 1;
        }
        self.changed_at = Some(now);
        true
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

    fn store_header(&mut self, packet: &Packet<'_>) {
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

    fn open(&mut self, time: u64, now: Instant) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        let start_time = if self.settings.time_jitter == TimeJitter::Off { 0 } else { time };
        let content = match self.settings.format() {
            DvrFormat::Flv => {
                FlvFile::open(&mut self.disk, &self.headers, time.saturating_sub(start_time), now).map(Content::Flv)
            }
            DvrFormat::Mp4 => Some(Content::Mp4(Box::new(Mp4File::new(&self.headers, now)))),
        };
        let Some(content) = content else {
            self.retry_at = Some(now + RETRY_AFTER);
            return false;
        };
        (self.retry_at, self.cut_requested, self.needs_file, self.awaits_keyframe) = (None, false, false, false);
        self.file = Some(File { content, start_time });
        true
    }

    fn append(&mut self, packet: &Packet<'_>, starts_gop: bool, now: Instant) {
        let Some(file) = &mut self.file else { return };
        if packet.track == Track::Status {
            return;
        }
        let time = packet.dts.saturating_sub(file.start_time);
        let written = match &mut file.content {
            Content::Flv(file) => file.append(&mut self.disk, packet, time, starts_gop, now),
            Content::Mp4(file) => file.append(&mut self.disk, packet, time, now),
        };
        match written {
            Written::Whole => {}
            Written::Lost(lost) => (self.is_dropping, self.dropped) = (true, self.dropped + lost),
            Written::NotOpened => {
                self.file = None;
                (self.retry_at, self.awaits_keyframe) = (Some(now + RETRY_AFTER), true);
            }
            Written::NeedsFile => self.needs_file = true,
            Written::Refused(kind, reason) => self.refuse(packet, kind, reason),
        }
    }

    fn refuse(&mut self, packet: &Packet<'_>, kind: Kind, reason: Reason) {
        if self.refused.contains(&(kind, reason)) {
            return;
        }
        self.refused.push((kind, reason));
        let codec = match packet.tag {
            Some(Tag::Video(tag)) => tag.codec.to_string(),
            Some(Tag::Audio(tag)) => tag.codec.to_string(),
            None => return,
        };
        self.refusals.push(Refusal { kind, codec, reason });
    }

    fn close(&mut self, now: Instant) {
        self.dropped += match self.file.take().map(|file| file.content) {
            Some(Content::Flv(file)) => file.close(&mut self.disk),
            Some(Content::Mp4(file)) => file.close(&mut self.disk, now),
            None => 0,
        };
    }

    fn fail(&mut self, now: Instant) {
        match self.file.take().map(|file| file.content) {
            Some(Content::Flv(file)) => file.abandon(&mut self.disk),
            Some(Content::Mp4(file)) => file.abandon(&mut self.disk),
            None => {}
        }
        (self.retry_at, self.awaits_keyframe) = (Some(now + RETRY_AFTER), true);
    }
}

fn is_frame(packet: &Packet<'_>) -> bool {
    matches!(packet.track, Track::Audio | Track::Video) && packet.kind != PacketKind::Header
}
