//! The folder that a test writes to.

use std::path::{Path, PathBuf};

/// A folder of this test's own, removed when the test has passed and kept when it has failed.
///
/// Declare it first in a test: what is declared later is dropped earlier, and so finds its logs still there.
pub(crate) struct Scratch {
    folder: Option<tempfile::TempDir>,
}

impl Scratch {
    /// Makes the folder.
    pub(crate) fn new() -> Scratch {
        let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Scratch { folder: Some(folder.expect("the build's tmp folder can be written")) }
    }

    /// The path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("taken by drop only").path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("what this test wrote stays in {}", folder.keep().display());
        }
    }
}
