//! HTTP Live Streaming (RFC 8216): what is published, as playlists and segments, on disk and in memory.
//!
//! The way of a frame: the source hands it, after the correction of its time, to the stream's [`Sink`]; the `segmenter` writes it
//! into the segment that is open; at the next keyframe after `hls_fragment` the segment goes to the disk's thread and to the
//! files in memory, and the playlist follows. Nothing here waits for a disk, and no fault of a disk comes back to a publisher,
//! unless `hls_on_error` says so.

mod audio;
pub mod buffers;
mod disk;
mod files;
mod folder;
mod handover;
mod listing;
mod playlist;
mod remains;
pub mod segmenter;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::buffers::Buffers;
use self::disk::Disk;
use self::files::TEMPORARY;
use self::stream::Stream;
use crate::app::limits::fairness::Breather;
use crate::app::outputs::live_files::LiveFiles;
use crate::app::stream::{Outlet, Sink, Source, Sources};
use crate::config::{Config, DEFAULT_VHOST, Vhost};
use crate::memory::Account;
use crate::st::{self, Cond, Shared};

/// Streams that have ended and are kept for those who play them, see `hls_dispose`: whoever publishes name after name is not to fill
/// memory and disk with them. Of more than so many that are over no file stays in memory for those who are at the last segments.
const MAX_KEPT: usize = 1000;

/// Streams that there may be at a time, with those that are published and those that the disk's thread has to close yet. What is
/// published beyond that has no files, until they are half as many: only a flood of names comes so far.
const MAX_STREAMS: usize = 10_000;

/// The longest name of a stream that can have files, in bytes: a file system takes 255, and `-18446744073709551615.ts.tmp` stands behind it.
const MAX_FILE: usize = 255 - 28;

/// The most directories that the files of a stream are in, one in the other.
const MAX_FOLDERS: usize = 16;

/// What files are called, so that no directory is.
const ENDS: [&str; 3] = [".m3u8", ".ts", TEMPORARY];

/// How often streams that have ended are looked after, and how often if there are very many; and how long that may take in one go.
const SWEEP: Duration = Duration::from_secs(1);
const BUSY_SWEEP: Duration = Duration::from_millis(100);
const SLICE: Duration = Duration::from_millis(2);

/// After how long a buffer that nobody has needed goes. Streams whose segments are longer find none.
const TIDY: Duration = Duration::from_secs(12);

/// The streams of the server that are there as HLS. Clones are the same.
#[derive(Clone)]
pub(crate) struct Hls(Arc<Inner>);

struct Inner {
    disk: Disk,
    live: LiveFiles,
    buffers: Buffers,
    /// By where their files are: root and base.
    streams: Shared<HashMap<Arc<Key>, Stream>>,
    added: Cond,
    /// Whether it was said that there are too many.
    is_full: Shared<bool>,
}

type Key = (std::path::PathBuf, String);

