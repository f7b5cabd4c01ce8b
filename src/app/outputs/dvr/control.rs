//! The steering of recordings by operators.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Inner;
use crate::app::session::recordings::{ActiveRecording, FinishedRecording, Recorded, RecordingControl, Removal};

/// Steers the recordings of the feature.
pub(super) struct Control(pub(super) Weak<Inner>);

impl RecordingControl for Control {
    fn record(&self, stream: &str, is_wanted: bool) -> Recorded {
        let Some(inner) = self.0.upgrade() else { return Recorded::NotPublished };
        let Some(source) = inner.ctx.streams.find(stream) else { return Recorded::NotPublished };
        let config = inner.ctx.config.get();
        let (Some(info), Some(vhost)) = (source.published_as(), config.vhosts.get(&source.vhost_name())) else {
            return Recorded::NotPublished;
        };
        let before = inner.is_wanted(&info, vhost);
        inner.overrides.with(|overrides| overrides.insert(info.name.clone(), is_wanted));
        inner.attach(&source, vhost, false);
        if before == is_wanted { Recorded::Unchanged } else { Recorded::Changed }
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
