//! A stream: one publisher, any number of players, and what is between them.
//!
//! A message of the publisher is put on the source's timeline, encoded once into its [`backlog`], and offered to the players
//! that are level, in one loop that writes to each socket without blocking. What a socket does not take, and all that is
//! particular to one player (joining, falling behind, pausing), is the business of that player's own coroutine, which asks
//! for it by [`Consumer::fill`]. So the work done for a message does not grow with the number of players; only the writes do.

mod backlog;
mod consumer;
mod registry;
mod shedding;
mod timeline;

pub use consumer::{Begin, Consumer, ConsumerStats};
pub use registry::Sources;
pub use shedding::Holding;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::backlog::{Backlog, Mark};
use self::consumer::Player;
use self::timeline::Timeline;
use super::close::CloseReason;
use crate::account::{Account, Part};
use crate::codec::flv;
use crate::config::Vhost;
use crate::rtmp::chunk::ChunkStreamId;
use crate::rtmp::command::without_amf3_marker;
use crate::rtmp::message::{Message, MessageType};
use crate::rtmp::server::stream_status;
use crate::st::Shared;

/// Sequence headers and the like that are kept for joining players. A stream has three; multitrack ones a few more.
const MAX_CONFIGS: usize = 16;

/// The greatest of them that is kept, in bytes; sequence headers have some hundred.
const MAX_CONFIG: usize = 64 * 1024;

/// How much of a stream without video a joining player gets at once, in milliseconds: there is no keyframe to begin at, and any
/// place will do.
const AUDIO_CACHE: u64 = 1000;

/// A stream counts as one without video when none has come for so long, in milliseconds.
const VIDEO_GONE: u64 = 10_000;

/// What a message belongs to: each has a chunk stream of its own, and times that never run backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Track {
    Audio = 0,
    Video = 1,
    Data = 2,
    /// What the server itself says within the stream.
    Status = 3,
}

impl Track {
    const COUNT: usize = 4;

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn csid(self) -> ChunkStreamId {
        match self {
            Self::Audio => ChunkStreamId::AUDIO,
            Self::Video => ChunkStreamId::VIDEO,
            Self::Data => ChunkStreamId::DATA,
            Self::Status => ChunkStreamId::STATUS,
        }
    }

    fn kind(self) -> MessageType {
        match self {
            Self::Audio => MessageType::AUDIO,
            Self::Video => MessageType::VIDEO,
            Self::Data => MessageType::DATA,
            Self::Status => MessageType::COMMAND,
        }
    }
}

