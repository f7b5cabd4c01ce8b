//! When the heap gives memory back to the system: when much less of it is needed than was.
//!
//! A heap keeps what was freed for the next time, and of a thousand clients that came at once and went there is no next time. How
//! much of what the process has is needed is estimated, not measured: the heap's own figures take its lock for as long as giving back
//! does.

use std::time::{Duration, Instant};

use crate::app::server::Server;
use crate::{os, st};

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What was there without need for so long is to go: between two keyframes much is freed that is wanted again.
const PERIOD: Duration = Duration::from_secs(5);

/// What a coroutine with all that belongs to it takes of the heap, in bytes, and what a stream takes without its messages, with what
/// HLS keeps of it; about.
const COROUTINE: usize = 16 * 1024;
const STREAM: usize = 16 * 1024;

/// Less than this is not worth the while, in bytes.
const WORTH: usize = 8 << 20;

/// How often the heap is asked in vain before what it has counts as needed: what was let go of may not have been freed yet, and each
/// time costs it some milliseconds.
const TRIES: u32 = 4;

/// How much there is that is not needed: what the process has, less what is needed.
#[derive(Debug)]
pub(crate) struct Slack {
    period_began: Instant,
    /// The least of it in this period. Negative where more was thought to be needed than there is.
    least: isize,
    /// The least in a whole period: so much is not to be had.
    floor: Option<isize>,
    /// How often it was asked for what is above that, the periods until it is asked again, and how much there was when it was.
    tries: u32,
    pause: u32,
    asked: isize,
}

impl Slack {
    /// Looks after it, for ever. What waits here for the disk's threads keeps nobody from looking at `max_memory`.
    pub(crate) fn guard(server: &Server) {
        let mut slack = Self::new(Instant::now());
        loop {
            st::sleep(LOOK);
            slack.look(server, Instant::now());
        }
    }

    fn new(now: Instant) -> Self {
        Self { period_began: now, least: isize::MAX, floor: None, tries: 0, pause: 0, asked: 0 }
    }

    /// Looks at what is needed and what there is, and has the heap give back the rest.
    fn look(&mut self, server: &Server, now: Instant) {
        let before = os::resident();
        if !self.is_much(needed(server), before, now) {
            return;
        }
        #[cfg(feature = "hls")]
        let hls = server.hls.clone();
        let given_back = st::offload(move || {
            #[cfg(feature = "hls")]
            drop(hls.take_spare());
            st::trim_heap();
        });
        match given_back {
            Ok(()) => log::info!(
                "memory: the heap was asked for what is not needed; the process has {} KiB and had {}",
                os::resident() >> 10,
                before >> 10
            ),
            Err(error) => log::debug!("the heap keeps what it has: {error}"),
        }
    }

    /// Takes a measurement, in bytes. Whether during all of the last period so much more was there without need than there once was
    /// that it is worth the while to give it back.
    fn is_much(&mut self, needed: usize, resident: usize, now: Instant) -> bool {
        let slack = resident.cast_signed() - needed.cast_signed();
        self.least = self.least.min(slack);
        if now.duration_since(self.period_began) < PERIOD {
            return false;
        }
        let least = std::mem::replace(&mut self.least, slack);
        self.period_began = now;
        let floor = self.floor.map_or(least, |floor| floor.min(least));
        self.floor = Some(floor);
        let worth = WORTH.max(resident / 4).cast_signed();
        if least - floor < worth {
            (self.tries, self.pause) = (0, 0);
            return false;
        }
        if (least - self.asked).abs() >= worth {
            // Another peak, or some of it was to be had.
            (self.tries, self.pause) = (0, 0);
        }
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        if self.tries == TRIES {
            (self.floor, self.tries) = (Some(least), 0);
            return false;
        }
        self.pause = 1 << self.tries;
        self.tries += 1;
        self.asked = least;
        true
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

    /// Looks once a second at what is needed, in MB, on a heap that has 7 MB beside that and keeps what it had; the seconds after which
    /// something is given back.
    fn given_back(needed: &[usize]) -> Vec<usize> {
        let start = Instant::now();
        let (mut slack, mut resident, mut seconds) = (Slack::new(start), 0, Vec::new());
        for (second, &needed) in (1..).zip(needed) {
            resident = resident.max(needed + 7);
            if slack.is_much(needed * MB, resident * MB, start + Duration::from_secs(second)) {
                resident = needed + 7;
                seconds.push(usize::try_from(second).unwrap());
            }
        }
        seconds
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

    #[test]
    fn what_is_in_no_account_is_given_back_as_well_and_what_cannot_be_is_not_asked_for_for_ever() {
        let start = Instant::now();
        let mut slack = Slack::new(start);
        let mut look = |second, resident| slack.is_much(10 * MB, resident * MB, start + Duration::from_secs(second));
        assert!(!look(5, 12) && !look(10, 40), "there for less than a period");
        assert!(look(15, 40));
        assert!(!look(20, 11), "it was given back");
        let asked: Vec<_> = (21..400).filter(|&second| look(second, 38)).collect();
        assert_eq!(asked, [30, 40, 55, 80], "it was not to be had");
        assert!(!look(400, 60) && look(405, 60), "another one");
        let asked: Vec<_> = (406..440).filter(|&second| look(second, 60)).collect();
        assert_eq!(asked, [415, 430], "not to be had either");
        assert!(!look(440, 200) && look(445, 200), "and another one before that is given up");
        assert!(look(450, 100), "some of it was to be had, so the rest may be");
    }
}
