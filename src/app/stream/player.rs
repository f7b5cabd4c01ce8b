//! A player as its source sees it: not a queue, but a place in the source's backlog.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::backlog::{Backlog, Entry, Mark, Page};
use super::configs::{Config, ConfigKey, Configs, set_data_frame};
use super::stretched::Stretched;
use super::track::Track;
use super::{Begin, ConsumerStats, Outlet};
use crate::memory::Part;
use crate::rtmp::chunk::{ChunkHeader, ChunkStreamId, DEFAULT_CHUNK_SIZE, encode};
use crate::rtmp::message::MessageType;

/// What [`Player::fill`] hands out at a time, in pieces and in bytes.
const BATCH_PIECES: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// How many entries it passes over at most that the player does not want. A stream may have a hundred thousand of them.
const BATCH_LOOKS: usize = 1024;

/// Entries that are looked at to find where a player's timeline begins: enough for either track to have come.
const BASE_SEARCH: u64 = 64;

/// A player or a forwarder.
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
    /// It has paused, and has been handed nothing since.
    pub(super) rests: bool,
    /// What its socket did not take of a page.
    rest: Bytes,
    /// A message that it has had a part of.
    stretched: Option<Stretched>,
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

impl Player {
    /// One that begins at `start`, see [`Player::move_to`].
    pub(super) fn new(outlet: Arc<dyn Outlet>, stream_id: u32, chunk_size: usize, start: (u64, bool)) -> Self {
        let mut player = Self {
            outlet,
            stream_id,
            chunk_size: chunk_size as u32,
            cursor: 0,
            level: false,
            rests: false,
            rest: Bytes::new(),
            stretched: None,
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
        player.move_to(start);
        player
    }

    /// Makes it one that publishes what it gets.
    pub(super) fn into_forwarder(mut self) -> Self {
        self.is_forwarder = true;
        // What the server says to players is not for publishing.
        self.wanted &= !Track::Status.bit();
        self
    }

    /// Where a forwarder begins when it has its place in the row already; a player that joins now would at `start`.
    pub(super) fn begin(&mut self, stream_id: u32, chunk_size: usize, at: Begin, start: (u64, bool)) {
        let at = match at {
            Begin::First => (self.cursor, true),
            Begin::Join => start,
        };
        *self = Self {
            stream_id,
            chunk_size: chunk_size as u32,
            level: false,
            rest: Bytes::new(),
            stretched: None,
            unconfigured: 0,
            paused: false,
            base: None,
            configured: 0,
            ..self.clone()
        };
        self.move_to(at);
    }

    /// Has a forwarder whose stream has ended wait for the next one. Returns where to begin then.
    pub(super) fn rearm(&mut self) -> Begin {
        self.cursor = self.cursor.max(self.until.take().unwrap_or(0));
        if self.paused { Begin::Join } else { Begin::First }
    }

    /// Whether a forwarder's stream has ended, and it has got all of it.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.paused || self.cursor >= until)
    }

