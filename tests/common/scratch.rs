//! Temporary folders of tests.

use std::path::{Path, PathBuf};

/// A temporary folder: removed when the test has passed, kept when it has failed.
///
/// Declare it first in a test, so that it is dropped last: processes print their logs when they are dropped.
pub(crate) struct Scratch {
    folder: Option<tempfile::TempDir>,
}

impl Scratch {
    /// Creates the folder.
    pub(crate) fn new() -> Scratch {
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Scratch { folder: Some(folder.expect("the build's tmp folder is writable")) }
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Returns the path of the folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("taken by drop only").path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("files of this test: {}", folder.keep().display());
        }
    }
}
