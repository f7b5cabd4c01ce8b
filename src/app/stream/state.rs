//! What a source consists of: who is here, what is kept for whom, and what they are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backlog::{Backlog, Mark};
use super::configs::Configs;
use super::player::Player;
use super::timeline::Timeline;
use super::track::Track;
use super::{Outlet, Sink};
use crate::codec::flv;
use crate::config::Vhost;
use crate::memory::Account;
use crate::rtmp::server::stream_status;
use crate::st;

/// How much of a stream without video a joining player gets at once, in milliseconds: there is no keyframe to begin at, and any
/// place will do.
const AUDIO_CACHE: u64 = 1000;

/// A stream counts as one without video when none has come for so long, in milliseconds.
const VIDEO_GONE: u64 = 10_000;

/// A stream, its publisher and its players.
pub(super) struct State {
    pub(super) name: String,
    pub(super) vhost: Arc<Vhost>,
    /// What is held for this stream.
    pub(super) account: Account,
    pub(super) publisher: Option<Publisher>,
    /// Counts publications, so that one that was replaced ends nothing but itself.
    pub(super) publications: u64,
    /// The number of the first entry of the present publication, or of the last one.
    pub(super) begun: u64,
    pub(super) timeline: Timeline,
    pub(super) backlog: Backlog,
    /// Where a joining player begins: the number of the last keyframe, as long as all since is in the backlog.
    pub(super) gop: Option<u64>,
    /// The time of the last video message of this publication.
    pub(super) last_video: Option<u64>,
    pub(super) configs: Configs,
    /// Where the publisher's messages go beside the players.
    pub(super) sink: Option<Box<dyn Sink>>,
    /// By id; an id that is free is used again.
    pub(super) players: Vec<Option<Player>>,
    /// How many of them there are.
    pub(super) playing: usize,
    /// When the players are to be told that the publisher is lost, if it is not back by then.
    pub(super) tell_loss: Option<Instant>,
    /// Since when there has been neither publisher nor player.
    pub(super) idle_since: Instant,
    /// Since when notices are counted, and how many there were.
    noticed: Instant,
    notices: u32,
    /// Handles that are never dropped, see [`Publication::abandon`](super::Publication::abandon).
    pub(super) abandoned: usize,
}

/// Who publishes it, and what has been seen of that.
pub(super) struct Publisher {
    pub(super) client: u64,
    pub(super) outlet: Arc<dyn Outlet>,
    /// When something of it last arrived.
    pub(super) heard: Instant,
    pub(super) video: Option<flv::VideoCodec>,
    pub(super) audio: Option<flv::AudioCodec>,
}

/// How long a page is written to players in one go; the others' coroutines write it in their turn. And after how many of them the
/// clock is looked at.
const OFFERS: Duration = Duration::from_millis(40);
const LOOK_EACH: usize = 32;

/// How often players are told within this time that their stream is published, or no longer: each is woken for that.
const MAX_NOTICES: u32 = 8;
const NOTICES: Duration = Duration::from_secs(1);

impl State {
    /// Of a stream that nobody publishes or plays, what it holds counted in `memory`.
    pub(super) fn new(name: &str, vhost: Arc<Vhost>, account: Account) -> Self {
        Self {
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
            configs: Configs::default(),
            sink: None,
            players: Vec::new(),
            playing: 0,
            tell_loss: None,
            idle_since: Instant::now(),
            noticed: Instant::now(),
            notices: 0,
            abandoned: 0,
        }
    }

