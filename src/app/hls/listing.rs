//! What is in a directory from before, for the streams that begin in it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::TEMPORARY;
use super::playlist::number_of;

/// A directory of more files than this is not read for each stream: whoever publishes name after name is not to have the files of all
/// of them read each time.
const LARGE: usize = 100;

/// How old what was read of it may be. What it is read for was there before this server.
const FRESH: Duration = Duration::from_secs(1);

/// The segments in a directory, and what was left half written in it, by the names of their streams.
#[derive(Default)]
pub(super) struct Listing {
    folder: PathBuf,
    read: Option<Instant>,
    files: usize,
    numbers: HashMap<String, Vec<u64>>,
    temporary: HashMap<String, Vec<PathBuf>>,
}

impl Listing {
    /// The numbers of the segments that are there of a stream. What was half written of it is removed.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn take(&mut self, folder: &Path, name: &str) -> io::Result<Vec<u64>> {
        if self.folder != folder || self.files <= LARGE || self.is_old() {
            self.read(folder)?;
        }
        for path in self.temporary.remove(name).unwrap_or_default() {
            // Half written when the server was killed. If it stays, it is written over.
            let _ = fs::remove_file(path);
        }
        Ok(self.numbers.get(name).cloned().unwrap_or_default())
    }

    /// Lets go of what is too old to be of use.
    pub(super) fn forget_old(&mut self) {
        if self.is_old() {
            *self = Self::default();
        }
    }

    fn is_old(&self) -> bool {
        self.read.is_none_or(|read| read.elapsed() >= FRESH)
    }

    fn read(&mut self, folder: &Path) -> io::Result<()> {
        *self = Self { folder: folder.to_owned(), ..Self::default() };
        for entry in fs::read_dir(folder)? {
            let file = entry?.file_name();
            self.files += 1;
            let Some(file) = file.to_str() else { continue };
            if let Some((name, number)) = segment(file) {
                self.numbers.entry(name.to_owned()).or_default().push(number);
            } else if let Some(whole) = file.strip_suffix(TEMPORARY)
                && let Some(name) = whole.strip_suffix(".m3u8").or_else(|| Some(segment(whole)?.0))
            {
                self.temporary.entry(name.to_owned()).or_default().push(folder.join(file));
            }
        }
        self.read = Some(Instant::now());
        Ok(())
    }
}

/// The stream and the number of a segment, by the name of its file.
fn segment(file: &str) -> Option<(&str, u64)> {
    let (name, _) = file.rsplit_once('-')?;
    Some((name, number_of(name, file)?))
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
        let mut listing = Listing::default();
        let mut numbers = |name: &str| {
            let mut numbers = listing.take(folder.path(), name).unwrap();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!((numbers("a"), numbers("a-b"), numbers("b")), (vec![1, 2], vec![7], vec![]));
        assert!(!path("a.m3u8.tmp").exists() && !path("a-3.ts.tmp").exists() && !path("a-b.m3u8.tmp").exists());
        assert!(path("note.tmp").exists() && path("a.m3u8").exists(), "what is no stream's, and what is whole");
        fs::write(path("b-5.ts"), "").unwrap();
        assert_eq!(numbers("b"), [5]);
        (0..LARGE).for_each(|n| fs::write(path(&format!("s{n}.m3u8")), "").unwrap());
        assert_eq!(numbers("c"), []);
        fs::write(path("c-5.ts"), "").unwrap();
        assert_eq!((numbers("c"), numbers("b")), (vec![], vec![5]), "as it was a moment ago");
        std::thread::sleep(FRESH);
        assert_eq!(numbers("c"), [5]);
    }
}
