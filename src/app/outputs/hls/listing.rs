//! What is in a directory from before, for the streams that begin in it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::TEMPORARY;
use super::playlist::number_of;

/// What was read of a directory of more files than this is kept for a while: whoever publishes name after name is not to have the files
/// of all of them read each time.
const LARGE: usize = 100;

/// How old it may be: what it is read for was there before this server. And so many times as long as it took to read, if that is more.
const FRESH: Duration = Duration::from_secs(1);
const TIMES: u32 = 20;

/// Of how many directories. Those that were asked for last stay.
const MAX_KEPT: usize = 16;

/// What was read of directories, the last that was asked for at the end.
#[derive(Default)]
pub(super) struct Listing(Vec<Listed>);

/// The segments in a directory, and what was left half written in it, by the names of their streams.
struct Listed {
    folder: PathBuf,
    good_until: Instant,
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
        self.forget_old();
        let kept = self.0.iter().position(|listed| listed.folder == folder);
        let mut listed = match kept {
            Some(at) => self.0.remove(at),
            None => Listed::read(folder)?,
        };
        for path in listed.temporary.remove(name).unwrap_or_default() {
            // Half written when the server was killed. If it stays, it is written over.
            let _ = fs::remove_file(path);
        }
        let numbers = listed.numbers.get(name).cloned().unwrap_or_default();
        if listed.files > LARGE {
            self.0.push(listed);
            if self.0.len() > MAX_KEPT {
                self.0.remove(0);
            }
        }
        Ok(numbers)
    }

    /// Lets go of what is too old to be of use.
    pub(super) fn forget_old(&mut self) {
        let now = Instant::now();
        self.0.retain(|listed| now < listed.good_until);
    }
}

impl Listed {
    fn read(folder: &Path) -> io::Result<Self> {
        let start = Instant::now();
        let (mut files, mut numbers, mut temporary) = (0, HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for entry in fs::read_dir(folder)? {
            let file = entry?.file_name();
            files += 1;
            let Some(file) = file.to_str() else { continue };
            if let Some((name, number)) = segment(file) {
                numbers.entry(name.to_owned()).or_default().push(number);
            } else if let Some(whole) = file.strip_suffix(TEMPORARY)
                && let Some(name) = whole.strip_suffix(".m3u8").or_else(|| Some(segment(whole)?.0))
            {
                temporary.entry(name.to_owned()).or_default().push(folder.join(file));
            }
        }
        let end = Instant::now();
        let good_until = end + FRESH.max(TIMES * (end - start));
        Ok(Self { folder: folder.to_owned(), good_until, files, numbers, temporary })
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
        let end = Instant::now() + 20 * FRESH;
        while numbers("c") != [5] {
            assert!(Instant::now() < end, "it is read again");
            std::thread::sleep(FRESH / 4);
        }
    }

    #[test]
    fn a_large_directory_is_not_forgotten_for_others() {
        let folder = tempfile::tempdir().unwrap();
        (0..=LARGE).for_each(|n| fs::write(folder.path().join(format!("s{n}.m3u8")), "").unwrap());
        let small = tempfile::tempdir().unwrap();
        let mut listing = Listing::default();
        assert_eq!(listing.take(folder.path(), "c").unwrap(), []);
        fs::write(folder.path().join("c-5.ts"), "").unwrap();
        assert_eq!(listing.take(small.path(), "c").unwrap(), []);
        assert!(listing.take(&small.path().join("none"), "c").is_err());
        assert_eq!(listing.take(folder.path(), "c").unwrap(), [], "it is not read again");
    }
}
