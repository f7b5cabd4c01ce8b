//! Heap trimming: returns freed memory to the system when the process holds far more than it needs.
//!
//! An allocator keeps freed memory for reuse. After a peak of a thousand clients there may be no reuse. The need is estimated
//! from what is charged, because the allocator's own statistics take its locks for as long as trimming does.

use std::time::{Duration, Instant};

use crate::app::server::Server;
use crate::{log as srs_log, os, st};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time for which the excess must last: much of what is freed between two keyframes is needed again.
const EXCESS_FOR: Duration = Duration::from_secs(5);

/// Minimum time between two trims.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of the program itself: code, thread stacks, tables.
const BASE_BYTES: usize = 8 << 20;

/// Approximate heap bytes of a coroutine with its connection, and of a stream with its HLS state, without messages.
const COROUTINE_BYTES: usize = 16 * 1024;
const STREAM_BYTES: usize = 16 * 1024;

/// Smallest excess worth a trim, in bytes; also a quarter of the resident memory if that is more.
const MIN_EXCESS: usize = 8 << 20;

/// Decides when to trim.
#[derive(Debug, Default)]
pub(crate) struct HeapTrimmer {
    excess_since: Option<Instant>,
    last_trim: Option<Instant>,
}

impl HeapTrimmer {
    /// Checks and trims forever. Runs apart from the memory limiter because trimming waits for a thread of the pool.
    pub(crate) fn run(server: &Server) {
        let mut trimmer = Self::default();
        loop {
            st::sleep(CHECK_INTERVAL);
            let rss = os::resident_bytes();
            if trimmer.step(needed_bytes(server), rss, Instant::now()) {
                trim(server, rss);
            }
        }
    }

    /// Returns whether to trim now. `needed` and `rss` are in bytes.
    fn step(&mut self, needed: usize, rss: usize, now: Instant) -> bool {
        if rss.saturating_sub(needed) < MIN_EXCESS.max(rss / 4) {
            self.excess_since = None;
            return false;
        }
        let since = *self.excess_since.get_or_insert(now);
        let due = self.last_trim.is_none_or(|last| now.duration_since(last) >= TRIM_INTERVAL);
        if !due || now.duration_since(since) < EXCESS_FOR {
            return false;
        }
        (self.excess_since, self.last_trim) = (None, Some(now));
        true
    }
}

fn trim(server: &Server, rss_before: usize) {
    #[cfg(feature = "hls")]
    let hls = server.hls.clone();
    #[cfg(not(feature = "hls"))]
    let _ = server;
    let trimmed = st::offload(move || {
        #[cfg(feature = "hls")]
        drop(hls.drain_pool());
        st::trim_heap();
    });
    match trimmed {
        Ok(()) => log::info!("heap trimmed: rss_before={rss_before} rss_after={}", os::resident_bytes()),
        Err(error) => log::debug!("heap not trimmed: error={}", srs_log::quoted(error)),
    }
}

/// Returns the approximate bytes that the process needs now.
fn needed_bytes(server: &Server) -> usize {
    let charged = server.memory.total();
    #[cfg(feature = "hls")]
    let charged = charged + server.hls.pooled_bytes();
    BASE_BYTES + charged + st::coroutine_count() * COROUTINE_BYTES + server.sources.len() * STREAM_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    /// Steps once a second with what is needed, in MB, and an allocator that keeps its peak until it is trimmed. Returns the
    /// seconds of the trims.
    fn trims(needed: &[usize]) -> Vec<usize> {
        let start = Instant::now();
        let (mut trimmer, mut rss, mut seconds) = (HeapTrimmer::default(), 0, Vec::new());
        for (second, &needed) in needed.iter().enumerate() {
            rss = rss.max(needed);
            if trimmer.step(needed * MB, rss * MB, start + Duration::from_secs(second as u64)) {
                rss = needed;
                seconds.push(second);
            }
        }
        seconds
    }

    #[test]
    fn memory_of_a_peak_is_returned_once() {
        assert_eq!(trims(&[[100; 6].as_slice(), &[20; 30]].concat()), [11], "after five seconds without need");
    }

    #[test]
    fn memory_that_is_needed_again_is_kept() {
        assert!(trims(&[40, 10, 20, 30].repeat(20)).is_empty(), "caches from one keyframe to the next");
        assert!(trims(&[[20; 20], [13; 20]].concat()).is_empty(), "too little in bytes");
        assert!(trims(&[[200; 20], [160; 20]].concat()).is_empty(), "too little of the whole");
    }

    #[test]
    fn at_most_one_trim_a_minute() {
        let peaks = [[50; 5], [10; 5], [10; 5]].concat().repeat(10);
        let trims = trims(&peaks);
        assert!(trims.len() >= 2, "{trims:?}");
        assert!(trims.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{trims:?}");
    }

    #[test]
    fn an_excess_that_cannot_be_trimmed_is_tried_once_a_minute() {
        let start = Instant::now();
        let mut trimmer = HeapTrimmer::default();
        let seconds: Vec<u64> =
            (0..130).filter(|&s| trimmer.step(10 * MB, 60 * MB, start + Duration::from_secs(s))).collect();
        assert_eq!(seconds, [5, 65, 125]);
    }
}
