//! The finished recordings of all directories, and the rules by which they are removed.
//!
//! The thread that writes recordings changes the lists, in memory and on disk. Others read them: the lock is never held during
//! an access to a disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::ledger;
use crate::app::session::recordings::{FinishedRecording, RecordingEntry, Removal};
use crate::log::quoted;

/// Bytes of an id: nobody finds two paths with the same one.
const ID_BYTES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) root: PathBuf,
    pub(super) vhost: String,
    /// Age of a recording, from its end, after which it is removed; zero for never.
    pub(super) max_age: Duration,
    /// Size of all recordings in bytes, above which the oldest are removed; 0 for no limit.
    pub(super) max_size: u64,
}

/// The lists of all root directories. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Library(Arc<Mutex<Lists>>);

/// The recordings of each root directory, oldest first.
type Lists = HashMap<PathBuf, Vec<Arc<FinishedRecording>>>;

impl Library {
    pub(super) fn all(&self) -> Vec<Arc<FinishedRecording>> {
        self.lists().values().flatten().cloned().collect()
    }

    /// Reads the list of a directory, unless it is known.
    pub(super) fn load(&self, root: &Path) {
        if !self.lists().contains_key(root) {
            let shared: Arc<Path> = root.into();
            let list = ledger::load(root).into_iter().map(|entry| with_id(&shared, entry)).collect();
            self.lists().insert(root.to_owned(), list);
        }
    }

    pub(super) fn add(&self, root: &Path, entry: RecordingEntry) {
        self.load(root);
        if let Err(error) = ledger::append(root, &entry) {
            log::warn!(
                "recording not listed, it will not be known after a restart: path={} error={}",
                quoted(entry.path.display()),
                quoted(error)
            );
        }
        let mut lists = self.lists();
        let list = lists.entry(root.to_owned()).or_default();
        // The name of a recording that somebody has removed can be used again.
        list.retain(|other| other.entry.path != entry.path);
        list.push(with_id(&root.into(), entry));
        let excess = list.len().saturating_sub(ledger::MAX_ENTRIES);
        list.drain(..excess);
    }

    pub(super) fn retain(&self, policies: &[Policy], now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        for policy in policies.iter().filter(|policy| !policy.max_age.is_zero() || policy.max_size > 0) {
            self.load(&policy.root);
            let due = policy.expired(self.lists().get(&policy.root).map_or(&[][..], Vec::as_slice), now);
            let is_gone = |recording: &Arc<FinishedRecording>| {
                let is_gone = ledger::remove_file(&recording.root, &recording.entry).is_ok();
                if is_gone {
                    log_removal(recording);
                }
                is_gone
            };
            let removed: Vec<_> = due.into_iter().filter(is_gone).collect();
            self.remove_entries(&policy.root, &removed);
        }
    }

    pub(super) fn remove(&self, id: &str) -> Removal {
        let found = self.lists().values().flatten().find(|recording| recording.id == id).cloned();
        let Some(recording) = found else { return Removal::Unknown };
        if let Err(error) = ledger::remove_file(&recording.root, &recording.entry) {
            return Removal::Failed(error.to_string());
        }
        log_removal(&recording);
        let root = recording.root.clone();
        self.remove_entries(&root, &[recording]);
        Removal::Removed
    }

