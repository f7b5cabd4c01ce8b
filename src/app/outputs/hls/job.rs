//! The jobs of the thread that writes the files, and the counters that both sides of its queue share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::playlist::{Durations, Entry, Playlist};
use crate::app::events::HlsSegment;
use crate::app::outputs::live_files::Unwritten;
use crate::st::Inbox;

pub(super) const MAX_QUEUED_BYTES: usize = 256 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct StreamFiles {
    pub(super) root: PathBuf,
    /// Common prefix of the files below `root`: `live/livestream`. See [`super::file_base`].
    pub(super) base: String,
    failure: Mutex<Option<String>>,
    pub(super) has_files: AtomicBool,
    pub(super) queued_jobs: AtomicUsize,
}

impl StreamFiles {
    pub(super) fn new(root: PathBuf, base: String) -> Self {
        let (failure, has_files, queued_jobs) = (Mutex::new(None), AtomicBool::new(false), AtomicUsize::new(0));
        Self { root, base, failure, has_files, queued_jobs }
    }

    /// Returns the directory part of `base`: empty, or with a slash at its end.
    pub(super) fn dir(&self) -> &str {
        self.base.rfind('/').map_or("", |slash| &self.base[..=slash])
    }

    pub(super) fn take_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set_failure(&self, reason: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

pub(super) enum Job {
    /// Opens the stream's files and returns the playlist found on disk.
    Open(Arc<OnceLock<Playlist>>),
    /// Writes a segment, then the playlist, and announces it if `event` says how.
    Segment {
        entry: Entry,
        body: Bytes,
        durations: Durations,
        cleanup: bool,
        event: Option<Arc<HlsSegment>>,
        unwritten: Unwritten,
    },
    Finish,
    /// Closes the stream. `dispose` marks the playlist as complete; with `cleanup` the segments are removed as well.
    Close {
        dispose: bool,
        cleanup: bool,
    },
}

impl Job {
    pub(super) fn size(&self) -> usize {
        if let Self::Segment { body, .. } = self { body.len() } else { 0 }
    }
}

pub(super) type QueuedJob = (Arc<StreamFiles>, Job);

pub(super) struct Counters {
    /// Jobs that are queued or in progress, and the size of their segments in bytes.
    pub(super) queued_jobs: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
    /// Limit of `queued_bytes`, at most [`MAX_QUEUED_BYTES`].
    pub(super) byte_limit: AtomicUsize,
    pub(super) written: AtomicU64,
    /// Segments not written since the server started: the queue was full, or the disk failed.
    pub(super) lost: AtomicU64,
    pub(super) announcements: Inbox<Arc<HlsSegment>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            queued_jobs: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            byte_limit: AtomicUsize::new(MAX_QUEUED_BYTES),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            announcements: Inbox::new(),
        }
    }
}

impl Counters {
    pub(super) fn add(&self, size: usize) {
        self.queued_jobs.fetch_add(1, Ordering::Relaxed);
        self.queued_bytes.fetch_add(size, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, size: usize) {
        self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
        self.queued_jobs.fetch_sub(1, Ordering::Relaxed);
    }
}
