//! The finished recordings of all directories, and the rules by which they are removed. Used on threads that may wait for a
//! disk, never on the worker.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::{Entry, Ledger};
use crate::log::quoted;

/// Rules for the recordings of one vhost in one directory.
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
pub(super) struct Ledgers(Arc<Mutex<HashMap<PathBuf, Ledger>>>);

impl Ledgers {
    /// Adds a recording to the list of its directory.
    pub(super) fn add(&self, root: &Path, entry: Entry) {
        let name = entry.path.display().to_string();
        if let Err(error) = self.with(root, |ledger| ledger.add(entry)) {
            log::warn!(
                "recording not listed, it will not be known after a restart: path={} error={}",
                quoted(name),
                quoted(error)
            );
        }
    }

    /// Returns the recordings of a directory, oldest first.
    #[cfg(test)]
    pub(super) fn list(&self, root: &Path) -> Vec<Entry> {
        self.with(root, |ledger| ledger.entries().to_vec())
    }

    /// Removes what is too old, or too much.
    pub(super) fn retain(&self, policies: &[Policy], now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        for policy in policies.iter().filter(|policy| !policy.max_age.is_zero() || policy.max_size > 0) {
            let removed = self.with(&policy.root, |ledger| {
                let mut due = policy.due(ledger.entries(), now).into_iter();
                ledger.remove(|_| due.next().unwrap_or(false))
            });
            for entry in removed {
                log::info!(
                    "recording removed: path={} bytes={}",
                    quoted(policy.root.join(&entry.path).display()),
                    entry.bytes
                );
            }
        }
    }

    fn with<R>(&self, root: &Path, f: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut ledgers: MutexGuard<'_, HashMap<PathBuf, Ledger>> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(ledgers.entry(root.to_owned()).or_insert_with(|| Ledger::load(root)))
    }
}

impl Policy {
    /// Returns for each recording, oldest first, whether it is to be removed.
    fn due(&self, entries: &[Entry], now_ms: u64) -> Vec<bool> {
        let is_own = |entry: &&Entry| entry.vhost == self.vhost;
        let mut excess = match self.max_size {
            0 => 0,
            max => entries.iter().filter(is_own).map(|entry| entry.bytes).sum::<u64>().saturating_sub(max),
        };
        let max_age = u64::try_from(self.max_age.as_millis()).unwrap_or(u64::MAX);
        let is_due = |entry: &Entry| {
            let age = now_ms.saturating_sub(entry.started_ms.saturating_add(entry.duration_ms));
            let is_old = max_age > 0 && age > max_age;
            let is_due = is_own(&entry) && (is_old || excess > 0);
            if is_due {
                excess = excess.saturating_sub(entry.bytes);
            }
            is_due
        };
        entries.iter().map(is_due).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(vhost: &str, started_ms: u64, bytes: u64) -> Entry {
        let text = |text: &str| text.to_owned();
        let path = format!("{vhost}/{started_ms}.flv").into();
        Entry { path, vhost: text(vhost), app: text("live"), stream: text("s"), started_ms, duration_ms: 1000, bytes }
    }

    fn policy(max_age: u64, max_size: u64) -> Policy {
        Policy { root: "/r".into(), vhost: "v".to_owned(), max_age: Duration::from_millis(max_age), max_size }
    }

    #[test]
    fn the_oldest_of_the_vhost_are_due() {
        let all = [entry("v", 0, 10), entry("other", 0, 10), entry("v", 5000, 10), entry("v", 9000, 10)];
        let due = |max_age, max_size| policy(max_age, max_size).due(&all, 10_000);
        assert_eq!(due(0, 0), [false; 4]);
        assert_eq!(due(8999, 0), [true, false, false, false]);
        assert_eq!(due(9000, 0), [false; 4], "the age counts from the end");
        assert_eq!(due(3000, 0), [true, false, true, false]);
        assert_eq!(due(0, 30), [false; 4]);
        assert_eq!(due(0, 29), [true, false, false, false]);
        assert_eq!(due(0, 1), [true, false, true, true]);
        assert_eq!(due(8999, 20), [true, false, false, false], "what is old counts for the size too");
    }

    #[test]
    fn what_is_due_is_removed_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("v")).unwrap();
        let ledgers = Ledgers::default();
        for at in [0, 5000] {
            let entry = entry("v", at, 1);
            std::fs::write(root.join(&entry.path), "1").unwrap();
            ledgers.add(root, entry);
        }
        let policy = Policy { root: root.to_owned(), ..policy(3000, 0) };
        ledgers.retain(&[policy], UNIX_EPOCH + Duration::from_millis(8500));
        assert_eq!(ledgers.list(root), [entry("v", 5000, 1)]);
        assert!(!root.join("v/0.flv").exists());
    }
}
