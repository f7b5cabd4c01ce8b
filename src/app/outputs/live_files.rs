//! Playlists and segments of live streams in memory, from their outputs to the HTTP server.
//!
//! A file is ready to be sent when it is inserted: a request copies neither its body nor its header.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;

use crate::http::file_metadata::FileMetadata;
use crate::memory::Charge;
use crate::st::{self, net::PageFile};

/// Suffix of playlists. They are never evicted, since a stream needs its playlist.
const PLAYLIST_SUFFIX: &str = ".m3u8";

/// Size in bytes from which a body is copied to pages of the kernel. The copy saves the most where the body is large.
const MIN_PAGES: usize = 64 * 1024;

/// Size in bytes above which a playlist is evicted like a segment.
const MAX_PINNED_PLAYLIST: u64 = 64 * 1024;

/// The files of live streams by path. Clones share their files.
///
/// Their owner removes them. Above a limit of their size, see [`LiveFiles::set_limit`], the oldest files of the largest owner are
/// evicted, and HTTP serves them from disk. So a stream that floods the memory costs smaller streams no files. A file that is still
/// to be written to disk is not evicted: its playlist lists it, and the writer keeps its bytes in memory anyway.
#[derive(Clone)]
pub struct LiveFiles {
    /// Locked briefly and never across a wait, by any thread.
    files: Arc<Mutex<Files>>,
}

#[derive(Default)]
struct Files {
    by_path: HashMap<Box<str>, StoredFile>,
    owners: HashMap<Arc<str>, EvictableFiles>,
    /// The same owners by the size of those files.
    by_size: BTreeSet<(u64, Arc<str>)>,
    bytes: u64,
    /// Maximum of `bytes`. 0 refuses all files.
    limit: u64,
    limit_logged: bool,
}

struct StoredFile {
    file: Arc<LiveFile>,
    owner: Arc<str>,
    is_evictable: bool,
}

#[derive(Default)]
struct EvictableFiles {
    bytes: u64,
    paths: VecDeque<Box<str>>,
}

type MakeMetadata = Box<dyn FnOnce() -> FileMetadata + Send>;

/// An immutable file in memory. A new version of a playlist is another file under the same path.
#[derive(Debug)]
pub struct LiveFile {
    pub body: Bytes,
    /// Made at the first request: most segments of an origin are never requested.
    pub metadata: LazyLock<FileMetadata, MakeMetadata>,
    requests: AtomicU32,
    pages: OnceLock<(Arc<PageFile>, Charge)>,
    unwritten: Weak<()>,
}

/// A mark of a file that is still to be written to disk, until it is dropped.
#[derive(Debug, Default)]
pub struct Unwritten(Arc<()>);

impl LiveFile {
    /// Creates a file. Its type follows from the extension of `path`.
    pub fn new(path: &str, body: Bytes, modified: SystemTime) -> Self {
        /// Counter that makes the entity tag of each file unique.
        static VERSION: AtomicU64 = AtomicU64::new(0);
        let (path, len, version) = (path.to_owned(), body.len() as u64, VERSION.fetch_add(1, Ordering::Relaxed));
        let make_metadata = move || FileMetadata::new(&path, len, modified, version);
        let metadata = LazyLock::new(Box::new(make_metadata) as MakeMetadata);
        Self { body, metadata, requests: AtomicU32::new(0), pages: OnceLock::new(), unwritten: Weak::new() }
    }

    /// Marks the file as one that is still to be written to disk.
    pub fn mark_unwritten(&mut self) -> Unwritten {
        let mark = Unwritten::default();
        self.unwritten = Arc::downgrade(&mark.0);
        mark
    }

    fn is_written(&self) -> bool {
        self.unwritten.strong_count() == 0
    }

    /// Returns a copy of the body in pages of the kernel, for a request of a large file. It is made at the second request: most
    /// segments of an origin are never requested, or once. `charge` creates the charge of the copy. May wait.
    pub fn pages(&self, charge: impl FnOnce() -> Charge) -> Option<Arc<PageFile>> {
        if self.body.len() < MIN_PAGES {
            return None;
        }
        if let Some((pages, _)) = self.pages.get() {
            return Some(pages.clone());
        }
        if self.requests.fetch_add(1, Ordering::Relaxed) != 1 {
            return None;
        }
        let body = self.body.clone();
        // Without it, the body is sent from the heap.
        let pages = Arc::new(st::offload(move || PageFile::new(&body)).ok()?.ok()?);
        let charge = charge();
        charge.set(pages.memory());
        let _ = self.pages.set((pages.clone(), charge));
        Some(pages)
    }
}

