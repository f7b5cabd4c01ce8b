//! A player of a source: not a queue, but a place in its backlog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::backlog::{Backlog, Entry, Mark, Page};
use super::{Config, ConfigKey, Outlet, SET_DATA_FRAME, Source, State, Track};
use crate::account::Part;
use crate::rtmp::chunk::{ChunkHeader, ChunkStreamId, DEFAULT_CHUNK_SIZE, encode};
use crate::rtmp::message::MessageType;

/// What [`Consumer::fill`] hands out at a time, in pieces and in bytes.
const BATCH_PIECES: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// Entries that are looked at to find where a player's timeline begins: enough for either track to have come.
const BASE_SEARCH: u64 = 64;

/// What a player has got.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Messages handed to its socket.
    pub sent: u64,
    /// Messages that it did not get because it was too far behind.
    pub dropped: u64,
    /// Whether it has got all there is.
    pub level: bool,
}

/// Where a forwarder begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the first message since it joined, or since it was over.
    First,
    /// Where a player that joins now would.
    Join,
}

/// A player, as its source sees it.
#[derive(Clone)]
pub(super) struct Player {
    pub(super) outlet: Arc<dyn Outlet>,
    stream_id: u32,
    /// The size of the chunks that it gets, as it was told.
    chunk_size: u32,
    /// The number of the entry that it gets next.
    cursor: u64,
    /// Its coroutine has nothing to do and the source may write to its socket.
    pub(super) level: bool,
    /// What its socket did not take of a page.
    rest: Bytes,
    /// Tracks of which it has had a message with an absolute time, a bit each.
    primed: u8,
    /// Tracks that it wants, a bit each.
    wanted: u8,
    /// It gets no video until there is a keyframe.
    awaits_key: bool,
    /// Tracks whose configuration it has to get again, a bit each.
    unconfigured: u8,
    paused: bool,
    /// It publishes what it gets elsewhere.
    pub(super) is_forwarder: bool,
    /// The number of the entry before which a forwarder's stream ends.
    until: Option<u64>,
    /// What is time zero to it.
    base: Option<u64>,
    /// It has had all configuration whose number is below this.
    configured: u64,
    /// When its coroutine last asked for more.
    pub(super) filled: Instant,
    /// It was closed because memory is short.
    pub(super) is_shed: bool,
    sent: u64,
    dropped: u64,
}

/// The right of a player's coroutine to its place in a source. Dropping it leaves the source.
pub struct Consumer {
    source: Source,
    id: usize,
}

impl Consumer {
    pub(super) fn new(source: Source, id: usize) -> Self {
        Self { source, id }
    }

    /// Appends what the player is to get next to `batch`, whole messages and at most some 256 KiB. If there is nothing, the
    /// player is level: from now on the source writes to its socket, and wakes its coroutine when it must.
    ///
    /// Returns the size of the chunks behind the batch. It begins as the source's [`chunk_size`](Source::chunk_size), which the
    /// player has to know when it joins; a change of it is told in the batch.
    pub fn fill(&self, batch: &mut Vec<Bytes>) -> usize {
        self.with(|state, id| state.fill(id, batch))
    }

    /// Takes the socket back from the source. What the source has begun to write is appended to `batch` and has to go first.
    pub fn hold(&self, batch: &mut Vec<Bytes>) {
        self.player(|player| {
            player.level = false;
            player.take_rest(batch);
        });
    }

    /// Stops sending, or goes on, at the live point and with a keyframe.
    pub fn pause(&self, paused: bool) {
        self.with(|state, id| {
            let start = state.start();
            if let Some(player) = state.players[id].as_mut().filter(|player| player.paused != paused) {
                player.paused = paused;
                player.level = false;
                // Nearer to live, but not back to what it has had.
                if !paused && start.0 > player.cursor {
                    player.move_to(start);
                }
            }
        });
    }

    /// Has a forwarder begin, on this message stream of the target, which has been told of this chunk size.
    pub fn begin(&self, stream_id: u32, chunk_size: usize, at: Begin) {
        self.with(|state, id| state.begin(id, stream_id, chunk_size, at));
    }

    /// Has a forwarder whose stream has ended wait for the next one. Returns where to begin then: with all of it, if the
    /// connection did not fail before.
    pub fn rearm(&self) -> Begin {
        let rearm = |player: &mut Player| {
            player.cursor = player.cursor.max(player.until.take().unwrap_or(0));
            if player.paused { Begin::Join } else { Begin::First }
        };
        self.player(rearm).unwrap_or(Begin::Join)
    }

