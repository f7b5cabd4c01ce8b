//! The queue to the thread that writes the files. Only that thread touches the disk, so a slow disk blocks nobody else.
//!
//! The queue is bounded in jobs and in bytes. A segment that finds it full is not written, and the next one follows a
//! discontinuity.
//!
//! | jobs of | room in the queue |
//! |---|---|
//! | streams without a file yet | the first half, so that a flood of new names leaves room |
//! | streams being closed | the first three quarters |
//! | streams with files | all of it |
//! | one stream | an eighth of what is free: a stream with very many segments leaves room for others |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use super::job::{Counters, Job, MAX_QUEUED_BYTES, QueuedJob, StreamFiles};
use super::writer_thread::WriterThread;
use crate::app::events::HlsSegment;

/// Maximum number of queued jobs. A stream has one in each `hls_fragment`.
const MAX_JOBS: usize = 1024;

const MAX_JOBS_FOR_NEW: usize = MAX_JOBS / 2;

/// Number of queued jobs from which [`Job::Close`] is refused. It is sent again.
const MAX_JOBS_FOR_CLOSE: usize = MAX_JOBS / 4 * 3;

/// Part of the free queue that one stream may use. One job is accepted in any case.
const STREAM_SHARE_DIVISOR: usize = 8;

/// Part of the byte limit up to which a segment counts as small.
const SMALL_DIVISOR: usize = 16;

#[derive(Clone)]
pub(super) struct SegmentWriter {
    jobs: Sender<QueuedJob>,
    counters: Arc<Counters>,
}

impl SegmentWriter {
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, receiver) = bounded(MAX_JOBS);
        let counters = Arc::new(Counters::default());
        let mut writer = WriterThread::new(counters.clone());
        thread::Builder::new().name("hls disk".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { jobs, counters })
    }

    /// Returns a writer whose jobs stay queued as long as the test holds the other value.
    #[cfg(test)]
    pub(super) fn stalled() -> (Self, impl Sized) {
        let (jobs, receiver) = bounded(MAX_JOBS);
        (Self { jobs, counters: Arc::default() }, receiver)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.counters.queued_bytes.load(Ordering::Relaxed)
    }

    /// Limits the size of queued segments to `bytes`, and to [`MAX_QUEUED_BYTES`] in any case.
    pub(super) fn set_queue_limit(&self, bytes: usize) {
        self.counters.byte_limit.store(bytes.min(MAX_QUEUED_BYTES), Ordering::Relaxed);
    }

    pub(super) fn send(&self, files: &Arc<StreamFiles>, job: Job) -> bool {
        let size = job.size();
        if !self.has_room(files, &job) {
            return self.drop_job(files, &job);
        }
        files.queued_jobs.fetch_add(1, Ordering::Relaxed);
        self.counters.add(size);
        match self.jobs.try_send((files.clone(), job)) {
            Ok(()) => true,
            Err(refused) => {
                let (files, job) = refused.into_inner();
                files.queued_jobs.fetch_sub(1, Ordering::Relaxed);
                self.counters.subtract(size);
                self.drop_job(&files, &job)
            }
        }
    }

    /// Returns whether the queue accepts a job. Only the worker sends, so nothing is queued between this and the send.
    fn has_room(&self, files: &StreamFiles, job: &Job) -> bool {
        let max_jobs = match job {
            Job::Close { .. } => MAX_JOBS_FOR_CLOSE,
            _ if files.has_files.load(Ordering::Relaxed) => MAX_JOBS,
            _ => MAX_JOBS_FOR_NEW,
        };
        let jobs = self.counters.queued_jobs.load(Ordering::Relaxed);
        let own_jobs = files.queued_jobs.load(Ordering::Relaxed);
        let has_share = own_jobs == 0 || own_jobs < MAX_JOBS.saturating_sub(jobs) / STREAM_SHARE_DIVISOR;
        let byte_limit = self.counters.byte_limit.load(Ordering::Relaxed);
        jobs < max_jobs && has_share && fits(job.size(), self.queued_bytes(), byte_limit)
    }

    fn drop_job(&self, files: &StreamFiles, job: &Job) -> bool {
        if matches!(job, Job::Segment { .. }) {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            files.set_failure("disk too slow".to_owned());
        }
        false
    }

    pub(super) fn next_written(&self) -> Arc<HlsSegment> {
        self.counters.announcements.receive()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.counters.queued_jobs.load(Ordering::Relaxed) == 0
    }
}

/// Returns whether a segment of `size` bytes fits beside `queued` bytes. An empty queue accepts any size. Small segments have
/// twice the limit, so that a stream which floods the disk costs others none.
fn fits(size: usize, queued: usize, limit: usize) -> bool {
    let limit = if size <= limit / SMALL_DIVISOR { limit.saturating_mul(2) } else { limit };
    queued == 0 || queued + size <= limit
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::writer_thread::ROUND_INTERVAL;
    use super::*;
    use crate::st;

    #[test]
    fn a_flood_of_new_names_leaves_room_for_streams_that_have_files() {
        let (writer, _never_reads) = SegmentWriter::stalled();
        let stream = |name: &str| Arc::new(StreamFiles::new(PathBuf::from("/"), name.to_owned()));
        let accepted = |of: &dyn Fn(usize) -> Arc<StreamFiles>| {
            (0..MAX_JOBS).filter(|&n| writer.send(&of(n), Job::Finish)).count()
        };
        assert_eq!(accepted(&|n| stream(&format!("live/{n}"))), MAX_JOBS_FOR_NEW);
        let known = |n: usize| {
            let known = stream(&format!("live/known{n}"));
            known.has_files.store(true, Ordering::Relaxed);
            known
        };
        assert_eq!(accepted(&known), MAX_JOBS - MAX_JOBS_FOR_NEW);
    }

    #[test]
    fn streams_with_very_many_segments_leave_room_for_others() {
        let (writer, _never_reads) = SegmentWriter::stalled();
        let stream = |n: usize| {
            let files = StreamFiles::new(PathBuf::from("/"), format!("live/{n}"));
            files.has_files.store(true, Ordering::Relaxed);
            Arc::new(files)
        };
        let accepted = |of: &Arc<StreamFiles>| (0..128).filter(|_| writer.send(of, Job::Finish)).count();
        let alone = accepted(&stream(0));
        assert!((100..128).contains(&alone), "{alone}");
        let greedy: Vec<_> = (1..100).map(stream).collect();
        (0..128).for_each(|_| greedy.iter().for_each(|of| _ = writer.send(of, Job::Finish)));
        assert!(greedy.iter().all(|of| of.queued_jobs.load(Ordering::Relaxed) < 10));
        assert!(accepted(&stream(100)) > 5, "a stream with few jobs finds room");
    }

    #[test]
    fn small_segments_have_room_when_large_ones_have_none() {
        assert!(fits(5000, 0, 1600), "or it would never be written");
        assert!(fits(600, 1000, 1600) && !fits(601, 1000, 1600));
        assert!(fits(100, 3100, 1600) && !fits(101, 1500, 1600));
        assert!(!fits(100, 3101, 1600));
    }

    #[test]
    fn jobs_that_follow_each_other_are_rounds_apart() {
        let root = std::env::temp_dir();
        let writer = SegmentWriter::start().unwrap();
        let start = st::now();
        for base in ["first", "second"] {
            let files = Arc::new(StreamFiles::new(root.clone(), base.to_owned()));
            assert!(writer.send(&files, Job::Open(Arc::default())));
            while !writer.is_idle() {
                thread::yield_now();
            }
        }
        assert!(st::now() - start >= ROUND_INTERVAL, "the second job waits for its round");
    }
}
