//! Files of a directory. All disk access runs on the thread pool, never on the worker.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::http::file_metadata::FileMetadata;
use crate::st::{self, Cond};

/// Bytes per read. A file of at most this size is read when it is opened.
pub const CHUNK: u64 = 128 * 1024;

/// Disk jobs at a time: enough to keep the disk busy, and few enough that other jobs of the pool do not wait long.
const MAX_JOBS: usize = 64;

/// Bytes that disk jobs hold at most until their results are handed on.
pub(super) const MAX_IN_FLIGHT: usize = MAX_JOBS * CHUNK as usize;

/// Time that a request waits for a free job before it is answered 503.
const JOB_TIMEOUT: Duration = Duration::from_secs(5);

/// Access to the files of a directory. Clones share the limit of jobs.
#[derive(Clone)]
pub struct Disk(Arc<Jobs>);

struct Jobs {
    running: AtomicUsize,
    finished: Cond,
}

pub struct OpenFile {
    pub metadata: FileMetadata,
    content: Content,
    disk: Disk,
}

enum Content {
    /// The whole content of a small file, which is closed again.
    Whole(Bytes),
    Open(Arc<File>),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("no such file")]
    NotFound,
    /// The path is a directory and does not end with a slash.
    #[error("this is a directory")]
    IsDirectory,
    /// No disk job became free within [`JOB_TIMEOUT`].
    #[error("the disk is busy")]
    Busy,
    #[error(transparent)]
    Failed(io::Error),
}

impl Disk {
    pub fn new() -> Self {
        Self(Arc::new(Jobs { running: AtomicUsize::new(0), finished: Cond::new() }))
    }

