//! HTTP Live Streaming (RFC 8216): published streams as playlists and segments, on disk and in memory.
//!
//! ```text
//! Source ─► HlsOutput ─► Segmenter ─► HlsStream ─┬─► LiveFiles ─► HTTP
//! corrected                segments    numbers,  │
//! messages                             playlist  └─► SegmentWriter ═queue═► WriterThread ─► SegmentStore ─► disk
//! ```
//!
//! Nothing on the worker waits for a disk. A failing disk does not affect the publisher, unless `hls_on_error` says so.

mod announced;
mod atomic_file;
pub mod buffer_pool;
mod dir_cache;
mod gaps;
mod job;
mod memory_files;
mod output;
mod playlist;
mod rate_limit;
mod segment;
mod segment_builder;
mod segment_store;
mod segment_writer;
pub mod segmenter;
mod still_picture;
mod stream;
mod stream_state;
#[cfg(test)]
mod tests;
mod tombstones;
mod waiting_audio;
mod writer_thread;

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::atomic_file::TEMPORARY;
use self::buffer_pool::BufferPool;
use self::output::HlsOutput;
use self::segment_writer::SegmentWriter;
use self::stream::HlsStream;
use crate::app::context::{Context, Feature};
use crate::app::events::{Event, Listener};
use crate::app::limits::fairness::TimeSlice;
use crate::app::limits::reclaim::{Reclaim, ReclaimTarget, Reclaimed};
use crate::app::outputs::live_files::LiveFiles;
use crate::app::stats::snapshot::Section;
use crate::app::stream::{Output, Publishing, Source, StreamEvent, StreamRegistry};
use crate::config::{Config, DEFAULT_VHOST, Vhost};
use crate::log::quoted;
use crate::memory::Category;
use crate::st::{self, Cond, Shared};

/// Maximum number of ended streams that are kept for their players, see `hls_dispose`: a client that publishes name after name
/// must not fill memory and disk. Of closed streams, more than this many have no files in memory.
const MAX_ENDED_STREAMS: usize = 1000;

/// Maximum number of streams, including those that the writer thread has to close. New ones get no files until half of them are
/// gone. Only a flood of names reaches this.
const MAX_STREAMS: usize = 10_000;

/// Maximum length of the last part of a stream's name, in bytes: file systems allow 255, and `-18446744073709551615.ts.tmp` is
/// appended.
const MAX_NAME: usize = 255 - 28;

const MAX_DIR_DEPTH: usize = 16;

/// Suffixes of file names, which no directory may have.
const RESERVED_SUFFIXES: [&str; 3] = [".m3u8", ".ts", TEMPORARY];

/// Interval of the maintenance of streams, the interval when there are very many, and the longest time without a yield.
const TICK: Duration = Duration::from_secs(1);
const BUSY_TICK: Duration = Duration::from_millis(100);
const TIME_SLICE: Duration = Duration::from_millis(2);

/// Interval of the release of unused buffers. Streams with longer segments find none.
const POOL_TRIM_INTERVAL: Duration = Duration::from_secs(12);

#[derive(Clone)]
pub(crate) struct Hls(Arc<Inner>);

struct Inner {
    writer: SegmentWriter,
    live_files: LiveFiles,
    buffers: BufferPool,
    streams: Shared<HashMap<Arc<StreamKey>, HlsStream>>,
    stream_added: Cond,
    limit_logged: Shared<bool>,
}

/// Divisor of `max_memory` for segments that wait for the disk: closing clients would not free them. What has no room is not
/// written.
const QUEUE_DIVISOR: usize = 4;

/// Divisor of `max_memory` for segment buffers kept for reuse. They are charged to nobody.
const POOL_DIVISOR: usize = 16;

pub(crate) struct HlsFeature {
    ctx: Context,
    hls: Hls,
}

impl HlsFeature {
    pub(crate) fn new(ctx: Context, hls: Hls) -> Self {
        hls.0.live_files.set_limit(ctx.config.get().http_server.live_limit());
        Self { ctx, hls }
    }
}

impl Feature for HlsFeature {
    fn name(&self) -> &'static str {
        "hls"
    }

    fn start(&self) -> io::Result<()> {
        let (writer, events) = (self.hls.0.writer.clone(), self.ctx.events.clone());
        st::spawn_supervised("hls events", move || {
            loop {
                events.emit(&Event::Segment(writer.next_written()));
            }
        })?;
        let (hls, ctx) = (self.hls.clone(), self.ctx.clone());
        st::spawn_supervised("hls", move || hls.maintain(|| hls.reconfigure(&ctx.streams, &ctx.config.get())))
    }

    fn reconfigure(&self, _: &Config, new: &Config) {
        self.hls.0.live_files.set_limit(new.http_server.live_limit());
        self.hls.reconfigure(&self.ctx.streams, new);
    }

    fn flush(&self, deadline: Instant) {
        while !self.hls.0.writer.is_idle() && st::now() < deadline {
            st::sleep(Duration::from_millis(10));
        }
    }

    fn snapshot(&self) -> Option<Section> {
        let streams = self.hls.0.streams.with(|streams| streams.len());
        let held = self.ctx.memory.bytes_in(Category::Hls);
        Some(
            Section::new("hls")
                .with("streams", "Streams with a playlist, those that have ended included.", streams as u64)
                .with("held_bytes", "Bytes of segments and playlists in memory.", held as u64),
        )
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }

    fn reclaim(self: Arc<Self>) -> Option<Arc<dyn Reclaim>> {
        Some(self)
    }
}

