//! Files that are there as a whole or not at all: written under a name of their own, then renamed.
//!
//! What is renamed never changes again, so whoever has opened a file reads it to its end, however slowly. Nothing is forced onto
//! the disk: after a loss of power a stream begins anew.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the names of files end with while they are written.
pub(super) const TEMPORARY: &str = ".tmp";

/// Writes a file whose name nobody may have.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if there is a file of this name, and what the disk says.
pub(super) fn create(path: &Path, body: &[u8]) -> io::Result<()> {
    write(path, body, rename_to_new)
}

/// Writes a file in the place of the one that has its name.
///
/// # Errors
/// What the disk says. The old file is there then.
pub(super) fn replace(path: &Path, body: &[u8]) -> io::Result<()> {
    write(path, body, rename_over)
}

/// The path with so much more at its end.
pub(super) fn with_end(path: &Path, end: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes the directories if need be.
fn write(path: &Path, body: &[u8], rename: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = with_end(path, TEMPORARY);
    let mut written = fs::write(&temporary, body);
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        written = fs::write(&temporary, body);
    }
    let written = written.and_then(|()| rename(&temporary, path));
    if written.is_err() {
        // It may be what fills the disk.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(renamed) = special::rename_to_new(from, to) {
        return renamed;
    }
    // Nobody else writes here.
    if to.exists() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// A file that is renamed over another is written to the disk at once by some file systems (ext4, unless it is mounted with
/// `noauto_da_alloc`), for programs that rely on it. A playlist lives for one segment and need not be there ever; so the two
/// exchange their names, and the old one goes.
fn rename_over(from: &Path, to: &Path) -> io::Result<()> {
    match special::exchange(from, to) {
        Some(Ok(())) => fs::remove_file(from).inspect_err(|_| {
            // What had the name is no file, and is to keep it.
            special::exchange(from, to);
        }),
        // There is no old one.
        Some(Err(_)) | None => fs::rename(from, to),
    }
}

/// What only Linux can do, and not on every file system: `None` there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod special {
    use std::io;
    use std::path::Path;

    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

    pub(super) fn rename_to_new(from: &Path, to: &Path) -> Option<io::Result<()>> {
        rename(from, to, RenameFlags::RENAME_NOREPLACE)
    }

    pub(super) fn exchange(from: &Path, to: &Path) -> Option<io::Result<()>> {
        rename(from, to, RenameFlags::RENAME_EXCHANGE)
    }

    fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Option<io::Result<()>> {
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) {
            Err(Errno::EINVAL | Errno::ENOSYS) => None,
            renamed => Some(renamed.map_err(io::Error::from)),
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod special {
    use std::io;
    use std::path::Path;

    pub(super) fn rename_to_new(_from: &Path, _to: &Path) -> Option<io::Result<()>> {
        None
    }

    pub(super) fn exchange(_from: &Path, _to: &Path) -> Option<io::Result<()>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_has_opened_a_file_reads_it_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("of/a/stream.m3u8");
        replace(&path, b"one").unwrap();
        let mut reader = fs::File::open(&path).unwrap();
        replace(&path, b"a second").unwrap();
        replace(&path, b"three").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("one", "three"));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else stays");
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
