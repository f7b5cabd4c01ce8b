//! A stream on the worker: numbers segments, and sends them to the writer thread and to memory.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::buffer_pool::BufferPool;
use super::job::{Job, StreamFiles};
use super::memory_files::MemoryFiles;
use super::playlist::{Durations, Entry, Playlist};
use super::segment_writer::SegmentWriter;
use super::segmenter::{Segment, Segmenter};
use crate::app::CloseReason;
use crate::app::events::HlsSegment;
use crate::app::outputs::live_files::LiveFiles;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stream::ClientHandle;
use crate::codec::flv::{AudioTag, VideoTag};
use crate::config::{Hls, HlsOnError};
use crate::memory::{Category, Charge, MemoryTracker};
use crate::st;

/// Time that an ended stream is kept in memory if `hls_dispose` is 0, which keeps it on disk for ever.
const DEFAULT_RETENTION: Duration = Duration::from_secs(120);

pub(super) struct StreamState {
    settings: Hls,
    files: Arc<StreamFiles>,
    segmenter: Segmenter,
    memory: MemoryTracker,
    segmenter_charge: Charge,
    disk_playlist: Arc<OnceLock<Playlist>>,
    /// [`Job::Open`] was sent. It is not before there is something to write.
    open_sent: bool,
    memory_files: MemoryFiles,
    /// The stream continues in another directory, and the playlist in memory is the other's.
    is_moved: bool,
    /// The playlist in memory. `None` until the number of the next segment is known.
    playlist: Option<Playlist>,
    unnumbered: VecDeque<Segment>,
    writer: SegmentWriter,
    publisher: Option<Arc<dyn ClientHandle>>,
    publication: Option<(Arc<StreamInfo>, Arc<ClientInfo>)>,
    ended_at: Instant,
    /// The publisher has said that it ends, which is not a lost connection.
    is_unpublished: bool,
    endlist_pending: bool,
    /// The stream has ended for good. It is kept until its files in memory are removed and the writer thread knows.
    is_closed: bool,
    close_pending: bool,
}

impl StreamState {
    pub(super) fn new(
        name: &str,
        base: &str,
        settings: &Hls,
        writer: SegmentWriter,
        live_files: LiveFiles,
        buffers: BufferPool,
    ) -> Self {
        let memory = MemoryTracker::default();
        let clock = Arc::new(st::system_time);
        Self {
            settings: settings.clone(),
            files: Arc::new(StreamFiles::new(settings.path.clone(), base.to_owned())),
            segmenter: Segmenter::new(name, settings.fragment, clock, buffers),
            segmenter_charge: memory.charge(Category::Hls),
            memory,
            disk_playlist: Arc::default(),
            open_sent: false,
            memory_files: MemoryFiles::new(
                settings.path.join(base).display().to_string(),
                format!("{base}.m3u8"),
                live_files,
            ),
            is_moved: false,
            playlist: None,
            unnumbered: VecDeque::new(),
            writer,
            publisher: None,
            publication: None,
            ended_at: st::now(),
            is_unpublished: false,
            endlist_pending: false,
            is_closed: false,
            close_pending: false,
        }
    }

    /// Returns false if there is a publisher already.
    pub(super) fn start(&mut self, settings: &Hls, publisher: Arc<dyn ClientHandle>, memory: &MemoryTracker) -> bool {
        if self.publisher.is_some() {
            return false;
        }
        if std::mem::take(&mut self.is_closed) {
            // The files on disk may have changed since.
            (self.disk_playlist, self.open_sent, self.playlist) = (Arc::default(), false, None);
        }
        self.publisher = Some(publisher);
        (self.is_unpublished, self.endlist_pending, self.is_moved) = (false, false, false);
        self.apply_settings(settings);
        self.segmenter.start();
        (self.segmenter_charge, self.memory) = (memory.charge(Category::Hls), memory.clone());
        true
    }

