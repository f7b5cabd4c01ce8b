//! What a player's coroutine has in hand of its source. What happens then is in [`player`](super::player).

use std::time::Duration;

use bytes::Bytes;

use super::Source;
use super::player::Player;
use super::state::State;
use super::track::Track;

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

/// The right of a player's coroutine to its place in a source. Dropping it leaves the source.
pub struct Consumer {
    source: Source,
    id: usize,
}

impl Consumer {
    pub(super) fn new(source: Source, id: usize) -> Self {
        Self { source, id }
    }

    /// Appends what the player is to get next to `batch`, whole messages and at most some 256 KiB. If there is nothing, and
    /// [no more](Consumer::has_more) either, the player is level: from now on the source writes to its socket, and wakes its coroutine
    /// when it must.
    ///
    /// Returns the size of the chunks behind the batch. It begins as the source's [`chunk_size`](Source::chunk_size), which the
    /// player has to know when it joins; a change of it is told in the batch.
    pub fn fill(&self, batch: &mut Vec<Bytes>) -> usize {
        self.with(|state, id| state.fill(id, batch))
    }

    /// Whether there is something to get, which may be what the player does not want: an empty batch then was not all.
    pub fn has_more(&self) -> bool {
        self.with(|state, id| state.players[id].as_ref().is_some_and(|player| player.has_more(&state.backlog)))
    }

    /// Takes the socket back from the source. What the source has begun to write is appended to `batch` and has to go first.
    pub fn hold(&self, batch: &mut Vec<Bytes>) {
        self.player(|player| player.hold(batch));
    }

    /// Appends more of a message that the player has had a part of, if there is one: it has to have the rest before anything else on
    /// its connection. Whether there was one.
    pub fn go_on(&self, batch: &mut Vec<Bytes>) -> bool {
        self.with(|state, id| state.players[id].as_mut().is_some_and(|player| player.go_on(&state.backlog, batch)))
    }

    /// Stops sending, or goes on, at the live point and with a keyframe.
    pub fn pause(&self, paused: bool) {
        self.with(|state, id| {
            let start = state.start();
            if let Some(player) = &mut state.players[id] {
                player.pause(paused, start);
            }
        });
    }

    /// Has a forwarder begin, on this message stream of the target, which has been told of this chunk size.
    pub fn begin(&self, stream_id: u32, chunk_size: usize, at: Begin) {
        self.with(|state, id| {
            let start = state.start();
            if let Some(player) = &mut state.players[id] {
                player.begin(stream_id, chunk_size, at, start);
            }
        });
    }

    /// Has a forwarder whose stream has ended wait for the next one. Returns where to begin then: with all of it, if the
    /// connection did not fail before.
    pub fn rearm(&self) -> Begin {
        self.player(Player::rearm).unwrap_or(Begin::Join)
    }

    /// Whether a forwarder's stream has ended, and it has got all of it.
    pub fn is_over(&self) -> bool {
        self.player(|player| player.is_over()).unwrap_or(true)
    }

    /// Whether a forwarder's stream has ended.
    pub fn is_ending(&self) -> bool {
        self.player(|player| player.is_ending()).unwrap_or(true)
    }

    /// How far the player is behind the live point.
    pub fn delay(&self) -> Duration {
        self.with(|state, id| {
            let next = state.players[id].as_ref().and_then(|player| state.backlog.get(player.cursor()));
            next.map_or(Duration::ZERO, |entry| {
                Duration::from_millis(state.timeline.latest().saturating_sub(entry.time))
            })
        })
    }

    /// Chooses whether the player gets audio.
    pub fn receive_audio(&self, wanted: bool) {
        self.player(|player| player.receive(Track::Audio, wanted));
    }

    /// Chooses whether the player gets video; when it does again, it begins with a keyframe.
    pub fn receive_video(&self, wanted: bool) {
        self.player(|player| player.receive(Track::Video, wanted));
    }

    /// What the player has got so far.
    pub fn stats(&self) -> ConsumerStats {
        // Not `with`: it is also asked while a panic unwinds.
        let stats = self.source.0.try_with(|state| state.players[self.id].as_ref().map(Player::stats));
        stats.flatten().unwrap_or_default()
    }

    /// Leaves the source, as dropping it does, when nobody is left to drop it: its coroutine overflowed its stack.
    pub fn abandon(&self) {
        self.source.0.try_with(|state| {
            state.abandoned += 1;
            state.remove_player(self.id);
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
        self.source.0.try_with(|state| state.remove_player(self.id));
    }
}
