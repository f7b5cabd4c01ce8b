//! The spool files of all vhosts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::spool::{Entry, Receipt, Spool};
use crate::config::Config;
use crate::st::{self, Shared};

/// Time for which a file may be locked by a process that ends, and the pause between two attempts.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The open files by path. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Spools {
    open: Shared<HashMap<PathBuf, Arc<Spool>>>,
    entries: Shared<Vec<(Receipt, Entry)>>,
}

impl Spools {
    /// Opens the files of a configuration that are not open yet. May wait. Errors: the file and the reason.
    pub(super) fn open(&self, config: &Config) -> Result<(), String> {
        for path in paths(config) {
            if self.get(&path).is_some() {
                continue;
            }
            let failure = |error: &dyn std::fmt::Display| format!("hooks_spool {}: {error}", path.display());
            let deadline = st::now() + LOCK_TIMEOUT;
            let (spool, entries) = loop {
                let of_job = path.clone();
                match st::offload(move || Spool::open(&of_job)) {
                    Ok(Ok(opened)) => break opened,
                    Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        if st::now() >= deadline {
                            return Err(failure(&"another process uses it"));
                        }
                        st::sleep(LOCK_PAUSE);
                    }
                    Ok(Err(error)) => return Err(failure(&error)),
                    Err(error) => return Err(failure(&error)),
                }
            };
            self.open.with(|open| open.insert(path, spool));
            self.entries.with(|all| all.extend(entries));
        }
        Ok(())
    }

    pub(super) fn get(&self, path: &Path) -> Option<Arc<Spool>> {
        self.open.try_with(|open| open.get(path).cloned()).flatten()
    }

    /// Returns what the files have kept. Each is returned once.
    pub(super) fn take_entries(&self) -> Vec<(Receipt, Entry)> {
        self.entries.with(std::mem::take)
    }

    /// Closes the files that a configuration does not name, once nothing waits in them.
    pub(super) fn retain(&self, config: &Config) {
        let wanted = paths(config);
        self.open.with(|open| open.retain(|path, _| wanted.contains(path)));
    }

    pub(super) fn are_idle(&self) -> bool {
        self.open.with(|open| open.values().all(|spool| spool.is_idle()))
    }
}

fn paths(config: &Config) -> Vec<PathBuf> {
    let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled && vhost.http_hooks.enabled);
    vhosts.filter_map(|vhost| vhost.http_hooks.spool.clone()).collect()
}