    /// Whether a forwarder's stream has ended, and it has got all of it.
    pub fn is_over(&self) -> bool {
        self.player(|player| player.until.is_some_and(|until| player.paused || player.cursor >= until)).unwrap_or(true)
    }

    /// Whether a forwarder's stream has ended.
    pub fn is_ending(&self) -> bool {
        self.player(|player| player.until.is_some()).unwrap_or(true)
    }

    /// How far the player is behind the live point.
    pub fn delay(&self) -> Duration {
        self.with(|state, id| {
            let next = state.players[id].as_ref().and_then(|player| state.backlog.get(player.cursor));
            next.map_or(Duration::ZERO, |entry| {
                Duration::from_millis(state.timeline.latest().saturating_sub(entry.time))
            })
        })
    }

    /// Chooses whether the player gets audio.
    pub fn receive_audio(&self, wanted: bool) {
        self.receive(Track::Audio, wanted);
    }

    /// Chooses whether the player gets video; when it does again, it begins with a keyframe.
    pub fn receive_video(&self, wanted: bool) {
        self.receive(Track::Video, wanted);
    }

    /// What the player has got so far.
    pub fn stats(&self) -> ConsumerStats {
        let stats =
            |player: &mut Player| ConsumerStats { sent: player.sent, dropped: player.dropped, level: player.level };
        // Not `with`: it is also asked while a panic unwinds.
        self.source.0.try_with(|state| state.players[self.id].as_mut().map(stats)).flatten().unwrap_or_default()
    }

    /// Leaves the source, as dropping it does, when nobody is left to drop it: its coroutine overflowed its stack.
    pub fn abandon(&self) {
        self.source.0.try_with(|state| {
            state.abandoned += 1;
            state.leave(self.id);
        });
    }

    fn receive(&self, track: Track, wanted: bool) {
        let bit = track.bit();
        self.player(|player| {
            if (player.wanted & bit != 0) == wanted {
                return;
            }
            player.level = false;
            player.wanted ^= bit;
            // What it gets after a gap has to name its time.
            player.primed &= !bit;
            if wanted {
                player.unconfigured |= bit;
                player.awaits_key |= track == Track::Video;
            }
        });
    }

    fn with<R>(&self, f: impl FnOnce(&mut State, usize) -> R) -> R {
        self.source.0.with(|state| f(state, self.id))
    }

    fn player<R>(&self, f: impl FnOnce(&mut Player) -> R) -> Option<R> {
        self.with(|state, id| state.players[id].as_mut().map(f))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.0.try_with(|state| state.leave(self.id));
    }
}

impl State {
    pub(super) fn new_player(&self, outlet: Arc<dyn Outlet>, stream_id: u32) -> Player {
        let mut player = Player {
            outlet,
            stream_id,
            chunk_size: self.backlog.chunk_size() as u32,
            cursor: 0,
            level: false,
            rest: Bytes::new(),
            primed: 0,
            wanted: u8::MAX,
            awaits_key: false,
            unconfigured: 0,
            paused: false,
            is_forwarder: false,
            until: None,
            base: None,
            configured: 0,
            filled: Instant::now(),
            is_shed: false,
            sent: 0,
            dropped: 0,
        };
        player.move_to(self.start());
        player
    }

    pub(super) fn new_forwarder(&self, outlet: Arc<dyn Outlet>) -> Player {
        let mut player = self.new_player(outlet, 0);
        player.is_forwarder = true;
        // What the server says to players is not for publishing.
        player.wanted &= !Track::Status.bit();
        player
    }

    /// Where a forwarder begins when it has its place in the row already.
    fn begin(&mut self, id: usize, stream_id: u32, chunk_size: usize, at: Begin) {
        let start = self.start();
        let Some(player) = &mut self.players[id] else { return };
        let at = match at {
            Begin::First => (player.cursor, true),
            Begin::Join => start,
        };
        *player = Player {
            stream_id,
            chunk_size: chunk_size as u32,
            level: false,
            rest: Bytes::new(),
            unconfigured: 0,
            paused: false,
            base: None,
            configured: 0,
            ..player.clone()
        };
        player.move_to(at);
    }

