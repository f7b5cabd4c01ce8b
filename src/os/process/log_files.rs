//! The log files of children, written by a thread of their own: a disk that hangs stops no child.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

/// Pieces of output that wait for the disk. Further ones are dropped.
const QUEUE: usize = 1024;

/// Log files in one directory. Before another one is made, the oldest is removed: names of streams are without end.
const MAX_FILES: usize = 256;

/// The log file of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file. With the suffix `.1` it is the one before.
    pub path: PathBuf,
    /// Size in bytes at which a new file begins.
    pub max_bytes: u64,
}

pub(super) struct Piece {
    pub(super) file: LogFile,
    pub(super) bytes: Vec<u8>,
    /// Called on the thread of the log files with the error, if there is one.
    pub(super) on_error: Box<dyn FnOnce(io::Error) + Send>,
}

pub(super) fn start() -> io::Result<mpsc::SyncSender<Piece>> {
    let (sender, pieces) = mpsc::sync_channel::<Piece>(QUEUE);
    let write = move || {
        for piece in pieces {
            if let Err(error) = append(&piece.file, &piece.bytes) {
                (piece.on_error)(error);
            }
        }
    };
    thread::Builder::new().name("process logs".into()).spawn(write)?;
    Ok(sender)
}

/// Appends to a log file, and begins a new one if it is full.
fn append(file: &LogFile, bytes: &[u8]) -> io::Result<()> {
    let path = &file.path;
    match fs::metadata(path) {
        // Not of a device such as /dev/null.
        Ok(metadata) if metadata.is_file() && metadata.len() + bytes.len() as u64 > file.max_bytes => {
            fs::rename(path, previous(path))?;
        }
        Ok(_) => {}
        Err(_) => {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
                remove_oldest(directory, path);
            }
        }
    }
    OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
}

fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Makes room for one more file whose name has the same begin, up to the first dash, as that of `path`.
fn remove_oldest(directory: &Path, path: &Path) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((prefix, _)) = name.split_once('-') else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    let is_log = |name: &str| {
        let rest = name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
        rest && (name.ends_with(".log") || name.ends_with(".log.1"))
    };
    let files = entries.flatten().filter(|entry| is_log(&entry.file_name().to_string_lossy()));
    let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut files: Vec<_> = files.map(|entry| (age(&entry.path()), entry.path())).collect();
    files.sort();
    let excess = (files.len() + 1).saturating_sub(MAX_FILES);
    for (_, path) in files.iter().take(excess) {
        // Another file may take its place next time.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_becomes_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = LogFile { path: folder.path().join("a/ffmpeg-x.log"), max_bytes: 10 };
        for text in ["12345", "6789", "abc"] {
            append(&file, text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "abc");
        assert_eq!(fs::read_to_string(previous(&file.path)).unwrap(), "123456789");
        append(&file, &[b'x'; 100]).unwrap();
        append(&file, b"y").unwrap();
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "y", "a piece is never lost for its size");
        let null = LogFile { path: "/dev/null".into(), max_bytes: 1 };
        append(&null, b"many bytes").unwrap();
        let impossible = LogFile { path: file.path.join("below-a-file.log"), max_bytes: 1 };
        assert!(append(&impossible, b"x").is_err());
    }

    #[test]
    fn there_are_only_so_many_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other.log"), "").unwrap();
        for n in 0..MAX_FILES + 10 {
            let path = folder.path().join(format!("ffmpeg-{n}.log"));
            append(&LogFile { path, max_bytes: 100 }, b"x").unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), MAX_FILES + 1);
        assert!(folder.path().join("other.log").exists());
        assert!(folder.path().join(format!("ffmpeg-{}.log", MAX_FILES + 9)).exists());
    }
}
