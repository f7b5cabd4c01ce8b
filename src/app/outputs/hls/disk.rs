//! The thread that writes the files. It is the only one that touches the disk, so a disk that is slow holds nobody else.
//!
//! It is fed by a queue with a bound, in jobs and in bytes: a segment that finds the queue full is not written, the next one follows
//! a discontinuity, and that is all that happens. Streams that have files have a quarter of the queue for themselves, and half of it
//! with those that are over, so that a flood of new names leaves them room. And no stream has more than an eighth of what is free, so
//! that those whose segments come faster than they can be written leave room for all others. What cannot be written is counted and
//! mentioned once in a while. Nothing has to be done for it to go on when the disk is there again: each segment is a new attempt,
//! directories included.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::folder::{BATCH, Folder};
use super::listing::Listing;
use super::playlist::{Entry, Lengths, Playlist};
use super::remains::Remains;

/// Jobs that may wait. A stream has one in each `hls_fragment`.
const QUEUE: usize = 1024;

/// With so many that wait, those of streams without a file have no room, and with so many those of streams that are over.
const NEWCOMERS: usize = QUEUE / 2;
const ENDED: usize = QUEUE / 4 * 3;

/// What part of the jobs that have room yet may be of one stream. One of its jobs may wait in any case.
const SHARE: usize = 8;

/// Bytes of segments that may wait. Beyond that they are not written.
const QUEUE_BYTES: usize = 256 * 1024 * 1024;

/// What part of the bytes that may wait counts as small.
const SMALL_PART: usize = 16;

/// How often what is due is removed, and how soon that goes on where it was too much for one go, if the disk is fast: names may come
/// by the thousand a second, and two files of each are to go as fast.
const TICK: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(1);

/// When more streams than this have files, segments of those that are over are not held back: somebody publishes name after name.
const CROWD: usize = 4096;

/// How often it is mentioned that files could not be written.
const MENTION: Duration = Duration::from_secs(10);

/// Where the files of a stream are, and what becomes of them. Shared by the stream and the disk's thread.
#[derive(Debug)]
pub(super) struct Target {
    /// `hls_path`.
    pub(super) root: PathBuf,
    /// The stream's files below it, without what their names end with: `live/livestream`. See [`super::base`].
    pub(super) base: String,
    /// What has gone wrong since somebody asked last.
    failed: Mutex<Option<String>>,
    /// A segment was written.
    has_files: AtomicBool,
    /// Its jobs that wait.
    waiting: AtomicUsize,
}

impl Target {
    pub(super) fn new(root: PathBuf, base: String) -> Self {
        let (failed, has_files, waiting) = (Mutex::new(None), AtomicBool::new(false), AtomicUsize::new(0));
        Self { root, base, failed, has_files, waiting }
    }

    /// The directories of the files, with a slash behind them if there are any.
    pub(super) fn folder(&self) -> &str {
        self.base.rfind('/').map_or("", |slash| &self.base[..=slash])
    }

    /// What could not be written lately.
    pub(super) fn take_failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, why: String) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// What is asked of the disk's thread.
pub(super) enum Job {
    /// Says what is there of the stream from before.
    Open(Arc<OnceLock<Playlist>>),
    /// Writes a segment, then the playlist.
    Segment {
        entry: Entry,
        body: Bytes,
        lengths: Lengths,
        /// As `hls_cleanup`.
        cleanup: bool,
    },
    /// Nothing follows, for now: its playlist is to say so.
    End,
    /// The stream is over. `dispose`: its playlist is to say so, and its segments are to go.
    Close { dispose: bool, cleanup: bool },
}

/// What the queue holds.
enum Order {
    Do(Arc<Target>, Job),
    /// What only helps the thread itself is to go: the server stops.
    Tidy,
}

/// The way to the disk's thread. Clones lead to the same.
#[derive(Clone)]
pub(super) struct Disk {
    orders: Sender<Order>,
    counters: Arc<Counters>,
}

/// What has become of the segments.
#[derive(Debug)]
pub(super) struct Counters {
    /// Orders that are not carried out yet, and the bytes of segments in them.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// How many bytes there may be, if that is less than [`QUEUE_BYTES`].
    limit: AtomicUsize,
    pub(super) written: AtomicU64,
    /// Not written: the disk's thread had too much to do, or the disk did not take it.
    pub(super) lost: AtomicU64,
}

impl Disk {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start() -> std::io::Result<Self> {
        let (orders, receiver) = bounded(QUEUE);
        let counters = Arc::new(Counters::default());
        let mut writer = Writer::new(counters.clone());
        thread::Builder::new().name("hls disk".into()).spawn(move || writer.work(&receiver))?;
        Ok(Self { orders, counters })
    }

    /// With a thread that does nothing for as long as the test has the other value.
    #[cfg(test)]
    pub(super) fn stalled() -> (Self, impl Sized) {
        let (orders, receiver) = bounded(QUEUE);
        (Self { orders, counters: Arc::default() }, receiver)
    }