impl LiveFiles {
    pub fn new() -> Self {
        Self { files: Arc::new(Mutex::new(Files { limit: u64::MAX, ..Files::default() })) }
    }

    /// Limits the size of all files to `limit` bytes from the next insertion on. 0 removes all files and refuses new ones.
    pub fn set_limit(&self, limit: u64) {
        let mut files = self.lock();
        files.limit = limit;
        files.limit_logged = false;
        if limit == 0 {
            let removed = std::mem::take(&mut *files);
            drop(files);
            drop(removed);
        }
    }

    /// Inserts a file of the stream `owner`, in the place of one with the same path. `path` is relative to the root of the web
    /// server and not percent-encoded: `live/livestream.m3u8`.
    pub fn insert(&self, owner: &str, path: &str, file: LiveFile) {
        let size = file.body.len() as u64;
        let mut files = self.lock();
        if files.limit == 0 {
            return;
        }
        // These may be the last handles to large bodies, so they are dropped after the unlock.
        let mut removed = Vec::from_iter(files.remove(path));
        let replaced = removed.len();
        let is_evictable = !path.ends_with(PLAYLIST_SUFFIX) || size > MAX_PINNED_PLAYLIST;
        let has_room = !is_evictable || files.make_room(owner, size, &mut removed);
        let limit_exceeded = !has_room || removed.len() > replaced;
        let to_log = limit_exceeded && !std::mem::replace(&mut files.limit_logged, true);
        if has_room {
            files.insert(owner, path, file, is_evictable);
            // Logged again only after usage fell below 90 %, not at each segment of a stream that just does not fit.
            files.limit_logged &= files.bytes > files.limit / 10 * 9;
        }
        let limit = files.limit;
        drop(files);
        drop(removed);
        if to_log {
            log::warn!(
                "live_memory of http_server is full, the oldest segments are served from disk: limit_bytes={limit}"
            );
        }
    }

    /// Evicts the oldest files of the largest owner, one by one, until `is_enough`. Calls `pause` after each, as there may be
    /// tens of thousands. Returns their number.
    pub fn evict(&self, is_enough: impl Fn() -> bool, mut pause: impl FnMut()) -> usize {
        let evict_one = || if is_enough() { None } else { self.lock().evict_from_largest() };
        std::iter::from_fn(evict_one).map(drop).inspect(|()| pause()).count()
    }

    /// Evicts the oldest files of an owner, `max` at most. Returns their number.
    pub fn evict_oldest(&self, owner: &str, max: usize) -> usize {
        let evict_one = || self.lock().evict_from(owner);
        std::iter::from_fn(evict_one).take(max).map(drop).count()
    }

    /// Removes a file, unless it belongs to another owner. Responses that are being sent are completed.
    pub fn remove(&self, owner: &str, path: &str) {
        if self.owner(path).is_some_and(|other| *other == *owner) {
            let _removed = self.lock().remove(path);
        }
    }

    /// Returns whether there are files of an owner that can be evicted, now or once they are on disk.
    pub fn has_evictable(&self, owner: &str) -> bool {
        self.lock().owners.contains_key(owner)
    }

    pub fn owner(&self, path: &str) -> Option<Arc<str>> {
        self.lock().by_path.get(path).map(|stored| stored.owner.clone())
    }

    pub fn get(&self, path: &str) -> Option<Arc<LiveFile>> {
        self.lock().by_path.get(path).map(|stored| stored.file.clone())
    }

