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
/// Who puts files removes them. Besides there is a limit to their bytes, [`LiveFiles::set_limit`]: a file that has no room is not
/// put, and the one that it would replace goes, so that whoever asks for it gets what is on disk.
#[derive(Clone)]
pub struct LiveFiles {
    /// Locked for a moment at a time and never over a wait; a lock at all only because any thread may put.
    files: Arc<Mutex<Files>>,
}

struct Files {
    by_path: HashMap<Box<str>, Arc<LiveFile>>,
    /// Of all bodies.
    bytes: u64,
    limit: u64,
    /// Whether it was said that there is no room.
    is_full: bool,
}

/// Files of up to this many bytes have room always: a stream without a playlist would not be there.
const SMALL: u64 = 16 * 1024;

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
    /// No files, and no limit.
    pub fn new() -> Self {
        let files = Files { by_path: HashMap::new(), bytes: 0, limit: u64::MAX, is_full: false };
        Self { files: Arc::new(Mutex::new(files)) }
    }

    /// Sets how many bytes there may be from now on. 0: nobody wants the files; none are taken, and those that are here go.
    pub fn set_limit(&self, limit: u64) {
        let mut files = self.files();
        files.limit = limit;
        files.is_full = false;
        if limit == 0 {
            files.bytes = 0;
            let gone = std::mem::take(&mut files.by_path);
            drop(files);
            drop(gone);
        }
    }

    /// Puts a file, in the place of one that has this path. `path` is relative to the root of the web server, without a slash
    /// before it and not percent-encoded: `live/livestream.m3u8`.
    pub fn put(&self, path: &str, file: LiveFile) {
        let size = file.body.len() as u64;
        let mut files = self.files();
        let replaced = files.take(path);
        let has_room = files.limit > 0 && (size <= SMALL || files.bytes.saturating_add(size) <= files.limit);
        let is_news = if has_room {
            files.bytes += size;
            files.by_path.insert(path.into(), Arc::new(file));
            // Not at each segment of a stream that just does not fit.
            files.is_full &= files.bytes > files.limit / 10 * 9;
            false
        } else {
            files.limit > 0 && !std::mem::replace(&mut files.is_full, true)
        };
        let limit = files.limit;
        drop(files);
        // It may be the last handle to a large body, so it is dropped outside.
        drop(replaced);
        if is_news {
            log::warn!(
                "live files take more than live_memory of http_server, {limit} bytes: some are served from disk"
            );
        }
    }

    /// Removes files, the largest first, until `is_enough`: they are served from disk from then on. Those that always have room stay.
    /// How many they were.
    pub(in crate::app) fn shed(&self, is_enough: impl Fn() -> bool) -> usize {
        let files = self.files();
        let large = files.by_path.iter().filter(|(_, file)| file.body.len() as u64 > SMALL);
        let mut large: Vec<_> = large.map(|(path, file)| (file.body.len(), path.clone())).collect();
        drop(files);
        large.sort_unstable_by(|a, b| b.cmp(a));
        large.iter().take_while(|_| !is_enough()).map(|(_, path)| self.remove(path)).count()
    }

    /// Removes a file. Those who are being sent it get the rest.
    pub fn remove(&self, path: &str) {
        let _removed = self.files().take(path);
    }

    /// The file of this path.
    pub fn get(&self, path: &str) -> Option<Arc<LiveFile>> {
        self.files().by_path.get(path).cloned()
    }

    /// The number of files, and of the bytes in them.
    pub fn size(&self) -> (usize, u64) {
        let files = self.files();
        (files.by_path.len(), files.bytes)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LiveFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl Files {
    fn take(&mut self, path: &str) -> Option<Arc<LiveFile>> {
        let file = self.by_path.remove(path)?;
        self.bytes -= file.body.len() as u64;
        Some(file)
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
    fn what_has_no_room_is_not_there_and_playlists_always_have() {
        let files = LiveFiles::new();
        let put = |path: &str, size: usize| {
            files.put(path, LiveFile::new(path, vec![0; size].into(), SystemTime::UNIX_EPOCH));
        };
        files.set_limit(1_000_000);
        put("s-0.ts", 600_000);
        put("s-1.ts", 400_000);
        put("s-2.ts", 20_000);
        put("s.m3u8", 900);
        assert_eq!(files.size(), (3, 1_000_900));
        assert!(files.get("s-2.ts").is_none() && files.get("s.m3u8").is_some());
        files.remove("s-0.ts");
        put("s-2.ts", 20_000);
        assert_eq!(files.size(), (3, 420_900));
        put("s-2.ts", 700_000);
        assert!(files.get("s-2.ts").is_none(), "the old one is not what the disk has");
        assert_eq!(files.size(), (2, 400_900));
        files.set_limit(0);
        put("s.m3u8", 900);
        assert_eq!(files.size(), (0, 0), "nobody serves them");
        files.set_limit(1_000_000);
        put("s.m3u8", 900);
        assert_eq!(files.size(), (1, 900));
    }

    #[test]
    fn when_memory_is_short_the_largest_go_and_playlists_stay() {
        let files = LiveFiles::new();
        for (path, size) in [("a-0.ts", 300_000), ("a-1.ts", 500_000), ("b-0.ts", 400_000), ("b.m3u8", 900)] {
            files.put(path, LiveFile::new(path, vec![0; size].into(), SystemTime::UNIX_EPOCH));
        }
        assert_eq!(files.shed(|| true), 0);
        assert_eq!(files.shed(|| files.size().1 <= 400_000), 2);
        assert!(files.get("a-0.ts").is_some() && files.get("b.m3u8").is_some());
        assert_eq!(files.shed(|| false), 1);
        assert_eq!(files.size(), (1, 900));
    }

    #[test]
    fn versions_of_a_playlist_have_tags_of_their_own() {
        let now = SystemTime::now();
        let one = LiveFile::new("a.m3u8", Bytes::from_static(b"1"), now);
        let two = LiveFile::new("a.m3u8", Bytes::from_static(b"2"), now);
        assert_ne!(one.entity.etag, two.entity.etag, "of one length, and put in the same moment");
    }
}
