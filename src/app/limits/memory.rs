//! Memory limiter: frees memory in six steps while clients hold more than `max_memory`.
//!
//! | step | frees | effect |
//! |---|---|---|
//! | 1 | packets that only lagging players need | they continue at the present GOP, as after `queue_length` |
//! | 2 | GOP caches of streams without players | new players wait for a keyframe |
//! | 3 | HLS files in memory: of ended streams first, then of the others, largest stream first | segments are read from disk |
//! | 4 | stalled HTTP responses, longest first | they are aborted: only they keep their file in memory |
//! | 5 | nothing | new publishers, players and HTTP viewers are rejected |
//! | 6 | the largest holders | clients are closed, with the reason |
//!
//! Step 6 takes a client by its unhandled input and unread replies, a publisher by its stream, and a player by what its socket
//! does not take. Clients that do not publish go first: a thousand of them can hold much together, each less than any
//! publisher.
//!
//! Steps 1 to 4 start with the stream that holds most and go on until an eighth of `max_memory` is free, so that the next
//! message does not start them again. The watermark of the [`MemoryTracker`](crate::memory::MemoryTracker) runs steps 1 to 5 at
//! once, and step 6 too above [`hard_limit`]; otherwise step 6 waits for [`EVICT_AFTER`]. So the limit is exceeded by an eighth
//! at most, plus 32 KiB of input per connection until the limiter runs, plus what features hold on their way
//! to the disk ([`Reclaim::unreclaimable_bytes`]). The system sees more than that, see `docs/overload.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::limits::admission::AdmissionControl;
use crate::app::limits::fairness::TimeSlice;
use crate::app::limits::reclaim::{Reclaim, ReclaimTarget};
use crate::app::session::client::Client;
use crate::app::session::clients::Clients;
use crate::app::session::close::CloseReason;
use crate::app::stream::{ClientHandle, Source, StreamRegistry, StreamUsage};
use crate::config::ConfigCell;
use crate::log::Throttle;
use crate::memory::MemoryTracker;
use crate::os;
use crate::st::{self, Cond, Shared};

/// Check interval while new clients are rejected.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Check interval otherwise. The watermark wakes the limiter earlier.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time for aborted HTTP responses to end before the next check.
const RECHECK: Duration = Duration::from_millis(10);

/// Time for rejections to help before clients are closed, unless [`hard_limit`] is exceeded.
const EVICT_AFTER: Duration = Duration::from_millis(300);

/// Longest time for which new clients are rejected while usage is at most `max_memory`.
const MAX_REJECT_TIME: Duration = Duration::from_secs(3);

/// Time for closed players to leave before others are closed: they get the reason after their queued messages.
const CLOSE_DRAIN: Duration = Duration::from_millis(1500);

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Time in which memory is freed without a yield. Long, because more arrives at each yield.
const TIME_SLICE: Duration = Duration::from_millis(20);

/// Bytes below which a client is closed only after the publishers: closing it would free nothing.
const MIN_VICTIM_BYTES: usize = 4096;

pub(crate) type Reclaimers = Vec<Arc<dyn Reclaim>>;

pub(crate) struct MemoryLimiter {
    config: ConfigCell,
    memory: MemoryTracker,
    streams: StreamRegistry,
    clients: Clients,
    reclaimers: Reclaimers,
    admission: AdmissionControl,
    state: Shared<State>,
    high: Arc<Cond>,
}

struct State {
    rejecting: bool,
    evict_at: Option<Instant>,
    /// Time since which new clients are rejected though usage is within the limit.
    within_limit_since: Option<Instant>,
    reclaimed: Reclaimed,
    warning: Throttle,
}

