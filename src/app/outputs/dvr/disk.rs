//! The queue to the thread that writes recordings, and what the worker knows of a file.
//!
//! The queue is bounded in bytes. While it is half full, no GOP begins; when it is full, the GOP that is being recorded ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crossbeam_channel::{Sender, unbounded};

use super::file::{Disk, Ending};
use super::job::{Counters, FileState, Job, Outcome, Reply, Task};
use super::library::{Library, Policy};
use super::thread::DiskThread;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::recordings::Removal;
use crate::memory::{Category, MemoryTracker};
use crate::st::{self, Inbox, Shared};

/// Most bytes in the queue: what a disk writes in a second.
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Most jobs in the queue from which on no file is opened: somebody publishes name after name.
const MAX_JOBS_FOR_NEW: usize = 4096;

/// Most removals that wait, and the time that each waits for the disk.
const MAX_REMOVALS: usize = 64;
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

const GOP_DIVISOR: usize = 2;

#[derive(Clone)]
pub(super) struct DiskQueue {
    tasks: Sender<Task>,
    counters: Arc<Counters>,
    open: Shared<Vec<Arc<FileState>>>,
}

impl DiskQueue {
    /// Starts the thread. Fails when the system has no thread.
    pub(super) fn start(outcomes: Arc<Inbox<Outcome>>, library: Library) -> std::io::Result<Self> {
        let (tasks, receiver) = unbounded();
        let counters = Arc::new(Counters { limit: AtomicUsize::new(MAX_QUEUED_BYTES), ..Counters::default() });
        let mut thread = DiskThread::new(counters.clone(), outcomes, library);
        std::thread::Builder::new().name("dvr disk".into()).spawn(move || {
            for task in &receiver {
                thread.handle(task);
            }
        })?;
        Ok(Self { tasks, counters, open: Shared::default() })
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn open_files(&self) -> Vec<Arc<FileState>> {
        self.open.with(|open| open.clone())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.counters.jobs.load(Ordering::Relaxed) == 0
    }

    /// Limits the queue to `bytes`, and to [`MAX_QUEUED_BYTES`] in any case.
    pub(super) fn set_limit(&self, bytes: usize) {
        self.counters.limit.store(bytes.min(MAX_QUEUED_BYTES), Ordering::Relaxed);
    }

    fn has_room(&self, bytes: usize, limit: usize) -> bool {
        let queued = self.queued_bytes();
        queued == 0 || queued + bytes <= limit
    }

    fn send(&self, file: &Arc<FileState>, job: Job) {
        self.counters.add(job.size());
        file.bytes.fetch_add(job.size() as u64, Ordering::Relaxed);
        // Fails only if the thread has panicked, which is logged.
        let _ = self.tasks.send(Task::File(file.clone(), job));
    }

    /// Reads the lists of these directories, and removes old recordings by these rules, unless the thread has not yet done so
    /// for the last time. Returns whether it will.
    pub(super) fn maintain(&self, roots: Vec<PathBuf>, policies: Vec<Policy>) -> bool {
        if self.counters.is_maintaining.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.counters.add(0);
        let _ = self.tasks.send(Task::Maintain { roots, policies });
        true
    }

    /// Removes a recording. Waits for the disk; `None` if it does not answer in time, or too many wait.
    pub(super) fn remove(&self, id: &str) -> Option<Removal> {
        if self.counters.removals.fetch_add(1, Ordering::Relaxed) >= MAX_REMOVALS {
            self.counters.removals.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let reply = Arc::new(Reply::default());
        self.counters.add(0);
        let _ = self.tasks.send(Task::Remove(id.to_owned(), reply.clone()));
        reply.wait(REMOVAL_TIMEOUT)
    }
}

pub(super) struct RecordingFiles {
    queue: DiskQueue,
    stream: Arc<StreamInfo>,
    client: Arc<ClientInfo>,
    memory: MemoryTracker,
    pub(super) template: String,
    pub(super) min_free: u64,
    file: Option<Arc<FileState>>,
}

impl RecordingFiles {
    pub(super) fn new(
        queue: DiskQueue,
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
        memory: MemoryTracker,
    ) -> Self {
        Self { queue, stream, client, memory, template: String::new(), min_free: 0, file: None }
    }

    fn send(&self, bytes: Bytes, job: impl FnOnce(Bytes) -> Job) -> bool {
        let Some(file) = &self.file else { return false };
        if !self.queue.has_room(bytes.len(), self.queue.counters.limit.load(Ordering::Relaxed)) {
            return false;
        }
        self.queue.send(file, job(self.memory.charge_bytes(Category::Dvr, bytes)));
        true
    }
}

impl Disk for RecordingFiles {
    fn open(&mut self, head: Bytes, age: Duration) -> bool {
        let counters = &self.queue.counters;
        if counters.jobs.load(Ordering::Relaxed) >= MAX_JOBS_FOR_NEW || !self.has_room_for_gop() {
            return false;
        }
        let file = Arc::new(FileState {
            id: counters.next_id.fetch_add(1, Ordering::Relaxed),
            stream: self.stream.clone(),
            client: self.client.clone(),
            started_at: started_at(age),
            bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        self.queue.open.with(|open| open.push(file.clone()));
        let head = self.memory.charge_bytes(Category::Dvr, head);
        self.queue.send(&file, Job::Open { template: self.template.clone(), min_free: self.min_free, head });
        self.file = Some(file);
        true
    }

    fn write(&mut self, bytes: Bytes) -> bool {
        self.send(bytes, Job::Write)
    }

    fn write_fragment(&mut self, bytes: Bytes) -> bool {
        self.send(bytes, Job::WriteFragment)
    }

    fn close(&mut self, ending: Ending) {
        if let Some(file) = self.file.take() {
            self.queue.open.with(|open| open.retain(|other| !Arc::ptr_eq(other, &file)));
            self.queue.send(&file, Job::Close(Box::new(ending)));
        }
    }

    fn has_failed(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.failed.load(Ordering::Relaxed))
    }

    fn has_room_for_gop(&self) -> bool {
        self.queue.has_room(1, self.queue.counters.limit.load(Ordering::Relaxed) / GOP_DIVISOR)
    }
}

fn started_at(age: Duration) -> SystemTime {
    let now = st::system_time();
    now.checked_sub(age).unwrap_or(now)
}
