//! The files of one stream in memory: its playlist and the newest segments, and when each is removed.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::app::outputs::live_files::{LiveFile, LiveFiles, Unwritten};
use crate::st;

/// Maximum number of files removed from memory in one go, since other coroutines may be waiting.
const REMOVE_BATCH: usize = 256;

pub(super) struct MemoryFiles {
    /// Owner of the files. Not the stream's name, since a stream that moves has the same paths there in both directories.
    owner: String,
    playlist_path: String,
    live_files: LiveFiles,
    expiring: VecDeque<(Instant, String)>,
}

impl MemoryFiles {
    pub(super) fn new(owner: String, playlist_path: String, live_files: LiveFiles) -> Self {
        Self { owner, playlist_path, live_files, expiring: VecDeque::new() }
    }

    pub(super) fn insert_segment(&self, path: &str, body: Bytes) -> Unwritten {
        let mut segment = LiveFile::new(path, body, st::system_time());
        let unwritten = segment.mark_unwritten();
        self.live_files.insert(&self.owner, path, segment);
        unwritten
    }

    pub(super) fn insert_playlist(&self, text: Bytes) {
        let path = &self.playlist_path;
        self.live_files.insert(&self.owner, path, LiveFile::new(path, text, st::system_time()));
    }

    /// Returns whether the playlist is there. It may have been evicted.
    pub(super) fn has_playlist(&self) -> bool {
        self.live_files.owner(&self.playlist_path).is_some_and(|owner| *owner == *self.owner)
    }

    /// Returns whether the playlist of another stream has taken the place of this one's.
    pub(super) fn is_playlist_replaced(&self) -> bool {
        self.live_files.owner(&self.playlist_path).is_some_and(|owner| *owner != *self.owner)
    }

    pub(super) fn expire_segments(&mut self, due: Instant, paths: impl Iterator<Item = String>) {
        self.expiring.extend(paths.map(|path| (due, path)));
    }

    pub(super) fn expire_playlist(&mut self, due: Instant) {
        self.expiring.push_back((due, self.playlist_path.clone()));
    }

    pub(super) fn cancel_playlist_expiry(&mut self) {
        self.expiring.retain(|(_, path)| *path != self.playlist_path);
    }

    pub(super) fn is_expiring(&self) -> bool {
        !self.expiring.is_empty()
    }

    /// Removes a batch of files that are due. Returns whether more may be.
    pub(super) fn remove_expired(&mut self, now: Instant) -> bool {
        for _ in 0..REMOVE_BATCH {
            let Some((_, path)) = self.expiring.pop_front_if(|(due, _)| *due <= now) else { return false };
            self.live_files.remove(&self.owner, &path);
        }
        true
    }

    /// Removes the playlist and a batch of those segments that are on disk. Returns the number of files removed.
    pub(super) fn evict_batch(&mut self) -> usize {
        let segments = self.live_files.evict_oldest(&self.owner, REMOVE_BATCH);
        let has_playlist = self.has_playlist();
        self.live_files.remove(&self.owner, &self.playlist_path);
        segments + usize::from(has_playlist)
    }

    /// Forgets what is to be removed, if nothing is left.
    pub(super) fn clear_expiring(&mut self) {
        if !self.live_files.has_evictable(&self.owner) {
            self.expiring.clear();
        }
    }
}
