//! A stream whose HLS goes off, or elsewhere, while it is published: it ends in the one place where it begins in the other, at the
//! next keyframe, so that nobody's last segment is cut short and no frame is in neither.

use bytes::Bytes;

use super::stream::Recording;
use crate::app::stream::Sink;
use crate::codec::flv::{AudioPacket, AudioTag, VideoPacket, VideoTag};
use crate::config::Vhost;

/// How long a keyframe is waited for, in milliseconds.
const PATIENCE: u64 = 10_000;

/// Takes what is published to where it was until now, and from the next keyframe on to where it is to be. Dropping it ends both.
pub(super) struct Handover {
    /// Where it was. Its playlist says that nothing follows.
    from: Option<Recording>,
    /// Where it is to be. `None`: nowhere.
    to: Option<Box<dyn Sink>>,
    /// When the first message came.
    since: Option<u64>,
}

impl Handover {
    pub(super) fn new(from: Recording, to: Option<Box<dyn Sink>>) -> Self {
        Self { from: Some(from), to, since: None }
    }

    fn end_old(&mut self) {
        if let Some(from) = self.from.take() {
            from.end_for_good(self.to.is_some());
        }
    }

    fn is_overdue(&mut self, time: u64) -> bool {
        time.saturating_sub(*self.since.get_or_insert(time)) >= PATIENCE
    }
}

impl Sink for Handover {
    fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) {
        let is_header = tag.packet == VideoPacket::SequenceHeader;
        let is_key = tag.packet == VideoPacket::Frame && tag.is_keyframe();
        if is_key || self.is_overdue(time) {
            self.end_old();
        }
        if let Some(from) = &mut self.from {
            from.on_video(time, tag, payload);
        }
        if let Some(to) = &mut self.to
            && (is_header || self.from.is_none())
        {
            to.on_video(time, tag, payload);
        }
    }

    fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) {
        // Without video there is nothing to wait for.
        if self.from.as_ref().is_some_and(|from| !from.has_video()) || self.is_overdue(time) {
            self.end_old();
        }
        if let Some(from) = &mut self.from {
            from.on_audio(time, tag, payload);
        }
        if let Some(to) = &mut self.to
            && (tag.packet == AudioPacket::SequenceHeader || self.from.is_none())
        {
            to.on_audio(time, tag, payload);
        }
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        match &mut self.to {
            Some(to) => to.reconfigure(vhost),
            None => !vhost.hls.enabled,
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.end_old();
    }
}
