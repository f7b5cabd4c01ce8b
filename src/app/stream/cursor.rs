//! The position of a subscriber in the packet log, and what it wants of it. It knows no wire.

use super::packet_log::{LogEntry, PacketKind, PacketLog};
use super::track::{Track, VideoTracks};

const ALL_TRACKS: u8 = u8::MAX;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerStats {
    pub sent: u64,
    /// Messages dropped because the player was too far behind.
    pub dropped: u64,
    pub caught_up: bool,
}

/// A position in the packet log where a subscriber can start.
#[derive(Clone, Copy)]
pub(super) struct JoinPoint {
    pub(super) seq: u64,
    /// Video of these tracks is dropped until a keyframe of the track.
    pub(super) awaited: VideoTracks,
}

pub(super) struct Cursor {
    pub(super) seq: u64,
    /// Sequence number before which the subscription ends.
    pub(super) end: Option<u64>,
    pub(super) wanted: u8,
    awaited: VideoTracks,
    pub(super) paused: bool,
    /// So the stream may write to the socket.
    pub(super) caught_up: bool,
    pub(super) sent: u64,
    dropped: u64,
}

impl Cursor {
    pub(super) fn new(start: JoinPoint) -> Self {
        let JoinPoint { seq, awaited } = start;
        Self { seq, end: None, wanted: ALL_TRACKS, awaited, paused: false, caught_up: false, sent: 0, dropped: 0 }
    }

    pub(super) fn move_to(&mut self, start: JoinPoint) {
        (self.seq, self.awaited) = (start.seq, start.awaited);
    }

    pub(super) fn count_dropped(&mut self, start: JoinPoint) {
        self.dropped += start.seq.saturating_sub(self.seq);
    }

    /// Selects whether a track is wanted. Returns false if nothing changes.
    pub(super) fn select(&mut self, track: Track, wanted: bool) -> bool {
        let bit = track.bit();
        if (self.wanted & bit != 0) == wanted {
            return false;
        }
        self.caught_up = false;
        self.wanted ^= bit;
        if wanted && track == Track::Video {
            self.awaited = VideoTracks::ALL;
        }
        true
    }

    /// Stops waiting for keyframes of tracks that are not in `tracks`, those of the stream, once one has begun.
    pub(super) fn limit_awaited(&mut self, tracks: VideoTracks) {
        if self.awaited != VideoTracks::ALL {
            self.awaited = self.awaited.intersection(tracks);
        }
    }

    /// Returns whether a message can be handed out: its track is wanted, and can be decoded from here on.
    pub(super) fn accepts(&mut self, entry: &LogEntry) -> bool {
        if self.wanted & entry.track.bit() == 0 {
            return false;
        }
        if entry.track == Track::Video && self.awaited.contains(entry.video_track) && entry.kind != PacketKind::Header {
            if entry.kind != PacketKind::Keyframe {
                return false;
            }
            self.awaited.remove(entry.video_track);
        }
        true
    }

    pub(super) fn accepts_all(&self, tracks: u8) -> bool {
        tracks & !self.wanted == 0 && (self.awaited.is_empty() || tracks & Track::Video.bit() == 0)
    }

    pub(super) fn next(&self, log: &PacketLog) -> Option<LogEntry> {
        if self.is_at_end() { None } else { log.get(self.seq).copied() }
    }

    pub(super) fn has_more(&self, log: &PacketLog) -> bool {
        !self.paused && !self.is_at_end() && (self.seq < log.first_seq() || log.get(self.seq).is_some())
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.seq >= end)
    }

    /// Returns the first sequence number, up to `end`, that the packet log has to keep.
    pub(super) fn first_needed(&self, end: u64) -> u64 {
        if self.paused { end } else { self.seq }
    }

    pub(super) fn stats(&self) -> ConsumerStats {
        ConsumerStats { sent: self.sent, dropped: self.dropped, caught_up: self.caught_up }
    }
}
