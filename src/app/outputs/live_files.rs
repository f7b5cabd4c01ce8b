//! Files of live streams, kept in memory: playlists and segments as whoever makes them put them, for whoever serves them.
//!
//! A file is made ready to be sent when it is put: a request for it copies nothing, neither body nor head.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use crate::app::http::entity::Entity;

/// The files of live streams by path. Clones are the same files.
///
/// Who puts files removes them. Besides there is a limit to their bytes, [`LiveFiles::set_limit`]: where there is no room, of the
/// stream that has most the oldest goes, and whoever asks for that gets what is on disk. So a stream that is flooded with costs none
/// that has less its segments.
#[derive(Clone)]
pub struct LiveFiles {
    /// Locked for a moment at a time and never over a wait; a lock at all only because any thread may put.
    files: Arc<Mutex<Files>>,
}

#[derive(Default)]
struct Files {
    by_path: HashMap<Box<str>, Kept>,
    /// Streams that have files which may have to go.
    owners: HashMap<Arc<str>, Owner>,
    /// The same, by the bytes of those files.
    by_size: BTreeSet<(u64, Arc<str>)>,
    /// Of all bodies.
    bytes: u64,
    /// 0: none are taken.
    limit: u64,
    /// Whether it was said that there is no room.
    is_full: bool,
}

struct Kept {
    file: Arc<LiveFile>,
    /// Whose it is.
    owner: Arc<str>,
    may_go: bool,
}

/// What a stream has that may have to go.
#[derive(Default)]
struct Owner {
    bytes: u64,
    /// Their paths, the oldest first.
    paths: VecDeque<Box<str>>,
}

/// What ends with this has room always, up to so many bytes: a stream without a playlist would not be there.
const PLAYLIST: &str = ".m3u8";
const LONG_PLAYLIST: u64 = 64 * 1024;

