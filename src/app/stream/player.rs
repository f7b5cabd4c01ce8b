//! A player or forwarder as its stream sees it: a cursor into the packet log, not a queue.
//!
//! | state | who writes to the socket |
//! |---|---|
//! | caught up | the stream: [`Player::write_batch`] writes each closed batch without blocking |
//! | behind: joining, socket full, track filter, other chunk size | the player's coroutine, from [`Player::fill`] |
//! | paused | nobody, except for the rest of a message that was begun |
//!
//! A player that falls behind by more than the packet log keeps continues at the join point: whole GOPs are dropped.

mod output;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::extended_timestamp::ExtendedTimestampEncoder;
use super::headers::HeaderCache;
use super::packet_log::{Batch, PacketLog};
use super::track::Track;
use super::{ClientHandle, ConsumerStats, StartPosition};
use crate::app::session::info::{ClientInfo, StreamInfo};

/// Limits of one [`Player::fill`], in buffers and in bytes; the latter also limits one write of the stream to a socket.
const MAX_FILL_BUFFERS: usize = 64;
const MAX_FILL_BYTES: usize = 256 * 1024;

/// Entries that one fill examines at most, unwanted ones included. A stream may have 100,000 of them.
const MAX_FILL_ENTRIES: usize = 1024;

/// A player, as events name it.
pub(super) type PlayerInfo = (Arc<StreamInfo>, Arc<ClientInfo>);

const ALL_TRACKS: u8 = u8::MAX;

#[derive(Clone, Copy)]
pub(super) struct JoinPoint {
    pub(super) seq: u64,
    /// Video is dropped until a keyframe.
    pub(super) awaits_keyframe: bool,
}

#[derive(Clone)]
pub(super) struct Player {
    pub(super) client: Arc<dyn ClientHandle>,
    /// Stream and client of a player; `None` for a forwarder.
    pub(super) info: Option<PlayerInfo>,
    stream_id: u32,
    chunk_size: u32,
    cursor: u64,
    /// The coroutine has nothing to write, so the stream may write to the socket.
    pub(super) caught_up: bool,
    /// Paused, and nothing was handed out since.
    pub(super) paused_idle: bool,
    /// Rest of a batch that the socket did not take.
    unsent: Bytes,
    /// Message of which a part was handed out.
    partial: Option<ExtendedTimestampEncoder>,
    /// Tracks on which a delta is valid: the peer has had the previous message. A bit set, as are the next two.
    delta_valid: u8,
    wanted: u8,
    /// Tracks whose headers have to be sent again.
    headers_stale: u8,
    /// Video is dropped until a keyframe.
    awaits_keyframe: bool,
    paused: bool,
    /// A forwarder publishes the stream to another server.
    pub(super) is_forwarder: bool,
    /// Sequence number before which a forwarder's stream ends.
    end_seq: Option<u64>,
    /// Corrected time, in milliseconds, that is zero for the peer.
    base_time: Option<u64>,
    /// Headers with a lower sequence number were sent.
    headers_sent_to: u64,
    pub(super) last_fill: Instant,
    pub(super) is_evicted: bool,
    sent: u64,
    dropped: u64,
}

impl Player {
    pub(super) fn new(client: Arc<dyn ClientHandle>, stream_id: u32, chunk_size: usize, start: JoinPoint) -> Self {
        let mut player = Self {
            client,
            info: None,
            stream_id,
            chunk_size: chunk_size as u32,
            cursor: 0,
            caught_up: false,
            paused_idle: false,
            unsent: Bytes::new(),
            partial: None,
            delta_valid: 0,
            wanted: ALL_TRACKS,
            headers_stale: 0,
            awaits_keyframe: false,
            paused: false,
            is_forwarder: false,
            end_seq: None,
            base_time: None,
            headers_sent_to: 0,
            last_fill: Instant::now(),
            is_evicted: false,
            sent: 0,
            dropped: 0,
        };
        player.move_to(start);
        player
    }

    pub(super) fn with_info(self, info: PlayerInfo) -> Self {
        Self { info: Some(info), ..self }
    }

    /// Turns the player into a forwarder, which does not get status messages.
    pub(super) fn into_forwarder(mut self) -> Self {
        self.is_forwarder = true;
        self.wanted &= !Track::Status.bit();
        self
    }

    /// Starts a forwarder on a connection that knows `chunk_size`.
    pub(super) fn start(&mut self, stream_id: u32, chunk_size: usize, position: StartPosition, join_point: JoinPoint) {
        let start = match position {
            StartPosition::Retained => JoinPoint { seq: self.cursor, awaits_keyframe: true },
            StartPosition::JoinPoint => join_point,
        };
        *self = Self {
            stream_id,
            chunk_size: chunk_size as u32,
            caught_up: false,
            unsent: Bytes::new(),
            partial: None,
            headers_stale: 0,
            paused: false,
            base_time: None,
            headers_sent_to: 0,
            ..self.clone()
        };
        self.move_to(start);
    }

    pub(super) fn reset_for_next(&mut self) -> StartPosition {
        self.cursor = self.cursor.max(self.end_seq.take().unwrap_or(0));
        if self.paused { StartPosition::JoinPoint } else { StartPosition::Retained }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.end_seq.is_some_and(|end| self.paused || self.cursor >= end)
    }

