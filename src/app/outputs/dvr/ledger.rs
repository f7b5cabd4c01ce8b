//! The list of finished recordings, in a hidden file of their root directory: a line of JSON for each.
//!
//! It makes recordings known after a restart, and tells them from files of others: only what it lists is ever removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name of the list below the root directory.
const FILE: &str = ".srs-recordings";

/// Most recordings that are listed. Older ones stay on the disk and are not known any more.
const MAX_ENTRIES: usize = 100_000;

/// Longest line that is read, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// A finished recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The file, below the root directory.
    pub(crate) path: PathBuf,
    pub(crate) vhost: String,
    pub(crate) app: String,
    pub(crate) stream: String,
    /// Start in milliseconds since 1970.
    pub(crate) started_ms: u64,
    pub(crate) duration_ms: u64,
    /// Size of the file.
    pub(crate) bytes: u64,
}

/// The recordings below one root directory, oldest first.
#[derive(Debug)]
pub(super) struct Ledger {
    root: PathBuf,
    entries: Vec<Entry>,
}

impl Ledger {
    /// Reads the list of a directory. One that cannot be read is empty; broken lines are skipped.
    pub(super) fn load(root: &Path) -> Self {
        let mut entries = Vec::new();
        if let Ok(file) = File::open(root.join(FILE)) {
            let mut reader = BufReader::new(file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if line.len() <= MAX_LINE
                    && let Ok(entry) = serde_json::from_slice::<Entry>(&line)
                    && is_below(&entry.path)
                {
                    entries.push(entry);
                }
                line.clear();
            }
        }
        let mut ledger = Self { root: root.to_owned(), entries };
        ledger.limit();
        ledger
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds a recording. Errors: those of the file system. The recording is known until the end of the process all the
    /// same.
    pub(super) fn add(&mut self, entry: Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.entries.push(entry);
        self.limit();
        let mut file = OpenOptions::new().append(true).create(true).open(self.root.join(FILE))?;
        file.write_all(&line)
    }

    /// Removes recordings and their files: all for which `is_due` holds. Returns those that are gone.
    pub(super) fn remove(&mut self, mut is_due: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let root = &self.root;
        let removed: Vec<Entry> =
            self.entries.extract_if(.., |entry| is_due(entry) && remove_file(root, entry)).collect();
        if !removed.is_empty() {
            // Without it, the list names files that are not there, which are skipped the next time.
            let _ = self.rewrite();
        }
        removed
    }

    fn rewrite(&self) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in &self.entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        let (path, temporary) = (self.root.join(FILE), self.root.join(format!("{FILE}.tmp")));
        fs::write(&temporary, text)?;
        fs::rename(temporary, path)
    }

    fn limit(&mut self) {
        if let Some(excess) = self.entries.len().checked_sub(MAX_ENTRIES) {
            self.entries.drain(..excess);
        }
    }
}

/// Removes the file of a recording. Returns whether the recording is gone: removed, gone before, or replaced by a file of
/// somebody else, which stays.
fn remove_file(root: &Path, entry: &Entry) -> bool {
    let path = root.join(&entry.path);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == entry.bytes => {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return false;
            }
        }
        Ok(_) => return true,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    }
    // Directories that are empty now; the others refuse.
    let mut directory = path.parent();
    while let Some(empty) = directory.filter(|directory| *directory != root && directory.starts_with(root)) {
        if fs::remove_dir(empty).is_err() {
            break;
        }
        directory = empty.parent();
    }
    true
}

fn is_below(path: &Path) -> bool {
    let is_plain = |part| matches!(part, std::path::Component::Normal(_));
    !path.as_os_str().is_empty() && path.components().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, bytes: u64) -> Entry {
        let text = |text: &str| text.to_owned();
        let (vhost, app, stream) = (text("v"), text("live"), text("s"));
        Entry { path: path.into(), vhost, app, stream, started_ms: 1, duration_ms: 2, bytes }
    }

    #[test]
    fn recordings_are_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::load(folder.path());
        ledger.add(entry("live/a.flv", 1)).unwrap();
        ledger.add(entry("live/b.flv", 2)).unwrap();
        assert_eq!(Ledger::load(folder.path()).entries(), ledger.entries());
        // Lines of a crash, or of somebody else.
        let file = folder.path().join(FILE);
        let mut text = fs::read(&file).unwrap();
        text.extend_from_slice(
            b"{\"path\":\"../etc/passwd\",\"vhost\":\"v\",\"app\":\"a\",\"stream\":\"s\",\"started_ms\":1,",
        );
        text.extend_from_slice(b"\"duration_ms\":1,\"bytes\":1}\n\xff\n{}\n{\"path\"");
        fs::write(&file, text).unwrap();
        assert_eq!(Ledger::load(folder.path()).entries(), ledger.entries());
    }

    #[test]
    fn only_own_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("live/x")).unwrap();
        let mut ledger = Ledger::load(root);
        for (name, content) in [("live/x/own.flv", "1"), ("live/foreign.flv", "1"), ("live/kept.flv", "1")] {
            fs::write(root.join(name), content).unwrap();
        }
        ledger.add(entry("live/x/own.flv", 1)).unwrap();
        ledger.add(entry("live/foreign.flv", 1)).unwrap();
        ledger.add(entry("live/gone.flv", 1)).unwrap();
        ledger.add(entry("live/kept.flv", 1)).unwrap();
        fs::write(root.join("live/foreign.flv"), "somebody else's").unwrap();
        let removed = ledger.remove(|entry| entry.path != Path::new("live/kept.flv"));
        assert_eq!(removed.len(), 3);
        assert!(!root.join("live/x").exists() && root.join("live/foreign.flv").exists());
        assert_eq!(Ledger::load(root).entries(), [entry("live/kept.flv", 1)]);
    }
}