impl Hls {
    /// Starts what writes the files. Their last window is put into `live` as well.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(crate) fn start(live: LiveFiles) -> std::io::Result<Self> {
        let disk = Disk::start()?;
        Ok(Self(Arc::new(Inner {
            disk,
            live,
            buffers: Buffers::default(),
            streams: Shared::default(),
            added: Cond::default(),
            is_full: Shared::default(),
        })))
    }

    /// Has the stream that is being published be there as HLS as its vhost's configuration says; or no longer, if it says so.
    /// Called when a stream is published, and again when the configuration has changed: lengths change with the segment that is
    /// open, and where the files are to be elsewhere the stream ends in the one place and begins in the other with the next keyframe.
    pub(crate) fn follow(&self, source: &Source, vhost: &Arc<Vhost>, config: &Config) {
        let account = source.account();
        source.change_sink(|name, outlet, sink| {
            let stays = vhost.hls.enabled && sink.as_mut().is_some_and(|sink| sink.reconfigure(vhost));
            if !stays {
                let is_on = vhost.hls.enabled;
                let mut begin = || is_on.then(|| self.begin(name, vhost, config, outlet.clone(), &account)).flatten();
                *sink = match sink.take() {
                    Some(old) => old.succeed(&mut begin),
                    None => begin(),
                };
            }
        });
    }

    /// Puts the settings of a new configuration in force for the streams that are published now.
    pub(crate) fn reconfigure(&self, sources: &Sources, config: &Config) {
        for source in sources.all() {
            if let Some(vhost) = config.vhosts.get(&source.vhost_name()) {
                self.follow(&source, vhost, config);
            }
        }
    }

    /// Waits until what was handed to the disk is written, for at most `limit`: the server is about to stop.
    pub(crate) fn wait_written(&self, limit: Duration) {
        self.0.disk.tidy();
        let end = Instant::now() + limit;
        while !self.0.disk.is_level() && Instant::now() < end {
            st::sleep(Duration::from_millis(10));
        }
    }

    /// Bytes of segments that wait to be written to disk.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.0.disk.waiting_bytes()
    }

    /// Bounds those bytes: what has no room is not written.
    pub(crate) fn limit_waiting(&self, bytes: usize) {
        self.0.disk.limit_waiting(bytes);
    }

    /// Bounds how many bytes of buffers wait to be used again: they are in no account.
    pub(crate) fn limit_spare(&self, bytes: usize) {
        self.0.buffers.limit(bytes);
    }

    /// Bytes of buffers that wait to be used again.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.0.buffers.bytes()
    }

    /// The buffers that wait to be used again: they do not any more.
    pub(crate) fn take_spare(&self) -> Vec<Vec<u8>> {
        self.0.buffers.take_spare()
    }

    /// Segments that were written to disk, and those that were not, since the server started.
    #[allow(dead_code, reason = "for the http api")]
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.0.disk.counts()
    }

    /// Lets go of what is in memory of streams that nobody publishes, those that ended first in front, until `is_enough`. How many
    /// files that were.
    pub(crate) fn shed_ended(&self, is_enough: impl Fn() -> bool, breather: &mut Breather) -> usize {
        if is_enough() {
            return 0;
        }
        let mut ended: Vec<(Instant, Stream)> = self
            .0
            .streams
            .with(|streams| streams.values().filter_map(|stream| Some((stream.ended_at()?, stream.clone()))).collect());
        ended.sort_unstable_by_key(|(at, _)| *at);
        ended.iter().take_while(|_| !is_enough()).map(|(_, stream)| stream.shed(breather)).sum()
    }

    fn begin(
        &self,
        name: &str,
        vhost: &Vhost,
        config: &Config,
        outlet: Arc<dyn Outlet>,
        account: &Account,
    ) -> Option<Box<dyn Sink>> {
        let base = match base(name, vhost, config) {
            Ok(base) => base,
            Err(why) => {
                log::warn!("HLS of {name}: not there, since {why}");
                return None;
            }
        };
        let key = (vhost.hls.path.clone(), base.clone());
        let stream = self.0.streams.with(|streams| {
            let stream = || {
                let Inner { disk, live, buffers, .. } = &*self.0;
                Stream::new(name, &base, &vhost.hls, disk.clone(), live.clone(), buffers.clone())
            };
            match streams.get(&key) {
                Some(there) => Some(there.clone()),
                None if streams.len() >= MAX_STREAMS => None,
                None => Some(streams.entry(Arc::new(key)).or_insert_with(stream).clone()),
            }
        });
        let Some(stream) = stream else {
            if !self.0.is_full.with(|is_full| std::mem::replace(is_full, true)) {
                log::warn!(
                    "HLS of {name}: not there, nor of others that are new, since there are {MAX_STREAMS} streams"
                );
            }
            return None;
        };
        self.0.added.signal();
        let recording = stream.begin(name, &vhost.hls, outlet, account);
        if recording.is_none() {
            log::warn!("HLS of {name}: not there, another stream has its files at {base}");
        }
        recording.map(|recording| Box::new(recording) as Box<dyn Sink>)
    }

    /// Looks after streams that have ended, and after those whose disk fails, for ever. Sleeps while there are none. `make_up` is
    /// called when there is room again for streams that found none.
    pub(crate) fn sweep(&self, make_up: impl Fn()) {
        let mut tidied = Instant::now();
        loop {
            while self.0.streams.with(|streams| streams.is_empty()) {
                st::drop_aside(self.take_spare());
                self.0.added.wait();
            }
            st::sleep(if self.is_crowded() { BUSY_SWEEP } else { SWEEP });
            let now = Instant::now();
            if now.duration_since(tidied) >= TIDY {
                tidied = now;
                self.0.buffers.tidy();
            }
            self.look_after(now, &mut Breather::new(SLICE));
            if !self.is_crowded() && self.0.is_full.with(std::mem::take) {
                make_up();
            }
        }
    }

    fn is_crowded(&self) -> bool {
        self.0.streams.with(|streams| streams.len() >= MAX_STREAMS / 2)
    }

    /// Does what is due. Others run meanwhile, and publish streams that have ended, and new ones.
    fn look_after(&self, now: Instant, breather: &mut Breather) {
        let streams: Vec<_> =
            self.0.streams.with(|streams| streams.iter().map(|(key, stream)| (key.clone(), stream.clone())).collect());
        end_early(streams.iter().map(|(_, stream)| stream), MAX_KEPT, now, breather);
        let mut closed = 0;
        for (key, stream) in streams {
            while stream.remove_due(now) {
                breather.look();
            }
            closed += usize::from(stream.is_closed());
            if closed > MAX_KEPT {
                stream.shed(breather);
            }
            // Nobody comes between the two.
            if stream.look_after(now) {
                self.0.streams.with(|streams| streams.remove(&key));
            }
            breather.look();
        }
    }
}

