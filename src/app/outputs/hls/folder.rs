//! The files of one stream: what is written, what is in its playlist, what is to be removed. It knows its own files one by one
//! and touches no others.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::files::{self, Versions, with_end};
use super::listing::Listing;
use super::playlist::{Entry, Lengths, Playlist};
use super::remains::{self, Remains, Remnant};

/// How long after a failure to remove a file it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Files that are removed in one go: a segment of another stream may wait to be written.
pub(super) const BATCH: usize = 64;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub(super) struct Error {
    path: PathBuf,
    error: io::Error,
}

/// The files of a stream.
pub(super) struct Folder {
    /// `hls_path`.
    root: PathBuf,
    /// Without what the names end with: `…/live/livestream`.
    base: PathBuf,
    playlist: Playlist,
    /// Its file.
    file: Versions,
    /// Segments that left the playlist, and when they are to go.
    leaving: VecDeque<(Instant, u64)>,
    /// How long they are held back at most, however long they say that they are.
    longest: Duration,
    /// The last segment was not written: the next one does not continue the playlist, and some of that may be gone.
    is_broken: bool,
    /// There is a playlist on disk.
    has_playlist: bool,
    is_closed: bool,
    is_disposed: bool,
    /// Its segments are no longer held back for those who play them.
    is_hurried: bool,
}

