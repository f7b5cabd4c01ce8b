//! A player or forwarder as its stream sees it: a cursor into the packet log, not a queue.
//!
//! | state | who writes to the socket |
//! |---|---|
//! | caught up | the stream: [`Subscriber::write_batch`] writes each closed batch without blocking |
//! | behind: joining, socket full, track filter, other chunk size | its coroutine, from [`Subscriber::fill`] |
//! | paused | nobody, except for the rest of a message that was begun |
//!
//! A subscriber that falls behind by more than the packet log keeps continues at the join point: whole GOPs are dropped.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::client_handle::ClientHandle;
use super::cursor::{Cursor, JoinPoint};
use super::encode::{Encoder, LiveBatch};
use super::headers::HeaderCache;
use super::packet_log::PacketLog;
use super::track::Track;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::st;

/// Limits of one [`Subscriber::fill`], in buffers and in bytes; the latter also limits one write of the stream to a socket.
pub(super) const MAX_FILL_BUFFERS: usize = 64;
pub(super) const MAX_FILL_BYTES: usize = 256 * 1024;

/// Entries that one fill examines at most, unwanted ones included. A stream may have 100,000 of them.
pub(super) const MAX_FILL_ENTRIES: usize = 1024;

pub(super) type PlayerInfo = (Arc<StreamInfo>, Arc<ClientInfo>);

pub(super) struct Subscriber {
    pub(super) client: Arc<dyn ClientHandle>,
    pub(super) player: Option<PlayerInfo>,
    pub(super) cursor: Cursor,
    pub(super) encoder: Encoder,
    /// Rest of a batch that the socket did not take.
    unsent: Bytes,
    pub(super) paused_idle: bool,
    pub(super) is_evicted: bool,
    pub(super) last_fill: Instant,
}

impl Subscriber {
    pub(super) fn new(
        client: Arc<dyn ClientHandle>,
        player: Option<PlayerInfo>,
        encoder: Encoder,
        start: JoinPoint,
    ) -> Self {
        Self {
            client,
            player,
            cursor: Cursor::new(start),
            encoder,
            unsent: Bytes::new(),
            paused_idle: false,
            is_evicted: false,
            last_fill: st::now(),
        }
    }

    pub(super) fn is_player(&self) -> bool {
        self.player.is_some()
    }

    /// Returns whether it is a player that counts and of which others learn: not a program of this server.
    pub(super) fn is_viewer(&self) -> bool {
        self.viewer().is_some()
    }

    pub(super) fn viewer(&self) -> Option<&PlayerInfo> {
        self.player.as_ref().filter(|(_, client)| client.engine.is_none())
    }

    pub(super) fn pause(&mut self, paused: bool, join_point: JoinPoint) {
        if self.cursor.paused == paused {
            return;
        }
        self.cursor.paused = paused;
        self.cursor.caught_up = false;
        self.paused_idle = false;
        // After a short pause the join point can be before the cursor: nothing is sent twice.
        if !paused && join_point.seq > self.cursor.seq {
            self.move_to(join_point);
        }
    }

    pub(super) fn receive(&mut self, track: Track, wanted: bool) {
        if self.cursor.select(track, wanted) {
            self.encoder.on_select(track, wanted);
        }
    }

    /// Does [`Consumer::fill`](super::Consumer::fill). `latest` is the time of the latest message.
    pub(super) fn fill(
        &mut self,
        join_point: JoinPoint,
        headers: &HeaderCache,
        log: &mut PacketLog,
        latest: u64,
        out: &mut Vec<Bytes>,
    ) -> usize {
        self.cursor.caught_up = false;
        self.last_fill = st::now();
        self.take_unsent(out);
        // A forwarder fills only once before its first keyframe.
        let max_entries = if self.is_player() { MAX_FILL_ENTRIES } else { usize::MAX };
        let Some(encoder) = self.encoder.rtmp() else { return log.chunk_size() };
        if encoder.continue_partial(log.memory(), out) || self.cursor.paused {
            self.paused_idle = out.is_empty();
            return encoder.chunk_size();
        }
        if self.cursor.seq < log.first_seq() {
            self.cursor.count_dropped(join_point);
            self.cursor.move_to(join_point);
            encoder.on_move();
        }
        let (mut bytes, mut entries) = (0, 0);
        self.cursor.sent += encoder.append_headers(&self.cursor, headers, log, latest, out);
        // Unwanted messages do not count: an empty `out` means that the subscriber has caught up.
        while out.len() < MAX_FILL_BUFFERS
            && bytes < MAX_FILL_BYTES
            && entries < max_entries
            && !encoder.has_partial()
            && let Some(entry) = self.cursor.next(log)
        {
            let before = out.len();
            if self.cursor.accepts(&entry) {
                encoder.append(&entry, self.cursor.seq, log, out);
                self.cursor.sent += 1;
            } else {
                encoder.skip(entry.track);
            }
            bytes += out[before..].iter().map(Bytes::len).sum::<usize>();
            self.cursor.seq += 1;
            encoder.set_position(self.cursor.seq);
            entries += 1;
        }
        self.cursor.caught_up = out.is_empty() && self.cursor.end.is_none() && !self.cursor.has_more(log);
        encoder.chunk_size()
    }

    pub(super) fn detach(&mut self, out: &mut Vec<Bytes>) {
        self.cursor.caught_up = false;
        self.take_unsent(out);
    }

    /// Writes the last closed batch, which ends before `end`, to the socket of a subscriber that has caught up; or wakes its
    /// coroutine, if the bytes do not fit the subscriber or `has_time` is false.
    pub(super) fn write_batch(&mut self, batch: &LiveBatch, log: &mut PacketLog, end: u64, has_time: bool) {
        if !self.cursor.caught_up {
            return;
        }
        let live =
            self.encoder.live_bytes(batch, log).filter(|&(_, tracks)| has_time && self.cursor.accepts_all(tracks));
        let Some((bytes, _)) = live else {
            self.wake();
            return;
        };
        self.cursor.seq = end;
        self.encoder.set_position(end);
        self.cursor.sent += batch.chunks.message_count;
        if bytes.is_empty() {
            return;
        }
        let first = &bytes[..bytes.len().min(MAX_FILL_BYTES)];
        // The coroutine gets the same error when it writes.
        let written = self.client.try_write(first).unwrap_or(0);
        if written < bytes.len() {
            self.unsent = batch.share(&self.encoder, log).slice(written..);
            self.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        self.cursor.caught_up = false;
        self.client.wake();
    }

    pub(super) fn discard_unsent(&mut self) {
        self.unsent = Bytes::new();
    }

    pub(super) fn take_unsent(&mut self, out: &mut Vec<Bytes>) {
        if !self.unsent.is_empty() {
            out.push(std::mem::take(&mut self.unsent));
        }
    }

    pub(super) fn move_to(&mut self, start: JoinPoint) {
        self.cursor.move_to(start);
        self.encoder.on_move();
    }
}
