//! The files of one stream: its segments, its playlist, and segments to be removed. Touches no file that it does not know by
//! name.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::atomic_file::{self, with_suffix};
use super::dir_cache::DirCache;
use super::playlist::{Durations, Entry, Playlist};
use super::tombstones::{self, Tombstone, Tombstones};
use crate::log::quoted;
use crate::st;

/// Time after which the removal of a file is tried again, and before files of a previous run are removed.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Maximum number of files removed in one go, since segments of other streams may be waiting.
pub(super) const REMOVE_BATCH: usize = 64;

#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub(super) struct WriteError {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

pub(super) struct SegmentStore {
    root: PathBuf,
    /// Common prefix of all files: `…/live/livestream`.
    base: PathBuf,
    playlist_path: PathBuf,
    playlist: Playlist,
    expiring: VecDeque<(Instant, u64)>,
    /// Maximum time from leaving the playlist to removal, whatever durations the publisher claims.
    max_hold_back: Duration,
    /// The last segment was not written. The next one follows a discontinuity, and older ones may be missing.
    last_failed: bool,
    has_playlist_file: bool,
    is_closed: bool,
    is_disposing: bool,
    is_expired: bool,
}

impl SegmentStore {
    /// Opens a store and continues the playlist on disk. `base` is the common prefix of the files below `root`, which is
    /// `hls_path`. The first segment gets the number `first_number` if there are no files.
    pub(super) fn open(root: &Path, base: &str, dir_cache: &mut DirCache, first_number: u64) -> Self {
        let base = root.join(base);
        let name = base.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let dir = base.parent().unwrap_or(Path::new(".")).to_owned();
        let playlist_path = with_suffix(&base, ".m3u8");
        let text = fs::read_to_string(&playlist_path).ok();
        let playlist = text.as_deref().and_then(|text| Playlist::parse(&name, text));
        let mut store = Self {
            root: root.to_owned(),
            base,
            playlist_path,
            playlist: playlist.unwrap_or_else(|| Playlist::new(&name)),
            expiring: VecDeque::new(),
            max_hold_back: Duration::MAX,
            last_failed: false,
            has_playlist_file: text.is_some(),
            is_closed: false,
            is_disposing: false,
            is_expired: false,
        };
        store.remove_missing_segments();
        match dir_cache.segment_numbers(&dir, &name) {
            Ok(numbers) => store.adopt_existing(&numbers),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // The numbers in use are unknown. At less than one segment a second, the seconds since 1970 are ahead of them.
            Err(_) => {
                let since_1970 = st::system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
                store.playlist.skip_number(since_1970.as_secs());
            }
        }
        if store.playlist.next_number() == 0
            && let Some(used) = first_number.checked_sub(1)
        {
            store.playlist.skip_number(used);
        }
        store
    }

    /// Adopts the segments of a previous run: their numbers are not used again, and those that had left the playlist are removed.
    fn adopt_existing(&mut self, numbers: &[u64]) {
        let first = self.playlist.entries().next().map_or(self.playlist.next_number(), |entry| entry.number);
        let due = st::now() + RETRY_AFTER;
        let mut expired: Vec<u64> = numbers.iter().copied().filter(|&number| number < first).collect();
        expired.sort_unstable();
        self.expiring.extend(expired.into_iter().map(|number| (due, number)));
        if let Some(&last) = numbers.iter().max() {
            self.playlist.skip_number(last);
        }
    }

    pub(super) fn playlist(&self) -> &Playlist {
        &self.playlist
    }

    pub(super) fn playlist_path(&self) -> &Path {
        &self.playlist_path
    }

    pub(super) fn reopen(&mut self) {
        (self.is_closed, self.is_expired) = (false, false);
        if std::mem::take(&mut self.is_disposing) {
            // Its segments are being removed.
            self.playlist.clear();
        }
    }

