//! The thread that writes recordings: under a temporary name, which is replaced at the end.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::file::Ending;
use super::job::{Counters, FileState, Job, Outcome, Task};
use super::library::Library;
use super::path;
use crate::app::session::recordings::{RecordingEntry, Removal};
use crate::codec::mp4::{self, recording::Completion};
use crate::st::{self, Inbox};

const TEMPORARY: &str = ".tmp";

const MAX_ATTEMPTS: u32 = 100;

/// Bytes and time after which the free space is looked at again.
const CHECK_BYTES: u64 = 16 * 1024 * 1024;
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct DiskThread {
    files: HashMap<usize, OpenFile>,
    counters: Arc<Counters>,
    outcomes: Arc<Inbox<Outcome>>,
    library: Library,
}

struct OpenFile {
    file: File,
    root: PathBuf,
    path: PathBuf,
    temporary: PathBuf,
    min_free: u64,
    head_size: u64,
    size: u64,
    checked_at: Instant,
    checked_size: u64,
}

impl DiskThread {
    pub(super) fn new(counters: Arc<Counters>, outcomes: Arc<Inbox<Outcome>>, library: Library) -> Self {
        Self { files: HashMap::new(), counters, outcomes, library }
    }

    pub(super) fn handle(&mut self, task: Task) {
        match task {
            Task::File(state, job) => {
                let size = job.size();
                self.handle_job(&state, job);
                self.counters.subtract(size);
            }
            Task::Maintain { roots, policies } => {
                // A panic is logged, and the recordings stay.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| {
                    roots.iter().for_each(|root| self.library.load(root));
                    self.library.retain(&policies, st::system_time());
                }));
                self.counters.is_maintaining.store(false, Ordering::Relaxed);
                self.counters.subtract(0);
            }
            Task::Remove(id, reply) => {
                let removal = panic::catch_unwind(AssertUnwindSafe(|| self.library.remove(&id)));
                reply.answer(removal.unwrap_or_else(|_| Removal::Failed("it failed".to_owned())));
                self.counters.removals.fetch_sub(1, Ordering::Relaxed);
                self.counters.subtract(0);
            }
        }
    }

    /// Handles a job. A panic, which is logged, costs one recording.
    fn handle_job(&mut self, state: &Arc<FileState>, job: Job) {
        let handled = panic::catch_unwind(AssertUnwindSafe(|| match job {
            Job::Open { template, min_free, head } => self.open(state, &template, min_free, &head),
            Job::Write(bytes) => self.write(state, |file| file.append(&bytes)),
            Job::WriteFragment(bytes) => self.write(state, |file| file.append_fragment(&bytes)),
            Job::Close(ending) => self.close(state, *ending),
        }));
        if handled.is_err() {
            self.files.remove(&state.id);
            state.failed.store(true, Ordering::Relaxed);
        }
    }

    fn open(&mut self, state: &Arc<FileState>, template: &str, min_free: u64, head: &Bytes) {
        let path = match path::expand(template, &state.stream, state.started_at) {
            Ok(path) => path,
            Err(reason) => return self.fail(state, Path::new(template), reason.to_owned()),
        };
        match OpenFile::create(template, &path, min_free, head) {
            Ok(file) => _ = self.files.insert(state.id, file),
            Err(error) => self.fail(state, &path, error.to_string()),
        }
    }

    fn write(&mut self, state: &Arc<FileState>, write: impl FnOnce(&mut OpenFile) -> io::Result<()>) {
        let Some(file) = self.files.get_mut(&state.id).filter(|_| !state.failed.load(Ordering::Relaxed)) else {
            return;
        };
        if let Err(error) = write(file) {
            let path = file.path.clone();
            self.fail(state, &path, error.to_string());
        }
    }

    fn close(&mut self, state: &Arc<FileState>, ending: Ending) {
        let Some(file) = self.files.remove(&state.id) else { return };
        let duration_ms = ending.duration();
        let (root, path) = (file.root.clone(), file.path.clone());
        match file.finish(ending) {
            Ok(None) => {}
            Ok(Some((path, bytes))) => {
                let entry = RecordingEntry {
                    path: path.strip_prefix(&root).unwrap_or(&path).to_owned(),
                    vhost: state.stream.vhost.clone(),
                    app: state.stream.app.clone(),
                    stream: state.stream.stream.clone(),
                    started_ms: state.started_ms(),
                    duration_ms,
                    bytes,
                };
                self.library.add(&root, entry);
                self.outcomes.post(Outcome::Recorded { file: state.clone(), path, duration_ms, bytes });
            }
            Err(error) => self.fail(state, &path, error.to_string()),
        }
    }

    fn fail(&self, state: &Arc<FileState>, path: &Path, error: String) {
        state.failed.store(true, Ordering::Relaxed);
        self.outcomes.post(Outcome::Failed { file: state.clone(), path: path.display().to_string(), error });
    }
}