impl Folder {
    /// Looks at what is there from before. `base` is where the stream's files are below `root`, which is `hls_path`, without what their
    /// names end with. If nothing is there the first segment has the number `first`.
    pub(super) fn open(root: &Path, base: &str, listing: &mut Listing, first: u64) -> Self {
        let base = &root.join(base);
        let mut folder = Self {
            root: root.to_owned(),
            base: base.to_owned(),
            playlist: Playlist::new(""),
            file: Versions::new(with_end(base, ".m3u8")),
            leaving: VecDeque::new(),
            longest: Duration::MAX,
            is_broken: false,
            has_playlist: false,
            is_closed: false,
            is_disposed: false,
            is_hurried: false,
        };
        let name = folder.name().to_owned();
        let text = fs::read_to_string(folder.file.path());
        folder.has_playlist = text.is_ok();
        let read = text.as_deref().ok().and_then(|text| Playlist::read(&name, text));
        folder.playlist = read.unwrap_or_else(|| Playlist::new(&name));
        folder.playlist.retain_from_last(|entry| !segment(base, entry.number).exists());
        match listing.take(base.parent().unwrap_or(Path::new(".")), &name) {
            Ok(numbers) => folder.take_over(&numbers),
            // Nothing is there.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // What is there cannot be known now, so a number that nothing can have had: at less than one segment a second, the
            // seconds since 1970 are ahead of any.
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                folder.playlist.skip_number(now.as_secs());
            }
        }
        if folder.playlist.next_number() == 0
            && let Some(taken) = first.checked_sub(1)
        {
            folder.playlist.skip_number(taken);
        }
        folder
    }

    /// Whatever has been numbered is not numbered again. What has left the playlist already is to go: the server that was to
    /// remove it did not live to do so.
    fn take_over(&mut self, numbers: &[u64]) {
        let first = self.playlist.entries().next().map_or(self.playlist.next_number(), |entry| entry.number);
        let soon = Instant::now() + RETRY;
        let mut left: Vec<u64> = numbers.iter().copied().filter(|&number| number < first).collect();
        left.sort_unstable();
        self.leaving.extend(left.into_iter().map(|number| (soon, number)));
        if let Some(&last) = numbers.iter().max() {
            self.playlist.skip_number(last);
        }
    }

    /// The playlist as it is on disk.
    pub(super) fn playlist(&self) -> &Playlist {
        &self.playlist
    }

    /// Where that is.
    pub(super) fn playlist_path(&self) -> &Path {
        self.file.path()
    }

    /// The stream is here again.
    pub(super) fn reopen(&mut self) {
        (self.is_closed, self.is_hurried) = (false, false);
        if std::mem::take(&mut self.is_disposed) {
            // Its segments are on their way out.
            self.playlist.clear();
        }
    }

    /// Writes a segment and the playlist with it.
    ///
    /// # Errors
    /// When one of them could not be written. The next call tries again what is to be tried.
    pub(super) fn add(
        &mut self,
        mut entry: Entry,
        body: &[u8],
        lengths: &Lengths,
        cleanup: bool,
        now: Instant,
    ) -> Result<(), Error> {
        let path = self.segment(entry.number);
        // A name may be taken when a disk is there again that was not there when the stream began.
        if let Err(error) = files::create(&path, body) {
            self.is_broken = true;
            return Err(Error { path, error });
        }
        let last = self.playlist.entries().next_back().map(|last| last.number);
        // What was in between had no room in the queue.
        entry.discontinuity |= last.is_some_and(|last| last + 1 != entry.number);
        // Somebody may have removed the whole directory.
        let is_last_gone = last.is_some_and(|last| !self.segment(last).exists());
        if std::mem::take(&mut self.is_broken) || is_last_gone {
            entry.discontinuity = true;
            let base = self.base.clone();
            self.playlist.retain_from_last(|entry| !segment(&base, entry.number).exists());
        }
        // Of a stream that is true, the playlist and one segment more are less than this.
        let least = Duration::from_millis(lengths.window.max(lengths.target.saturating_mul(3)));
        self.longest = 2 * least.max(self.playlist.span());
        let hold_back = Duration::from_millis(self.playlist.duration() + entry.duration).min(self.longest);
        let gone = self.playlist.push(entry, lengths);
        let written = self.write_playlist(now);
        if cleanup {
            // A player that has just read the old playlist may still load it (RFC 8216, section 6.2.2).
            self.leaving.extend(gone.into_iter().map(|entry| (now + hold_back, entry.number)));
        }
        self.remove_due(now, &mut { BATCH });
        written
    }

    fn write_playlist(&mut self, now: Instant) -> Result<(), Error> {
        let written = self.file.replace(self.playlist.text().as_bytes(), now);
        self.has_playlist |= written.is_ok();
        written.map_err(|error| Error { path: self.file.path().to_owned(), error })
    }

    /// Nothing follows: the playlist says so. Of a stream that never had a segment there is none.
    pub(super) fn end(&mut self, now: Instant) {
        self.playlist.end();
        self.rewrite_playlist(now);
    }

    /// Writes the playlist again, if there is one, when its stream is over.
    fn rewrite_playlist(&mut self, now: Instant) {
        if self.has_playlist
            && let Err(error) = self.write_playlist(now)
        {
            log::warn!("HLS: the end of a stream is not in its playlist: {error}");
        }
    }

    /// The stream is over. `dispose`: its playlist says so, and its segments are to go.
    pub(super) fn close(&mut self, dispose: bool, cleanup: bool, now: Instant) {
        self.is_closed = true;
        if dispose {
            self.end(now);
        }
        self.tidy();
        if dispose && cleanup {
            self.is_disposed = true;
            let due = now + Duration::from_millis(self.playlist.duration()).min(self.longest);
            self.leaving.extend(self.playlist.entries().map(|entry| (due, entry.number)));
        }
    }

    /// Has the segments of a stream that is over go at once, where they are to go: there are too many such streams.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.is_closed && self.is_disposed && !std::mem::replace(&mut self.is_hurried, true) {
            self.leaving.iter_mut().for_each(|(due, _)| *due = now.min(*due));
        }
    }

    /// Removes the segments whose time has come, as many as are `left` to be removed in this go.
    pub(super) fn remove_due(&mut self, now: Instant, left: &mut usize) {
        let mut again = Vec::new();
        while let Some(&(due, number)) = self.leaving.front()
            && due <= now
            && *left > 0
        {
            *left -= 1;
            self.leaving.pop_front();
            match fs::remove_file(self.segment(number)) {
                Err(error) if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::NotADirectory => {
                    again.push((now + RETRY, number));
                }
                _ => {}
            }
        }
        self.leaving.extend(again);
        if self.is_closed && self.is_disposed && self.leaving.is_empty() && *left > 0 {
            *left -= 1;
            self.is_disposed = false;
            // What stays says which number comes next.
            self.playlist.clear();
            self.rewrite_playlist(now);
            self.tidy();
        }
    }

    /// Removes the file that is only there to be written over.
    pub(super) fn tidy(&mut self) {
        self.file.forget_old();
    }

    /// Whether there is nothing more to do here.
    pub(super) fn is_done(&self) -> bool {
        self.is_closed && !self.is_disposed && self.leaving.is_empty()
    }

    /// Hands on what stays on disk of a stream that is over, if that is a playlist with nothing in it.
    pub(super) fn leave(&self, remains: &mut Remains) {
        if !self.has_playlist && self.is_broken {
            // Directories may have been made for what could not be written then.
            remains::remove_empty(&self.base, &self.root);
        } else if self.has_playlist && self.playlist.entries().next().is_none() {
            remains.keep(Remnant {
                root: self.root.clone(),
                path: self.file.path().to_owned(),
                text: self.playlist.text(),
                next_number: self.playlist.next_number(),
            });
        }
    }

    fn name(&self) -> &str {
        self.base.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment(&self.base, number)
    }
}

fn segment(base: &Path, number: u64) -> PathBuf {
    with_end(base, format!("-{number}.ts"))
}
