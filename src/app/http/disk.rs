//! Files of a directory. Whatever may wait for a disk runs beside the worker.

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

use super::entity::Entity;
use crate::st::{self, Cond};

/// What is read at a time. A file that is not larger is read when it is opened.
pub(super) const CHUNK: u64 = 128 * 1024;

/// Jobs for the disk at a time: enough for it, and not so many that others have to wait behind them for long.
const JOBS: usize = 64;

/// What they hold at most, in bytes, until it is handed on.
pub(crate) const IN_HAND: usize = JOBS * CHUNK as usize;

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The files of a directory.
pub(super) struct Disk {
    jobs: AtomicUsize,
    is_free: Cond,
}

/// A file that was found.
pub(super) struct Found {
    pub(super) entity: Entity,
    content: Content,
}

enum Content {
    /// All of it, of a small one, which is no longer open.
    Whole(Bytes),
    Open(Arc<File>),
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum Absent {
    NotFound,
    /// It is a directory: its files are below a path that ends with a slash.
    IsDirectory,
    /// The disk has more to do than it can.
    Busy,
    Failed(io::Error),
}

impl Disk {
    pub(super) fn new() -> Self {
        Self { jobs: AtomicUsize::new(0), is_free: Cond::new() }
    }

    /// Opens the file below `root` of a path that has been checked, see `request`. Of a directory, when the path ends with a
    /// slash, it is index.html.
    pub(super) fn open(&self, root: &Path, path: &str) -> Result<Found, Absent> {
        // Names that begin with a dot are not for everybody: settings, repositories. Those that end so are being written.
        let parts = path.strip_suffix('/').unwrap_or(path).split('/');
        if { parts }.any(|part| part.is_empty() || part.starts_with('.')) || path.ends_with(".tmp") {
            return Err(Absent::NotFound);
        }
        let path = if path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
        let root = root.to_owned();
        self.run(move || open(&root, &path))?
    }

    /// Reads these bytes of a file, at most [`CHUNK`] of them.
    pub(super) fn read(&self, found: &Found, range: Range<u64>) -> Result<Bytes, Absent> {
        let file = match &found.content {
            // The range is one of the entity, whose length is the content's.
            Content::Whole(content) => return Ok(content.slice(range.start as usize..range.end as usize)),
            Content::Open(file) => file.clone(),
        };
        self.run(move || read(&file, range))?.map_err(Absent::Failed)
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Absent> {
        while self.jobs.load(Ordering::Relaxed) >= JOBS {
            if !self.is_free.wait_timeout(PATIENCE) {
                return Err(Absent::Busy);
            }
        }
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let result = st::offload(job);
        self.jobs.fetch_sub(1, Ordering::Relaxed);
        self.is_free.signal();
        result.map_err(|_| Absent::Busy)
    }
}

fn open(root: &Path, path: &str) -> Result<Found, Absent> {
    // Each time anew: the directory may be made, or become another, while the server runs.
    let root = root.canonicalize().map_err(absent)?;
    // A FIFO is not to be waited for.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(root.join(path)).map_err(absent)?;
    // Where a symbolic link has led is asked after the fact, of the file that is open: so nothing can be changed in between.
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(Absent::Failed)?;
    if !real.starts_with(&root) {
        return Err(Absent::NotFound);
    }
    let metadata = file.metadata().map_err(Absent::Failed)?;
    if metadata.is_dir() {
        return Err(Absent::IsDirectory);
    }
    if !metadata.is_file() {
        return Err(Absent::NotFound);
    }
    let entity = Entity::of_file(path, metadata.len(), metadata.modified().map_err(Absent::Failed)?);
    let content = match entity.len {
        0..=CHUNK => Content::Whole(read(&file, 0..entity.len).map_err(Absent::Failed)?),
        _ => Content::Open(Arc::new(file)),
    };
    Ok(Found { entity, content })
}

fn read(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; range.end.saturating_sub(range.start).min(CHUNK) as usize];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn absent(error: io::Error) -> Absent {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidFilename => Absent::NotFound,
        _ => match error.raw_os_error() {
            // Links in a circle; a socket, which cannot be opened.
            Some(libc::ELOOP | libc::ENXIO) => Absent::NotFound,
            _ => Absent::Failed(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What a path gives: the file's content, or why there is none.
    fn given(root: &Path, path: &str) -> Result<Vec<u8>, String> {
        let (root, path) = (root.to_owned(), path.to_owned());
        let open = move || {
            let disk = Disk::new();
            let found = disk.open(&root, &path)?;
            let mut content = Vec::new();
            while (content.len() as u64) < found.entity.len {
                let at = content.len() as u64;
                content.extend(disk.read(&found, at..(at + CHUNK).min(found.entity.len))?);
            }
            Ok(content)
        };
        st::run(open).unwrap().map_err(|absent: Absent| format!("{absent:?}"))
    }

    #[test]
    fn a_file_is_open_only_while_there_is_more_of_it_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, len, is_left_open) in [("empty", 0, false), ("small", CHUNK, false), ("large", CHUNK + 1, true)] {
            std::fs::write(root.join(name), vec![7; len as usize]).unwrap();
            let (folder, path) = (root.clone(), root.join(name));
            let count = move || {
                let found = Disk::new().open(&folder, name);
                let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
                let count = open.filter(|file| std::fs::read_link(file.path()).is_ok_and(|open| open == path)).count();
                found.map(|found| (found.entity.len, count))
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

        assert_eq!(given(&root, "live/a.ts").unwrap(), b"a");
        assert_eq!(given(&root, "inner/a.ts").unwrap(), b"a");
        assert_eq!(given(&root, "live/").unwrap(), b"index");
        assert_eq!(given(&root, "large").unwrap(), large);
        assert_eq!(given(&root, "live").unwrap_err(), "IsDirectory");
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
            let due = if path == "inner/" { Ok(b"index".to_vec()) } else { Err("NotFound".to_owned()) };
            assert_eq!(given(&root, path), due, "{path}");
        }
        assert_eq!(given(&root, &"x".repeat(300)).unwrap_err(), "NotFound");
        assert_eq!(given(&folder.path().join("none"), "a").unwrap_err(), "NotFound");
    }
}