    pub(super) fn stream_ended(&self) -> bool {
        self.end_seq.is_some()
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn stats(&self) -> ConsumerStats {
        ConsumerStats { sent: self.sent, dropped: self.dropped, caught_up: self.caught_up }
    }

    /// Pauses, or resumes at the join point.
    pub(super) fn pause(&mut self, paused: bool, join_point: JoinPoint) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        self.caught_up = false;
        self.paused_idle = false;
        // After a short pause the join point can be before the cursor: nothing is sent twice.
        if !paused && join_point.seq > self.cursor {
            self.move_to(join_point);
        }
    }

    pub(super) fn receive(&mut self, track: Track, wanted: bool) {
        let bit = track.bit();
        if (self.wanted & bit != 0) == wanted {
            return;
        }
        self.caught_up = false;
        self.wanted ^= bit;
        self.delta_valid &= !bit;
        if wanted {
            self.headers_stale |= bit;
            self.awaits_keyframe |= track == Track::Video;
        }
    }

    /// Appends the next output to `out`. Returns the chunk size after it. `latest` is the time of the latest message.
    /// See [`Consumer::fill`](super::Consumer::fill).
    pub(super) fn fill(
        &mut self,
        join_point: JoinPoint,
        headers: &HeaderCache,
        log: &PacketLog,
        latest: u64,
        out: &mut Vec<Bytes>,
    ) -> usize {
        self.caught_up = false;
        self.last_fill = Instant::now();
        self.take_unsent(out);
        if self.continue_partial(log, out) || self.paused {
            self.paused_idle = out.is_empty();
            return self.chunk_size as usize;
        }
        if self.cursor < log.first_seq() {
            self.dropped += join_point.seq.saturating_sub(self.cursor);
            self.move_to(join_point);
        }
        // A forwarder fills only once before its first keyframe.
        let max_entries = if self.is_forwarder { usize::MAX } else { MAX_FILL_ENTRIES };
        let (mut bytes, mut entries) = (0, 0);
        self.append_headers(headers, log, latest, out);
        // Unwanted messages do not count: an empty `out` means that the player has caught up.
        while out.len() < MAX_FILL_BUFFERS
            && bytes < MAX_FILL_BYTES
            && entries < max_entries
            && self.partial.is_none()
            && self.end_seq.is_none_or(|end| self.cursor < end)
            && let Some(entry) = log.get(self.cursor)
        {
            let before = out.len();
            self.append_entry(entry, log, out);
            bytes += out[before..].iter().map(Bytes::len).sum::<usize>();
            self.cursor += 1;
            self.headers_sent_to = self.cursor;
            entries += 1;
        }
        self.caught_up = out.is_empty() && self.end_seq.is_none() && !self.has_more(log);
        self.chunk_size as usize
    }

    pub(super) fn continue_partial(&mut self, log: &PacketLog, out: &mut Vec<Bytes>) -> bool {
        let Some(partial) = &mut self.partial else { return false };
        out.push(partial.next_piece(log.memory()));
        if partial.is_done() {
            self.partial = None;
        }
        true
    }

    pub(super) fn has_more(&self, log: &PacketLog) -> bool {
        !self.paused
            && self.end_seq.is_none_or(|end| self.cursor < end)
            && (self.cursor < log.first_seq() || log.get(self.cursor).is_some())
    }

    pub(super) fn detach(&mut self, out: &mut Vec<Bytes>) {
        self.caught_up = false;
        self.take_unsent(out);
    }

    /// Returns the first sequence number, up to `end`, that the packet log has to keep for the player.
    pub(super) fn first_needed(&self, end: u64) -> u64 {
        if self.paused { end } else { self.cursor }
    }

    /// Writes a closed batch, which ends before `end`, to the socket of a player that has caught up; or wakes its
    /// coroutine, if the bytes do not fit the player or `has_time` is false.
    pub(super) fn write_batch(&mut self, batch: &Batch, end: u64, has_time: bool) {
        if !self.caught_up {
            return;
        }
        let fits = has_time
            && batch.all_delta
            && batch.chunk_size == self.chunk_size
            && batch.tracks & !(self.delta_valid & self.wanted) == 0
            && !self.awaits_keyframe;
        if !fits {
            self.caught_up = false;
            self.client.wake();
            return;
        }
        self.cursor = end;
        self.headers_sent_to = end;
        self.sent += batch.message_count;
        let first = &batch.bytes[..batch.bytes.len().min(MAX_FILL_BYTES)];
        // The coroutine gets the same error when it writes.
        let written = self.client.try_write(first).unwrap_or(0);
        if written < batch.bytes.len() {
            self.unsent = batch.bytes.slice(written..);
            self.caught_up = false;
            self.client.wake();
        }
    }

    pub(super) fn end_forwarding(&mut self, end: u64) {
        if self.is_forwarder && self.end_seq.is_none() {
            self.end_seq = Some(end);
            self.caught_up = false;
            self.client.wake();
        }
    }

    fn take_unsent(&mut self, out: &mut Vec<Bytes>) {
        if !self.unsent.is_empty() {
            out.push(std::mem::take(&mut self.unsent));
        }
    }

    /// Moves the cursor to another place, from which no delta is valid.
    fn move_to(&mut self, start: JoinPoint) {
        self.cursor = start.seq;
        self.awaits_keyframe = start.awaits_keyframe;
        self.delta_valid = 0;
    }
}
