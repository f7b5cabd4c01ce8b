//! Recording (DVR): published streams as files.
//!
//! ```text
//! Source ─> DvrOutput ─> Recorder ─> DiskQueue ═queue═> DiskThread ─> FILE.tmp, renamed to FILE at the end
//! corrected              cuts, drops                        │
//! messages                                                  └─ Outcome ─> coroutine: event Recorded, log
//! ```
//!
//! Nothing on the worker waits for a disk, and a failing disk never affects the publisher.

mod disk;
mod file;
mod flv_file;
mod job;
mod ledger;
mod library;
mod mp4_file;
mod output;
mod path;
mod recorder;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use self::disk::{DiskQueue, RecordingFiles};
use self::job::Outcome;
use self::library::{Library, Policy};
use self::output::DvrOutput;
use crate::app::context::{Context, Feature};
use crate::app::events::{Event, Listener};
use crate::app::limits::fairness::TimeSlice;
use crate::app::limits::reclaim::{Reclaim, ReclaimTarget, Reclaimed};
use crate::app::session::info::StreamInfo;
use crate::app::session::recordings::{ActiveRecording, FinishedRecording, RecordOutcome, RecordingControl, Removal};
use crate::app::stats::snapshot::Section;
use crate::app::stream::{Output, Source, StreamEvent};
use crate::config::{Config, Vhost};
use crate::log::{Throttle, quoted};
use crate::st::{self, Inbox, Shared};

const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);

/// Part of `max_memory` for what waits for the disk: closing clients would not free it.
const QUEUE_DIVISOR: usize = 8;

const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct DvrFeature(Arc<Inner>);

struct Inner {
    ctx: Context,
    queue: DiskQueue,
    outcomes: Arc<Inbox<Outcome>>,
    library: Library,
    /// The streams that operators have started to record, or stopped, by their full names, until they are unpublished.
    overrides: Shared<HashMap<String, bool>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    recorded: AtomicU64,
    recorded_bytes: AtomicU64,
    failed: AtomicU64,
    dropped: Arc<AtomicU64>,
}

impl DvrFeature {
    /// Creates the feature, and starts the thread that writes.
    pub(crate) fn new(ctx: Context) -> io::Result<Self> {
        let outcomes = Arc::new(Inbox::new());
        let library = Library::default();
        let queue = DiskQueue::start(outcomes.clone(), library.clone())?;
        let (overrides, counters) = (Shared::default(), Counters::default());
        let inner = Arc::new(Inner { ctx, queue, outcomes, library, overrides, counters });
        // A handle that is not counted: the context is a part of it.
        inner.ctx.recordings.set_control(Arc::new(Control(Arc::downgrade(&inner))));
        Ok(Self(inner))
    }
}

impl Inner {
    /// Starts, changes or ends the recording of a stream, as the configuration says.
    fn attach(&self, source: &Source, vhost: &Vhost, from_start: bool) {
        let Some(stream) = source.published_stream() else { return };
        source.attach_output("dvr", vhost, self.is_wanted(&stream, vhost), |publishing| {
            let (stream, client) = (publishing.stream.clone(), publishing.client.clone());
            let name = stream.name.clone();
            let files = RecordingFiles::new(self.queue.clone(), stream, client, publishing.memory.clone());
            let dropped = self.counters.dropped.clone();
            Some(Box::new(DvrOutput::new(files, &name, &vhost.dvr, from_start, dropped)) as Box<dyn Output>)
        });
    }

    /// Returns whether a stream is to be recorded: as an operator says, else as the configuration does.
    fn is_wanted(&self, stream: &StreamInfo, vhost: &Vhost) -> bool {
        let by_operator = self.overrides.with(|overrides| overrides.get(&stream.name).copied());
        by_operator.unwrap_or_else(|| vhost.dvr.enabled && vhost.dvr.applies_to(&stream.app, &stream.stream))
    }

    fn reconfigure(&self, config: &Config) {
        for source in self.ctx.streams.all() {
            if let Some(vhost) = config.vhosts.get(&source.vhost_name()) {
                self.attach(&source, vhost, false);
            }
        }
    }

    fn report(&self) {
        let (mut throttle, mut unreported) = (Throttle::new(LOG_INTERVAL), 0_u64);
        loop {
            let outcome = self.outcomes.receive();
            match outcome {
                Outcome::Recorded { file, path, duration_ms, bytes, .. } => {
                    self.counters.recorded.fetch_add(1, Ordering::Relaxed);
                    self.counters.recorded_bytes.fetch_add(bytes, Ordering::Relaxed);
                    let path = path.display().to_string();
                    log::info!(
                        "recorded: stream={} path={} seconds={:.1} bytes={bytes}",
                        file.stream.name,
                        quoted(&path),
                        duration_ms as f64 / 1000.0
                    );
                    let (stream, client) = (file.stream.clone(), file.client.clone());
                    self.ctx.events.emit(&Event::Recorded { stream, client, path, duration_ms, bytes });
                }
                Outcome::Failed { file, path, error } => {
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    unreported += 1;
                    if throttle.pass(st::now()) {
                        log::error!(
                            "recording failed: count={unreported} stream={} path={} error={}",
                            file.stream.name,
                            quoted(path),
                            quoted(error)
                        );
                        unreported = 0;
                    }
                }
            }
        }
    }

