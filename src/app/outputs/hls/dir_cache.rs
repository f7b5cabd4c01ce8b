//! A cache of directory listings, for streams that start in a directory with files from before.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::atomic_file::TEMPORARY;
use super::playlist::segment_number;
use crate::st;

/// Number of files from which a directory is cached: otherwise each new name of a flood would read all files again.
const LARGE_DIR: usize = 100;

/// Maximum age of a listing: this, or [`READ_TIME_FACTOR`] times as long as reading took if that is more. An old listing does no
/// harm, since only files from before this server matter.
const MAX_AGE: Duration = Duration::from_secs(1);
const READ_TIME_FACTOR: u32 = 20;

/// Maximum number of cached directories. The least recently used one is dropped first.
const MAX_CACHED_DIRS: usize = 16;

#[derive(Default)]
pub(super) struct DirCache(Vec<Listing>);

struct Listing {
    dir: PathBuf,
    expires: Instant,
    file_count: usize,
    by_stream: HashMap<String, Vec<String>>,
}

impl DirCache {
    /// Returns the numbers of a stream's segments in a directory, and removes the stream's temporary files there.
    pub(super) fn segment_numbers(&mut self, dir: &Path, stream: &str) -> io::Result<Vec<u64>> {
        self.remove_expired();
        let listing = match self.0.iter().position(|listing| listing.dir == dir) {
            Some(index) => self.0.remove(index),
            None => Listing::read(dir)?,
        };
        let mut numbers = Vec::new();
        for file in listing.by_stream.get(stream).into_iter().flatten() {
            match segment_number(stream, file) {
                Some(number) => numbers.push(number),
                // A server was killed while it wrote this file. One that cannot be removed is overwritten.
                None => _ = fs::remove_file(dir.join(file)),
            }
        }
        if listing.file_count > LARGE_DIR {
            self.0.push(listing);
            if self.0.len() > MAX_CACHED_DIRS {
                self.0.remove(0);
            }
        }
        Ok(numbers)
    }

    pub(super) fn remove_expired(&mut self) {
        let now = st::now();
        self.0.retain(|listing| now < listing.expires);
    }
}

impl Listing {
    fn read(dir: &Path) -> io::Result<Self> {
        let start = st::now();
        let (mut file_count, mut by_stream) = (0, HashMap::<_, Vec<_>>::new());
        for entry in fs::read_dir(dir)? {
            file_count += 1;
            if let Ok(file) = entry?.file_name().into_string()
                && let Some(stream) = stream_of(&file)
            {
                by_stream.entry(stream.to_owned()).or_default().push(file);
            }
        }
        let end = st::now();
        let expires = end + MAX_AGE.max(READ_TIME_FACTOR * (end - start));
        Ok(Self { dir: dir.to_owned(), expires, file_count, by_stream })
    }
}

/// Returns the stream that a segment or a temporary file belongs to, by the file's name.
fn stream_of(file: &str) -> Option<&str> {
    let target = file.strip_suffix(TEMPORARY);
    if let Some(playlist) = target.and_then(|target| target.strip_suffix(".m3u8")) {
        return Some(playlist);
    }
    let segment = target.unwrap_or(file);
    let (stream, _) = segment.rsplit_once('-')?;
    segment_number(stream, segment).map(|_| stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_directory_is_read_once_and_a_small_one_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = |file: &str| folder.path().join(file);
        for file in
            ["a-1.ts", "a-2.ts", "a-b-7.ts", "a.m3u8", "a.m3u8.tmp", "a-3.ts.tmp", "a-b.m3u8.tmp", "a-x.ts", "note.tmp"]
        {
            fs::write(path(file), "").unwrap();
        }
        let mut cache = DirCache::default();
        let mut numbers = |stream: &str| {
            let mut numbers = cache.segment_numbers(folder.path(), stream).unwrap();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!((numbers("a"), numbers("a-b"), numbers("b")), (vec![1, 2], vec![7], vec![]));
        assert!(!path("a.m3u8.tmp").exists() && !path("a-3.ts.tmp").exists() && !path("a-b.m3u8.tmp").exists());
        assert!(path("note.tmp").exists() && path("a.m3u8").exists(), "a file of no stream, and a complete one");
        fs::write(path("b-5.ts"), "").unwrap();
        assert_eq!(numbers("b"), [5]);
        (0..LARGE_DIR).for_each(|n| fs::write(path(&format!("s{n}.m3u8")), "").unwrap());
        assert!(numbers("c").is_empty());
        fs::write(path("c-5.ts"), "").unwrap();
        assert_eq!((numbers("c"), numbers("b")), (vec![], vec![5]), "as it was a moment ago");
        let end = Instant::now() + 20 * MAX_AGE;
        while numbers("c") != [5] {
            assert!(Instant::now() < end, "it is read again");
            std::thread::sleep(MAX_AGE / 4);
        }
    }

    #[test]
    fn a_large_directory_is_not_forgotten_for_others() {
        let folder = tempfile::tempdir().unwrap();
        (0..=LARGE_DIR).for_each(|n| fs::write(folder.path().join(format!("s{n}.m3u8")), "").unwrap());
        let small = tempfile::tempdir().unwrap();
        let mut cache = DirCache::default();
        assert!(cache.segment_numbers(folder.path(), "c").unwrap().is_empty());
        fs::write(folder.path().join("c-5.ts"), "").unwrap();
        assert!(cache.segment_numbers(small.path(), "c").unwrap().is_empty());
        assert!(cache.segment_numbers(&small.path().join("none"), "c").is_err());
        assert!(cache.segment_numbers(folder.path(), "c").unwrap().is_empty(), "it is not read again");
    }
}