/// Where a client's bytes go, and how it is reached by others.
pub trait Outlet: Send + Sync {
    /// Writes what fits, without blocking. 0: no room now.
    ///
    /// # Errors
    /// When the connection has failed.
    fn offer(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Has the client's coroutine look after itself.
    fn wake(&self);
    /// Ends the connection, for this reason.
    fn close(&self, reason: CloseReason);
}

/// Takes what a publisher sends, at times that have been corrected: milliseconds since the source began, which do not run
/// backwards within a track. It is called for each message, so it must not wait for anything. Dropping it ends it.
pub trait Sink: Send + Sync {
    /// A message of video whose header is `tag`.
    fn on_video(&mut self, time: u64, tag: &flv::VideoTag, payload: &Bytes);
    /// A message of audio whose header is `tag`.
    fn on_audio(&mut self, time: u64, tag: &flv::AudioTag, payload: &Bytes);
    /// The vhost's configuration has changed. Whether the sink goes on with it; if not, there is to be another.
    fn reconfigure(&mut self, vhost: &Vhost) -> bool;
}

/// A stream. Clones are the same stream.
#[derive(Clone)]
pub struct Source(Shared<State>);

struct State {
    name: String,
    vhost: Arc<Vhost>,
    /// What is held for this stream.
    account: Account,
    publisher: Option<Publisher>,
    /// Counts publications, so that one that was replaced ends nothing but itself.
    publications: u64,
    /// The number of the first entry of the present publication, or of the last one.
    begun: u64,
    timeline: Timeline,
    backlog: Backlog,
    /// Where a joining player begins: the number of the last keyframe, as long as all since is in the backlog.
    gop: Option<u64>,
    /// The time of the last video message of this publication.
    last_video: Option<u64>,
    configs: Vec<Config>,
    /// Where the publisher's messages go beside the players.
    sink: Option<Box<dyn Sink>>,
    /// By id; an id that is free is used again.
    players: Vec<Option<Player>>,
    /// How many of them there are.
    playing: usize,
    /// When the players are to be told that the publisher is lost, if it is not back by then.
    tell_loss: Option<Instant>,
    /// Since when there has been neither publisher nor player.
    idle_since: Instant,
    /// Handles that are never dropped, see [`Publication::abandon`].
    abandoned: usize,
}

struct Publisher {
    client: u64,
    outlet: Arc<dyn Outlet>,
    /// When something of it last arrived.
    heard: Instant,
    video: Option<flv::VideoCodec>,
    audio: Option<flv::AudioCodec>,
}

/// What a player needs before media.
struct Config {
    key: ConfigKey,
    payload: Bytes,
    /// The number of the entry in the backlog that brought it.
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfigKey {
    Metadata,
    Video { track: u8, colour: bool },
    Audio { track: u8, channels: bool },
}

impl ConfigKey {
    fn track(self) -> Track {
        match self {
            Self::Metadata => Track::Data,
            Self::Video { .. } => Track::Video,
            Self::Audio { .. } => Track::Audio,
        }
    }
}

/// A stream that is being published.
#[derive(Debug, Clone)]
pub struct Published {
    /// vhost/app/stream.
    pub name: String,
    /// What is in it, as far as anything has come.
    pub video: Option<flv::VideoCodec>,
    /// The same.
    pub audio: Option<flv::AudioCodec>,
    /// How many play it over RTMP.
    pub players: usize,
}

/// The name of a stream is taken.
#[derive(Debug, thiserror::Error)]
#[error("the stream is being published by client {by}")]
pub struct Busy {
    /// Who publishes it.
    pub by: u64,
}

/// The right to publish a stream. Dropping it ends the publication; players that stay are told after the vhost's
/// `reconnect_grace`, unless a publisher is there by then.
pub struct Publication {
    source: Source,
    number: u64,
}

impl Source {
    /// A stream that nobody publishes or plays. What it holds counts in `whole`.
    pub fn new(name: &str, vhost: Arc<Vhost>, whole: &Account) -> Self {
        let account = Account::within(whole);
        Self(Shared::new(State {
            name: name.to_owned(),
            backlog: Backlog::new(vhost.chunk_size, &account),
            account,
            vhost,
            publisher: None,
            publications: 0,
            begun: 0,
            timeline: Timeline::default(),
            gop: None,
            last_video: None,
            configs: Vec::new(),
            sink: None,
            players: Vec::new(),
            playing: 0,
            tell_loss: None,
            idle_since: Instant::now(),
            abandoned: 0,
        }))
    }

    /// The name of the vhost that it belongs to.
    pub fn vhost_name(&self) -> String {
        self.0.with(|state| state.vhost.name.clone())
    }

    /// Puts other settings in force, of the same vhost. They count from the next message on, also for those who publish or play
    /// now: players are told of another `chunk_size` within the stream, where it changes.
    pub fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.0.with(|state| {
            if vhost.chunk_size != state.backlog.chunk_size() {
                state.flush();
                state.backlog.set_chunk_size(vhost.chunk_size);
            }
            state.vhost = vhost.clone();
        });
    }

    /// The size of the chunks that players who join now have to know of first.
    pub fn chunk_size(&self) -> usize {
        self.0.with(|state| state.backlog.chunk_size())
    }