    /// Whether a forwarder's stream has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.until.is_some()
    }

    /// The number of the entry that it gets next.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What it has got so far.
    pub(super) fn stats(&self) -> ConsumerStats {
        ConsumerStats { sent: self.sent, dropped: self.dropped, level: self.level }
    }

    /// Stops, or goes on at `start`.
    pub(super) fn pause(&mut self, paused: bool, start: (u64, bool)) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        self.level = false;
        self.rests = false;
        // Nearer to live, but not back to what it has had.
        if !paused && start.0 > self.cursor {
            self.move_to(start);
        }
    }

    /// Chooses whether it gets a track.
    pub(super) fn receive(&mut self, track: Track, wanted: bool) {
        let bit = track.bit();
        if (self.wanted & bit != 0) == wanted {
            return;
        }
        self.level = false;
        self.wanted ^= bit;
        // What it gets after a gap has to name its time.
        self.primed &= !bit;
        if wanted {
            self.unconfigured |= bit;
            self.awaits_key |= track == Track::Video;
        }
    }

    /// Appends what it is to get next to `batch`; `start` is where one that joins now would begin, `latest` the time of the
    /// latest message. Returns the size of the chunks behind the batch. See [`Consumer::fill`](super::Consumer::fill).
    pub(super) fn fill(
        &mut self,
        start: (u64, bool),
        configs: &Configs,
        backlog: &Backlog,
        latest: u64,
        batch: &mut Vec<Bytes>,
    ) -> usize {
        self.level = false;
        self.filled = Instant::now();
        self.take_rest(batch);
        if self.go_on(backlog, batch) || self.paused {
            self.rests = batch.is_empty();
            return self.chunk_size as usize;
        }
        if self.cursor < backlog.first() {
            // It fell behind by more than is kept. Whole GOPs are left out: it goes on with a keyframe, as near to live as
            // there is one.
            self.dropped += start.0.saturating_sub(self.cursor);
            self.move_to(start);
        }
        // A forwarder asks once for what comes before its first keyframe.
        let most = if self.is_forwarder { usize::MAX } else { BATCH_LOOKS };
        let (mut bytes, mut looks) = (0, 0);
        self.configure(configs, backlog, latest, batch);
        // What the player does not want counts for nothing: an empty batch says that it is level.
        while batch.len() < BATCH_PIECES
            && bytes < BATCH_BYTES
            && looks < most
            && self.stretched.is_none()
            && self.until.is_none_or(|until| self.cursor < until)
            && let Some(entry) = backlog.get(self.cursor)
        {
            let before = batch.len();
            self.take(entry, backlog, batch);
            bytes += batch[before..].iter().map(Bytes::len).sum::<usize>();
            self.cursor += 1;
            self.configured = self.cursor;
            looks += 1;
        }
        // What comes after its end is not for this forwarder, or not yet.
        self.level = batch.is_empty() && self.until.is_none() && !self.has_more(backlog);
        self.chunk_size as usize
    }

    /// Appends more of the message that it has had a part of. Whether there was one.
    pub(super) fn go_on(&mut self, backlog: &Backlog, batch: &mut Vec<Bytes>) -> bool {
        let Some(stretched) = &mut self.stretched else { return false };
        batch.push(stretched.next_piece(backlog.account()));
        if stretched.is_done() {
            self.stretched = None;
        }
        true
    }

    /// Whether there is an entry for it to look at.
    pub(super) fn has_more(&self, backlog: &Backlog) -> bool {
        !self.paused
            && self.until.is_none_or(|until| self.cursor < until)
            && (self.cursor < backlog.first() || backlog.get(self.cursor).is_some())
    }

    /// Takes the socket back from the source.
    pub(super) fn hold(&mut self, batch: &mut Vec<Bytes>) {
        self.level = false;
        self.take_rest(batch);
    }

    /// The number of the first entry that is to be kept for this player, of those before `end`. One that has paused goes on
    /// with what comes then.
    pub(super) fn needs(&self, end: u64) -> u64 {
        if self.paused { end } else { self.cursor }
    }

    /// Offers a page that was closed just now, the last before entry `end`. `has_time`: its socket may be written to now, else its
    /// coroutine does it.
    pub(super) fn offer(&mut self, page: &Page, end: u64, has_time: bool) {
        if !self.level {
            // Its coroutine is at it.
            return;
        }
        let plain = has_time
            && page.shared
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
        let first = &page.bytes[..page.bytes.len().min(BATCH_BYTES)];
        let written = self.outlet.offer(first).unwrap_or(0);
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
    fn configure(&mut self, configs: &Configs, backlog: &Backlog, latest: u64, batch: &mut Vec<Bytes>) {
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
        self.stretched = entry.absolute(wire_time, self.stream_id, batch);
        self.go_on(backlog, batch);
        // The target of a forwarder is one, and its stream may end with this.
        while self.is_forwarder && self.go_on(backlog, batch) {}
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
        let payload = entry.payload();
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
