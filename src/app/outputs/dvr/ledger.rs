//! The list of finished recordings on disk, in a hidden file of their root directory: a line of JSON for each.
//!
//! It makes recordings known after a restart, and tells them from files of others: only what it lists is ever removed. Used on
//! threads that may wait for a disk, never on the worker.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use crate::app::session::recordings::RecordingEntry;

const FILE: &str = ".srs-recordings";

/// Most recordings that are listed. Older ones stay on the disk and are not known any more.
pub(super) const MAX_ENTRIES: usize = 100_000;

const MAX_LINE: u64 = 16 * 1024;

/// Reads the list of a directory, oldest first. One that cannot be read is empty; broken lines are skipped.
pub(super) fn load(root: &Path) -> Vec<RecordingEntry> {
    File::open(root.join(FILE)).map(|file| read(BufReader::new(file))).unwrap_or_default()
}

fn read(mut reader: impl BufRead) -> Vec<RecordingEntry> {
    let mut entries = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        // The rest of a line that is too long is no entry either.
        if let Ok(entry) = serde_json::from_slice::<RecordingEntry>(&line)
            && is_below(&entry.path)
        {
            entries.push(entry);
        }
        if entries.len() >= 2 * MAX_ENTRIES {
            entries.drain(..MAX_ENTRIES);
        }
    }
    entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
    entries
}

pub(super) fn append(root: &Path, entry: &RecordingEntry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(root.join(FILE))?;
    // A full disk or a crash can have left a part of a line.
    if !ends_with_line(&file)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line)
}

/// Replaces the list of a directory. On an error the old one stays.
pub(super) fn rewrite<'a>(root: &Path, entries: impl Iterator<Item = &'a RecordingEntry>) -> io::Result<()> {
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    let (path, temporary) = (root.join(FILE), root.join(format!("{FILE}.tmp")));
    fs::write(&temporary, text)?;
    fs::rename(temporary, path)
}

/// Removes the file of a recording, and directories that are empty then. A file that somebody else has put in its place stays.
pub(super) fn remove_file(root: &Path, entry: &RecordingEntry) -> io::Result<()> {
    let path = root.join(&entry.path);
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == entry.bytes => {
            fs::remove_file(&path).or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })?;
        }
        Ok(_) => return Ok(()),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    // Directories with files refuse.
    let mut directory = path.parent();
    while let Some(empty) = directory.filter(|directory| *directory != root && directory.starts_with(root)) {
        if fs::remove_dir(empty).is_err() {
            break;
        }
        directory = empty.parent();
    }
    Ok(())
}

fn ends_with_line(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let length = file.metadata()?.len();
    let mut last = [0];
    Ok(length == 0 || file.read_at(&mut last, length - 1)? == 0 || last == *b"\n")
}

fn is_below(path: &Path) -> bool {
    let is_plain = |part| matches!(part, std::path::Component::Normal(_));
    !path.as_os_str().is_empty() && path.components().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, bytes: u64) -> RecordingEntry {
        let text = |text: &str| text.to_owned();
        let (vhost, app, stream) = (text("v"), text("live"), text("s"));
        RecordingEntry { path: path.into(), vhost, app, stream, started_ms: 1, duration_ms: 2, bytes }
    }

    #[test]
    fn a_list_survives_lines_of_a_crash_and_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let all = [entry("live/a.flv", 1), entry("live/b.flv", 2), entry("live/c.flv", 3)];
        append(folder.path(), &all[0]).unwrap();
        append(folder.path(), &all[1]).unwrap();
        assert_eq!(load(folder.path()), all[..2]);
        let file = folder.path().join(FILE);
        let mut text = fs::read(&file).unwrap();
        text.extend_from_slice(
            b"{\"path\":\"../etc/passwd\",\"vhost\":\"v\",\"app\":\"a\",\"stream\":\"s\",\"started_ms\":1,",
        );
        text.extend_from_slice(b"\"duration_ms\":1,\"bytes\":1}\n\xff\n{}\n");
        text.extend_from_slice(&[b'x'; 100_000]);
        text.extend_from_slice(b"\n{\"path\"");
        fs::write(&file, text).unwrap();
        assert_eq!(load(folder.path()), all[..2]);
        append(folder.path(), &all[2]).unwrap();
        assert_eq!(load(folder.path()), all, "what follows half a line is found");
        rewrite(folder.path(), all[1..].iter()).unwrap();
        assert_eq!(load(folder.path()), all[1..]);
    }

    #[test]
    fn of_a_long_list_the_last_ones_are_known() {
        let line = serde_json::to_string(&entry("a.flv", 1)).unwrap();
        let text: String =
            (0..MAX_ENTRIES + 5).map(|n| line.replace("\"bytes\":1", &format!("\"bytes\":{n}")) + "\n").collect();
        let entries = read(text.as_bytes());
        assert_eq!((entries.len(), entries[0].bytes), (MAX_ENTRIES, 5));
    }

    #[test]
    fn only_own_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("live/x")).unwrap();
        for (name, content) in [("live/x/own.flv", "1"), ("live/foreign.flv", "somebody else's")] {
            fs::write(root.join(name), content).unwrap();
        }
        for name in ["live/x/own.flv", "live/foreign.flv", "live/gone.flv"] {
            remove_file(root, &entry(name, 1)).unwrap();
        }
        assert!(!root.join("live/x").exists() && root.join("live/foreign.flv").exists());
    }
}