    /// Bytes of segments that were handed on and are not written yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.counters.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Bounds the bytes that wait, below what their bound is anyway.
    pub(super) fn limit_waiting(&self, bytes: usize) {
        self.counters.limit.store(bytes.min(QUEUE_BYTES), Ordering::Relaxed);
    }

    /// Hands a job on. `false`: there is too much to do already, and the job is dropped.
    pub(super) fn send(&self, target: &Arc<Target>, job: Job) -> bool {
        let size = size(&job);
        // Only the worker sends, so nothing comes in between.
        let waiting = self.counters.waiting_bytes.load(Ordering::Relaxed);
        let most = match job {
            // It is tried again.
            Job::Close { .. } => ENDED,
            _ if target.has_files.load(Ordering::Relaxed) => QUEUE,
            _ => NEWCOMERS,
        };
        let (jobs, own) = (self.counters.waiting.load(Ordering::Relaxed), target.waiting.load(Ordering::Relaxed));
        if jobs >= most
            || own > 0 && own >= QUEUE.saturating_sub(jobs) / SHARE
            || !has_room(size, waiting, self.counters.limit.load(Ordering::Relaxed))
        {
            return self.lose(target, &job);
        }
        target.waiting.fetch_add(1, Ordering::Relaxed);
        match self.put(Order::Do(target.clone(), job), size) {
            Err(Order::Do(target, job)) => {
                target.waiting.fetch_sub(1, Ordering::Relaxed);
                self.lose(&target, &job)
            }
            _ => true,
        }
    }

    /// Has the files go that are only there to be written over: the server is about to stop.
    pub(super) fn tidy(&self) {
        // With a full queue they stay, until their streams are published again.
        let _ = self.put(Order::Tidy, 0);
    }

    fn put(&self, order: Order, size: usize) -> Result<(), Order> {
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        self.counters.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        self.orders.try_send(order).map_err(|refused| {
            self.counters.done(size);
            refused.into_inner()
        })
    }

    fn lose(&self, target: &Target, job: &Job) -> bool {
        if matches!(job, Job::Segment { .. }) {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            target.fail("the disk is too slow".to_owned());
        }
        false
    }

    /// Whether there is nothing left to be done.
    pub(super) fn is_level(&self) -> bool {
        self.counters.waiting.load(Ordering::Relaxed) == 0
    }

    /// Segments that were written, and those that were not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counters.written.load(Ordering::Relaxed), self.counters.lost.load(Ordering::Relaxed))
    }
}

/// Whether a job of `size` bytes may join those that wait. One has room always, however small the limit is, and small ones have as
/// much again: a stream that floods the disk is not to cost others their segments.
fn has_room(size: usize, waiting: usize, limit: usize) -> bool {
    let limit = if size <= limit / SMALL_PART { limit.saturating_mul(2) } else { limit };
    waiting == 0 || waiting + size <= limit
}

impl Default for Counters {
    fn default() -> Self {
        let (waiting, waiting_bytes, limit) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(QUEUE_BYTES));
        Self { waiting, waiting_bytes, limit, written: AtomicU64::new(0), lost: AtomicU64::new(0) }
    }
}