    /// The number of the entry that a player begins at, and whether it has to wait for a keyframe there.
    pub(super) fn start(&self) -> (u64, bool) {
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

    /// How long a message may wait for others.
    pub(super) fn window(&self, opening: f64) -> Duration {
        let vhost = &self.vhost;
        match (vhost.min_latency, vhost.mw_adaptive) {
            (true, _) => Duration::ZERO,
            (false, false) => vhost.mw_latency,
            (false, true) => vhost.mw_latency.mul_f64(opening),
        }
    }

    /// Closes the open page and offers it to all who are level.
    pub(super) fn flush(&mut self) {
        let Some(page) = self.backlog.close_page() else { return };
        let end = self.backlog.end();
        let (mut needed, begun, mut has_time) = (None, Instant::now(), true);
        for at in 0..self.players.len() {
            // What the next two are is spread over the heap, and the kernel's work for this one drives it out of the cache:
            // unless it is on its way by then, the worker waits for memory for 7 % of its time.
            if let Some(second) = self.player(at + 2) {
                st::prefetch(&*second.outlet);
            }
            if let Some(next) = self.player(at + 1) {
                next.outlet.anticipate();
            }
            if at % LOOK_EACH == LOOK_EACH - 1 {
                has_time = has_time && begun.elapsed() < OFFERS;
            }
            let Some(player) = &mut self.players[at] else { continue };
            player.offer(&page, end, has_time);
            needed = needed.into_iter().chain([player.needs(end)]).min();
        }
        self.trim(needed);
    }

    fn player(&self, id: usize) -> Option<&Player> {
        self.players.get(id)?.as_ref()
    }

    /// Lets go of what neither a joining player nor one that is behind will get. `needed` is the number of the first entry that
    /// a player is still to get.
    pub(super) fn trim(&mut self, needed: Option<u64>) {
        let start = self.start().0;
        let needed = needed.unwrap_or(start);
        let length = u64::try_from(self.vhost.queue_length.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.timeline.latest().saturating_sub(length);
        self.backlog.forget_many(start.min(needed));
        self.backlog.trim(start.min(needed), oldest, self.vhost.queue_bytes);
        // A GOP that does not fit is not there for anybody: players wait for the next one.
        self.gop = self.gop.filter(|&gop| gop >= self.backlog.first());
    }

    /// Somebody is about to play or to forward.
    pub(super) fn expect_player(&mut self) {
        if self.playing == 0 {
            // Nobody has asked for what has come so far, nor for what the publisher has not read yet.
            self.flush();
            if let Some(publisher) = &self.publisher {
                publisher.outlet.wake();
            }
        }
    }

    /// One that begins where players begin now. It is not here yet.
    pub(super) fn new_player(&self, outlet: Arc<dyn Outlet>, stream_id: u32) -> Player {
        Player::new(outlet, stream_id, self.backlog.chunk_size(), self.start())
    }

    /// Gives a player its place. Returns its id.
    pub(super) fn add_player(&mut self, player: Player) -> usize {
        self.playing += 1;
        let free = self.players.iter().position(Option::is_none);
        let id = free.unwrap_or(self.players.len());
        match free {
            Some(free) => self.players[free] = Some(player),
            None => self.players.push(Some(player)),
        }
        id
    }

    /// Takes a player's place from it.
    pub(super) fn remove_player(&mut self, id: usize) {
        if self.players[id].take().is_some() {
            self.playing -= 1;
        }
        self.note_idle();
    }

    /// What a player is to get next, see [`Consumer::fill`](super::Consumer::fill).
    pub(super) fn fill(&mut self, id: usize, batch: &mut Vec<Bytes>) -> usize {
        let start = self.start();
        let Some(player) = &mut self.players[id] else { return self.backlog.chunk_size() };
        player.fill(start, &self.configs, &self.backlog, self.timeline.latest(), batch)
    }

    /// Tells the players, within the stream, what has become of its publisher; unless they were told too often within the last second.
    /// Whether they know.
    pub(super) fn notify(&mut self, code: &str, what: &str) -> bool {
        if self.noticed.elapsed() >= NOTICES {
            (self.noticed, self.notices) = (Instant::now(), 0);
        }
        self.notices += 1;
        if self.notices > MAX_NOTICES {
            return false;
        }
        if self.playing > 0 {
            let payload = stream_status(code, &format!("{} {what}.", self.name));
            self.backlog.append(Track::Status, self.timeline.latest(), Mark::Plain, &payload, Instant::now());
            self.flush();
        }
        true
    }

    /// Ends a publication. Its players stay, and need to be told only if nobody comes back soon.
    pub(super) fn lose_publisher(&mut self) {
        self.publisher = None;
        self.sink = None;
        self.flush();
        self.gop = None;
        self.last_video = None;
        self.configs.clear();
        self.tell_loss = Some(Instant::now() + self.vhost.publish.reconnect_grace);
        let end = self.backlog.end();
        self.trim(self.players.iter().flatten().map(|player| player.needs(end)).min());
        self.note_idle();
    }

    /// Tells players and forwarders that the publication is over.
    pub(super) fn notify_unpublished(&mut self) {
        self.tell_loss = None;
        let end = self.backlog.next();
        self.players.iter_mut().flatten().for_each(|player| player.end_forwarding(end));
        if !self.notify("NetStream.Play.UnpublishNotify", "is now unpublished") {
            // Later, if nobody publishes it by then.
            self.tell_loss = Some(Instant::now() + NOTICES);
        }
    }

    /// Whether there is neither publisher nor player.
    pub(super) fn is_idle(&self) -> bool {
        self.publisher.is_none() && self.playing == 0
    }

    /// Notes the time, if the last one has just left.
    pub(super) fn note_idle(&mut self) {
        if self.is_idle() {
            self.idle_since = Instant::now();
            self.players = Vec::new();
            // What a player that was behind has kept is for nobody now, and may be much.
            self.trim(None);
            self.backlog.release();
        }
    }
}
