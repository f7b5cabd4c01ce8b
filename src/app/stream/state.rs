//! The state of a stream: its publisher, its subscribers, and the packets kept for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::changes::{Change, ChangeQueue, Codecs};
use super::client_handle::ClientHandle;
use super::cursor::JoinPoint;
use super::encode::LiveBatch;
#[cfg(feature = "http")]
use super::encode::shared_log::SharedLog;
use super::gop::GopTracker;
use super::headers::HeaderCache;
use super::ingest::IngestMeter;
use super::output::{EndReason, Outputs};
use super::packet_log::{PacketKind, PacketLog};
use super::subscriber::Subscriber;
use super::timeline::{Timeline, VIDEO_TIMEOUT_MS};
use super::track::{Track, VideoTracks};
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::Vhost;
use crate::memory::MemoryTracker;
use crate::rtmp::server::encode_stream_status;
use crate::st;

/// Length of the cache of a stream without video, in milliseconds. A player can start anywhere in it.
const AUDIO_CACHE_MS: u64 = 1000;

/// Messages of a second that are looked through for the start of this cache. AAC of 48 kHz has 47 frames a second.
const MAX_CACHED_PER_SECOND: u64 = 500;

/// Time budget for writing one batch to players. After it, the coroutines of the other players write.
const MAX_WRITE_TIME: Duration = Duration::from_millis(40);

/// Time that the first messages of a publication wait for the first of the other track, if that is announced.
const MAX_START_HOLD: Duration = Duration::from_secs(1);

const WRITES_PER_CLOCK_CHECK: usize = 32;

/// Messages after which packets are evicted, unless a new GOP makes many obsolete or there are too many: each search for obsolete
/// ones costs as much as it does to append a message.
const TRIM_INTERVAL: u64 = 16;

/// Status messages per [`NOTICE_WINDOW`] about publishers that come and go. Each wakes every player.
const MAX_NOTICES: u32 = 8;
const NOTICE_WINDOW: Duration = Duration::from_secs(1);

pub(super) struct StreamState {
    pub(super) name: String,
    pub(super) vhost: Arc<Vhost>,
    pub(super) memory: MemoryTracker,
    pub(super) changes: ChangeQueue,
    pub(super) reserved_by: Option<u64>,
    pub(super) publisher: Option<Publisher>,
    /// The stream as its last publisher named it, until `Unpublished` is reported.
    pub(super) announced: Option<Arc<StreamInfo>>,
    pub(super) publication_count: u64,
    /// Sequence number of the first packet of the present publication, or of the last one.
    pub(super) publication_start: u64,
    pub(super) timeline: Timeline,
    pub(super) log: PacketLog,
    pub(super) gop: GopTracker,
    pub(super) last_video_time: Option<u64>,
    pub(super) headers: HeaderCache,
    pub(super) outputs: Outputs,
    /// Players and forwarders by id. Unused ids are in `free_ids`.
    pub(super) subscribers: Vec<Option<Subscriber>>,
    free_ids: Vec<usize>,
    #[cfg(feature = "http")]
    pub(super) shared_logs: Vec<SharedLog>,
    pub(super) dropped: u64,
    /// Time at which players are told that the publisher is gone, unless one is back by then.
    pub(super) unpublish_at: Option<Instant>,
    pub(super) idle_since: Instant,
    notice_window_start: Instant,
    notices_in_window: u32,
}

pub(super) struct Publisher {
    pub(super) stream: Arc<StreamInfo>,
    pub(super) client: Arc<ClientInfo>,
    pub(super) handle: Arc<dyn ClientHandle>,
    pub(super) last_read: Instant,
    pub(super) last_activity: Instant,
    pub(super) messages: u64,
    pub(super) ingest: Box<IngestMeter>,
    pub(super) codecs: Codecs,
    pub(super) codec_events: u8,
}