    /// Claims the stream for a publisher. One that has been silent for the vhost's `stall_timeout` loses it to the new one.
    ///
    /// # Errors
    /// [`Busy`] when it is being published.
    pub fn acquire_publish(&self, client: u64, outlet: Arc<dyn Outlet>) -> Result<Publication, Busy> {
        self.0.with(|state| {
            if let Some(publisher) = &state.publisher {
                if publisher.heard.elapsed() < state.vhost.publish.stall_timeout {
                    return Err(Busy { by: publisher.client });
                }
                publisher.outlet.close(CloseReason::Replaced { by: client });
                state.lose_publisher();
            }
            state.publications += 1;
            state.begun = state.backlog.next();
            state.timeline.begin_publication();
            state.publisher = Some(Publisher { client, outlet, heard: Instant::now(), video: None, audio: None });
            if state.tell_loss.take().is_none() {
                state.notify("NetStream.Play.PublishNotify", "is now published");
            }
            Ok(Publication { source: self.clone(), number: state.publications })
        })
    }

    /// Adds a player. It begins with what it needs to decode, at the last keyframe if the vhost's `gop_cache` is on, else with
    /// what comes next. `stream_id` is the message stream that it plays on.
    pub fn join(&self, outlet: Arc<dyn Outlet>, stream_id: u32) -> Consumer {
        self.0.with(|state| {
            state.expect_player();
            let player = state.new_player(outlet, stream_id);
            state.add_player(self, player)
        })
    }

    /// Adds a forwarder: a player that publishes the stream elsewhere. It is on hold until [`Consumer::begin`]; what is published
    /// from now on is kept for it, as for any player. It gets the stream as a publisher sends it, up to the end that players are
    /// told of; then [`Consumer::is_over`], and its outlet is woken whatever it does.
    pub fn join_forwarder(&self, outlet: Arc<dyn Outlet>) -> Consumer {
        self.0.with(|state| {
            state.expect_player();
            let player = state.new_forwarder(outlet);
            state.add_player(self, player)
        })
    }

    /// Whether the stream is published, or its publisher was lost and may come back before players are told.
    pub fn is_live(&self) -> bool {
        self.0.with(|state| state.publisher.is_some() || state.tell_loss.is_some())
    }

    /// What is held for the stream.
    pub fn account(&self) -> Account {
        self.0.with(|state| state.account.clone())
    }

    /// The name of the stream: vhost/app/stream.
    pub fn name(&self) -> String {
        self.0.with(|state| state.name.clone())
    }

    /// What it is, if somebody publishes it.
    fn published(&self) -> Option<Published> {
        self.0.with(|state| {
            let publisher = state.publisher.as_ref()?;
            Some(Published {
                name: state.name.clone(),
                video: publisher.video,
                audio: publisher.audio,
                players: state.players.iter().flatten().filter(|player| !player.is_forwarder).count(),
            })
        })
    }

    /// Ends whatever publication there is, and tells the players, also of one that was lost and may yet come back.
    fn end(&self) {
        self.0.with(|state| {
            let is_lost = state.tell_loss.is_some();
            if state.publisher.is_some() {
                state.lose_publisher();
            } else if !is_lost {
                return;
            }
            state.notify_unpublished();
        });
    }

    /// Changes where the messages of the present publisher go beside the players: `change` gets the stream's name, the publisher,
    /// and what is there. What is there afterwards is told the sequence headers so far, be it for the second time.
    pub fn change_sink(&self, change: impl FnOnce(&str, Arc<dyn Outlet>, &mut Option<Box<dyn Sink>>)) {
        self.0.with(|state| {
            let Some(publisher) = &state.publisher else { return };
            change(&state.name, publisher.outlet.clone(), &mut state.sink);
            let Some(sink) = &mut state.sink else { return };
            for Config { key, payload, .. } in &state.configs {
                match key {
                    ConfigKey::Video { .. } => {
                        if let Some(tag) = flv::video(payload) {
                            sink.on_video(state.timeline.latest(), &tag, payload);
                        }
                    }
                    ConfigKey::Audio { .. } => {
                        if let Some(tag) = flv::audio(payload) {
                            sink.on_audio(state.timeline.latest(), &tag, payload);
                        }
                    }
                    ConfigKey::Metadata => {}
                }
            }
        });
    }

    /// Tells the players that the publisher is lost, if it is time for that.
    fn tell_loss_due(&self, now: Instant) {
        self.0.with(|state| {
            if state.tell_loss.is_some_and(|due| due <= now) {
                state.notify_unpublished();
            }
        });
    }

