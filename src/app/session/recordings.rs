//! Recordings, as operators see and control them. The feature that records sets the control.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// A finished recording, as its directory lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordingEntry {
    /// The file, below the root directory.
    pub(crate) path: PathBuf,
    pub(crate) vhost: String,
    pub(crate) app: String,
    pub(crate) stream: String,
    /// Start in milliseconds since 1970.
    pub(crate) started_ms: u64,
    pub(crate) duration_ms: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
pub(crate) struct FinishedRecording {
    /// Hexadecimal digits that stay the same over restarts.
    pub(crate) id: String,
    /// The directory that `entry.path` is below.
    pub(crate) root: Arc<Path>,
    pub(crate) entry: RecordingEntry,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
pub(crate) struct ActiveRecording {
    pub(crate) vhost: String,
    pub(crate) app: String,
    pub(crate) stream: String,
    /// Start in milliseconds since 1970.
    pub(crate) started_ms: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]
pub(crate) enum RecordOutcome {
    Changed,
    Unchanged,
    NotPublished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    Unknown,
    Failed(String),
}

#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "used over HTTP only"))]
pub(crate) trait RecordingControl: Send + Sync {
    /// Starts or ends the recording of `vhost/app/stream`, whatever the configuration says, until the stream is unpublished.
    fn record(&self, stream: &str, is_wanted: bool) -> RecordOutcome;

    fn active(&self) -> Vec<ActiveRecording>;

    /// Returns the finished recordings of all directories, in each the oldest first.
    fn finished(&self) -> Vec<Arc<FinishedRecording>>;

    /// Removes a finished recording and its file. Waits for the disk; `None` if it does not answer, or too many wait.
    fn remove(&self, id: &str) -> Option<Removal>;
}

/// Recordings of the server. Clones are the same. Without a control there are none.
#[derive(Clone, Default)]
pub(crate) struct Recordings(Arc<OnceLock<Arc<dyn RecordingControl>>>);

impl Recordings {
    /// Sets the control. Only the first call counts.
    pub(crate) fn set_control(&self, control: Arc<dyn RecordingControl>) {
        let _ = self.0.set(control);
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "used over HTTP only"))]
    pub(crate) fn control(&self) -> Option<&dyn RecordingControl> {
        self.0.get().map(|control| &**control)
    }
}