    pub fn usage(&self) -> (usize, u64) {
        let files = self.lock();
        (files.by_path.len(), files.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LiveFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl Files {
    /// Evicts files until `size` bytes of `owner` fit, which counts as if it had them already. Appends the evicted files to
    /// `evicted`. Returns whether there is room.
    fn make_room(&mut self, owner: &str, size: u64, evicted: &mut Vec<Arc<LiveFile>>) -> bool {
        while self.bytes.saturating_add(size) > self.limit {
            let own_bytes = self.owners.get(owner).map_or(0, |own| own.bytes) + size;
            let is_largest = self.by_size.last().is_none_or(|(largest, _)| *largest <= own_bytes);
            let file = if is_largest { self.evict_from(owner) } else { self.evict_from_largest() };
            let Some(file) = file else { return false };
            evicted.push(file);
        }
        true
    }

    fn insert(&mut self, owner: &str, path: &str, file: LiveFile, is_evictable: bool) {
        let size = file.body.len() as u64;
        self.bytes += size;
        let owner = self.owners.get_key_value(owner).map_or_else(|| owner.into(), |(owner, _)| owner.clone());
        if is_evictable {
            self.update_owner(&owner, |own| {
                own.bytes += size;
                own.paths.push_back(path.into());
            });
        }
        self.by_path.insert(path.into(), StoredFile { file: Arc::new(file), owner, is_evictable });
    }

    fn remove(&mut self, path: &str) -> Option<Arc<LiveFile>> {
        let StoredFile { file, owner, is_evictable } = self.by_path.remove(path)?;
        let size = file.body.len() as u64;
        self.bytes -= size;
        if is_evictable {
            self.update_owner(&owner, |own| {
                own.bytes -= size;
                if let Some(index) = own.paths.iter().position(|other| **other == *path) {
                    own.paths.remove(index);
                }
            });
        }
        Some(file)
    }

    fn evict_from(&mut self, owner: &str) -> Option<Arc<LiveFile>> {
        let path = self.oldest_of(owner)?.to_owned();
        self.remove(&path)
    }

    fn evict_from_largest(&mut self) -> Option<Arc<LiveFile>> {
        let path = self.by_size.iter().rev().find_map(|(_, owner)| self.oldest_of(owner))?.to_owned();
        self.remove(&path)
    }

    /// Returns the path of the oldest file of an owner that can be evicted.
    fn oldest_of(&self, owner: &str) -> Option<&str> {
        let is_written = |path: &&str| self.by_path.get(*path).is_some_and(|stored| stored.file.is_written());
        self.owners.get(owner)?.paths.iter().map(|path| &**path).find(is_written)
    }

    fn update_owner(&mut self, owner: &Arc<str>, update: impl FnOnce(&mut EvictableFiles)) {
        let own = self.owners.entry(owner.clone()).or_default();
        self.by_size.remove(&(own.bytes, owner.clone()));
        update(own);
        if own.paths.is_empty() {
            self.owners.remove(owner);
        } else {
            self.by_size.insert((own.bytes, owner.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Category, MemoryTracker};

    #[test]
    fn the_last_that_was_put_is_there() {
        let files = LiveFiles::new();
        let path = "live/livestream.m3u8";
        assert!(files.get(path).is_none());
        files.clone().insert(
            "live/livestream",
            path,
            LiveFile::new(path, Bytes::from_static(b"one"), SystemTime::UNIX_EPOCH),
        );
        let one = files.get(path).unwrap();
        files.insert("live/livestream", path, LiveFile::new(path, Bytes::from_static(b"second"), SystemTime::now()));
        assert_eq!(files.get(path).unwrap().body, "second");
        assert_eq!(one.body, "one", "an open file stays as it is");
        assert_eq!(files.usage(), (1, 6));
        files.remove("live/other", path);
        assert!(files.get(path).is_some(), "it has another owner");
        files.remove("live/livestream", path);
        assert!(files.get(path).is_none());
        assert_eq!(files.usage(), (0, 0));
    }

    /// Inserts a file. Its owner is the part of the name before the first `-` or `.`.
    fn insert(files: &LiveFiles, path: &str, size: usize) {
        let owner = path.split(['-', '.']).next().unwrap();
        files.insert(owner, path, LiveFile::new(path, vec![0; size].into(), SystemTime::UNIX_EPOCH));
    }

    fn paths(files: &LiveFiles) -> Vec<String> {
        let files = files.lock();
        let mut paths: Vec<_> = files.by_path.keys().map(ToString::to_string).collect();
        paths.sort();
        let evictable: u64 = files.owners.values().map(|own| own.bytes).sum();
        assert_eq!(evictable, files.by_size.iter().map(|(bytes, _)| bytes).sum::<u64>());
        assert_eq!(files.bytes, files.by_path.values().map(|stored| stored.file.body.len() as u64).sum::<u64>());
        paths
    }

    #[test]
    fn where_there_is_no_room_the_oldest_goes_and_playlists_stay() {
        let files = LiveFiles::new();
        files.set_limit(1_000_000);
        insert(&files, "s-0.ts", 600_000);
        insert(&files, "s-1.ts", 400_000);
        insert(&files, "s.m3u8", 900);
        assert_eq!(paths(&files), ["s-0.ts", "s-1.ts", "s.m3u8"]);
        insert(&files, "s-2.ts", 20_000);
        assert_eq!(paths(&files), ["s-1.ts", "s-2.ts", "s.m3u8"]);
        insert(&files, "s-2.ts", 1_000_001);
        assert_eq!(paths(&files), ["s.m3u8"], "it is too large, and the old one is outdated");
        insert(&files, "s-3.ts", 20_000);
        files.set_limit(0);
        insert(&files, "s.m3u8", 900);
        assert_eq!(paths(&files), [""; 0], "files are refused");
        files.set_limit(1_000_000);
        insert(&files, "s.m3u8", 900);
        assert_eq!(paths(&files), ["s.m3u8"]);
    }

    #[test]
    fn a_stream_that_has_much_costs_those_nothing_that_have_less() {
        let files = LiveFiles::new();
        files.set_limit(1_000_000);
        for n in 0..50 {
            insert(&files, &format!("large-{n}.ts"), 300_000);
            insert(&files, &format!("small-{n}.ts"), 50_000);
            if let Some(last) = u64::checked_sub(n, 4) {
                files.remove("small", &format!("small-{last}.ts"));
            }
            assert!(files.get(&format!("small-{}.ts", u64::saturating_sub(n, 3))).is_some(), "at {n}");
        }
        assert_eq!(
            paths(&files),
            ["large-48.ts", "large-49.ts", "small-46.ts", "small-47.ts", "small-48.ts", "small-49.ts"]
        );
        insert(&files, "huge-0.ts", 990_000);
        assert!(files.get("huge-0.ts").is_none(), "larger than each other stream");
        assert!(files.get("small-46.ts").is_some());
    }

    #[test]
    fn when_memory_is_short_those_go_whose_stream_has_most_and_playlists_stay() {
        let files = LiveFiles::new();
        for (path, size) in [("a-0.ts", 300_000), ("a-1.ts", 500_000), ("b-0.ts", 400_000), ("b.m3u8", 900)] {
            insert(&files, path, size);
        }
        let mut pauses = 0;
        assert_eq!(files.evict(|| true, || pauses += 1), 0);
        assert_eq!(files.evict(|| files.usage().1 <= 500_000, || pauses += 1), 2);
        assert_eq!((pauses, paths(&files)), (2, vec!["b-0.ts".to_owned(), "b.m3u8".to_owned()]));
        assert_eq!(files.evict(|| false, || {}), 1);
        assert_eq!(files.usage(), (1, 900));
    }

    #[test]
    fn files_that_are_not_on_disk_yet_stay() {
        let files = LiveFiles::new();
        let put = |path: &str, size: usize| {
            let mut file = LiveFile::new(path, vec![0; size].into(), SystemTime::UNIX_EPOCH);
            let mark = file.mark_unwritten();
            files.insert(&path[..1], path, file);
            mark
        };
        let marks = [put("a-0.ts", 500_000), put("a-1.ts", 500_000), put("b-0.ts", 1000)];
        insert(&files, "c-0.ts", 500);
        assert_eq!(files.evict(|| false, || {}), 1);
        assert_eq!((files.evict_oldest("a", 10), files.has_evictable("a")), (0, true));
        assert_eq!(paths(&files), ["a-0.ts", "a-1.ts", "b-0.ts"]);
        let [first, second, other] = marks;
        drop(second);
        assert_eq!(files.evict_oldest("a", 10), 1);
        assert_eq!(paths(&files), ["a-0.ts", "b-0.ts"]);
        drop((first, other));
        assert_eq!(files.evict(|| false, || {}), 2);
        assert!(!files.has_evictable("a"));
    }

    #[test]
    fn large_files_are_copied_to_pages_at_the_second_request() {
        let memory = MemoryTracker::default();
        let requests = memory.clone();
        let (few, many) = st::run(move || {
            let file = |size| LiveFile::new("a.ts", vec![7; size].into(), SystemTime::UNIX_EPOCH);
            let (few, many) = (file(MIN_PAGES - 1), file(MIN_PAGES));
            let copies = |file: &LiveFile| {
                let copy = || file.pages(|| requests.charge(Category::Hls)).is_some();
                [copy(), copy(), copy()]
            };
            assert_eq!((copies(&few), copies(&many)), ([false; 3], [false, true, true]));
            (few, many)
        })
        .unwrap();
        assert_eq!(memory.total(), 2 * MIN_PAGES, "a file, and a pipe");
        drop((few, many));
        assert_eq!(memory.total(), 0);
    }

    #[test]
    fn versions_of_a_playlist_have_tags_of_their_own() {
        let now = SystemTime::now();
        let one = LiveFile::new("a.m3u8", Bytes::from_static(b"1"), now);
        let two = LiveFile::new("a.m3u8", Bytes::from_static(b"2"), now);
        assert_ne!(one.metadata.etag, two.metadata.etag, "of one length, and inserted in the same moment");
    }
}