    pub(super) fn set_publication(&mut self, stream: &Arc<StreamInfo>, client: &Arc<ClientInfo>) {
        self.publication = Some((stream.clone(), client.clone()));
    }

    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.publisher.is_none().then_some(self.ended_at)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.publisher.is_none() && self.is_closed
    }

    pub(super) fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) {
        let finished = self.segmenter.on_video(time, tag, payload);
        self.after_segmenter(finished);
    }

    pub(super) fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) {
        let finished = self.segmenter.on_audio(time, tag, payload);
        self.after_segmenter(finished);
    }

    pub(super) fn on_data(&mut self, payload: &[u8]) {
        self.segmenter.on_data(payload);
    }

    /// Applies new settings. Returns false if the files have to move to another directory.
    pub(super) fn reconfigure(&mut self, settings: &Hls) -> bool {
        let same_path = settings.path == self.settings.path;
        if same_path {
            self.apply_settings(settings);
        }
        same_path
    }

    pub(super) fn has_video(&self) -> bool {
        self.segmenter.has_video()
    }

    /// Marks the playlist as complete. `is_moved` means that the stream continues in another directory.
    pub(super) fn request_finish(&mut self, is_moved: bool) {
        (self.endlist_pending, self.is_moved) = (true, is_moved);
    }

    /// Records that the publisher has ended the stream itself: the playlist is marked as complete after `hls_endlist_delay`.
    pub(super) fn on_unpublish(&mut self) {
        self.is_unpublished = true;
    }

    pub(super) fn on_publication_end(&mut self) {
        let last = self.segmenter.finish();
        self.after_segmenter(last);
        self.publisher = None;
        self.ended_at = st::now();
        // A stream without a segment is not kept.
        self.is_closed = !self.open_sent && self.unnumbered.is_empty();
    }

    fn apply_settings(&mut self, settings: &Hls) {
        self.segmenter.set_fragment(settings.fragment);
        self.settings = settings.clone();
    }

    fn after_segmenter(&mut self, finished: Option<Segment>) {
        self.segmenter_charge.set(self.segmenter.buffered_bytes());
        if self.segmenter.is_open() {
            self.request_playlist();
        }
        let Some(mut segment) = finished else { return };
        segment.body = self.memory.charge_buffer(Category::Hls, segment.body, segment.capacity);
        self.unnumbered.push_back(segment);
        if !self.publish_unnumbered() {
            self.trim_unnumbered();
        }
    }

    /// Sends [`Job::Open`] if that is due, without waiting for the disk. Returns whether the next number is known.
    fn request_playlist(&mut self) -> bool {
        if self.playlist.is_none() {
            self.playlist = self.disk_playlist.get().cloned();
        }
        if !self.open_sent {
            self.open_sent = self.writer.send(&self.files, Job::Open(self.disk_playlist.clone()));
            self.close_pending &= !self.open_sent;
        }
        self.playlist.is_some()
    }

    /// Publishes the segments that waited for their numbers. Returns false if these are not known yet.
    fn publish_unnumbered(&mut self) -> bool {
        let is_known = self.request_playlist();
        while is_known && let Some(segment) = self.unnumbered.pop_front() {
            self.publish_segment(segment);
        }
        is_known
    }

    /// Drops the oldest waiting segments beyond `hls_window`: the disk does not answer.
    fn trim_unnumbered(&mut self) {
        let mut duration: u64 = self.unnumbered.iter().map(|segment| segment.duration).sum();
        while duration > milliseconds(self.settings.window) && self.unnumbered.len() > 1 {
            duration -= self.unnumbered.pop_front().map_or(0, |segment| segment.duration);
            if let Some(first) = self.unnumbered.front_mut() {
                (first.discontinuity, first.is_first) = (true, true);
            }
        }
    }

    fn publish_segment(&mut self, segment: Segment) {
        let max_hold_back = self.max_hold_back();
        let Some(playlist) = &mut self.playlist else { return };
        let Segment { body, duration, discontinuity, is_first, started_at, .. } = segment;
        let number = playlist.next_number();
        let discontinuity = discontinuity && number > 0;
        let entry = Entry { number, duration, discontinuity, is_first, started_at: Some(started_at) };
        let fragment = milliseconds(self.settings.fragment);
        let target = fragment.saturating_mul(self.settings.td_ratio) / 1000;
        let durations = Durations { window: milliseconds(self.settings.window), fragment, target };
        let dir = self.files.dir();
        let path = format!("{dir}{}", playlist.file_name(number));
        let event = self.publication.as_ref().map(|(stream, client)| {
            Arc::new(HlsSegment {
                stream: stream.clone(),
                client: client.clone(),
                root: self.files.root.clone(),
                path: path.clone(),
                playlist: format!("{}.m3u8", self.files.base),
                number,
                duration_ms: duration,
            })
        });
        let (body_to_write, cleanup) = (body.clone(), self.settings.cleanup);
        let unwritten = self.memory_files.insert_segment(&path, body);
        let job = Job::Segment { entry: entry.clone(), body: body_to_write, durations, cleanup, event, unwritten };
        let removed = playlist.push(entry, &durations);

        // For players that have just read the old playlist. Slower ones are served from disk.
        let hold_back = Duration::from_secs(2 * playlist.target_duration()).min(max_hold_back);
        let due = st::now() + hold_back;
        let removed = removed.iter().map(|entry| format!("{dir}{}", playlist.file_name(entry.number)));
        self.memory_files.expire_segments(due, removed);
        // It may be expiring if the stream was closed and came back.
        self.memory_files.cancel_playlist_expiry();
        self.publish_playlist();
        self.remove_expired(st::now());

        self.writer.send(&self.files, job);
    }

    fn publish_playlist(&self) {
        let Some(playlist) = &self.playlist else { return };
        // The stream may also have ended before its vhost's directory changed.
        if (self.is_moved || self.publisher.is_none()) && self.memory_files.is_playlist_replaced() {
            return;
        }
        // Slow downloads may keep each version.
        let text = self.memory.charge_bytes(Category::Hls, playlist.render().into());
        self.memory_files.insert_playlist(text);
    }

    fn update_playlist(&self) {
        if self.memory_files.has_playlist() {
            self.publish_playlist();
        }
    }

    /// Returns the maximum time from leaving the playlist to removal from memory, whatever durations the publisher claims.
    fn max_hold_back(&self) -> Duration {
        2 * self.settings.window.max(3 * self.settings.fragment)
    }

    pub(super) fn remove_expired(&mut self, now: Instant) -> bool {
        self.memory_files.remove_expired(now)
    }

    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.remove_expired(now);
        if self.is_closed {
            self.close_pending = self.close_pending && !self.send_close();
            return self.is_done();
        }
        if !self.unnumbered.is_empty() {
            self.publish_unnumbered();
        }
        let failure = self.files.take_failure();
        if let Some(publisher) = &self.publisher {
            if let Some(reason) = failure
                && self.settings.on_error == HlsOnError::Disconnect
            {
                publisher.close(CloseReason::Hls(reason));
            }
            return false;
        }
        let ended_for = now.saturating_duration_since(self.ended_at);
        if self.is_unpublished && ended_for >= self.settings.endlist_delay {
            (self.is_unpublished, self.endlist_pending) = (false, true);
        }
        if self.endlist_pending {
            self.finish_playlist();
        }
        let dispose = self.settings.dispose;
        let retention = if dispose.is_zero() { DEFAULT_RETENTION } else { dispose };
        if ended_for >= retention {
            self.close(now);
        }
        false
    }

    /// Marks the playlist as complete. Without room in the queue, the next tick tries again.
    fn finish_playlist(&mut self) {
        if let Some(playlist) = &mut self.playlist
            && self.unnumbered.is_empty()
            && self.writer.send(&self.files, Job::Finish)
        {
            playlist.finish();
            self.endlist_pending = false;
            self.update_playlist();
        }
    }

    /// Closes the stream. Its files in memory expire after the length of the playlist, so that players can load the rest.
    pub(super) fn close(&mut self, now: Instant) {
        self.is_closed = true;
        self.close_pending = (self.close_pending || self.open_sent) && !self.send_close();
        // The disk has not answered in all that time.
        self.unnumbered.clear();
        let max_hold_back = self.max_hold_back();
        let Some(playlist) = &mut self.playlist else { return };
        let due = now + Duration::from_millis(playlist.duration()).min(max_hold_back);
        let dir = self.files.dir();
        let segments = playlist.entries().map(|entry| format!("{dir}{}", playlist.file_name(entry.number)));
        self.memory_files.expire_segments(due, segments);
        self.memory_files.expire_playlist(due);
        if !self.settings.dispose.is_zero() {
            playlist.finish();
            self.update_playlist();
        }
        self.playlist = None;
    }

    fn send_close(&self) -> bool {
        let Hls { dispose, cleanup, .. } = self.settings;
        self.writer.send(&self.files, Job::Close { dispose: !dispose.is_zero(), cleanup })
    }

    fn is_done(&self) -> bool {
        self.is_closed && !self.memory_files.is_expiring() && !self.close_pending
    }

    /// Removes a batch of files from memory. Returns their number, or `None` if there is nothing to remove.
    pub(super) fn evict_batch(&mut self) -> Option<usize> {
        // Once it is done, its paths may belong to another stream of the same name.
        if self.publisher.is_some() || self.is_done() {
            return None;
        }
        // Segments without a number are not on disk, and are lost.
        let unnumbered = std::mem::take(&mut self.unnumbered).len();
        let count = unnumbered + self.memory_files.evict_batch();
        if count == 0 {
            self.memory_files.clear_expiring();
        }
        (count > 0).then_some(count)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