    /// Whether neither publisher nor player has been here for `time`, and nobody else holds the source. One that was never
    /// published has nothing that is worth keeping.
    fn is_idle_for(&self, time: Duration) -> bool {
        let long = |state: &State| state.publications == 0 || state.idle_since.elapsed() >= time;
        self.0.with(|state| self.0.holders() == 1 + state.abandoned && state.is_idle() && long(state))
    }
}

impl Publication {
    /// Whether the stream is still this publisher's.
    pub fn is_current(&self) -> bool {
        self.source.0.with(|state| self.holds(state))
    }

    /// Notes that something has arrived of the publisher, be it less than a message.
    pub fn heard(&self, now: Instant) {
        self.with(|state| {
            if let Some(publisher) = &mut state.publisher {
                publisher.heard = now;
            }
        });
    }

    /// Whether anybody plays the stream. When the first player comes, the publisher is woken.
    pub fn is_watched(&self) -> bool {
        self.with(|state| state.playing > 0).unwrap_or(false)
    }

    /// Takes a message of the publisher: audio, video or data. Nothing is written yet, see [`Publication::flush_due`].
    pub fn on_message(&self, message: &Message, now: Instant) {
        self.with(|state| state.on_message(message, now));
    }

    /// Offers what has come to the players, if there are any and it is time for that. If it is not, returns when it is.
    /// `opening` is how much of `mw_latency` they may wait where it adapts, from 0 to 1.
    pub fn flush_due(&self, now: Instant, opening: f64) -> Option<Instant> {
        self.with(|state| {
            if state.playing == 0 {
                return None;
            }
            let due = state.backlog.opened()? + state.window(opening);
            if due > now {
                return Some(due);
            }
            state.flush();
            None
        })?
    }

    /// How long the publisher may be silent before it is to be closed.
    pub fn timeout(&self) -> Duration {
        self.source.0.with(|state| state.vhost.publish.timeout)
    }

    /// What the vhost lets a publisher send, in kbit/s; 0 for no limit.
    pub fn max_bitrate(&self) -> u64 {
        self.source.0.with(|state| state.vhost.publish.max_bitrate)
    }

    /// Ends the publication, as its publisher said: players are told at once.
    pub fn end(&self) {
        self.with(|state| {
            state.lose_publisher();
            state.notify_unpublished();
        });
    }

    /// The codecs of video and audio that the publisher sends, as far as it has sent any.
    pub fn codecs(&self) -> (Option<flv::VideoCodec>, Option<flv::AudioCodec>) {
        let codecs = self.with(|state| state.publisher.as_ref().map(|publisher| (publisher.video, publisher.audio)));
        codecs.flatten().unwrap_or_default()
    }

    /// Ends the publication, as dropping it does, when nobody is left to drop it: its coroutine overflowed its stack.
    pub fn abandon(&self) {
        self.source.0.try_with(|state| {
            state.abandoned += 1;
            self.leave(state);
        });
    }

    fn leave(&self, state: &mut State) {
        if self.holds(state) {
            state.lose_publisher();
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.source.0.with(|state| self.holds(state).then(|| f(state)))
    }

    fn holds(&self, state: &State) -> bool {
        state.publisher.is_some() && state.publications == self.number
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.source.0.try_with(|state| self.leave(state));
    }
}

impl State {
    fn on_message(&mut self, message: &Message, now: Instant) {
        if let Some(publisher) = &mut self.publisher {
            publisher.heard = now;
        }
        match message.kind {
            MessageType::AUDIO => self.on_audio(message, now),
            MessageType::VIDEO => self.on_video(message, now),
            MessageType::DATA | MessageType::DATA_AMF3 => self.on_data(message, now),
            _ => {}
        }
        if self.backlog.is_full(self.playing > 0) {
            self.flush();
        }
    }