    fn leave(&mut self, id: usize) {
        if self.players[id].take().is_some() {
            self.playing -= 1;
        }
        self.note_idle();
    }

    fn fill(&mut self, id: usize, batch: &mut Vec<Bytes>) -> usize {
        let start = self.start();
        let Some(player) = &mut self.players[id] else { return self.backlog.chunk_size() };
        player.level = false;
        player.filled = Instant::now();
        player.take_rest(batch);
        if player.paused {
            return player.chunk_size as usize;
        }
        if player.cursor < self.backlog.first() {
            // It fell behind by more than is kept. Whole GOPs are left out: it goes on with a keyframe, as near to live as
            // there is one.
            player.dropped += start.0.saturating_sub(player.cursor);
            player.move_to(start);
        }
        let mut bytes = 0;
        player.configure(&self.configs, &self.backlog, self.timeline.latest(), batch);
        // What the player does not want counts for nothing: an empty batch says that it is level.
        while batch.len() < BATCH_PIECES
            && bytes < BATCH_BYTES
            && player.until.is_none_or(|until| player.cursor < until)
            && let Some(entry) = self.backlog.get(player.cursor)
        {
            let before = batch.len();
            player.take(entry, &self.backlog, batch);
            bytes += batch[before..].iter().map(Bytes::len).sum::<usize>();
            player.cursor += 1;
            player.configured = player.cursor;
        }
        // What comes after its end is not for this forwarder, or not yet.
        player.level = batch.is_empty() && player.until.is_none();
        player.chunk_size as usize
    }
}

impl Player {
    /// The number of the first entry that is to be kept for this player, of those before `end`. One that has paused goes on
    /// with what comes then.
    pub(super) fn needs(&self, end: u64) -> u64 {
        if self.paused { end } else { self.cursor }
    }

    /// Offers a page that was closed just now, the last before entry `end`.
    pub(super) fn offer(&mut self, page: &Page, end: u64) {
        if !self.level {
            // Its coroutine is at it.
            return;
        }
        let plain = page.shared
            && page.chunk_size == self.chunk_size
            && page.tracks & !(self.primed & self.wanted) == 0
            && !self.awaits_key;
        if !plain {
            self.level = false;
            self.outlet.wake();
            return;
        }
        self.cursor = end;
        self.configured = end;
        self.sent += page.messages;
        // An error shows again when the coroutine tries.
        let written = self.outlet.offer(&page.bytes).unwrap_or(0);
        if written < page.bytes.len() {
            self.rest = page.bytes.slice(written..);
            self.level = false;
            self.outlet.wake();
        }
    }

    /// The stream ends before this entry, for a forwarder.
    pub(super) fn end_forwarding(&mut self, end: u64) {
        if self.is_forwarder && self.until.is_none() {
            self.until = Some(end);
            self.level = false;
            self.outlet.wake();
        }
    }

    fn take_rest(&mut self, batch: &mut Vec<Bytes>) {
        if !self.rest.is_empty() {
            batch.push(std::mem::take(&mut self.rest));
        }
    }

    /// Goes on at another place than before: nothing after it can be told as a delta to what came before it.
    fn move_to(&mut self, (number, awaits_key): (u64, bool)) {
        self.cursor = number;
        self.awaits_key = awaits_key;
        self.primed = 0;
    }

    /// Sends the sequence headers and metadata that the player needs at its cursor and has not had.
    fn configure(&mut self, configs: &[Config], backlog: &Backlog, latest: u64, batch: &mut Vec<Bytes>) {
        let missing = |config: &&Config| {
            let again = self.unconfigured & config.key.track().bit() != 0;
            config.number < self.cursor && (again || config.number >= self.configured)
        };
        let mut missing: Vec<_> = configs.iter().filter(missing).collect();
        // Metadata first, then video, then audio: what players expect.
        missing.sort_by_key(|config| match config.key.track() {
            Track::Data => 0,
            Track::Video => 1,
            _ => 2,
        });
        // Not later than the media that follow.
        let time = first_time(backlog, self.cursor).unwrap_or(latest);
        let timestamp = self.base.map_or(0, |base| time.saturating_sub(base) as u32);
        for config in missing {
            let track = config.key.track();
            if self.wanted & track.bit() == 0 {
                continue;
            }
            let header = ChunkHeader { csid: track.csid(), kind: track.kind(), timestamp, stream_id: self.stream_id };
            let mut bytes = BytesMut::new();
            if self.is_forwarder && config.key == ConfigKey::Metadata {
                encode(&mut bytes, &header, &set_data_frame(&config.payload), self.chunk_size as usize);
            } else {
                encode(&mut bytes, &header, &config.payload, self.chunk_size as usize);
            }
            batch.push(backlog.account().count(Part::Media, bytes.freeze()));
            self.sent += 1;
            // The next message's delta in the backlog is not to this.
            self.primed &= !track.bit();
        }
        self.configured = self.configured.max(self.cursor);
        self.unconfigured &= !self.wanted;
    }

