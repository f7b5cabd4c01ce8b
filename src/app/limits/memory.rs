//! When more is held for clients than `max_memory`: what goes, and in which order.
//!
//! 1. What only players need that are behind: they go on at the present GOP, as those do that fall behind by more than
//!    `queue_length`.
//! 2. The caches of streams that nobody plays: who joins waits for the next keyframe.
//! 3. What is in memory of streams of HLS that nobody publishes any more, playlists included; then segments of the others, of the
//!    stream that has most first: they are on disk too, and served from there. Of the former nothing is left for which a client
//!    would have to go.
//! 4. Downloads over HTTP that wait for their clients, those first that have lasted longest: what they are of is held for them alone.
//! 5. If that was not enough, nobody new is let in to publish, to play, or to watch over HTTP, until it is.
//! 6. If that was not enough either, whoever holds most is closed, with the reason: a client by what it has sent that nobody has
//!    looked at, of a message that does not end for instance, and by answers that it does not take; a publisher by its stream; a
//!    player by what it was handed and does not take. Those first who do not publish, by the former: a thousand who have only
//!    connected, or play and ask questions, hold much together, and each of them less than anybody who publishes.
//!
//! Each begins with the stream that holds most, and once begun goes on until an eighth of `max_memory` is free, so that it does not
//! begin again with the next message. The account rings when there is too much in it, so that steps 1 to 5 are taken at once, and
//! step 6 too when an eighth more is held than may be; else it has [`PATIENCE`]. What is closed lets go of what has come of its
//! messages before it is told why. So the account is over the limit by an eighth at most, by what comes of all connections while
//! the one who looks after it has its turn, 32 KiB each, and by what waits for the disk, a [`DISK_SHARE`] of the limit or two of them.
//! What the system sees of it is more, see `conf/full.conf`.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "hls")]
use crate::app::http::IN_HAND;
use crate::app::limits::fairness::Breather;
use crate::app::server::Server;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::stream::{Holding, Outlet, Source};
#[cfg(feature = "hls")]
use crate::memory::Part;
use crate::os;
use crate::st::{self, Cond, Shared};

/// How often the account is looked at while memory is short.
const LOOK: Duration = Duration::from_millis(100);

/// The same while there is room, and nothing to be done unless it rings.
const IDLE: Duration = Duration::from_secs(1);

/// How long what is about to end has for it, before it is looked at again.
const ENDING: Duration = Duration::from_millis(10);

/// How long refusing newcomers may take to help before somebody is closed, unless it is [`far_too_much`].
const PATIENCE: Duration = Duration::from_millis(300);

/// How long newcomers are refused when as much is held as may be, and no more.
const STANDOFF: Duration = Duration::from_secs(3);

/// How long players that were closed have to be gone before others are: they are told why first, behind what they were handed.
const LEAVING: Duration = Duration::from_millis(1500);

/// How often it is mentioned that memory is short.
const MENTION: Duration = Duration::from_secs(5);

/// What the disk may hold up of segments, as a part of `max_memory`: no client's leaving would free that.
#[cfg_attr(not(feature = "hls"), allow(dead_code, reason = "there is nothing that waits for a disk"))]
const DISK_SHARE: usize = 4;

/// What may be kept of the buffers of segments for the next ones, as a part of `max_memory`. It is in no account.
#[cfg(feature = "hls")]
const SPARE_SHARE: usize = 16;

/// What anybody may hold without going before those who publish, in bytes: nothing is to be had there.
const LITTLE: usize = 4096;

/// Whether memory is short.
#[derive(Default)]
pub(crate) struct Memory {
    state: Shared<State>,
    /// More is held than when it was looked at last.
    rings: Arc<Cond>,
}

#[derive(Default)]
struct State {
    pressure: Pressure,
    /// Nobody is closed before.
    patient_until: Option<Instant>,
    /// Since when newcomers are refused though no more is held than may be.
    within_since: Option<Instant>,
    shed: Shed,
    mentioned: Option<Instant>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pressure {
    /// There is room.
    #[default]
    None,
    /// More is held than may be, and there was no room to be made: nobody new is let in.
    Refusing,
}

/// What was done since it was last mentioned.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shed {
    /// The most that was held, in bytes; 0 if there was room.
    most: usize,
    backlogs: usize,
    caches: usize,
    segments: usize,
    downloads: usize,
    clients: usize,
    publishers: usize,
    players: usize,
}

