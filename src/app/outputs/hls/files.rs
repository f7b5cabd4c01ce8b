//! Files that are there as a whole or not at all: written under a name of their own, then renamed.
//!
//! A segment never changes again, so whoever has opened it reads it to its end, however slowly. Who has opened a playlist has the
//! time of a segment for it, see [`Versions`]. Nothing is forced onto the disk: after a loss of power a stream begins anew.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the names of files end with while they are written.
pub(super) const TEMPORARY: &str = ".tmp";

/// Writes a file whose name nobody may have.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if there is a file of this name, and what the disk says.
pub(super) fn create(path: &Path, body: &[u8]) -> io::Result<()> {
    write(path, &with_end(path, TEMPORARY), |temporary| write_fresh(temporary, body), rename_to_new)
}

/// A file that gets another content again and again.
///
/// The file that had the name before stays, under the temporary name, and is what the next content is written into. A new file
/// each time, and one removed, is what costs most of all where files are on a disk: an ext4 without a journal looks at each that
/// was removed within the last minutes before it makes another, and one with a journal writes both down.
#[derive(Debug)]
pub(super) struct Versions {
    path: PathBuf,
    /// When the old file lost the name, if it is there.
    old_since: Option<Instant>,
}

/// How long a file that has lost its name stays as it is, for those who have opened it.
const READ: Duration = Duration::from_secs(1);

impl Versions {
    /// Of the file of this path, whether it is there or not.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, old_since: None }
    }

    /// The path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file with this content in the place of the one that has the name. `now` does not run backwards.
    ///
    /// # Errors
    /// What the disk says. The file that had the name has it then.
    pub(super) fn replace(&mut self, body: &[u8], now: Instant) -> io::Result<()> {
        let temporary = with_end(&self.path, TEMPORARY);
        let is_free = self.old_since.take().is_some_and(|since| now.duration_since(since) >= READ);
        let mut stays = false;
        let write_new =
            |temporary: &Path| if is_free { write_over(temporary, body) } else { write_fresh(temporary, body) };
        write(&self.path, &temporary, write_new, |from, to| exchange(from, to).map(|exchanged| stays = exchanged))?;
        self.old_since = stays.then_some(now);
        Ok(())
    }

    /// Removes the old file.
    pub(super) fn forget_old(&mut self) {
        if self.old_since.take().is_some() {
            // Should it stay, it is removed when the stream is published again.
            let _ = fs::remove_file(with_end(&self.path, TEMPORARY));
        }
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        self.forget_old();
    }
}

/// The path with so much more at its end.
pub(super) fn with_end(path: &Path, end: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes the directories if need be.
fn write(
    path: &Path,
    temporary: &Path,
    write: impl Fn(&Path) -> io::Result<()>,
    rename: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut written = write(temporary);
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        written = write(temporary);
    }
    let written = written.and_then(|()| rename(temporary, path));
    if written.is_err() {
        // It may be what fills the disk.
        let _ = fs::remove_file(temporary);
    }
    written
}

/// Writes into a file that is there and is to keep nothing of what is in it. If it is not, or is not ours alone, into a new one.
fn write_over(path: &Path, body: &[u8]) -> io::Result<()> {
    // Whatever somebody has put there meanwhile is not followed and not waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
    let Ok(mut file) = opened else { return write_fresh(path, body) };
    let metadata = file.metadata()?;
    if metadata.nlink() != 1 || !metadata.is_file() {
        return write_fresh(path, body);
    }
    file.write_all(body)?;
    // What was emptied before has some file systems write what it gets at once.
    if metadata.len() > body.len() as u64 { file.set_len(body.len() as u64) } else { Ok(()) }
}

/// Writes a new file, whatever has the name.
fn write_fresh(path: &Path, body: &[u8]) -> io::Result<()> {
    let create = || File::create_new(path);
    let created = create().or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| create()),
        _ => Err(error),
    });
    created?.write_all(body)
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

/// Has a file take the name of another, and the other, if there is one, the name of the file: `false` if there is none.
///
/// A file that is renamed over another is written to the disk at once by some file systems (ext4, unless it is mounted with
/// `noauto_da_alloc`), for programs that rely on it. A playlist lives for one segment and need not be there ever.
fn exchange(from: &Path, to: &Path) -> io::Result<bool> {
    let Some(Ok(())) = special::exchange(from, to) else {
        // There is no other, or no such call.
        return fs::rename(from, to).map(|()| false);
    };
    if fs::symlink_metadata(from).is_ok_and(|other| other.is_file()) {
        return Ok(true);
    }
    // What had the name is no file, and is to keep it.
    special::exchange(from, to);
    Err(ErrorKind::AlreadyExists.into())
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

    fn read(file: &mut File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn who_has_opened_a_version_reads_it_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("of/a/stream.m3u8");
        let mut versions = Versions::new(path.clone());
        let now = Instant::now();
        versions.replace(b"one", now).unwrap();
        let mut reader = File::open(&path).unwrap();
        versions.replace(b"a second", now).unwrap();
        // Soon, so the first one is not written over.
        versions.replace(b"three", now + READ / 2).unwrap();
        assert_eq!((read(&mut reader).as_str(), fs::read_to_string(&path).unwrap().as_str()), ("one", "three"));
    }

    #[test]
    fn versions_take_turns_in_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.m3u8");
        let mut versions = Versions::new(path.clone());
        let mut now = Instant::now();
        let mut inodes = Vec::new();
        for text in ["one", "a second", "3", "another that is long", "5"] {
            versions.replace(text.as_bytes(), now).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            inodes.push(fs::metadata(&path).unwrap().ino());
            now += READ;
        }
        if versions.old_since.is_some() {
            assert_eq!(inodes[1..3], inodes[3..5], "{inodes:?}");
            assert_ne!(inodes[1], inodes[2]);
        }
        // Somebody has a link to it: that is not to change.
        let kept = folder.path().join("kept");
        fs::hard_link(&path, &kept).unwrap();
        for text in ["6", "7"] {
            versions.replace(text.as_bytes(), now).unwrap();
            now += READ;
        }
        assert_eq!((fs::read_to_string(&kept).unwrap(), fs::read_to_string(&path).unwrap()), ("5".into(), "7".into()));
        drop(versions);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else stays");
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.m3u8");
        fs::create_dir_all(path.join("of somebody")).unwrap();
        let mut versions = Versions::new(path.clone());
        assert!(versions.replace(b"one", Instant::now()).is_err());
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