    fn take(&mut self, entry: &Entry, backlog: &Backlog, batch: &mut Vec<Bytes>) {
        let bit = entry.track.bit();
        if self.wanted & bit == 0 {
            self.primed &= !bit;
            return;
        }
        if entry.track == Track::Video && self.awaits_key && entry.mark != Mark::Config {
            if entry.mark != Mark::Key {
                self.primed &= !bit;
                return;
            }
            self.awaits_key = false;
        }
        if entry.chunk_size != self.chunk_size {
            self.chunk_size = entry.chunk_size;
            batch.push(set_chunk_size(entry.chunk_size));
        }
        self.sent += 1;
        if entry.shared && self.primed & bit != 0 {
            batch.push(entry.bytes.clone());
            return;
        }
        let timestamp = self.timestamp(entry, backlog);
        // The clock on the wire has 32 bits and wraps.
        let wire_time = timestamp.unwrap_or(0) as u32;
        if self.is_forwarder && entry.track == Track::Data {
            // Never shared: what publishers say and what players hear differs.
            batch.push(backlog.account().count(Part::Media, self.as_published(entry, wire_time)));
            return;
        }
        entry.absolute(wire_time, self.stream_id, backlog.account(), batch);
        // A delta to this would be wrong if its time is not the true one.
        if timestamp.is_some() && entry.track != Track::Status {
            self.primed |= bit;
        }
    }

    /// A data message as a publisher sends it.
    fn as_published(&self, entry: &Entry, timestamp: u32) -> Bytes {
        let chunk_size = entry.chunk_size as usize;
        let track = entry.track;
        let header = ChunkHeader { csid: track.csid(), kind: track.kind(), timestamp, stream_id: self.stream_id };
        let payload = entry.payload(chunk_size);
        let payload = if entry.mark == Mark::Config { set_data_frame(&payload) } else { payload };
        let mut bytes = BytesMut::new();
        encode(&mut bytes, &header, &payload, chunk_size);
        bytes.freeze()
    }

    /// An entry's time on the player's own clock, which is zero where its media begin. `None`: it is of before that.
    fn timestamp(&mut self, entry: &Entry, backlog: &Backlog) -> Option<u64> {
        let is_media = matches!(entry.track, Track::Audio | Track::Video) && entry.mark != Mark::Config;
        if self.base.is_none() && is_media {
            self.base = Some(first_time(backlog, self.cursor).unwrap_or(entry.time));
        }
        entry.time.checked_sub(self.base?)
    }
}

/// Set Chunk Size (section 5.4.1), which fits one chunk of any size.
fn set_chunk_size(size: u32) -> Bytes {
    let header =
        ChunkHeader { csid: ChunkStreamId::CONTROL, kind: MessageType::SET_CHUNK_SIZE, timestamp: 0, stream_id: 0 };
    let mut bytes = BytesMut::new();
    encode(&mut bytes, &header, &size.to_be_bytes(), DEFAULT_CHUNK_SIZE);
    bytes.freeze()
}

/// Metadata as encoders send them: servers keep for players that join what comes behind `@setDataFrame`.
fn set_data_frame(metadata: &[u8]) -> Vec<u8> {
    [SET_DATA_FRAME, metadata].concat()
}

/// The lower of the times of the first audio and the first video message from `number` on.
fn first_time(backlog: &Backlog, number: u64) -> Option<u64> {
    let first_of = |track| {
        (number..number + BASE_SEARCH)
            .map_while(|number| backlog.get(number))
            .find(|entry| entry.track == track && entry.mark != Mark::Config)
            .map(|entry| entry.time)
    };
    match (first_of(Track::Audio), first_of(Track::Video)) {
        (Some(audio), Some(video)) => Some(audio.min(video)),
        (audio, video) => audio.or(video),
    }
}