/// Who may have to go.
enum Holder {
    Client(Arc<Client>),
    Publisher(Source),
    /// Those of its players that are behind, and how many they are.
    Players(Source, usize),
}

/// How long what goes may take before others run. They do not after each, since more comes meanwhile.
const SLICE: Duration = Duration::from_millis(20);

/// What is held when there is room again.
fn relief(max: usize) -> usize {
    max - max / 8
}

/// What is not waited for: that refusing newcomers may help.
fn far_too_much(max: usize) -> usize {
    max.saturating_add(max / 8)
}

/// Above what the account is to ring when so much is held: of what is too much already, only for more of it.
fn alarm(max: usize, held: usize) -> usize {
    if held <= max { max } else { held + max / 16 }
}

/// What no client's leaving would free: pieces of files that were just read, and segments that the disk is about to take.
#[cfg(feature = "hls")]
fn nobodys(server: &Server) -> usize {
    server.account.part(Part::Http).min(IN_HAND) + server.hls.waiting_bytes()
}

#[cfg(not(feature = "hls"))]
fn nobodys(_: &Server) -> usize {
    0
}

impl Memory {
    /// Looks after the account, for ever.
    pub(crate) fn guard(server: &Server) {
        let rings = server.memory.rings.clone();
        server.account.on_alarm(move || {
            st::net::hurry(true);
            rings.signal();
        });
        let there = os::memory();
        let mut is_ending = false;
        loop {
            let max = server.config().max_memory.bytes(there);
            let held = server.account.total();
            server.account.set_alarm(alarm(max, held));
            #[cfg(feature = "hls")]
            {
                server.hls.limit_waiting(if max > 0 { max / DISK_SHARE } else { usize::MAX });
                server.hls.limit_spare(if max > 0 { max / SPARE_SHARE } else { usize::MAX });
            }
            let is_short = server.memory.objection().is_some();
            // It may have rung when nobody waited for it.
            if is_short || max == 0 || held <= max {
                server.memory.rings.wait_timeout(if is_short { LOOK } else { IDLE });
            } else if is_ending {
                // So that it does end, unless it rings again before.
                server.memory.rings.wait_timeout(ENDING);
            }
            st::net::hurry(false);
            let now = Instant::now();
            is_ending = server.memory.look(server, max, now);
        }
    }

    /// Why nobody new can be let in, if so.
    pub(crate) fn objection(&self) -> Option<CloseReason> {
        let is_short = self.state.with(|state| state.pressure == Pressure::Refusing);
        is_short.then(|| CloseReason::Memory("the server is short of memory, see its max_memory".to_owned()))
    }

    /// Does what is to be done. Whether some of what is held is about to go.
    fn look(&self, server: &Server, max: usize, now: Instant) -> bool {
        #[cfg_attr(not(feature = "hls"), allow(unused_mut, reason = "there are no downloads without HTTP"))]
        let mut ending = 0;
        let held = || server.account.total();
        let before = held();
        let mut shed = Shed::default();
        if max > 0 && before > max {
            shed.most = before;
            shed.make_room(&server.sources.all(), relief(max), &held);
            #[cfg(feature = "hls")]
            {
                let mut breather = Breather::new(SLICE);
                shed.segments = server.hls.shed_ended(|| held() <= relief(max), &mut breather);
                shed.segments += server.live_files.shed(|| held() <= relief(max), || breather.look());
                // What they were written into is in no account once they are gone.
                if shed.segments > 0 {
                    st::drop_aside(server.hls.take_spare());
                }
                if let Some(http) = server.http.get() {
                    let ended = http.shed(held().saturating_sub(relief(max)));
                    (shed.downloads, ending) = (ended.downloads, ended.bytes);
                }
            }
        }
        // Some of it is as good as gone.
        let held = || server.account.total().saturating_sub(ending);
        let may_close = self.state.with(|state| state.step(max, held(), now));
        if may_close && shed.close_largest(server, max, &held) {
            self.state.with(|state| state.patient_until = Some(now + LEAVING));
        }
        if let Some(shed) = self.state.with(|state| state.mention(shed, now)) {
            log::warn!(
                "memory: up to {} bytes were held and max_memory is {max}; lately {} streams were cut to their last GOP, {} \
                 caches and {} files of HLS dropped, {} downloads, {} publishers, {} players and {} others closed; held now: {}",
                shed.most,
                shed.backlogs,
                shed.caches,
                shed.segments,
                shed.downloads,
                shed.publishers,
                shed.players,
                shed.clients,
                server.account,
            );
        }
        ending > 0
    }
}

