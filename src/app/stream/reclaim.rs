//! Memory that a stream gives up when the server is short of it, as the memory limiter decides.

#[cfg(feature = "http")]
use super::encode::shared_log::SharedLog;
use super::output::EndReason;
use super::source::Source;
use super::state::StreamState;
use super::subscriber::Subscriber;
use crate::app::session::close::CloseReason;
use crate::memory::Category;

/// Memory charged to a stream, and its holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamUsage {
    pub bytes: usize,
    /// Bytes that only players still hold: evicted from the packet log, handed out, and not taken by the sockets.
    pub pinned: usize,
    pub players_behind: usize,
    /// Players that were closed to free memory and have not left yet.
    pub players_closing: usize,
    pub is_published: bool,
}

impl Source {
    pub fn usage(&self) -> StreamUsage {
        self.with(|state| StreamUsage {
            bytes: state.memory.total(),
            pinned: state.memory.bytes_in(Category::Media).saturating_sub(state.shared_bytes()),
            players_behind: state.subscribers.iter().flatten().filter(|player| player.is_behind()).count(),
            players_closing: state.subscribers.iter().flatten().filter(|player| player.is_evicted).count(),
            is_published: state.publisher.is_some(),
        })
    }

    /// Evicts all packets before the present GOP. Players that are behind continue at its keyframe, or at the next one.
    pub fn reclaim_packet_log(&self) {
        self.with(|state| state.evict_before(state.join_point().seq));
    }

    /// Evicts all packets of a stream without players. A player that joins then waits for the next keyframe.
    pub fn reclaim_gop_cache(&self) {
        self.with(|state| {
            if state.subscriber_count() == 0 {
                state.flush();
                state.gop.clear_start();
                state.evict_before(state.log.end_seq());
            }
        });
    }

    /// Closes the publisher and evicts all packets. Returns whether there was a publisher.
    pub fn evict_publisher(&self, reason: &CloseReason) -> bool {
        self.with(|state| {
            let Some(publisher) = &state.publisher else { return false };
            publisher.handle.close(reason.clone());
            // Before `remove_publisher`, which evicts in the background: bytes still charged would cost another client its
            // connection.
            state.evict_before(state.log.end_seq());
            state.remove_publisher(EndReason::Lost);
            state.evict_before(state.log.end_seq());
            true
        })
    }

    /// Closes up to `count` players that are behind, those first that have not asked for output for longest. Returns
    /// how many. Their memory is free when they have left.
    pub fn evict_players(&self, count: usize, reason: &CloseReason) -> usize {
        self.with(|state| {
            let mut behind: Vec<&mut Subscriber> =
                state.subscribers.iter_mut().flatten().filter(|player| player.is_behind()).collect();
            behind.sort_by_key(|player| player.last_fill);
            let closed = behind.len().min(count);
            behind.into_iter().take(count).for_each(|player| player.evict(reason));
            closed
        })
    }
}

impl StreamState {
    fn shared_bytes(&self) -> usize {
        let bytes = self.log.held() + self.headers.bytes();
        #[cfg(feature = "http")]
        let bytes = bytes + self.shared_logs.iter().map(SharedLog::held).sum::<usize>();
        bytes
    }

    fn evict_before(&mut self, seq: u64) {
        self.log.trim(seq, 0, usize::MAX);
        #[cfg(feature = "http")]
        self.trim_shared();
        self.gop.on_evicted(self.log.first_seq());
    }
}

impl Subscriber {
    /// Returns whether the player is behind. Forwarders, which the operator configured, do not count.
    fn is_behind(&self) -> bool {
        !self.cursor.caught_up && !self.paused_idle && self.is_player() && !self.is_evicted
    }

    fn evict(&mut self, reason: &CloseReason) {
        self.is_evicted = true;
        self.client.close(reason.clone());
    }
}