/// A file in memory. It never changes; a playlist's next version is another file under the same path.
#[derive(Debug)]
pub struct LiveFile {
    /// What is in it.
    pub body: Bytes,
    /// What is said of it: type, size, validators.
    pub(crate) entity: Entity,
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
        Self { files: Arc::new(Mutex::new(Files { limit: u64::MAX, ..Files::default() })) }
    }

    /// Sets how many bytes there may be from now on. 0: nobody wants the files; none are taken, and those that are here go.
    pub fn set_limit(&self, limit: u64) {
        let mut files = self.files();
        files.limit = limit;
        files.is_full = false;
        if limit == 0 {
            let gone = std::mem::take(&mut *files);
            drop(files);
            drop(gone);
        }
    }

    /// Puts a file of the stream `owner`, in the place of one that has this path. `path` is relative to the root of the web server,
    /// without a slash before it and not percent-encoded: `live/livestream.m3u8`.
    pub fn put(&self, owner: &str, path: &str, file: LiveFile) {
        let size = file.body.len() as u64;
        let mut files = self.files();
        if files.limit == 0 {
            return;
        }
        // What goes may be the last handle to a large body, so it is dropped outside.
        let mut gone = Vec::from_iter(files.take(path));
        let replaced = gone.len();
        let may_go = !path.ends_with(PLAYLIST) || size > LONG_PLAYLIST;
        let has_room = !may_go || files.make_room(owner, size, &mut gone);
        let is_short = !has_room || gone.len() > replaced;
        let is_news = is_short && !std::mem::replace(&mut files.is_full, true);
        if has_room {
            files.insert(owner, path, file, may_go);
            // Not at each segment of a stream that just does not fit.
            files.is_full &= files.bytes > files.limit / 10 * 9;
        }
        let limit = files.limit;
        drop(files);
        drop(gone);
        if is_news {
            log::warn!(
                "live files take more than live_memory of http_server, {limit} bytes: some are served from disk"
            );
        }
    }

    /// Removes files until `is_enough`, each time the oldest of the stream that has most: they are served from disk from then on.
    /// Playlists stay. Between two files there is a `pause`: they may be tens of thousands. How many they were.
    pub(crate) fn shed(&self, is_enough: impl Fn() -> bool, mut pause: impl FnMut()) -> usize {
        let take = || if is_enough() { None } else { self.files().take_of_largest() };
        std::iter::from_fn(take).map(drop).inspect(|()| pause()).count()
    }

    /// Removes the oldest files of a stream that may have to go, `most` at most. How many they were.
    pub(crate) fn remove_oldest(&self, owner: &str, most: usize) -> usize {
        let take = || {
            let mut files = self.files();
            let path = files.owners.get(owner)?.paths.front()?.clone();
            files.take(&path)
        };
        std::iter::from_fn(take).take(most).map(drop).count()
    }

    /// Removes a file, unless somebody else has put one in its place. Those who are being sent it get the rest.
    pub fn remove(&self, owner: &str, path: &str) {
        if self.owner(path).is_some_and(|there| *there == *owner) {
            let _removed = self.files().take(path);
        }
    }

    /// Whose the file of this path is.
    pub fn owner(&self, path: &str) -> Option<Arc<str>> {
        self.files().by_path.get(path).map(|kept| kept.owner.clone())
    }

    /// The file of this path.
    pub fn get(&self, path: &str) -> Option<Arc<LiveFile>> {
        self.files().by_path.get(path).map(|kept| kept.file.clone())
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
    /// Has the oldest go of the stream that has most, that of `owner` included, until there is room for `size` bytes of it; they are
    /// appended to `gone`. Whether there is.
    fn make_room(&mut self, owner: &str, size: u64, gone: &mut Vec<Arc<LiveFile>>) -> bool {
        while self.bytes.saturating_add(size) > self.limit {
            let own = self.owners.get(owner);
            let own_bytes = own.map_or(0, |own| own.bytes) + size;
            let is_largest = self.by_size.last().is_none_or(|(largest, _)| *largest <= own_bytes);
            let taken = if is_largest {
                own.and_then(|own| own.paths.front().cloned()).and_then(|path| self.take(&path))
            } else {
                self.take_of_largest()
            };
            let Some(file) = taken else { return false };
            gone.push(file);
        }
        true
    }

    fn insert(&mut self, owner: &str, path: &str, file: LiveFile, may_go: bool) {
        let size = file.body.len() as u64;
        self.bytes += size;
        let owner = self.owners.get_key_value(owner).map_or_else(|| owner.into(), |(owner, _)| owner.clone());
        if may_go {
            self.change(&owner, |owner| {
                owner.bytes += size;
                owner.paths.push_back(path.into());
            });
        }
        self.by_path.insert(path.into(), Kept { file: Arc::new(file), owner, may_go });
    }

    fn take(&mut self, path: &str) -> Option<Arc<LiveFile>> {
        let Kept { file, owner, may_go } = self.by_path.remove(path)?;
        let size = file.body.len() as u64;
        self.bytes -= size;
        if may_go {
            self.change(&owner, |owner| {
                owner.bytes -= size;
                if let Some(at) = owner.paths.iter().position(|other| **other == *path) {
                    owner.paths.remove(at);
                }
            });
        }
        Some(file)
    }

    /// Takes the oldest of the files that may have to go, of the stream that has most of them.
    fn take_of_largest(&mut self) -> Option<Arc<LiveFile>> {
        let (_, owner) = self.by_size.last()?;
        let path = self.owners.get(owner)?.paths.front()?.clone();
        self.take(&path)
    }

    fn change(&mut self, owner: &Arc<str>, change: impl FnOnce(&mut Owner)) {
        let entry = self.owners.entry(owner.clone()).or_default();
        self.by_size.remove(&(entry.bytes, owner.clone()));
        change(entry);
        if entry.paths.is_empty() {
            self.owners.remove(owner);
        } else {
            self.by_size.insert((entry.bytes, owner.clone()));
        }
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
        files.clone().put(
            "live/livestream",
            path,
            LiveFile::new(path, Bytes::from_static(b"one"), SystemTime::UNIX_EPOCH),
        );
        let one = files.get(path).unwrap();
        files.put("live/livestream", path, LiveFile::new(path, Bytes::from_static(b"second"), SystemTime::now()));
        assert_eq!(files.get(path).unwrap().body, "second");
        assert_eq!(one.body, "one", "who has it keeps it");
        assert_eq!(files.size(), (1, 6));
        files.remove("live/other", path);
        assert!(files.get(path).is_some(), "it is not theirs");
        files.remove("live/livestream", path);
        assert!(files.get(path).is_none());
        assert_eq!(files.size(), (0, 0));
    }

    /// Files of the streams that their names begin with.
    fn put(files: &LiveFiles, path: &str, size: usize) {
        let owner = path.split(['-', '.']).next().unwrap();
        files.put(owner, path, LiveFile::new(path, vec![0; size].into(), SystemTime::UNIX_EPOCH));
    }

    fn there(files: &LiveFiles) -> Vec<String> {
        let files = files.files();
        let mut paths: Vec<_> = files.by_path.keys().map(ToString::to_string).collect();
        paths.sort();
        let large: u64 = files.owners.values().map(|owner| owner.bytes).sum();
        assert_eq!(large, files.by_size.iter().map(|(bytes, _)| bytes).sum::<u64>());
        assert_eq!(files.bytes, files.by_path.values().map(|kept| kept.file.body.len() as u64).sum::<u64>());
        paths
    }

    #[test]
    fn where_there_is_no_room_the_oldest_goes_and_playlists_stay() {
        let files = LiveFiles::new();
        files.set_limit(1_000_000);
        put(&files, "s-0.ts", 600_000);
        put(&files, "s-1.ts", 400_000);
        put(&files, "s.m3u8", 900);
        assert_eq!(there(&files), ["s-0.ts", "s-1.ts", "s.m3u8"]);
        put(&files, "s-2.ts", 20_000);
        assert_eq!(there(&files), ["s-1.ts", "s-2.ts", "s.m3u8"]);
        put(&files, "s-2.ts", 1_000_001);
        assert_eq!(there(&files), ["s.m3u8"], "it is too large, and the old one is not what the disk has");
        put(&files, "s-3.ts", 20_000);
        files.set_limit(0);
        put(&files, "s.m3u8", 900);
        assert_eq!(there(&files), [""; 0], "nobody serves them");
        files.set_limit(1_000_000);
        put(&files, "s.m3u8", 900);
        assert_eq!(there(&files), ["s.m3u8"]);
    }

    #[test]
    fn a_stream_that_has_much_costs_those_nothing_that_have_less() {
        let files = LiveFiles::new();
        files.set_limit(1_000_000);
        for n in 0..50 {
            put(&files, &format!("large-{n}.ts"), 300_000);
            put(&files, &format!("small-{n}.ts"), 50_000);
            if let Some(last) = u64::checked_sub(n, 4) {
                files.remove("small", &format!("small-{last}.ts"));
            }
            assert!(files.get(&format!("small-{}.ts", u64::saturating_sub(n, 3))).is_some(), "at {n}");
        }
        assert_eq!(
            there(&files),
            ["large-48.ts", "large-49.ts", "small-46.ts", "small-47.ts", "small-48.ts", "small-49.ts"]
        );
        put(&files, "huge-0.ts", 990_000);
        assert!(files.get("huge-0.ts").is_none(), "more than all others have");
        assert!(files.get("small-46.ts").is_some());
    }

    #[test]
    fn when_memory_is_short_those_go_whose_stream_has_most_and_playlists_stay() {
        let files = LiveFiles::new();
        for (path, size) in [("a-0.ts", 300_000), ("a-1.ts", 500_000), ("b-0.ts", 400_000), ("b.m3u8", 900)] {
            put(&files, path, size);
        }
        let mut pauses = 0;
        assert_eq!(files.shed(|| true, || pauses += 1), 0);
        assert_eq!(files.shed(|| files.size().1 <= 500_000, || pauses += 1), 2);
        assert_eq!((pauses, there(&files)), (2, vec!["b-0.ts".to_owned(), "b.m3u8".to_owned()]));
        assert_eq!(files.shed(|| false, || {}), 1);
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
