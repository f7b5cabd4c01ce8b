//! Who of those who stream goes first: all, but for those who say so much that others would wait for them.

use std::time::{Duration, Instant};

use crate::rtmp::protocol::Protocol;
use crate::st;
use crate::st::net::TcpStream;

/// What a client may have looked at in a tenth of a second and still go first, in units of [`work`]: 20,480 messages a second, or
/// 40 MB, or 650 KB that are TLS and no content. See [`crate::app::limits::overload::Overload::much`] for when it is less.
pub(crate) const MUCH: usize = 2048;
const PERIOD: Duration = Duration::from_millis(100);

/// How much of one client is looked at before others have their turn: 256 messages, or 512 KiB. Many messages fit in one read.
const SLICE: usize = 256;

/// Bytes of TLS without content that count as a message: a record has 22 of them, or a change of keys 27, and may have one byte in it.
/// 50 Mbit/s in records of 1 KB are a fifth of what is [`MUCH`].
const OVERHEAD: u64 = 32;

/// What was done so far for what a peer has sent: for its messages, see [`Protocol::work`], and for its TLS. It wraps around.
pub(crate) fn work(protocol: &Protocol<TcpStream>) -> usize {
    protocol.work().wrapping_add((protocol.stream().overhead() / OVERHEAD) as usize)
}

/// Lets others run each time that a client has kept its coroutine busy for long.
#[derive(Default)]
pub(crate) struct Slice {
    /// The work when it began.
    since: usize,
}

impl Slice {
    /// Another one begins when this one is used up. `work` is all that was done so far.
    pub(crate) fn look(&mut self, work: usize) {
        if work.wrapping_sub(self.since) >= SLICE {
            self.since = work;
            st::yield_now();
        }
    }
}

/// Lets others run each time that what a coroutine does has taken long: of a stream there may be a hundred thousand messages to let go
/// of, and of streams ten thousand.
pub(crate) struct Breather {
    since: Instant,
    slice: Duration,
}

impl Breather {
    /// Of somebody who may take so long in one go.
    pub(crate) fn new(slice: Duration) -> Self {
        Self { since: Instant::now(), slice }
    }

    /// Lets others run if it is time for that.
    pub(crate) fn look(&mut self) {
        if self.since.elapsed() >= self.slice {
            st::yield_now();
            self.since = Instant::now();
        }
    }
}

/// Whether the coroutine of a client goes before those who come.
pub(crate) struct Turn {
    /// When this period began, and the work until then.
    since: Instant,
    work: usize,
    is_much: bool,
    raised: Option<st::Raised>,
}

impl Turn {
    /// It does not, yet.
    pub(crate) fn new(now: Instant, work: usize) -> Self {
        Self { since: now, work, is_much: false, raised: None }
    }

    /// Looks at it again. `work` is all that was done so far, `much` what is too much of it, and `streams` whether there has been any
    /// media.
    pub(crate) fn look(&mut self, now: Instant, work: usize, much: usize, streams: bool) {
        let is_over = now.saturating_duration_since(self.since) >= PERIOD;
        if self.measure(work, much, is_over) {
            self.since = now;
        }
        if self.is_much {
            self.raised = None;
        } else if streams && self.raised.is_none() {
            self.raised = Some(st::raise());
        }
    }

    /// Whether another period begins.
    fn measure(&mut self, work: usize, much: usize, is_over: bool) -> bool {
        let is_much = work.wrapping_sub(self.work) > much;
        if is_much || is_over {
            (self.is_much, self.work) = (is_much, work);
        }
        is_much || is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_much_is_known_at_once_and_forgiven_after_a_period() {
        let mut turn = Turn::new(Instant::now(), 10);
        assert!(!turn.measure(10 + MUCH, MUCH, false) && !turn.is_much);
        assert!(turn.measure(11 + MUCH, MUCH, false) && turn.is_much, "before the period is over");
        assert!(!turn.measure(11 + 2 * MUCH, MUCH, false) && turn.is_much, "and for the rest of it");
        assert!(turn.measure(11 + 2 * MUCH, MUCH, true) && !turn.is_much);
    }
}