impl Counters {
    fn done(&self, size: usize) {
        self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn size(job: &Job) -> usize {
    if let Job::Segment { body, .. } = job { body.len() } else { 0 }
}

/// What the thread knows: the streams that have files, by where they are.
pub(super) struct Writer {
    folders: HashMap<PathBuf, Folder>,
    listing: Listing,
    /// Of streams that had files.
    remains: Remains,
    counters: Arc<Counters>,
    mentioned: Option<Instant>,
    /// Segments that were not written when the last line about it was.
    lost: u64,
    /// Segments that were written, at that time.
    written: u64,
    /// The last thing that went wrong since then.
    why: Option<String>,
}

impl Writer {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let (folders, listing, remains) = (HashMap::new(), Listing::default(), Remains::default());
        Self { folders, listing, remains, counters, mentioned: None, lost: 0, written: 0, why: None }
    }

    fn work(&mut self, orders: &Receiver<Order>) {
        let mut next = Instant::now() + TICK;
        loop {
            match orders.recv_deadline(next) {
                Ok(Order::Do(target, job)) => {
                    let size = size(&job);
                    // The next job is another stream's, whatever happens in this one; the log has it.
                    let handled = panic::catch_unwind(AssertUnwindSafe(|| self.handle(&target, job, Instant::now())));
                    if handled.is_err() {
                        self.folders.remove(&target.root.join(&target.base));
                        target.fail("a fault of the server".to_owned());
                    }
                    target.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.counters.done(size);
                }
                Ok(Order::Tidy) => {
                    self.folders.values_mut().for_each(Folder::tidy);
                    self.counters.done(0);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let began = Instant::now();
            if began >= next {
                // As with a job.
                let has_more = panic::catch_unwind(AssertUnwindSafe(|| self.tick(began))).unwrap_or(false);
                let end = Instant::now();
                // On a slow disk jobs have half of the time.
                next = end + if has_more { SOON.max(end - began) } else { TICK };
            }
        }
    }

    /// Does a job.
    pub(super) fn handle(&mut self, target: &Arc<Target>, job: Job, now: Instant) {
        let path = target.root.join(&target.base);
        match job {
            Job::Open(answer) => {
                let folder = self.folder(target);
                folder.reopen();
                // Somebody asked twice.
                let _ = answer.set(folder.playlist().clone());
            }
            Job::Segment { entry, body, lengths, cleanup } => {
                match self.folder(target).add(entry, &body, &lengths, cleanup, now) {
                    Ok(()) => {
                        self.counters.written.fetch_add(1, Ordering::Relaxed);
                        target.has_files.store(true, Ordering::Relaxed);
                    }
                    Err(error) => {
                        self.counters.lost.fetch_add(1, Ordering::Relaxed);
                        let why = error.to_string();
                        target.fail(why.clone());
                        self.why = Some(why);
                    }
                }
            }
            Job::End => {
                if let Some(folder) = self.folders.get_mut(&path) {
                    folder.end(now);
                }
            }
            Job::Close { dispose, cleanup } => {
                if let Some(folder) = self.folders.get_mut(&path) {
                    folder.close(dispose, cleanup, now);
                }
            }
        }
    }

    /// The files of a stream, opened if need be.
    fn folder(&mut self, target: &Target) -> &mut Folder {
        let Self { folders, listing, remains, .. } = self;
        folders.entry(target.root.join(&target.base)).or_insert_with(|| {
            let folder = Folder::open(&target.root, &target.base, listing, remains.next_number());
            remains.release(folder.playlist_path());
            folder
        })
    }

    /// Removes what is due, and says what has gone wrong. Whether there may be more that is due.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.listing.forget_old();
        let (mut left, are_many) = (BATCH, self.folders.len() > CROWD);
        self.folders.retain(|_, folder| {
            if are_many {
                folder.hurry(now);
            }
            folder.remove_due(now, &mut left);
            let goes = folder.is_done() && left > 0;
            if goes {
                left -= 1;
                folder.leave(&mut self.remains);
            }
            !goes
        });
        self.mention(now);
        left == 0
    }

    fn mention(&mut self, now: Instant) {
        let written = self.counters.written.load(Ordering::Relaxed);
        let lost = self.counters.lost.load(Ordering::Relaxed);
        if lost > self.lost && self.mentioned.is_none_or(|at| now.duration_since(at) >= MENTION) {
            let why = self.why.take().unwrap_or_else(|| "the disk is too slow".to_owned());
            log::error!("HLS: {} segments were not written to disk lately: {why}", lost - self.lost);
            (self.lost, self.written, self.mentioned) = (lost, written, Some(now));
        } else if lost == self.lost
            && written > self.written
            && let Some(at) = self.mentioned
            && now.duration_since(at) >= MENTION
        {
            self.mentioned = None;
            log::info!("HLS: segments are written to disk again; {lost} were not since the server started");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_new_names_leaves_room_for_streams_that_have_files() {
        let (disk, _never_reads) = Disk::stalled();
        let stream = |name: &str| Arc::new(Target::new(PathBuf::from("/"), name.to_owned()));
        let accepted = |of: &dyn Fn(usize) -> Arc<Target>| (0..QUEUE).filter(|&n| disk.send(&of(n), Job::End)).count();
        assert_eq!(accepted(&|n| stream(&format!("live/{n}"))), NEWCOMERS);
        let known = |n: usize| {
            let known = stream(&format!("live/known{n}"));
            known.has_files.store(true, Ordering::Relaxed);
            known
        };
        assert_eq!(accepted(&known), QUEUE - NEWCOMERS);
    }

    #[test]
    fn streams_with_very_many_segments_leave_room_for_others() {
        let (disk, _never_reads) = Disk::stalled();
        let stream = |n: usize| {
            let target = Target::new(PathBuf::from("/"), format!("live/{n}"));
            target.has_files.store(true, Ordering::Relaxed);
            Arc::new(target)
        };
        let accepted = |of: &Arc<Target>| (0..128).filter(|_| disk.send(of, Job::End)).count();
        let alone = accepted(&stream(0));
        assert!((100..128).contains(&alone), "{alone}");
        let greedy: Vec<_> = (1..100).map(stream).collect();
        (0..128).for_each(|_| greedy.iter().for_each(|of| _ = disk.send(of, Job::End)));
        assert!(greedy.iter().all(|of| of.waiting.load(Ordering::Relaxed) < 10));
        assert!(accepted(&stream(100)) > 5, "who has few finds room");
    }

    #[test]
    fn small_segments_have_room_when_large_ones_have_none() {
        assert!(has_room(5000, 0, 1600), "or it would never be written");
        assert!(has_room(600, 1000, 1600) && !has_room(601, 1000, 1600));
        assert!(has_room(100, 3100, 1600) && !has_room(101, 1500, 1600));
        assert!(!has_room(100, 3101, 1600));
    }
}