impl State {
    /// Goes on to the next step or back, by what is still held. Whether somebody has to go now.
    fn step(&mut self, max: usize, held: usize, now: Instant) -> bool {
        match self.pressure {
            _ if max == 0 => self.pressure = Pressure::None,
            Pressure::None if held > max => {
                (self.pressure, self.patient_until) = (Pressure::Refusing, Some(now + PATIENCE));
                return held > far_too_much(max);
            }
            Pressure::Refusing if held <= max => {
                // An eighth is to be free, but not for ever: who holds as much as may be is not to keep all others out.
                let since = *self.within_since.get_or_insert(now);
                if held <= relief(max) || now.duration_since(since) >= STANDOFF {
                    (self.pressure, self.within_since) = (Pressure::None, None);
                }
            }
            Pressure::Refusing => {
                self.within_since = None;
                let is_due = self.patient_until.is_none_or(|until| until <= now);
                return held > far_too_much(max) || (held > max && is_due);
            }
            Pressure::None => {}
        }
        false
    }

    /// Adds up what was done. What is to be said of it, when it is time for that.
    fn mention(&mut self, new: Shed, now: Instant) -> Option<Shed> {
        let shed = &mut self.shed;
        shed.most = shed.most.max(new.most);
        shed.backlogs += new.backlogs;
        shed.caches += new.caches;
        shed.segments += new.segments;
        shed.downloads += new.downloads;
        shed.clients += new.clients;
        shed.publishers += new.publishers;
        shed.players += new.players;
        let is_due = self.mentioned.is_none_or(|at| now.duration_since(at) >= MENTION);
        if !is_due || (*shed == Shed::default() && self.pressure == Pressure::None) {
            return None;
        }
        self.mentioned = Some(now);
        Some(std::mem::take(shed))
    }
}

impl Shed {
    /// What hurts least: steps 1 and 2, until no more than `enough` is held.
    fn make_room(&mut self, sources: &[Source], enough: usize, held: &impl Fn() -> usize) {
        let mut by_size: Vec<(usize, &Source)> =
            sources.iter().map(|source| (source.holding().bytes, source)).collect();
        by_size.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        type Step = fn(&Source);
        let steps = [(Source::shed_behind as Step, &mut self.backlogs), (Source::shed_cache, &mut self.caches)];
        let mut breather = Breather::new(SLICE);
        for (step, count) in steps {
            for (_, source) in &by_size {
                if held() <= enough {
                    return;
                }
                let before = held();
                step(source);
                *count += usize::from(held() < before);
                breather.look();
            }
        }
    }

    /// Step 6: has those who hold most go, until enough is free. Whether some need time to be gone.
    fn close_largest(&mut self, server: &Server, max: usize, held: &impl Fn() -> usize) -> bool {
        let reason =
            CloseReason::Memory("the server is short of memory, and of all clients this one holds most".to_owned());
        let (holders, leaving) = holders(server);
        let mut excess = held().saturating_sub(nobodys(server)).saturating_sub(leaving).saturating_sub(relief(max));
        let (mut needs_time, mut breather) = (false, Breather::new(SLICE));
        for (bytes, holder) in holders {
            if excess == 0 {
                break;
            }
            breather.look();
            let freed = match holder {
                Holder::Client(client) => {
                    client.close(reason.clone());
                    self.clients += 1;
                    bytes
                }
                Holder::Publisher(source) if source.shed_publisher(&reason) => {
                    self.publishers += 1;
                    bytes
                }
                Holder::Publisher(_) => 0,
                Holder::Players(source, behind) => {
                    let each = (bytes / behind.max(1)).max(1);
                    let closed = source.shed_players(excess.div_ceil(each), &reason);
                    self.players += closed;
                    needs_time = true;
                    closed * each
                }
            };
            excess = excess.saturating_sub(freed);
        }
        needs_time
    }
}

