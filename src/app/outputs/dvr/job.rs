//! Work for the thread that writes recordings, and what worker and thread share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;

use super::library::Policy;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv::recording::Recording;

/// A file that is being written, as worker and thread share it.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) id: usize,
    pub(super) stream: Arc<StreamInfo>,
    pub(super) client: Arc<ClientInfo>,
    pub(super) started_at: SystemTime,
    /// It cannot be written any more.
    pub(super) failed: AtomicBool,
}

/// Work for the thread.
pub(super) enum Job {
    Open { template: String, min_free: u64, head: Bytes },
    Write(Bytes),
    Close(Box<Recording>),
}

impl Job {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Open { head, .. } => head.len(),
            Self::Write(bytes) => bytes.len(),
            Self::Close(_) => 0,
        }
    }
}

/// A job in the queue.
pub(super) enum Task {
    File(Arc<FileState>, Job),
    /// Removes old recordings.
    Retain(Vec<Policy>),
}

/// A message from the thread to the worker.
pub(super) enum Outcome {
    /// A file is complete.
    Recorded { file: Arc<FileState>, path: PathBuf, duration_ms: u64, bytes: u64 },
    /// A file could not be written; what there is of it follows as recorded.
    Failed { file: Arc<FileState>, path: String, error: String },
}

/// Counters that worker and thread share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) jobs: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    /// Most bytes in the queue.
    pub(super) limit: AtomicUsize,
    pub(super) next_id: AtomicUsize,
    /// Files that are being written.
    pub(super) open_files: AtomicUsize,
}

impl Counters {
    pub(super) fn add(&self, bytes: usize) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}