impl OpenFile {
    fn create(template: &str, path: &Path, min_free: u64, head: &[u8]) -> io::Result<Self> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        check_free(parent, min_free)?;
        let (path, temporary, file) = create_new(path)?;
        let mut open = Self {
            file,
            root: path::root(template),
            path,
            temporary,
            min_free,
            head_size: head.len() as u64,
            size: 0,
            checked_at: st::now(),
            checked_size: 0,
        };
        if let Err(error) = open.append(head) {
            let _ = fs::remove_file(&open.temporary);
            return Err(error);
        }
        Ok(open)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check_free()?;
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Appends a fragment of MP4. Wherever a crash interrupts this, the file can be read up to the fragment before.
    fn append_fragment(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(hidden) = mp4::free_box_header(bytes) else { return Ok(()) };
        self.check_free()?;
        self.file.write_all(&hidden)?;
        self.file.write_all(&bytes[hidden.len()..])?;
        self.file.write_all_at(&bytes[mp4::BOX_TYPE..mp4::BOX_HEADER], self.size + mp4::BOX_TYPE as u64)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn check_free(&mut self) -> io::Result<()> {
        if self.size - self.checked_size >= CHECK_BYTES || st::now().duration_since(self.checked_at) >= CHECK_INTERVAL {
            check_free(self.path.parent().unwrap_or(Path::new(".")), self.min_free)?;
            (self.checked_at, self.checked_size) = (st::now(), self.size);
        }
        Ok(())
    }

    /// Completes the file, and returns its name and its size; `None` if it has no content.
    fn finish(self, ending: Ending) -> io::Result<Option<(PathBuf, u64)>> {
        if self.size <= self.head_size {
            fs::remove_file(&self.temporary)?;
            return Ok(None);
        }
        // A full disk can have taken a part of the last write.
        self.file.set_len(self.size)?;
        let Completion { head, tail } = ending.finish(self.size);
        let mut size = self.size + tail.len() as u64;
        if self.file.write_all_at(&tail, self.size).is_err() {
            // A full disk: the file plays without its index too.
            self.file.set_len(self.size)?;
            size = self.size;
        }
        if head.len() as u64 == self.head_size {
            self.file.write_all_at(&head, 0)?;
        }
        drop(self.file);
        let path = rename(&self.temporary, &self.path)?;
        Ok(Some((path, size)))
    }
}

/// Creates the temporary file of a recording whose name is not taken.
fn create_new(path: &Path) -> io::Result<(PathBuf, PathBuf, File)> {
    for attempt in 0..MAX_ATTEMPTS {
        let path = numbered(path, attempt);
        let temporary = with_suffix(&path, TEMPORARY);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match File::create_new(&temporary) {
            Ok(file) => return Ok((path, temporary, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Renames a complete file. A file that has got this name meanwhile stays.
fn rename(temporary: &Path, path: &Path) -> io::Result<PathBuf> {
    for attempt in 0..MAX_ATTEMPTS {
        let path = numbered(path, attempt);
        match fs::hard_link(temporary, &path) {
            Ok(()) => {
                fs::remove_file(temporary)?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(_) if fs::symlink_metadata(&path).is_err() => return fs::rename(temporary, &path).map(|()| path),
            Err(_) => {}
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Returns the path for an attempt: `a.flv`, `a-1.flv`, `a-2.flv`.
fn numbered(path: &Path, attempt: u32) -> PathBuf {
    if attempt == 0 {
        return path.to_owned();
    }
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, extension) = (text(path.file_stem()), text(path.extension()));
    path.with_file_name(format!("{stem}-{attempt}.{extension}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn check_free(directory: &Path, min_free: u64) -> io::Result<()> {
    if min_free == 0 {
        return Ok(());
    }
    let stat = nix::sys::statvfs::statvfs(directory)?;
    // The types differ by platform.
    #[allow(clippy::unnecessary_cast, reason = "32 bits elsewhere")]
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    if free < min_free {
        let text = format!("only {free} bytes are free, dvr_min_free is {min_free}");
        return Err(io::Error::new(ErrorKind::StorageFull, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.flv");
        fs::write(&path, "first").unwrap();
        let (second, temporary, _) = create_new(&path).unwrap();
        assert_eq!(second, folder.path().join("s-1.flv"));
        let (third, _, _) = create_new(&path).unwrap();
        assert_eq!(third, folder.path().join("s-2.flv"), "the name of a file that is being written is taken too");
        // Somebody else takes the name meanwhile.
        fs::write(&second, "other").unwrap();
        assert_eq!(rename(&temporary, &second).unwrap(), folder.path().join("s-1-1.flv"));
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), fs::read_to_string(&second).unwrap()),
            ("first".into(), "other".into())
        );
        assert!(!temporary.exists());
    }

    #[test]
    fn a_fragment_of_mp4_is_seen_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = OpenFile::create("s.mp4", &folder.path().join("s.mp4"), 0, b"head").unwrap();
        let content = || fs::read(folder.path().join("s.mp4.tmp")).unwrap();
        file.append_fragment(b"\0\0\0\x09moof.mdat").unwrap();
        assert_eq!((content(), file.size), (b"head\0\0\0\x09moof.mdat".to_vec(), 17));
        // A kill in the middle.
        let hidden = mp4::free_box_header(b"\0\0\0\x09moof.mdat").unwrap();
        file.file.write_all(&hidden).unwrap();
        assert_eq!(content()[17..], *b"\0\0\0\x09free");
        assert_eq!(mp4::free_box_header(b"\0\0\0\x09moo"), None);
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_not_filled() {
        let folder = tempfile::tempdir().unwrap();
        check_free(folder.path(), 0).unwrap();
        check_free(folder.path(), 1).unwrap();
        let error = check_free(folder.path(), u64::MAX).unwrap_err();
        assert!(error.to_string().contains("dvr_min_free"), "{error}");
    }
}