/// All who hold anything, those first that are to go first; and what is held by those who are about to leave.
fn holders(server: &Server) -> (Vec<(usize, Holder)>, usize) {
    let (mut holders, mut leaving) = (Vec::new(), 0);
    for client in server.clients() {
        match client.incoming() {
            0 => {}
            bytes if client.told().is_some() => leaving += bytes,
            bytes => holders.push((bytes, Holder::Client(client))),
        }
    }
    for source in server.sources.all() {
        let Holding { bytes, pinned, behind, shed, is_published } = source.holding();
        // Who of its players holds what is not known, since they share it.
        let to_go = if shed > 0 { pinned / (behind + shed) * shed } else { 0 };
        leaving += to_go;
        if behind > 0 && pinned > to_go {
            holders.push((pinned - to_go, Holder::Players(source.clone(), behind)));
        }
        if is_published {
            holders.push((bytes - pinned.min(bytes), Holder::Publisher(source)));
        }
    }
    holders.sort_unstable_by_key(|(bytes, holder)| {
        let streams = match holder {
            // A player has little to say, and takes its answers. Its next one may be on its way.
            Holder::Client(client) => client.publishes_now() || *bytes < LITTLE,
            Holder::Publisher(_) | Holder::Players(..) => true,
        };
        (streams, std::cmp::Reverse(*bytes))
    });
    (holders, leaving)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_refused_before_anybody_is_closed_and_until_there_is_some_room() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut state = State::default();
        assert!(!state.step(800, 800, at(0)) && state.pressure == Pressure::None, "as much as may be is not too much");
        assert!(!state.step(800, 801, at(100)) && state.pressure == Pressure::Refusing);
        assert!(!state.step(800, 900, at(300)), "it may help yet");
        assert!(state.step(800, 900, at(400)));
        assert!(!state.step(800, 750, at(500)) && state.pressure == Pressure::Refusing, "too little to let anybody in");
        assert!(!state.step(800, 700, at(600)) && state.pressure == Pressure::None);
        assert!(!state.step(800, 801, at(610)) && !state.step(800, 780, at(620)), "nobody who holds so much goes");
        assert!(!state.step(800, 780, at(3610)) && state.pressure == Pressure::Refusing);
        assert!(!state.step(800, 780, at(3620)) && state.pressure == Pressure::None, "but others come in again");
        assert!(!state.step(800, 700, at(3630)));
        assert!(!state.step(800, 750, at(700)) && state.pressure == Pressure::None, "it does not flap");
        assert!(state.step(800, 901, at(710)) && state.step(800, 901, at(720)), "far too much is not waited for");
        assert!(!state.step(800, 700, at(730)) && state.pressure == Pressure::None);
        assert!(!state.step(800, 900, at(800)) && !state.step(0, 900, at(900)), "a reload took the limit away");
        assert_eq!(state.pressure, Pressure::None);
    }

    #[test]
    fn the_account_rings_for_what_is_too_much_and_then_for_more() {
        assert_eq!((alarm(800, 0), alarm(800, 800)), (800, 800));
        assert_eq!(alarm(800, 900), 950, "what is there already is known");
        assert_eq!(alarm(0, 0), 0, "no limit");
    }

    #[test]
    fn what_was_done_is_said_once_an_interval() {
        let start = Instant::now();
        let mut state = State::default();
        assert_eq!(state.mention(Shed::default(), start), None);
        let one = |most| Shed { most, caches: 1, ..Shed::default() };
        assert_eq!(state.mention(one(801), start), Some(one(801)));
        assert_eq!(state.mention(one(900), start + LOOK), None);
        assert_eq!(state.mention(one(850), start + MENTION), Some(Shed { most: 900, caches: 2, ..Shed::default() }));
        assert_eq!(state.mention(Shed::default(), start + 3 * MENTION), None, "nothing is wrong any more");
    }
}
