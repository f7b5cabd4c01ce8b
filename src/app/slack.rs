//! When the heap gives memory back to the system: when much less of it is needed than was.
//!
//! A heap keeps what was freed for the next time, and of a thousand clients that came at once and went there is no next time. How
//! much is needed is estimated, not measured: the heap's own figures take its lock for as long as giving back does.

use std::time::{Duration, Instant};

use super::server::Server;
use crate::st;

/// What counts is the most that was needed within this time: between two keyframes much is freed that is wanted again.
const PERIOD: Duration = Duration::from_secs(5);

/// What a coroutine with all that belongs to it takes of the heap, in bytes, and what a stream takes without its messages, with what
/// HLS keeps of it; about.
const COROUTINE: usize = 16 * 1024;
const STREAM: usize = 16 * 1024;

/// Less than this is not worth the while, in bytes.
const WORTH: usize = 8 << 20;

/// How much was needed.
#[derive(Debug)]
pub(super) struct Slack {
    period_began: Instant,
    /// At most, in this period.
    needed: usize,
    /// At most, since the heap last gave back.
    peak: usize,
}

impl Slack {
    pub(super) fn new(now: Instant) -> Self {
        Self { period_began: now, needed: 0, peak: 0 }
    }

    /// Looks at what is needed now, so that it counts although it may be gone by the next [`Slack::look`].
    pub(super) fn note(&mut self, server: &Server) {
        self.needed = self.needed.max(needed(server));
    }

    /// Looks at what is needed now, and has the heap give back what is not. To be called each second or more often.
    pub(super) fn look(&mut self, server: &Server, now: Instant) {
        if !self.is_much(needed(server), now) {
            return;
        }
        #[cfg(feature = "hls")]
        let hls = server.hls.clone();
        let given_back = st::offload(move || {
            #[cfg(feature = "hls")]
            drop(hls.take_spare());
            st::trim_heap();
        });
        if let Err(error) = given_back {
            log::debug!("the heap keeps what it has: {error}");
        }
    }

    /// Takes a measurement. Whether so much less was needed during all of the last period than before that the rest is to go.
    fn is_much(&mut self, needed: usize, now: Instant) -> bool {
        self.needed = self.needed.max(needed);
        self.peak = self.peak.max(self.needed);
        if now.duration_since(self.period_began) < PERIOD {
            return false;
        }
        let most = std::mem::replace(&mut self.needed, needed);
        self.period_began = now;
        let is_much = self.peak - most >= WORTH.max(self.peak / 4);
        if is_much {
            self.peak = most;
        }
        is_much
    }
}

/// What is needed now, in bytes; about.
fn needed(server: &Server) -> usize {
    let bytes = server.account.total();
    #[cfg(feature = "hls")]
    let bytes = bytes + server.hls.spare_bytes();
    bytes + st::alive() * COROUTINE + server.sources.len() * STREAM
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    /// Looks once a second at what is needed, in MB; the seconds after which something is given back.
    fn given_back(needed: &[usize]) -> Vec<usize> {
        let start = Instant::now();
        let mut slack = Slack::new(start);
        (1..)
            .zip(needed)
            .filter(|&(second, &mb)| slack.is_much(mb * MB, start + Duration::from_secs(second as u64)))
            .map(|(second, _)| second)
            .collect()
    }

    #[test]
    fn what_was_needed_once_is_given_back_once() {
        let needed = [[10; 7].as_slice(), &[100; 6], &[20; 30]].concat();
        assert_eq!(given_back(&needed), [20], "after a whole period without it");
    }

    #[test]
    fn what_is_wanted_again_is_kept() {
        assert_eq!(given_back(&[40, 10, 20, 30].repeat(20)), [], "caches from one keyframe to the next");
        assert_eq!(given_back(&[[20; 20], [13; 20]].concat()), [], "little");
        assert_eq!(given_back(&[[200; 20], [160; 20]].concat()), [], "much, but little of all");
    }

    #[test]
    fn each_peak_is_one_of_its_own() {
        let needed = [[50; 5], [10; 5], [10; 5], [50; 5], [10; 5], [10; 5]].concat();
        assert_eq!(given_back(&needed), [15, 30]);
    }
}