impl Default for State {
    fn default() -> Self {
        Self {
            rejecting: false,
            evict_at: None,
            within_limit_since: None,
            reclaimed: Reclaimed::default(),
            warning: Throttle::new(LOG_INTERVAL),
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Reclaimed {
    /// Highest usage in bytes; 0 if it was within the limit.
    peak: usize,
    packet_logs: usize,
    gop_caches: usize,
    files: usize,
    responses: usize,
    clients: usize,
    publishers: usize,
    players: usize,
}

enum Victim {
    Client(Arc<Client>),
    Publisher(Source),
    Players(Source, usize),
}

/// Returns the usage at which reclaiming stops and new clients are accepted again.
fn low_watermark(max: usize) -> usize {
    max - max / 8
}

/// Returns the usage above which clients are closed without waiting for the effect of rejections.
fn hard_limit(max: usize) -> usize {
    max.saturating_add(max / 8)
}

/// Returns the usage at which the tracker wakes the limiter. Above the limit, only a further increase does.
fn high_watermark(max: usize, held: usize) -> usize {
    if held <= max { max } else { held + max / 16 }
}

impl MemoryLimiter {
    pub(crate) fn new(
        config: ConfigCell,
        memory: MemoryTracker,
        streams: StreamRegistry,
        clients: Clients,
        admission: AdmissionControl,
        reclaimers: Reclaimers,
    ) -> Self {
        let (state, high) = (Shared::default(), Arc::default());
        Self { config, memory, streams, clients, reclaimers, admission, state, high }
    }

    pub(crate) fn run(&self) {
        let high = self.high.clone();
        self.memory.on_high(move || {
            st::net::set_eager_yield(true);
            high.signal();
        });
        let system_limit = os::memory_limit();
        let mut freeing = false;
        loop {
            let max = self.config.get().max_memory.bytes(system_limit);
            let held = self.memory.total();
            self.memory.set_watermark(high_watermark(max, held));
            for reclaimer in &self.reclaimers {
                reclaimer.set_memory_limit(if max > 0 { max } else { usize::MAX });
            }
            let rejecting = self.state.with(|state| state.rejecting);
            // The watermark may have been exceeded before this wait. Then usage is above the limit, and there is no wait.
            if rejecting || max == 0 || held <= max {
                self.high.wait_timeout(if rejecting { CHECK_INTERVAL } else { IDLE_CHECK_INTERVAL });
            } else if freeing {
                self.high.wait_timeout(RECHECK);
            }
            st::net::set_eager_yield(false);
            freeing = self.check(max, st::now());
        }
    }

    /// Runs the steps that are due. Returns whether memory that a feature has released is about to be freed.
    fn check(&self, max: usize, now: Instant) -> bool {
        let mut pending_bytes = 0;
        let before = self.memory.total();
        let mut reclaimed = Reclaimed::default();
        if max > 0 && before > max {
            reclaimed.peak = before;
            let target = ReclaimTarget::new(&self.memory, low_watermark(max));
            reclaimed.reclaim_streams(&self.streams.all(), &target);
            let mut time_slice = TimeSlice::new(TIME_SLICE);
            for reclaimer in &self.reclaimers {
                let freed = reclaimer.reclaim(&target, &mut time_slice);
                reclaimed.files += freed.files;
                reclaimed.responses += freed.responses;
                pending_bytes += freed.pending_bytes;
            }
        }
        let held = || self.memory.total().saturating_sub(pending_bytes);
        let (may_evict, rejecting) = self.state.with(|state| (state.step(max, held(), now), state.rejecting));
        self.admission.set_out_of_memory(rejecting);
        if may_evict && self.evict_largest(&mut reclaimed, max, held()) {
            self.state.with(|state| state.evict_at = Some(now + CLOSE_DRAIN));
        }
        if let Some(reclaimed) = self.state.with(|state| state.warning(reclaimed, now)) {
            log::warn!(
                "memory limit reached: limit={max} peak={} streams_cut={} gop_caches_dropped={} files_dropped={} \
                 responses_aborted={} publishers_closed={} players_closed={} others_closed={} held={}",
                reclaimed.peak,
                reclaimed.packet_logs,
                reclaimed.gop_caches,
                reclaimed.files,
                reclaimed.responses,
                reclaimed.publishers,
                reclaimed.players,
                reclaimed.clients,
                self.memory,
            );
        }
        pending_bytes > 0
    }

    /// Runs step 6 until usage is at the low watermark. Returns whether players were closed, which need time to leave.
    fn evict_largest(&self, reclaimed: &mut Reclaimed, max: usize, held: usize) -> bool {
        let text = "server memory limit reached: clients that hold most are disconnected first";
        let reason = CloseReason::Memory(text.to_owned());
        let (victims, leaving) = self.victims();
        let unreclaimable: usize = self.reclaimers.iter().map(|reclaimer| reclaimer.unreclaimable_bytes()).sum();
        let mut excess = held.saturating_sub(unreclaimable + leaving).saturating_sub(low_watermark(max));
        let (mut needs_time, mut time_slice) = (false, TimeSlice::new(TIME_SLICE));
        for (bytes, victim) in victims {
            if excess == 0 {
                break;
            }
            time_slice.yield_if_used_up();
            let freed = match victim {
                Victim::Client(client) => {
                    client.close(reason.clone());
                    reclaimed.clients += 1;
                    bytes
                }
                Victim::Publisher(source) if source.evict_publisher(&reason) => {
                    reclaimed.publishers += 1;
                    bytes
                }
                Victim::Publisher(_) => 0,
                Victim::Players(source, behind) => {
                    let each = (bytes / behind.max(1)).max(1);
                    let closed = source.evict_players(excess.div_ceil(each), &reason);
                    reclaimed.players += closed;
                    needs_time = true;
                    closed * each
                }
            };
            excess = excess.saturating_sub(freed);
        }
        needs_time
    }

    /// Returns all holders with their bytes, in the order of eviction, and the bytes of those that are already closing.
    fn victims(&self) -> (Vec<(usize, Victim)>, usize) {
        let (mut victims, mut leaving) = (Vec::new(), 0);
        for client in self.clients.all() {
            match client.incoming_bytes() {
                0 => {}
                bytes if client.close_requested().is_some() => leaving += bytes,
                bytes => victims.push((bytes, Victim::Client(client))),
            }
        }
        for source in self.streams.all() {
            let StreamUsage { bytes, pinned, players_behind: behind, players_closing: closing, is_published } =
                source.usage();
            // Lagging players share what they pin, so each counts with the same share.
            let closing_bytes = if closing > 0 { pinned / (behind + closing) * closing } else { 0 };
            leaving += closing_bytes;
            if behind > 0 && pinned > closing_bytes {
                victims.push((pinned - closing_bytes, Victim::Players(source.clone(), behind)));
            }
            if is_published {
                victims.push((bytes - pinned.min(bytes), Victim::Publisher(source)));
            }
        }
        victims.sort_unstable_by_key(|(bytes, victim)| {
            let streams = match victim {
                // A player sends little. What is counted may be its next command, not yet handled.
                Victim::Client(client) => client.is_publishing() || *bytes < MIN_VICTIM_BYTES,
                Victim::Publisher(_) | Victim::Players(..) => true,
            };
            (streams, std::cmp::Reverse(*bytes))
        });
        (victims, leaving)
    }
}

impl State {
    /// Starts or stops the rejection of new clients, by what is `held` after reclaiming. Returns whether to close clients now.
    fn step(&mut self, max: usize, held: usize, now: Instant) -> bool {
        if max == 0 {
            self.rejecting = false;
        } else if !self.rejecting && held > max {
            (self.rejecting, self.evict_at) = (true, Some(now + EVICT_AFTER));
            return held > hard_limit(max);
        } else if self.rejecting && held <= max {
            // An eighth should be free, but clients that keep usage at the limit must not keep all others out.
            let since = *self.within_limit_since.get_or_insert(now);
            if held <= low_watermark(max) || now.duration_since(since) >= MAX_REJECT_TIME {
                (self.rejecting, self.within_limit_since) = (false, None);
            }
        } else if self.rejecting {
            self.within_limit_since = None;
            return held > hard_limit(max) || self.evict_at.is_none_or(|at| at <= now);
        }
        false
    }

    fn warning(&mut self, new: Reclaimed, now: Instant) -> Option<Reclaimed> {
        let sum = &mut self.reclaimed;
        sum.peak = sum.peak.max(new.peak);
        sum.packet_logs += new.packet_logs;
        sum.gop_caches += new.gop_caches;
        sum.files += new.files;
        sum.responses += new.responses;
        sum.clients += new.clients;
        sum.publishers += new.publishers;
        sum.players += new.players;
        let nothing_to_say = *sum == Reclaimed::default() && !self.rejecting;
        (!nothing_to_say && self.warning.pass(now)).then(|| std::mem::take(sum))
    }
}

impl Reclaimed {
    fn reclaim_streams(&mut self, sources: &[Source], target: &ReclaimTarget<'_>) {
        let mut by_size: Vec<(usize, &Source)> = sources.iter().map(|source| (source.usage().bytes, source)).collect();
        by_size.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        type Step = fn(&Source);
        let steps = [
            (Source::reclaim_packet_log as Step, &mut self.packet_logs),
            (Source::reclaim_gop_cache, &mut self.gop_caches),
        ];
        let mut time_slice = TimeSlice::new(TIME_SLICE);
        for (step, count) in steps {
            for (_, source) in &by_size {
                if target.is_met() {
                    return;
                }
                let before = target.excess();
                step(source);
                *count += usize::from(target.excess() < before);
                time_slice.yield_if_used_up();
            }
        }
    }
}

#[cfg(test)]
mod tests;