    fn on_audio(&mut self, message: &Message, now: Instant) {
        let tag = flv::audio(&message.payload);
        if let (Some(publisher), Some(tag)) = (&mut self.publisher, &tag) {
            publisher.audio = Some(tag.codec);
        }
        let time = match tag {
            Some(tag) if tag.is_config() => {
                let channels = !tag.is_sequence_header();
                self.on_config(ConfigKey::Audio { track: tag.track, channels }, message.payload.clone(), now)
            }
            // Also an empty message, which encoders send for silence.
            _ => self.append(Track::Audio, message, Mark::Plain, now),
        };
        if let (Some(sink), Some(tag)) = (&mut self.sink, &tag) {
            sink.on_audio(time, tag, &message.payload);
        }
    }

    fn on_video(&mut self, message: &Message, now: Instant) {
        let tag = flv::video(&message.payload);
        if let (Some(publisher), Some(tag)) = (&mut self.publisher, &tag) {
            publisher.video = Some(tag.codec);
        }
        let time = match tag {
            Some(tag) if tag.is_config() => {
                let colour = !tag.is_sequence_header();
                self.on_config(ConfigKey::Video { track: tag.track, colour }, message.payload.clone(), now)
            }
            Some(tag) if tag.is_keyframe() && tag.track == 0 => {
                self.gop = Some(self.backlog.next());
                self.append(Track::Video, message, Mark::Key, now)
            }
            _ => self.append(Track::Video, message, Mark::Plain, now),
        };
        self.last_video = Some(self.timeline.latest());
        if let (Some(sink), Some(tag)) = (&mut self.sink, &tag) {
            sink.on_video(time, tag, &message.payload);
        }
    }

    fn on_data(&mut self, message: &Message, now: Instant) {
        let skipped = message.payload.len() - without_amf3_marker(message.kind, &message.payload).len();
        let mut payload = message.payload.slice(skipped..);
        // Encoders say @setDataFrame to have the rest kept for players that join.
        if payload.starts_with(SET_DATA_FRAME) {
            payload = payload.slice(SET_DATA_FRAME.len()..);
        }
        if payload.starts_with(ON_META_DATA) {
            self.on_config(ConfigKey::Metadata, payload, now);
        } else if payload.starts_with(CLEAR_DATA_FRAME) {
            self.configs.retain(|config| config.key != ConfigKey::Metadata);
        } else {
            self.append(Track::Data, &Message { payload, ..message.clone() }, Mark::Plain, now);
        }
    }

    /// Keeps what joining players need, and hands it on to those that are here. Returns its time.
    fn on_config(&mut self, key: ConfigKey, payload: Bytes, now: Instant) -> u64 {
        let track = key.track();
        let number = self.backlog.next();
        let time = self.timeline.of_config(track);
        self.backlog.append(track, time, Mark::Config, &payload, now);
        // A copy: the payload may be a small part of a large message.
        let kept = || self.account.count(Part::Media, Bytes::copy_from_slice(&payload));
        match self.configs.iter().position(|config| config.key == key) {
            Some(index) if self.configs[index].payload == payload => {}
            Some(index) if payload.len() > MAX_CONFIG => {
                self.configs.remove(index);
            }
            Some(index) => {
                self.configs[index] = Config { key, payload: kept(), number };
                if key != ConfigKey::Metadata {
                    // What came before cannot be decoded with this: the next player waits for the next keyframe.
                    self.gop = None;
                }
            }
            None if self.configs.len() < MAX_CONFIGS && payload.len() <= MAX_CONFIG => {
                self.configs.push(Config { key, payload: kept(), number });
            }
            None => {}
        }
        time
    }

    /// Puts a message on the timeline and into the backlog. Returns its time.
    fn append(&mut self, track: Track, message: &Message, mark: Mark, now: Instant) -> u64 {
        let time = self.timeline.correct(track, message.timestamp, now);
        self.backlog.append(track, time, mark, &message.payload, now);
        time
    }

    /// Tells the players, within the stream, what has become of its publisher.
    fn notify(&mut self, code: &str, what: &str) {
        if self.playing > 0 {
            let payload = stream_status(code, &format!("{} {what}.", self.name));
            self.backlog.append(Track::Status, self.timeline.latest(), Mark::Plain, &payload, Instant::now());
            self.flush();
        }
    }

