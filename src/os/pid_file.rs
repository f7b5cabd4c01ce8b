//! The file that says which process the server is, and that there is only one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often a file that its owner removes at the same moment is opened again.
const TRIES: usize = 10;

/// A pid file that is this process's, by a lock that ends with the process. Dropping it removes the file.
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

/// Why the pid file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("another server{by} runs with the pid file {path}; stop it, or give this one another \"pid\"")]
    Taken {
        /// Which process, as ` (pid 1)`.
        by: String,
        /// The file.
        path: String,
    },
    /// It cannot be written.
    #[error("cannot write the pid file {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What is wrong.
        error: io::Error,
    },
}

impl PidFile {
    /// Takes the file and locks it. What is left of a process that is gone does not matter. The lock outlives a fork.
    ///
    /// # Errors
    /// [`Error`]
    pub fn claim(path: &Path) -> Result<PidFile, Error> {
        let shown = || path.display().to_string();
        let failed = |error| Error::Io { path: shown(), error };
        for _ in 0..TRIES {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    // Best effort: the number is for the operator only.
                    let _ = (&mut file).take(16).read_to_string(&mut text);
                    let pid = text.trim();
                    let by = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
                    return Err(Error::Taken { by, path: shown() });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // The one before may have removed the file between the two calls; the lock would be on nothing then.
            let is_there = std::fs::metadata(path).is_ok_and(|there| {
                file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
            });
            if is_there {
                return Ok(PidFile { path: path.to_owned(), file });
            }
        }
        Err(failed(io::Error::other("others keep removing it")))
    }

    /// Writes the number of this process, which is known once it has left the terminal.
    ///
    /// # Errors
    /// [`Error::Io`]
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
        // One that is gone already is gone.
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
