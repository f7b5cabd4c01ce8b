//! The pid file: it contains the process id, and its lock ensures that only one server uses it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Most attempts to open a file that its owner removes at the same time.
const MAX_ATTEMPTS: usize = 10;

/// A pid file locked by this process. Dropping it removes the file.
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

/// The reason why the pid file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has locked it.
    #[error("another server{by} uses the pid file {path}: stop it, or set another \"pid\" for this one")]
    Taken {
        /// The process, as ` (pid 1)`, or empty.
        by: String,
        /// The file.
        path: String,
    },
    /// It cannot be written.
    #[error("cannot write the pid file {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// The error.
        error: io::Error,
    },
}

impl PidFile {
    /// Opens and locks the file, also one that a dead process left. The lock survives a fork.
    pub fn claim(path: &Path) -> Result<PidFile, Error> {
        let shown = || path.display().to_string();
        let failed = |error| Error::Io { path: shown(), error };
        for _ in 0..MAX_ATTEMPTS {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    // Errors do not matter: the number is information for the operator.
                    let _ = (&mut file).take(16).read_to_string(&mut text);
                    let pid = text.trim();
                    let by = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
                    return Err(Error::Taken { by, path: shown() });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // The previous owner may have removed the file between the two calls; the lock would then be on a deleted file.
            let is_current = std::fs::metadata(path).is_ok_and(|current| {
                file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (current.dev(), current.ino()))
            });
            if is_current {
                return Ok(PidFile { path: path.to_owned(), file });
            }
        }
        Err(failed(io::Error::other("other processes keep removing it")))
    }

    /// Writes the id of this process. Call it after the process has left the terminal, which changes the id. Errors:
    /// `Error::Io`.
    pub fn write(&self) -> Result<(), Error> {
        let write = || {
            let mut file: &File = &self.file;
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write().map_err(|error| Error::Io { path: self.path.display().to_string(), error })
    }

    /// Removes the file.
    pub fn remove(&self) {
        // Fails if the file does not exist, which is fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_process_s_until_it_gives_it_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("srs.pid");
        std::fs::write(&path, "999999 and more of one that is gone\n").unwrap();
        let file = PidFile::claim(&path).unwrap();
        file.write().unwrap();
        let own = std::process::id().to_string();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), own);
        let error = PidFile::claim(&path).err().unwrap().to_string();
        assert!(error.contains(&format!("(pid {own})")), "{error}");
        drop(file);
        assert!(!path.exists());
        drop(PidFile::claim(&path).unwrap());
        let error = PidFile::claim(&folder.path().join("no/such")).err().unwrap().to_string();
        assert!(error.starts_with("cannot write the pid file "), "{error}");
    }
}