impl Listener for HlsFeature {
    fn on_event(&self, event: &Event) {
        let Event::Stream(StreamEvent::Published { stream, source, .. }) = event else { return };
        let config = self.ctx.config.get();
        if let Some(vhost) = config.vhosts.get(&stream.vhost) {
            self.hls.attach(source, vhost, &config);
        }
    }
}

impl Reclaim for HlsFeature {
    fn set_memory_limit(&self, max: usize) {
        self.hls.0.writer.set_queue_limit(max / QUEUE_DIVISOR);
        self.hls.0.buffers.set_limit(max / POOL_DIVISOR);
    }

    fn unreclaimable_bytes(&self) -> usize {
        self.hls.0.writer.queued_bytes()
    }

    /// Evicts files from memory: of ended streams first, then of the others, largest stream first. They are on disk too.
    fn reclaim(&self, target: &ReclaimTarget<'_>, slice: &mut TimeSlice) -> Reclaimed {
        let mut files = self.hls.evict_ended(|| target.is_met(), slice);
        files += self.hls.0.live_files.evict(|| target.is_met(), || slice.yield_if_used_up());
        // The buffers of evicted segments went to the pool.
        if files > 0 {
            st::drop_in_background(self.hls.drain_pool());
        }
        Reclaimed { files, ..Reclaimed::default() }
    }
}

/// `hls_path`, and the common prefix of the stream's files below it.
type StreamKey = (PathBuf, String);

impl Hls {
    /// Starts the thread that writes the files. The segments of each playlist are put into `live_files` as well.
    pub(crate) fn new(live_files: LiveFiles) -> std::io::Result<Self> {
        let writer = SegmentWriter::start()?;
        Ok(Self(Arc::new(Inner {
            writer,
            live_files,
            buffers: BufferPool::default(),
            streams: Shared::default(),
            stream_added: Cond::default(),
            limit_logged: Shared::default(),
        })))
    }

    /// Attaches an HLS output to a published stream, changes it, or detaches it, as the vhost's configuration says. New lengths
    /// apply to the open segment; a new directory takes over at the next keyframe.
    pub(crate) fn attach(&self, source: &Source, vhost: &Arc<Vhost>, config: &Config) {
        source
            .attach_output("hls", vhost, vhost.hls.enabled, |publishing| self.start_output(publishing, vhost, config));
    }

    fn reconfigure(&self, sources: &StreamRegistry, config: &Config) {
        for source in sources.all() {
            if let Some(vhost) = config.vhosts.get(&source.vhost_name()) {
                self.attach(&source, vhost, config);
            }
        }
    }

    fn drain_pool(&self) -> Vec<Vec<u8>> {
        self.0.buffers.drain()
    }

    /// Evicts streams without a publisher from memory, the one that ended first in front, until `is_enough`. Returns the number
    /// of files.
    fn evict_ended(&self, is_enough: impl Fn() -> bool, time_slice: &mut TimeSlice) -> usize {
        if is_enough() {
            return 0;
        }
        let mut ended: Vec<(Instant, HlsStream)> = self
            .0
            .streams
            .with(|streams| streams.values().filter_map(|stream| Some((stream.ended_at()?, stream.clone()))).collect());
        ended.sort_unstable_by_key(|(at, _)| *at);
        ended.iter().take_while(|_| !is_enough()).map(|(_, stream)| stream.evict(time_slice)).sum()
    }

    fn start_output(&self, publishing: &Publishing<'_>, vhost: &Vhost, config: &Config) -> Option<Box<dyn Output>> {
        let Publishing { stream: info, client, handle, memory } = *publishing;
        let name = info.name.as_str();
        let base = match file_base(name, vhost, config) {
            Ok(base) => base,
            Err(reason) => {
                log::warn!("HLS disabled: stream={name} reason={}", quoted(reason));
                return None;
            }
        };
        let key = (vhost.hls.path.clone(), base.clone());
        let stream = self.0.streams.with(|streams| {
            let new_stream = || {
                let Inner { writer, live_files, buffers, .. } = &*self.0;
                HlsStream::new(name, &base, &vhost.hls, writer.clone(), live_files.clone(), buffers.clone())
            };
            match streams.get(&key) {
                Some(stream) => Some(stream.clone()),
                None if streams.len() >= MAX_STREAMS => None,
                None => Some(streams.entry(Arc::new(key)).or_insert_with(new_stream).clone()),
            }
        });
        let Some(stream) = stream else {
            if !self.0.limit_logged.with(|logged| std::mem::replace(logged, true)) {
                log::warn!("HLS disabled for new streams, too many stream names: stream={name} limit={MAX_STREAMS}");
            }
            return None;
        };
        self.0.stream_added.signal();
        let output = HlsOutput::start(&stream, &vhost.hls, handle.clone(), memory);
        if output.is_some() {
            stream.0.with(|state| state.set_publication(info, client));
        } else {
            log::warn!("HLS disabled, another stream writes the same files: stream={name} path={}", quoted(&base));
        }
        output.map(|output| Box::new(output) as Box<dyn Output>)
    }