    /// Makes the recordings of earlier runs known, and removes old ones, forever.
    fn maintain(&self) {
        let mut known = BTreeSet::new();
        loop {
            let config = self.ctx.config.get();
            let (roots, policies) = (roots(&config), policies(&config));
            let is_due = !policies.is_empty() || roots != known;
            if is_due && self.queue.maintain(roots.iter().cloned().collect(), policies) {
                known = roots;
            }
            drop(config);
            st::sleep(MAINTENANCE_INTERVAL);
        }
    }
}

impl Feature for DvrFeature {
    fn name(&self) -> &'static str {
        "dvr"
    }

    fn start(&self) -> io::Result<()> {
        let inner = self.0.clone();
        st::spawn_supervised("dvr", move || inner.report())?;
        let inner = self.0.clone();
        st::spawn_supervised("dvr maintenance", move || inner.maintain())
    }

    fn reconfigure(&self, _: &Config, new: &Config) {
        self.0.reconfigure(new);
    }

    fn flush(&self, deadline: Instant) {
        while !(self.0.queue.is_idle() && self.0.outcomes.is_empty()) && st::now() < deadline {
            st::sleep(Duration::from_millis(10));
        }
    }

    fn snapshot(&self) -> Option<Section> {
        let Counters { recorded, recorded_bytes, failed, dropped, .. } = &self.0.counters;
        let [recorded, recorded_bytes, failed, dropped] =
            [recorded, recorded_bytes, failed, dropped].map(|counter| counter.load(Ordering::Relaxed));
        Some(
            Section::new("dvr")
                .with("files", "Recordings that are being written.", self.0.queue.open_files().len() as u64)
                .with("held_bytes", "Bytes of recordings that wait for the disk.", self.0.queue.queued_bytes() as u64)
                .with("recorded_total", "Recordings that are complete.", recorded)
                .with("recorded_bytes_total", "Bytes of these.", recorded_bytes)
                .with("failed_total", "Recordings that ended because they could not be written.", failed)
                .with("dropped_total", "Messages that were not recorded because the disk was too slow.", dropped),
        )
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }

    fn reclaim(self: Arc<Self>) -> Option<Arc<dyn Reclaim>> {
        Some(self)
    }
}

impl Listener for DvrFeature {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Stream(StreamEvent::Published { stream, source, .. }) => {
                let config = self.0.ctx.config.get();
                if let Some(vhost) = config.vhosts.get(&stream.vhost) {
                    self.0.attach(source, vhost, true);
                }
            }
            Event::Stream(StreamEvent::Unpublished { stream }) => {
                self.0.overrides.with(|overrides| overrides.remove(&stream.name));
            }
            _ => {}
        }
    }
}

struct Control(Weak<Inner>);

impl RecordingControl for Control {
    fn record(&self, stream: &str, is_wanted: bool) -> RecordOutcome {
        let Some(inner) = self.0.upgrade() else { return RecordOutcome::NotPublished };
        let Some(source) = inner.ctx.streams.find(stream) else { return RecordOutcome::NotPublished };
        let config = inner.ctx.config.get();
        let (Some(info), Some(vhost)) = (source.published_stream(), config.vhosts.get(&source.vhost_name())) else {
            return RecordOutcome::NotPublished;
        };
        let before = inner.is_wanted(&info, vhost);
        inner.overrides.with(|overrides| overrides.insert(info.name.clone(), is_wanted));
        inner.attach(&source, vhost, false);
        if before == is_wanted { RecordOutcome::Unchanged } else { RecordOutcome::Changed }
    }

    fn active(&self) -> Vec<ActiveRecording> {
        let files = self.0.upgrade().map(|inner| inner.queue.open_files()).unwrap_or_default();
        let active = files.iter().map(|file| ActiveRecording {
            vhost: file.stream.vhost.clone(),
            app: file.stream.app.clone(),
            stream: file.stream.stream.clone(),
            started_ms: file.started_ms(),
            bytes: file.bytes.load(Ordering::Relaxed),
        });
        active.collect()
    }

    fn finished(&self) -> Vec<Arc<FinishedRecording>> {
        self.0.upgrade().map(|inner| inner.library.all()).unwrap_or_default()
    }

    fn remove(&self, id: &str) -> Option<Removal> {
        self.0.upgrade()?.queue.remove(id)
    }
}

impl Reclaim for DvrFeature {
    fn set_memory_limit(&self, max: usize) {
        self.0.queue.set_limit(max / QUEUE_DIVISOR);
    }

    fn unreclaimable_bytes(&self) -> usize {
        self.0.queue.queued_bytes()
    }

    /// Frees nothing: what is held is on its way to the disk.
    fn reclaim(&self, _: &ReclaimTarget<'_>, _: &mut TimeSlice) -> Reclaimed {
        Reclaimed::default()
    }
}

fn roots(config: &Config) -> BTreeSet<PathBuf> {
    config.vhosts.values().map(|vhost| path::root(&vhost.dvr.path)).collect()
}

fn policies(config: &Config) -> Vec<Policy> {
    let vhosts = config.vhosts.values().filter(|vhost| !vhost.dvr.max_age.is_zero() || vhost.dvr.max_size > 0);
    let policy = |vhost: &Arc<Vhost>| Policy {
        root: path::root(&vhost.dvr.path),
        vhost: vhost.name.clone(),
        max_age: vhost.dvr.max_age,
        max_size: vhost.dvr.max_size,
    };
    vhosts.map(policy).collect()
}
