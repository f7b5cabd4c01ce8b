//! The thread that writes and removes the files. A failed write needs no recovery: each segment is a new attempt, directories
//! included.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::dir_cache::DirCache;
use super::job::{Counters, Job, QueuedJob, StreamFiles};
use super::segment_store::{REMOVE_BATCH, SegmentStore};
use super::tombstones::Tombstones;
use crate::log::{Throttle, quoted};
use crate::st;

const REMOVE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between removals while more files are due than one batch, on a fast disk: a flood may bring thousands of names per
/// second, with two files each.
const BUSY_REMOVE_INTERVAL: Duration = Duration::from_millis(1);

/// Number of streams with files above which segments of ended streams are removed at once: somebody publishes name after name.
const MAX_STREAMS_WITH_ENDED_SEGMENTS: usize = 4096;

/// Minimum time between two rounds of jobs. A round starts with cold caches: with 50 segments a second, rounds of several cost four
/// fifths of rounds of one. A job that comes alone does not wait.
pub(super) const ROUND_INTERVAL: Duration = Duration::from_millis(50);

const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct WriterThread {
    stores: HashMap<PathBuf, SegmentStore>,
    dir_cache: DirCache,
    tombstones: Tombstones,
    counters: Arc<Counters>,
    throttle: Throttle,
    failure_logged: bool,
    logged_lost: u64,
    logged_written: u64,
    last_error: Option<String>,
}

impl WriterThread {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            stores: HashMap::new(),
            dir_cache: DirCache::default(),
            tombstones: Tombstones::default(),
            counters,
            throttle: Throttle::new(LOG_INTERVAL),
            failure_logged: false,
            logged_lost: 0,
            logged_written: 0,
            last_error: None,
        }
    }

    pub(super) fn run(&mut self, jobs: &Receiver<QueuedJob>) {
        let mut next_removal = st::now() + REMOVE_INTERVAL;
        let mut round_end = None;
        loop {
            match jobs.recv_deadline(next_removal) {
                Ok((files, job)) => {
                    let end = *round_end.get_or_insert_with(|| st::now() + ROUND_INTERVAL);
                    let size = job.size();
                    // A panic, which is logged, costs one stream its store and no other stream anything.
                    let handled = panic::catch_unwind(AssertUnwindSafe(|| self.handle(&files, job, st::now())));
                    if handled.is_err() {
                        self.stores.remove(&files.root.join(&files.base));
                        files.set_failure("internal error".to_owned());
                    }
                    files.queued_jobs.fetch_sub(1, Ordering::Relaxed);
                    self.counters.subtract(size);
                    if jobs.is_empty() {
                        // The jobs that come meanwhile need not wake this thread.
                        thread::sleep(end.saturating_duration_since(st::now()));
                        round_end = None;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let start = st::now();
            if start >= next_removal {
                let has_more = panic::catch_unwind(AssertUnwindSafe(|| self.tick(start))).unwrap_or(false);
                let end = st::now();
                // On a slow disk, jobs get half of the time.
                next_removal = end + if has_more { BUSY_REMOVE_INTERVAL.max(end - start) } else { REMOVE_INTERVAL };
            }
        }
    }

    pub(super) fn handle(&mut self, files: &StreamFiles, job: Job, now: Instant) {
        let open_store = self.stores.get_mut(&files.root.join(&files.base));
        match job {
            Job::Open(disk_playlist) => {
                let store = self.store(files);
                store.reopen();
                // Set already if the stream was opened twice.
                let _ = disk_playlist.set(store.playlist().clone());
            }
            Job::Segment { entry, body, durations, cleanup, event, unwritten } => {
                let result = self.store(files).add(entry, &body, &durations, cleanup, now);
                drop(unwritten);
                match result {
                    Ok(()) => {
                        self.counters.written.fetch_add(1, Ordering::Relaxed);
                        files.has_files.store(true, Ordering::Relaxed);
                        if let Some(event) = event {
                            self.counters.announcements.post(event);
                        }
                    }
                    Err(error) => {
                        self.counters.lost.fetch_add(1, Ordering::Relaxed);
                        files.set_failure(error.to_string());
                        self.last_error = Some(error.to_string());
                    }
                }
            }
            Job::Finish => {
                if let Some(store) = open_store {
                    store.finish();
                }
            }
            Job::Close { dispose, cleanup } => {
                if let Some(store) = open_store {
                    store.close(dispose, cleanup, now);
                }
            }
        }
    }

    fn store(&mut self, files: &StreamFiles) -> &mut SegmentStore {
        let Self { stores, dir_cache, tombstones, .. } = self;
        stores.entry(files.root.join(&files.base)).or_insert_with(|| {
            let store = SegmentStore::open(&files.root, &files.base, dir_cache, tombstones.next_number());
            tombstones.remove(store.playlist_path());
            store
        })
    }

    /// Removes one batch of due files and logs failures. Returns whether more files may be due.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.dir_cache.remove_expired();
        let mut budget = REMOVE_BATCH;
        let is_crowded = self.stores.len() > MAX_STREAMS_WITH_ENDED_SEGMENTS;
        self.stores.retain(|_, store| {
            if is_crowded {
                store.expire_now(now);
            }
            store.remove_due(now, &mut budget);
            let is_finished = store.is_done() && budget > 0;
            if is_finished {
                budget -= 1;
                store.add_tombstone(&mut self.tombstones);
            }
            !is_finished
        });
        self.log_failures(now);
        budget == 0
    }

    fn log_failures(&mut self, now: Instant) {
        let written = self.counters.written.load(Ordering::Relaxed);
        let lost = self.counters.lost.load(Ordering::Relaxed);
        if lost > self.logged_lost {
            if self.throttle.pass(now) {
                let error = self.last_error.take().unwrap_or_else(|| "disk too slow".to_owned());
                log::error!(
                    "HLS segments not written to disk: count={} error={}",
                    lost - self.logged_lost,
                    quoted(error)
                );
                (self.failure_logged, self.logged_lost, self.logged_written) = (true, lost, written);
            }
        } else if self.failure_logged && written > self.logged_written && self.throttle.pass(now) {
            log::info!("HLS segments written to disk again: lost_since_start={lost}");
            self.failure_logged = false;
            self.throttle.reset();
        }
    }
}