    /// Maintains all streams, for ever. Sleeps while there are none. Calls `on_room` when streams that were refused may be
    /// attached.
    fn maintain(&self, on_room: impl Fn()) {
        let mut trimmed_at = st::now();
        loop {
            while self.0.streams.with(|streams| streams.is_empty()) {
                st::drop_in_background(self.drain_pool());
                self.0.stream_added.wait();
            }
            st::sleep(if self.is_crowded() { BUSY_TICK } else { TICK });
            let now = st::now();
            if now.duration_since(trimmed_at) >= POOL_TRIM_INTERVAL {
                trimmed_at = now;
                self.0.buffers.trim();
            }
            self.tick(now, &mut TimeSlice::new(TIME_SLICE));
            if !self.is_crowded() && self.0.limit_logged.with(std::mem::take) {
                on_room();
            }
        }
    }

    fn is_crowded(&self) -> bool {
        self.0.streams.with(|streams| streams.len() >= MAX_STREAMS / 2)
    }

    fn tick(&self, now: Instant, time_slice: &mut TimeSlice) {
        let streams: Vec<_> =
            self.0.streams.with(|streams| streams.iter().map(|(key, stream)| (key.clone(), stream.clone())).collect());
        close_excess(streams.iter().map(|(_, stream)| stream), MAX_ENDED_STREAMS, now, time_slice);
        let mut closed = 0;
        for (key, stream) in streams {
            while stream.remove_expired(now) {
                time_slice.yield_if_used_up();
            }
            closed += usize::from(stream.is_closed());
            if closed > MAX_ENDED_STREAMS {
                stream.evict(time_slice);
            }
            // No yield between the two: a publisher must not come in between.
            if stream.tick(now) {
                self.0.streams.with(|streams| streams.remove(&key));
            }
            time_slice.yield_if_used_up();
        }
    }
}

/// Closes the ended streams beyond `max`, the one that ended first in front.
fn close_excess<'a>(
    streams: impl Iterator<Item = &'a HlsStream>,
    max: usize,
    now: Instant,
    time_slice: &mut TimeSlice,
) {
    let mut ended: Vec<_> = streams.filter_map(|stream| Some((stream.retained_since()?, stream))).collect();
    if let Some(excess) = ended.len().checked_sub(max) {
        ended.sort_unstable_by_key(|(since, _)| *since);
        for (_, stream) in &ended[..excess] {
            stream.close(now);
            time_slice.yield_if_used_up();
        }
    }
}

/// Returns the common prefix of a stream's files below `hls_path`: `app/stream`, in a directory of its own for each
/// vhost but the default one. `name` is vhost/app/stream. Errors: the reason, if the files would be outside of
/// `hls_path` or could be those of another stream.
fn file_base(name: &str, vhost: &Vhost, config: &Config) -> Result<String, &'static str> {
    const OUTSIDE_HLS_PATH: &str = "files would be outside of hls_path";
    let in_vhost =
        name.strip_prefix(vhost.name.as_str()).and_then(|rest| rest.strip_prefix('/')).ok_or(OUTSIDE_HLS_PATH)?;
    let is_default = vhost.name == DEFAULT_VHOST;
    let base = if is_default { in_vhost } else { name };
    let is_plain = |part: &str| {
        let mut components = Path::new(part).components();
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == part)
    };
    let parts: Vec<&str> = base.split('/').collect();
    if !parts.iter().all(|part| is_plain(part) && !part.contains(['\\', '\0'])) {
        return Err(OUTSIDE_HLS_PATH);
    }
    let [dirs @ .., file] = &parts[..] else { return Err(OUTSIDE_HLS_PATH) };
    if file.len() > MAX_NAME || dirs.len() > MAX_DIR_DEPTH {
        return Err("name too long or too many directories");
    }
    // The first directory of another vhost is named by the operator.
    let chosen_by_client = if is_default { dirs } else { dirs.get(1..).unwrap_or_default() };
    if chosen_by_client.iter().any(|dir| RESERVED_SUFFIXES.iter().any(|suffix| dir.ends_with(suffix))) {
        return Err("directory could have the name of another stream's file");
    }
    if is_default && dirs.first().is_some_and(|first| config.vhosts.contains_key(*first)) {
        return Err("directory belongs to another vhost");
    }
    Ok(base.to_owned())
}
