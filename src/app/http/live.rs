//! Files of live streams, kept in memory: playlists and segments as whoever makes them put them, for whoever serves them.
//!
//! A file is made ready to be sent when it is put: a request for it copies nothing, neither body nor head.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::entity::Entity;

/// The files of live streams by path. Clones are the same files.
///
/// Nothing is ever removed but by [`LiveFiles::remove`]: who puts files bounds them.
#[derive(Clone, Default)]
pub struct LiveFiles {
    /// Locked for a moment at a time and never over a wait; a lock at all only because any thread may put.
    by_path: Arc<Mutex<HashMap<Box<str>, Arc<LiveFile>>>>,
}

/// A file in memory. It never changes; a playlist's next version is another file under the same path.
#[derive(Debug)]
pub struct LiveFile {
    /// What is in it.
    pub body: Bytes,
    /// What is said of it: type, size, validators.
    pub(super) entity: Entity,
}

impl LiveFile {
    /// A file to be put under `path`, whose extension says of what type it is.
    pub fn new(path: &str, body: Bytes, modified: SystemTime) -> Self {
        /// Puts of this process, so that no two files have the same tag.
        static VERSION: AtomicU64 = AtomicU64::new(0);
        let entity = Entity::new(path, body.len() as u64, modified, VERSION.fetch_add(1, Ordering::Relaxed));
        Self { body, entity }
    }
}

impl LiveFiles {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file, in the place of one that has this path. `path` is relative to the root of the web server, without a slash
    /// before it and not percent-encoded: `live/livestream.m3u8`.
    pub fn put(&self, path: &str, file: LiveFile) {
        // What it replaces may be the last handle to a large body, so it is dropped outside.
        let _replaced = self.files().insert(path.into(), Arc::new(file));
    }

    /// Removes a file. Those who are being sent it get the rest.
    pub fn remove(&self, path: &str) {
        let _removed = self.files().remove(path);
    }

    /// The file of this path.
    pub fn get(&self, path: &str) -> Option<Arc<LiveFile>> {
        self.files().get(path).cloned()
    }

    /// The number of files, and of the bytes in them.
    pub fn size(&self) -> (usize, u64) {
        let files = self.files();
        (files.len(), files.values().map(|file| file.body.len() as u64).sum())
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<LiveFile>>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_was_put_is_there() {
        let files = LiveFiles::new();
        let path = "live/livestream.m3u8";
        assert!(files.get(path).is_none());
        files.clone().put(path, LiveFile::new(path, Bytes::from_static(b"one"), SystemTime::UNIX_EPOCH));
        let one = files.get(path).unwrap();
        files.put(path, LiveFile::new(path, Bytes::from_static(b"second"), SystemTime::now()));
        assert_eq!(files.get(path).unwrap().body, "second");
        assert_eq!(one.body, "one", "who has it keeps it");
        assert_eq!(files.size(), (1, 6));
        files.remove(path);
        assert!(files.get(path).is_none());
        assert_eq!(files.size(), (0, 0));
    }

    #[test]
    fn versions_of_a_playlist_have_tags_of_their_own() {
        let now = SystemTime::now();
        let one = LiveFile::new("a.m3u8", Bytes::from_static(b"1"), now);
        let two = LiveFile::new("a.m3u8", Bytes::from_static(b"2"), now);
        assert_ne!(one.entity.etag, two.entity.etag, "of one length, and put in the same moment");
    }
}
