//! Work for the thread that writes recordings, and what worker and thread share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::file::Ending;
use super::library::Policy;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::recordings::Removal;
use crate::st::Cond;

/// A file that is being written, as worker and thread share it.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) id: usize,
    pub(super) stream: Arc<StreamInfo>,
    pub(super) client: Arc<ClientInfo>,
    pub(super) started_at: SystemTime,
    /// Bytes handed to the thread so far.
    pub(super) bytes: AtomicU64,
    pub(super) failed: AtomicBool,
}

impl FileState {
    pub(super) fn started_ms(&self) -> u64 {
        self.started_at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
    }
}

pub(super) enum Job {
    Open { template: String, min_free: u64, head: Bytes },
    Write(Bytes),
    WriteFragment(Bytes),
    Close(Box<Ending>),
}

impl Job {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Open { head, .. } => head.len(),
            Self::Write(bytes) | Self::WriteFragment(bytes) => bytes.len(),
            Self::Close(_) => 0,
        }
    }
}

pub(super) enum Task {
    File(Arc<FileState>, Job),
    Maintain { roots: Vec<PathBuf>, policies: Vec<Policy> },
    Remove(String, Arc<Reply>),
}

#[derive(Default)]
pub(super) struct Reply {
    removal: Mutex<Option<Removal>>,
    answered: Cond,
}

impl Reply {
    pub(super) fn answer(&self, removal: Removal) {
        *self.removal.lock().unwrap_or_else(PoisonError::into_inner) = Some(removal);
        self.answered.broadcast();
    }

    /// Waits for the outcome. `None` after `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> Option<Removal> {
        if let Some(removal) = self.take() {
            return Some(removal);
        }
        self.answered.wait_timeout(timeout);
        self.take()
    }

    fn take(&self) -> Option<Removal> {
        self.removal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(super) enum Outcome {
    Recorded {
        file: Arc<FileState>,
        path: PathBuf,
        duration_ms: u64,
        bytes: u64,
    },
    /// A file could not be written; what there is of it follows as recorded.
    Failed {
        file: Arc<FileState>,
        path: String,
        error: String,
    },
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) jobs: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    pub(super) limit: AtomicUsize,
    pub(super) next_id: AtomicUsize,
    pub(super) removals: AtomicUsize,
    pub(super) is_maintaining: AtomicBool,
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