    fn remove_entries(&self, root: &Path, removed: &[Arc<FinishedRecording>]) {
        if removed.is_empty() {
            return;
        }
        let kept = {
            let mut lists = self.lists();
            let Some(list) = lists.get_mut(root) else { return };
            // Both are in the same order.
            let mut removed = removed.iter().peekable();
            list.retain(|recording| removed.next_if(|next| Arc::ptr_eq(next, recording)).is_none());
            list.clone()
        };
        // Otherwise the list names files that are not there, which are skipped the next time.
        let _ = ledger::rewrite(root, kept.iter().map(|recording| &recording.entry));
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy {
    /// Returns the recordings that are to be removed. `all` are in order, oldest first.
    fn expired(&self, all: &[Arc<FinishedRecording>], now_ms: u64) -> Vec<Arc<FinishedRecording>> {
        let is_own = |recording: &&Arc<FinishedRecording>| recording.entry.vhost == self.vhost;
        let mut excess = match self.max_size {
            0 => 0,
            max => {
                let total = all.iter().filter(is_own).map(|recording| recording.entry.bytes);
                total.fold(0, u64::saturating_add).saturating_sub(max)
            }
        };
        let max_age = u64::try_from(self.max_age.as_millis()).unwrap_or(u64::MAX);
        let is_due = |recording: &&Arc<FinishedRecording>| {
            let entry = &recording.entry;
            let age = now_ms.saturating_sub(entry.started_ms.saturating_add(entry.duration_ms));
            let is_old = max_age > 0 && age > max_age;
            let is_due = is_own(recording) && (is_old || excess > 0);
            if is_due {
                excess = excess.saturating_sub(entry.bytes);
            }
            is_due
        };
        all.iter().filter(is_due).cloned().collect()
    }
}

fn with_id(root: &Arc<Path>, entry: RecordingEntry) -> Arc<FinishedRecording> {
    let mut hash = Sha256::new();
    for path in [root, &*entry.path] {
        hash.update(path.as_os_str().as_encoded_bytes());
        // No path contains it.
        hash.update([0]);
    }
    let id = hash.finalize().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
    Arc::new(FinishedRecording { id, root: root.clone(), entry })
}

fn log_removal(recording: &FinishedRecording) {
    let path = recording.root.join(&recording.entry.path);
    log::info!("recording removed: path={} bytes={}", quoted(path.display()), recording.entry.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(vhost: &str, started_ms: u64, bytes: u64) -> RecordingEntry {
        let text = |text: &str| text.to_owned();
        let (app, stream, path) = (text("live"), text("s"), format!("{vhost}/{started_ms}.flv").into());
        RecordingEntry { path, vhost: text(vhost), app, stream, started_ms, duration_ms: 1000, bytes }
    }

    fn policy(max_age: u64, max_size: u64) -> Policy {
        Policy { root: "/r".into(), vhost: "v".to_owned(), max_age: Duration::from_millis(max_age), max_size }
    }

    fn starts(list: &[Arc<FinishedRecording>]) -> Vec<u64> {
        list.iter().map(|recording| recording.entry.started_ms).collect()
    }

    #[test]
    fn the_oldest_of_the_vhost_are_due() {
        let root: Arc<Path> = Path::new("/r").into();
        let all = [entry("v", 0, 10), entry("other", 0, 10), entry("v", 5000, 10), entry("v", 9000, 10)];
        let all = all.map(|entry| with_id(&root, entry));
        let due = |max_age, max_size| starts(&policy(max_age, max_size).expired(&all, 10_000));
        assert_eq!(due(0, 0), [0; 0]);
        assert_eq!(due(8999, 0), [0]);
        assert_eq!(due(9000, 0), [0; 0], "the age counts from the end");
        assert_eq!(due(3000, 0), [0, 5000]);
        assert_eq!(due(0, 30), [0; 0]);
        assert_eq!(due(0, 29), [0]);
        assert_eq!(due(0, 1), [0, 5000, 9000]);
        assert_eq!(due(8999, 20), [0], "what is old counts for the size too");
    }

    #[test]
    fn what_is_due_or_asked_for_is_removed_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("v")).unwrap();
        let library = Library::default();
        for at in [0, 5000, 7000, 8000] {
            let entry = entry("v", at, 1);
            std::fs::write(root.join(&entry.path), "1").unwrap();
            library.add(root, entry);
        }
        let policy = Policy { root: root.to_owned(), ..policy(3000, 0) };
        library.retain(&[policy], UNIX_EPOCH + Duration::from_millis(8500));
        assert_eq!(starts(&library.all()), [5000, 7000, 8000]);
        assert!(!root.join("v/0.flv").exists());
        // The ids are the same after a restart.
        let again = Library::default();
        again.load(root);
        assert_eq!(again.all(), library.all());
        let id = again.all()[1].id.clone();
        assert_eq!((again.remove(&id), again.remove(&id)), (Removal::Removed, Removal::Unknown));
        assert_eq!(again.remove("../../etc/passwd"), Removal::Unknown);
        assert!(!root.join("v/7000.flv").exists() && root.join("v/5000.flv").exists());
        assert_eq!(starts(&again.all()), [5000, 8000]);
        assert_eq!(ledger::load(root).len(), 2);
    }

    #[test]
    fn a_name_that_is_used_again_is_one_recording() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::default();
        library.add(folder.path(), entry("v", 1, 1));
        library.add(folder.path(), entry("v", 1, 2));
        let all = library.all();
        assert_eq!((all.len(), all[0].entry.bytes), (1, 2));
    }
}