    /// Ends a publication. Its players stay, and need to be told only if nobody comes back soon.
    fn lose_publisher(&mut self) {
        self.publisher = None;
        self.sink = None;
        self.flush();
        self.gop = None;
        self.last_video = None;
        self.configs.clear();
        self.tell_loss = Some(Instant::now() + self.vhost.publish.reconnect_grace);
        self.trim(self.players.iter().flatten().map(|player| player.needs(self.backlog.end())).min());
        self.note_idle();
    }

    fn notify_unpublished(&mut self) {
        self.tell_loss = None;
        let end = self.backlog.next();
        self.players.iter_mut().flatten().for_each(|player| player.end_forwarding(end));
        self.notify("NetStream.Play.UnpublishNotify", "is now unpublished");
    }

    /// How long a message may wait for others.
    fn window(&self, opening: f64) -> Duration {
        let vhost = &self.vhost;
        match (vhost.min_latency, vhost.mw_adaptive) {
            (true, _) => Duration::ZERO,
            (false, false) => vhost.mw_latency,
            (false, true) => vhost.mw_latency.mul_f64(opening),
        }
    }

    /// Closes the open page and offers it to all who are level.
    fn flush(&mut self) {
        let Some(page) = self.backlog.close_page() else { return };
        let end = self.backlog.end();
        let mut needed = None;
        for player in self.players.iter_mut().flatten() {
            player.offer(&page, end);
            needed = needed.into_iter().chain([player.needs(end)]).min();
        }
        self.trim(needed);
    }

    /// Lets go of what neither a joining player nor one that is behind will get. `needed` is the number of the first entry that
    /// a player is still to get.
    fn trim(&mut self, needed: Option<u64>) {
        let start = self.start().0;
        let needed = needed.unwrap_or(start);
        let length = u64::try_from(self.vhost.queue_length.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.timeline.latest().saturating_sub(length);
        self.backlog.trim(start.min(needed), oldest, self.vhost.queue_bytes);
        // A GOP that does not fit is not there for anybody: players wait for the next one.
        self.gop = self.gop.filter(|&gop| gop >= self.backlog.first());
    }

    /// The number of the entry that a player begins at, and whether it has to wait for a keyframe there.
    fn start(&self) -> (u64, bool) {
        let end = self.backlog.end();
        if !self.vhost.gop_cache || self.publisher.is_none() {
            return (end, true);
        }
        let latest = self.timeline.latest();
        let has_video = self.last_video.is_some_and(|time| latest.saturating_sub(time) < VIDEO_GONE);
        match self.gop {
            // A keyframe on the open page is yet to come, and what stands there before it is not for this player.
            Some(gop) if has_video => (gop.min(end), gop > end),
            _ if has_video => (end, true),
            _ => (self.backlog.since(latest.saturating_sub(AUDIO_CACHE)).max(self.begun.min(end)), true),
        }
    }

    /// Somebody is about to play or to forward.
    fn expect_player(&mut self) {
        if self.playing == 0 {
            // Nobody has asked for what has come so far, nor for what the publisher has not read yet.
            self.flush();
            if let Some(publisher) = &self.publisher {
                publisher.outlet.wake();
            }
        }
    }

    fn add_player(&mut self, source: &Source, player: Player) -> Consumer {
        self.playing += 1;
        let free = self.players.iter().position(Option::is_none);
        let id = free.unwrap_or(self.players.len());
        match free {
            Some(free) => self.players[free] = Some(player),
            None => self.players.push(Some(player)),
        }
        Consumer::new(source.clone(), id)
    }

    fn is_idle(&self) -> bool {
        self.publisher.is_none() && self.playing == 0
    }

    fn note_idle(&mut self) {
        if self.is_idle() {
            self.idle_since = Instant::now();
            self.players = Vec::new();
        }
    }
}

/// The first values of data messages, as AMF0 strings: a marker, a length of two bytes, the text.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
const CLEAR_DATA_FRAME: &[u8] = b"\x02\x00\x0f@clearDataFrame";
const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";

#[cfg(test)]
mod tests;
