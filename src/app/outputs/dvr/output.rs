//! The output that records one publication.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::disk::RecordingFiles;
use super::recorder::{Recorder, Refusal};
use crate::app::stream::{EndReason, Output, Packet};
use crate::codec::mp4::Kind;
use crate::config::{Dvr, Vhost};
use crate::log::{Throttle, quoted};
use crate::st;

const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct DvrOutput {
    recorder: Option<Recorder<RecordingFiles>>,
    name: String,
    total_dropped: Arc<AtomicU64>,
    logged_drops: u64,
    drop_log: Throttle,
}

impl DvrOutput {
    /// Starts a recording. With `from_start`, before the first message of the publication.
    pub(super) fn new(
        mut files: RecordingFiles,
        name: &str,
        settings: &Dvr,
        from_start: bool,
        total_dropped: Arc<AtomicU64>,
    ) -> Self {
        apply(&mut files, settings);
        Self {
            recorder: Some(Recorder::new(files, settings, from_start)),
            name: name.to_owned(),
            total_dropped,
            logged_drops: 0,
            drop_log: Throttle::new(LOG_INTERVAL),
        }
    }

    fn count_drops(&mut self, dropped: u64, is_end: bool) {
        if dropped > self.logged_drops && (is_end || self.drop_log.pass(st::now())) {
            let new = dropped - self.logged_drops;
            log::warn!("disk too slow, messages not recorded: stream={} dropped={new} total={dropped}", self.name);
            self.total_dropped.fetch_add(new, Ordering::Relaxed);
            self.logged_drops = dropped;
        }
    }
}

impl Output for DvrOutput {
    fn packet(&mut self, packet: &Packet<'_>) {
        let Some(recorder) = &mut self.recorder else { return };
        recorder.packet(packet, st::now());
        let (dropped, refusals) = (recorder.dropped(), recorder.take_refusals());
        self.count_drops(dropped, false);
        for Refusal { kind, codec, reason } in refusals {
            let track = if kind == Kind::Video { "video" } else { "audio" };
            log::warn!(
                "track not recorded: stream={} track={track} codec={} reason={}",
                self.name,
                quoted(codec),
                quoted(reason)
            );
        }
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        if let Some(recorder) = &mut self.recorder {
            apply(recorder.disk(), &vhost.dvr);
            recorder.reconfigure(&vhost.dvr);
        }
        true
    }

    // Dropping it ends it.
    fn end(self: Box<Self>, _: EndReason) {}
}

impl Drop for DvrOutput {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            let dropped = recorder.finish(st::now());
            self.count_drops(dropped, true);
        }
    }
}

fn apply(files: &mut RecordingFiles, settings: &Dvr) {
    files.template.clone_from(&settings.path);
    files.min_free = settings.min_free;
}