/// Closes those of the ended streams that are more than may be kept, the earliest first.
fn end_early<'a>(streams: impl Iterator<Item = &'a Stream>, most: usize, now: Instant, breather: &mut Breather) {
    let mut kept: Vec<_> = streams.filter_map(|stream| Some((stream.kept_since()?, stream))).collect();
    if let Some(more) = kept.len().checked_sub(most) {
        kept.sort_unstable_by_key(|(since, _)| *since);
        for (_, stream) in &kept[..more] {
            stream.close(now);
            breather.look();
        }
    }
}

/// Where the files of a stream are below `hls_path`, without what their names end with: `app/stream`, in a directory of its own
/// for each vhost but the default one. `name` is vhost/app/stream.
///
/// # Errors
/// When that would lead elsewhere, or where files of another stream may be to be; says why.
fn base(name: &str, vhost: &Vhost, config: &Config) -> Result<String, &'static str> {
    const NOT_BELOW: &str = "its files would not be below hls_path";
    let in_vhost = name.strip_prefix(vhost.name.as_str()).and_then(|rest| rest.strip_prefix('/')).ok_or(NOT_BELOW)?;
    let is_default = vhost.name == DEFAULT_VHOST;
    let base = if is_default { in_vhost } else { name };
    let is_plain = |part: &str| {
        let mut components = Path::new(part).components();
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == part)
    };
    let parts: Vec<&str> = base.split('/').collect();
    if !parts.iter().all(|part| is_plain(part) && !part.contains(['\\', '\0'])) {
        return Err(NOT_BELOW);
    }
    let [folders @ .., file] = &parts[..] else { return Err(NOT_BELOW) };
    if file.len() > MAX_FILE || folders.len() > MAX_FOLDERS {
        return Err("its name is too long for files, or has too many parts");
    }
    // The vhost's own is called as the operator wants.
    let chosen = if is_default { folders } else { folders.get(1..).unwrap_or_default() };
    if chosen.iter().any(|folder| ENDS.iter().any(|end| folder.ends_with(end))) {
        return Err("a file of another stream may be called as its directory is");
    }
    if is_default && folders.first().is_some_and(|first| config.vhosts.contains_key(*first)) {
        return Err("the files of another vhost are in that directory");
    }
    Ok(base.to_owned())
}