impl StreamState {
    pub(super) fn new(name: &str, vhost: Arc<Vhost>, memory: MemoryTracker) -> Self {
        Self {
            name: name.to_owned(),
            log: PacketLog::new(vhost.chunk_size, &memory),
            memory,
            vhost,
            changes: ChangeQueue::default(),
            reserved_by: None,
            publisher: None,
            announced: None,
            publication_count: 0,
            publication_start: 0,
            timeline: Timeline::default(),
            gop: GopTracker::default(),
            last_video_time: None,
            headers: HeaderCache::default(),
            outputs: Outputs::default(),
            subscribers: Vec::new(),
            free_ids: Vec::new(),
            #[cfg(feature = "http")]
            shared_logs: Vec::new(),
            dropped: 0,
            unpublish_at: None,
            idle_since: st::now(),
            notice_window_start: st::now(),
            notices_in_window: 0,
        }
    }

    pub(super) fn subscriber_count(&self) -> usize {
        self.subscribers.len() - self.free_ids.len()
    }

    pub(super) fn join_point(&self) -> JoinPoint {
        self.join_point_with(if self.vhost.gop_cache { AUDIO_CACHE_MS } else { 0 })
    }

    /// Returns the start of a viewer of sound alone: `fast_cache` behind live, if the stream has no video.
    #[cfg(feature = "http")]
    pub(super) fn audio_join_point(&self) -> JoinPoint {
        self.fast_cache().map_or_else(|| self.join_point(), |fast_cache| self.join_point_with(fast_cache))
    }

    /// Returns the milliseconds of sound that viewers of sound alone start with, if others get less.
    fn fast_cache(&self) -> Option<u64> {
        let fast_cache = u64::try_from(self.vhost.http_remux.fast_cache.as_millis()).unwrap_or(u64::MAX);
        (fast_cache > AUDIO_CACHE_MS).then_some(fast_cache)
    }

    /// Returns the place where a player starts in a stream of which `audio_cache` milliseconds are cached while it has no video.
    fn join_point_with(&self, audio_cache: u64) -> JoinPoint {
        let end = self.log.end_seq();
        let live = JoinPoint { seq: end, awaited: VideoTracks::ALL };
        if audio_cache == 0 || self.publisher.is_none() {
            return live;
        }
        let latest = self.timeline.latest();
        let has_video = self.last_video_time.is_some_and(|time| latest.saturating_sub(time) < VIDEO_TIMEOUT_MS);
        match self.gop.start() {
            // A keyframe in the open batch has not been sent yet; the player skips the packets before it.
            _ if has_video && !self.vhost.gop_cache => live,
            Some(gop) if has_video && gop > end => live,
            Some(gop) if has_video => JoinPoint { seq: gop, awaited: self.gop.tracks() },
            _ if has_video => live,
            _ => {
                let max = usize::try_from(audio_cache * MAX_CACHED_PER_SECOND / 1000).unwrap_or(usize::MAX);
                let cached = self.log.first_since(latest.saturating_sub(audio_cache), max);
                JoinPoint { seq: cached.max(self.publication_start.min(end)), awaited: VideoTracks::ALL }
            }
        }
    }

    /// Returns how long a message may wait for others. `window_scale`, from 0 to 1, applies to an adaptive window.
    pub(super) fn batch_window(&self, window_scale: f64) -> Duration {
        let vhost = &self.vhost;
        match (vhost.min_latency, vhost.mw_adaptive) {
            (true, _) => Duration::ZERO,
            (false, false) => vhost.mw_latency,
            // As long as there is time to spare, and without the arithmetic of floats, which each message would pay.
            (false, true) if window_scale <= 0.0 => Duration::ZERO,
            (false, true) => vhost.mw_latency.mul_f64(window_scale),
        }
    }

    /// Returns when the open batch is to be written to players; `None` if there are none, or the batch is empty.
    pub(super) fn flush_due(&self, now: Instant, window_scale: f64) -> Option<Instant> {
        if self.subscriber_count() == 0 {
            return None;
        }
        let due = self.log.batch_opened_at()? + self.batch_window(window_scale);
        Some(self.start_hold(now).map_or(due, |until| until.max(due)))
    }