    /// Opens the file at `path` below `root`; index.html for a path that ends with a slash. The parser of requests has checked
    /// that the path does not lead upwards.
    pub fn open(&self, root: &Path, path: &str) -> Result<OpenFile, OpenError> {
        // Hidden files (settings, repositories) and files that are being written are not served.
        let parts = path.strip_suffix('/').unwrap_or(path).split('/');
        if { parts }.any(|part| part.is_empty() || part.starts_with('.')) || path.ends_with(".tmp") {
            return Err(OpenError::NotFound);
        }
        let path = if path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
        let root = root.to_owned();
        let (metadata, content) = self.run(move || open(&root, &path))??;
        Ok(OpenFile { metadata, content, disk: self.clone() })
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, OpenError> {
        let Jobs { running, finished } = &*self.0;
        while running.load(Ordering::Relaxed) >= MAX_JOBS {
            if !finished.wait_timeout(JOB_TIMEOUT) {
                return Err(OpenError::Busy);
            }
        }
        running.fetch_add(1, Ordering::Relaxed);
        let result = st::offload(job);
        running.fetch_sub(1, Ordering::Relaxed);
        finished.signal();
        result.map_err(|_| OpenError::Busy)
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenFile {
    /// Reads a range of the file, at most [`CHUNK`] bytes.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, OpenError> {
        let file = match &self.content {
            // The range lies within the metadata's length, which is the content's.
            Content::Whole(content) => return Ok(content.slice(range.start as usize..range.end as usize)),
            Content::Open(file) => file.clone(),
        };
        self.disk.run(move || read(&file, range))?.map_err(OpenError::Failed)
    }
}

fn open(root: &Path, path: &str) -> Result<(FileMetadata, Content), OpenError> {
    // Resolved each time: the directory may be created or replaced while the server runs.
    let root = root.canonicalize().map_err(open_error)?;
    // Non-blocking, since opening a FIFO would wait for a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(root.join(path)).map_err(open_error)?;
    // Checks where symbolic links led on the open file, so that nothing can change between check and use.
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(OpenError::Failed)?;
    if !real.starts_with(&root) {
        return Err(OpenError::NotFound);
    }
    let metadata = file.metadata().map_err(OpenError::Failed)?;
    if metadata.is_dir() {
        return Err(OpenError::IsDirectory);
    }
    if !metadata.is_file() {
        return Err(OpenError::NotFound);
    }
    let metadata = FileMetadata::of_file(path, metadata.len(), metadata.modified().map_err(OpenError::Failed)?);
    let content = match metadata.len {
        0..=CHUNK => Content::Whole(read(&file, 0..metadata.len).map_err(OpenError::Failed)?),
        _ => Content::Open(Arc::new(file)),
    };
    Ok((metadata, content))
}

fn read(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; range.end.saturating_sub(range.start).min(CHUNK) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn open_error(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidFilename => OpenError::NotFound,
        _ => match error.raw_os_error() {
            // A loop of symbolic links; a socket.
            Some(libc::ELOOP | libc::ENXIO) => OpenError::NotFound,
            _ => OpenError::Failed(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns the content of a file, or the error as text.
    fn content_of(root: &Path, path: &str) -> Result<Vec<u8>, String> {
        let (root, path) = (root.to_owned(), path.to_owned());
        let open = move || {
            let file = Disk::new().open(&root, &path)?;
            let mut content = Vec::new();
            while (content.len() as u64) < file.metadata.len {
                let at = content.len() as u64;
                content.extend(file.read(at..(at + CHUNK).min(file.metadata.len))?);
            }
            Ok(content)
        };
        st::run(open).unwrap().map_err(|error: OpenError| format!("{error:?}"))
    }

    #[test]
    fn a_file_is_open_only_while_there_is_more_of_it_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, len, is_left_open) in [("empty", 0, false), ("small", CHUNK, false), ("large", CHUNK + 1, true)] {
            std::fs::write(root.join(name), vec![7; len as usize]).unwrap();
            let (folder, path) = (root.clone(), root.join(name));
            let count = move || {
                let file = Disk::new().open(&folder, name);
                let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
                let count = open.filter(|file| std::fs::read_link(file.path()).is_ok_and(|open| open == path)).count();
                file.map(|file| (file.metadata.len, count))
            };
            assert_eq!(st::run(count).unwrap().unwrap(), (len, usize::from(is_left_open)), "{name}");
        }
    }

    #[test]
    fn only_files_below_the_directory_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("html");
        std::fs::create_dir_all(root.join("live/.git")).unwrap();
        std::fs::create_dir_all(folder.path().join("html-secret")).unwrap();
        for (path, content) in [
            ("html/live/a.ts", "a"),
            ("html/live/index.html", "index"),
            ("html/live/.a.ts", "hidden"),
            ("html/live/b.ts.tmp", "hidden"),
            ("html/live/.git/config", "hidden"),
            ("secret", "secret"),
            ("html-secret/a", "secret"),
        ] {
            std::fs::write(folder.path().join(path), content).unwrap();
        }
        symlink("live", root.join("inner")).unwrap();
        symlink("../secret", root.join("outer")).unwrap();
        symlink("../html-secret", root.join("beside")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
        let large = (0..3 * CHUNK + 17).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        std::fs::write(root.join("large"), &large).unwrap();

        assert_eq!(content_of(&root, "live/a.ts").unwrap(), b"a");
        assert_eq!(content_of(&root, "inner/a.ts").unwrap(), b"a");
        assert_eq!(content_of(&root, "live/").unwrap(), b"index");
        assert_eq!(content_of(&root, "large").unwrap(), large);
        assert_eq!(content_of(&root, "live").unwrap_err(), "IsDirectory");
        for path in [
            "outer",
            "beside/a",
            "etc/passwd",
            "etc/hostname",
            "loop",
            "fifo",
            "live/.a.ts",
            "live/b.ts.tmp",
            "live/.git/config",
            "none",
            "live/a.ts/",
            "live/a.ts/b",
            "",
            "/",
            "//",
            "live//a.ts",
            "/etc/passwd",
            "inner/",
        ] {
            let expected = if path == "inner/" { Ok(b"index".to_vec()) } else { Err("NotFound".to_owned()) };
            assert_eq!(content_of(&root, path), expected, "{path}");
        }
        assert_eq!(content_of(&root, &"x".repeat(300)).unwrap_err(), "NotFound");
        assert_eq!(content_of(&folder.path().join("none"), "a").unwrap_err(), "NotFound");
    }
}
