//! Files that are complete or absent: written under a temporary name, then renamed.
//!
//! A reader that has a file open keeps reading the same content, however slowly. Nothing is flushed to the disk: after a loss of
//! power a stream starts anew.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub(super) const TEMPORARY: &str = ".tmp";

/// Writes a new file, and its directories if they are missing. [`ErrorKind::AlreadyExists`] if the name is taken.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    // A check before the rename is enough: this thread is the only writer.
    if fs::symlink_metadata(path).is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    replace(path, content)
}

/// Writes or replaces a file, and its directories if they are missing. On an error the old file stays.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(path, TEMPORARY);
    let mut written = write(&temporary, content);
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        written = write(&temporary, content);
    }
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // It may be the file that fills the disk.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

pub(super) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes a new file. One of this name is removed first, never opened: it may be a link or a pipe.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let created = File::create_new(path).or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| File::create_new(path)),
        _ => Err(error),
    });
    created?.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_has_opened_a_version_reads_it_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("of/a/stream.m3u8");
        replace(&path, b"one").unwrap();
        let mut reader = File::open(&path).unwrap();
        replace(&path, b"a second").unwrap();
        replace(&path, b"three").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("one", "three"));
    }

    #[test]
    fn a_link_to_a_version_keeps_its_content_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("s.m3u8"), folder.path().join("link"));
        replace(&path, b"5").unwrap();
        fs::hard_link(&path, &link).unwrap();
        fs::hard_link(&path, with_suffix(&path, TEMPORARY)).unwrap();
        replace(&path, b"6").unwrap();
        assert_eq!((fs::read_to_string(&link).unwrap(), fs::read_to_string(&path).unwrap()), ("5".into(), "6".into()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.m3u8");
        fs::create_dir_all(path.join("of somebody")).unwrap();
        assert!(replace(&path, b"one").is_err());
        assert!(path.join("of somebody").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays");
    }

    #[test]
    fn a_name_that_is_taken_is_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s-1.ts");
        create(&path, b"first").unwrap();
        assert_eq!(create(&path, b"second").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays");
    }
}