    /// Returns until when the first messages of a publication wait for those of a track that is announced. The time zero of
    /// a player that waits is that of the earliest message of both, which need not arrive first.
    pub(super) fn start_hold(&self, now: Instant) -> Option<Instant> {
        let (missing, begun_at) = self.timeline.missing_track()?;
        let until = begun_at + MAX_START_HOLD;
        (now < until && !self.vhost.min_latency && self.headers.announce(missing)).then_some(until)
    }

    pub(super) fn prefetch(&self) {
        self.log.prefetch();
        if let Some(publisher) = &self.publisher {
            publisher.ingest.prefetch();
        }
        if let Some(first) = self.subscribers.first() {
            st::prefetch_all(first);
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(chunks) = self.log.close_batch() else { return };
        let end = self.log.end_seq();
        let start = end - chunks.message_count;
        let batch = LiveBatch {
            #[cfg(feature = "http")]
            shared: self.encode_shared(start),
            chunks,
        };
        let (mut first_needed, mut started, mut has_time) = (None, None, true);
        if let Some(first) = self.subscriber(0) {
            first.client.prefetch();
        }
        for id in 0..self.subscribers.len() {
            // The kernel's work for one subscriber evicts the data of the next from the processor's cache. Without these
            // prefetches the worker waits for memory for 7 % of its time.
            if let Some(second) = self.subscriber(id + 2) {
                st::prefetch(&*second.client);
            }
            if let Some(next) = self.subscriber(id + 1) {
                next.client.prefetch();
            }
            if id % WRITES_PER_CLOCK_CHECK == WRITES_PER_CLOCK_CHECK - 1 {
                let now = st::now();
                has_time = has_time && now.duration_since(*started.get_or_insert(now)) < MAX_WRITE_TIME;
            }
            let Some(subscriber) = &mut self.subscribers[id] else { continue };
            subscriber.write_batch(&batch, &mut self.log, end, has_time);
            let needed = subscriber.cursor.first_needed(end);
            first_needed = Some(first_needed.map_or(needed, |first: u64| first.min(needed)));
        }
        let starts_gop = self.gop.start().is_some_and(|gop| gop >= start);
        let is_interval_over = start / TRIM_INTERVAL != end / TRIM_INTERVAL;
        if starts_gop || is_interval_over || self.log.bytes() > self.vhost.queue_bytes {
            self.trim(first_needed);
        } else {
            self.log.update_charge();
        }
    }

    pub(super) fn first_subscriber(&self) -> Option<&Subscriber> {
        self.subscriber(0)
    }

    fn subscriber(&self, id: usize) -> Option<&Subscriber> {
        self.subscribers.get(id)?.as_ref()
    }

    /// Evicts packets that no joining player gets, nor one that is behind. `first_needed`: the first that a subscriber needs.
    fn trim(&mut self, first_needed: Option<u64>) {
        let mut start = self.join_point().seq;
        if let Some(fast_cache) = self.fast_cache() {
            start = start.min(self.join_point_with(fast_cache).seq);
        }
        let keep = first_needed.map_or(start, |needed| needed.min(start));
        let queue_length = u64::try_from(self.vhost.queue_length.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.timeline.latest().saturating_sub(queue_length);
        self.log.evict_bulk(keep);
        self.log.trim(keep, oldest, self.vhost.queue_bytes);
        #[cfg(feature = "http")]
        self.trim_shared();
        // A GOP that does not fit is of no use: players wait for the next one.
        self.gop.on_evicted(self.log.first_seq());
    }

    pub(super) fn on_first_subscriber(&mut self) {
        if self.subscriber_count() == 0 {
            // The open batch has waited without a deadline, and so may unread input of the publisher.
            self.flush();
            if let Some(publisher) = &self.publisher {
                publisher.handle.wake();
            }
        }
    }

    pub(super) fn add_subscriber(&mut self, subscriber: Subscriber) -> usize {
        if let Some((stream, client)) = subscriber.viewer().cloned() {
            self.changes.push(Change::Played { stream, client });
        }
        if let Some(id) = self.free_ids.pop() {
            self.subscribers[id] = Some(subscriber);
            return id;
        }
        self.subscribers.push(Some(subscriber));
        self.subscribers.len() - 1
    }

    pub(super) fn remove_subscriber(&mut self, id: usize) {
        if let Some(subscriber) = self.subscribers[id].take() {
            self.free_ids.push(id);
            self.dropped += subscriber.cursor.stats().dropped;
            #[cfg(feature = "http")]
            if let Some(wire) = subscriber.encoder.wire() {
                self.release_wire(wire);
            }
            if let Some((stream, client)) = subscriber.viewer().cloned() {
                self.changes.push(Change::Stopped { stream, client });
            }
        }
        self.release_if_idle();
    }

    pub(super) fn fill(&mut self, id: usize, out: &mut Vec<Bytes>) -> usize {
        let tracks = self.gop.tracks();
        if let Some(subscriber) = &mut self.subscribers[id] {
            subscriber.cursor.limit_awaited(tracks);
        }
        #[cfg(feature = "http")]
        if let Some(wire) = self.subscribers[id].as_ref().and_then(|subscriber| subscriber.encoder.wire()) {
            self.fill_viewer(id, wire, out);
            return self.log.chunk_size();
        }
        let join_point = self.join_point();
        let Some(subscriber) = &mut self.subscribers[id] else { return self.log.chunk_size() };
        subscriber.fill(join_point, &self.headers, &mut self.log, self.timeline.latest(), out)
    }

    /// Sends players an `onStatus` within the stream, of the kind [`PacketKind::Begin`] or [`PacketKind::End`]. Returns
    /// false if there were too many of them within the last second.
    pub(super) fn notify_players(&mut self, kind: PacketKind, code: &str, event: &str) -> bool {
        if st::now().duration_since(self.notice_window_start) >= NOTICE_WINDOW {
            (self.notice_window_start, self.notices_in_window) = (st::now(), 0);
        }
        self.notices_in_window += 1;
        if self.notices_in_window > MAX_NOTICES {
            return false;
        }
        if self.subscriber_count() > 0 {
            let payload = encode_stream_status(code, &format!("{} {event}.", self.name));
            self.log.append(Track::Status, self.timeline.latest(), kind, &payload, st::now());
            self.flush();
        }
        true
    }

    /// Ends the publication, if there is one. Players stay, and are told if no publisher is back after `reconnect_grace`.
    pub(super) fn remove_publisher(&mut self, reason: EndReason) {
        let Some(Publisher { stream, client, .. }) = self.publisher.take() else { return };
        self.unpublish_at = Some(st::now() + self.vhost.publish.reconnect_grace);
        self.changes.push(Change::PublisherLost { stream, client });
        self.outputs.end(&self.name, reason);
        self.flush();
        self.gop = GopTracker::default();
        self.last_video_time = None;
        self.headers.clear();
        let end = self.log.end_seq();
        self.trim(self.subscribers.iter().flatten().map(|subscriber| subscriber.cursor.first_needed(end)).min());
        self.release_if_idle();
    }

    /// Ends the stream, and notifies the players.
    pub(super) fn notify_unpublished(&mut self) {
        self.unpublish_at = None;
        self.emit_unpublished();
        let end = self.log.next_seq();
        self.subscribers.iter_mut().flatten().for_each(|subscriber| subscriber.end_before(end));
        if !self.notify_players(PacketKind::End, "NetStream.Play.UnpublishNotify", "is now unpublished") {
            // Players are told later, if there is no publisher by then.
            self.unpublish_at = Some(st::now() + NOTICE_WINDOW);
        }
    }

    pub(super) fn emit_unpublished(&mut self) {
        if let Some(stream) = self.announced.take() {
            self.changes.push(Change::Unpublished { stream });
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.publisher.is_none() && self.subscriber_count() == 0
    }

    fn release_if_idle(&mut self) {
        if self.is_idle() {
            self.idle_since = st::now();
            self.subscribers = Vec::new();
            self.free_ids = Vec::new();
            // Packets that were kept for a player that was behind can be many.
            self.trim(None);
            self.log.shrink();
        }
    }
}