    /// Writes a segment, and the playlist with it. Fails when one of them cannot be written. The next call writes the
    /// playlist again.
    pub(super) fn add(
        &mut self,
        mut entry: Entry,
        body: &[u8],
        durations: &Durations,
        cleanup: bool,
        now: Instant,
    ) -> Result<(), WriteError> {
        let path = self.segment_path(entry.number);
        // The name may be taken if the disk was missing when the stream started and is back.
        if let Err(error) = atomic_file::create(&path, body) {
            self.last_failed = true;
            return Err(WriteError { path, error });
        }
        let last = self.playlist.entries().next_back().map(|last| last.number);
        // The segments between the two did not fit into the queue.
        entry.discontinuity |= last.is_some_and(|last| last + 1 != entry.number);
        // The operator may have removed the whole directory.
        let is_last_missing = last.is_some_and(|last| !self.segment_path(last).exists());
        if std::mem::take(&mut self.last_failed) || is_last_missing {
            entry.discontinuity = true;
            self.remove_missing_segments();
        }
        // With true durations, the playlist and one segment more are below twice this.
        let min_length = Duration::from_millis(durations.window.max(durations.target.saturating_mul(3)));
        self.max_hold_back = 2 * min_length.max(self.playlist.wall_clock_span());
        let hold_back = Duration::from_millis(self.playlist.duration() + entry.duration).min(self.max_hold_back);
        let removed = self.playlist.push(entry, durations);
        let written = self.write_playlist();
        if cleanup {
            // A player that has just read the old playlist may still load them (RFC 8216, section 6.2.2).
            self.expiring.extend(removed.into_iter().map(|entry| (now + hold_back, entry.number)));
        }
        self.remove_due(now, &mut { REMOVE_BATCH });
        written
    }

    fn write_playlist(&mut self) -> Result<(), WriteError> {
        let written = atomic_file::replace(&self.playlist_path, self.playlist.render().as_bytes());
        self.has_playlist_file |= written.is_ok();
        written.map_err(|error| WriteError { path: self.playlist_path.clone(), error })
    }

    /// Marks the playlist as complete. Does not create one for a stream without segments.
    pub(super) fn finish(&mut self) {
        self.playlist.finish();
        self.update_playlist_file();
    }

    fn update_playlist_file(&mut self) {
        if self.has_playlist_file
            && let Err(WriteError { path, error }) = self.write_playlist()
        {
            log::warn!(
                "HLS playlist of an ended stream not updated: path={} error={}",
                quoted(path.display()),
                quoted(error)
            );
        }
    }

    /// Closes the stream. `dispose` marks the playlist as complete; with `cleanup` the segments are removed as well.
    pub(super) fn close(&mut self, dispose: bool, cleanup: bool, now: Instant) {
        self.is_closed = true;
        if dispose {
            self.finish();
        }
        if dispose && cleanup {
            self.is_disposing = true;
            let due = now + Duration::from_millis(self.playlist.duration()).min(self.max_hold_back);
            self.expiring.extend(self.playlist.entries().map(|entry| (due, entry.number)));
        }
    }

    pub(super) fn expire_now(&mut self, now: Instant) {
        if self.is_closed && self.is_disposing && !std::mem::replace(&mut self.is_expired, true) {
            self.expiring.iter_mut().for_each(|(due, _)| *due = now.min(*due));
        }
    }

    pub(super) fn remove_due(&mut self, now: Instant, budget: &mut usize) {
        let mut failed = Vec::new();
        while let Some(&(due, number)) = self.expiring.front()
            && due <= now
            && *budget > 0
        {
            *budget -= 1;
            self.expiring.pop_front();
            match fs::remove_file(self.segment_path(number)) {
                Err(error) if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::NotADirectory => {
                    failed.push((now + RETRY_AFTER, number));
                }
                _ => {}
            }
        }
        self.expiring.extend(failed);
        if self.is_closed && self.is_disposing && self.expiring.is_empty() && *budget > 0 {
            *budget -= 1;
            self.is_disposing = false;
            // The empty playlist keeps the next number.
            self.playlist.clear();
            self.update_playlist_file();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_closed && !self.is_disposing && self.expiring.is_empty()
    }

    /// Adds the empty playlist of a closed stream, if there is one, to the tombstones.
    pub(super) fn add_tombstone(&self, tombstones: &mut Tombstones) {
        if !self.has_playlist_file && self.last_failed {
            // Directories may have been created for a segment that could not be written.
            tombstones::remove_empty_dirs(&self.base, &self.root);
        } else if self.has_playlist_file && self.playlist.entries().next().is_none() {
            tombstones.add(Tombstone {
                root: self.root.clone(),
                path: self.playlist_path.clone(),
                text: self.playlist.render(),
                next_number: self.playlist.next_number(),
            });
        }
    }

    /// Removes segments from the playlist whose files are missing, and those before them.
    fn remove_missing_segments(&mut self) {
        let Self { base, playlist, .. } = self;
        playlist.remove_through_last(|entry| !segment_path(base, entry.number).exists());
    }

    fn segment_path(&self, number: u64) -> PathBuf {
        segment_path(&self.base, number)
    }
}

fn segment_path(base: &Path, number: u64) -> PathBuf {
    with_suffix(base, format!("-{number}.ts"))
}
