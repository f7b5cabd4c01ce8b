//! What a stream gives up when memory is short. See `app::memory` for who asks, and in which order.

use super::Source;
use super::player::Player;
use super::state::State;
use crate::app::session::close::CloseReason;
use crate::memory::Part;

/// What is held for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// All of it, in bytes.
    pub bytes: usize,
    /// Of it, what the stream itself has let go of and players have not: they were handed it and do not take it.
    pub pinned: usize,
    /// Players that are behind.
    pub behind: usize,
    /// Players that were closed for it and are not gone yet.
    pub shed: usize,
    /// Whether it has a publisher.
    pub is_published: bool,
}

impl Source {
    /// What is held for the stream now.
    pub fn holding(&self) -> Holding {
        self.0.with(|state| Holding {
            bytes: state.account.total(),
            pinned: state.account.part(Part::Media).saturating_sub(state.backlog.bytes() + state.configs.bytes()),
            behind: state.players.iter().flatten().filter(|player| player.is_behind()).count(),
            shed: state.players.iter().flatten().filter(|player| player.is_shed).count(),
            is_published: state.publisher.is_some(),
        })
    }

    /// Lets go of all that is older than the present GOP. Players that are behind go on at its keyframe, or with the next one.
    pub fn shed_behind(&self) {
        self.0.with(|state| state.forget_before(state.start().0));
    }

    /// Lets go of the cache of a stream that nobody plays: who joins waits for the next keyframe.
    pub fn shed_cache(&self) {
        self.0.with(|state| {
            if state.playing == 0 {
                state.flush();
                state.gop = None;
                state.forget_before(state.backlog.end());
            }
        });
    }

    /// Ends the publication, if there is one, and lets go of all of it. Returns whether there was one.
    pub fn shed_publisher(&self, reason: &CloseReason) -> bool {
        self.0.with(|state| {
            let Some(publisher) = &state.publisher else { return false };
            publisher.outlet.close(reason.clone());
            // Here and not beside the worker: what is still in the account then costs somebody else.
            state.forget_before(state.backlog.end());
            state.lose_publisher();
            state.forget_before(state.backlog.end());
            true
        })
    }

    /// Closes up to `count` of the players that are behind, those first that have asked for nothing for longest. Returns how
    /// many. What they were handed is let go of when they are gone.
    pub fn shed_players(&self, count: usize, reason: &CloseReason) -> usize {
        self.0.with(|state| {
            let mut behind: Vec<&mut Player> =
                state.players.iter_mut().flatten().filter(|player| player.is_behind()).collect();
            behind.sort_by_key(|player| player.filled);
            let closed = behind.len().min(count);
            behind.into_iter().take(count).for_each(|player| player.shed(reason));
            closed
        })
    }
}

impl State {
    fn forget_before(&mut self, number: u64) {
        self.backlog.trim(number, 0, usize::MAX);
        self.gop = self.gop.filter(|&gop| gop >= self.backlog.first());
    }
}

impl Player {
    /// Whether it holds, or keeps others from letting go of, what those who are level need no more. A forwarder is the
    /// operator's own.
    fn is_behind(&self) -> bool {
        !self.level && !self.rests && !self.is_forwarder && !self.is_shed
    }

    fn shed(&mut self, reason: &CloseReason) {
        self.is_shed = true;
        self.outlet.close(reason.clone());
    }
}
