//! The move of a running stream to another directory, or to none. The old output ends and the new one starts at the same
//! keyframe, so that no segment is cut short and no frame is lost.

use bytes::Bytes;

use super::output::HlsOutput;
use crate::app::stream::Sink;
use crate::codec::flv::{AudioPacket, AudioTag, VideoPacket, VideoTag};
use crate::config::Vhost;

/// Maximum wait for a keyframe, in milliseconds.
const MAX_WAIT_FOR_KEYFRAME: u64 = 10_000;

/// Feeds the old output until the next keyframe, and the new one from there on. Dropping it ends both.
pub(super) struct Handover {
    old: Option<HlsOutput>,
    /// `None` if HLS was disabled.
    new: Option<Box<dyn Sink>>,
    /// Time of the first message, in milliseconds.
    started_at: Option<u64>,
}

impl Handover {
    pub(super) fn new(old: HlsOutput, new: Option<Box<dyn Sink>>) -> Self {
        Self { old: Some(old), new, started_at: None }
    }

    fn finish_old(&mut self) {
        if let Some(old) = self.old.take() {
            old.finish(self.new.is_some());
        }
    }

    fn is_overdue(&mut self, time: u64) -> bool {
        time.saturating_sub(*self.started_at.get_or_insert(time)) >= MAX_WAIT_FOR_KEYFRAME
    }
}

impl Sink for Handover {
    fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) {
        let is_header = tag.packet == VideoPacket::SequenceHeader;
        let is_keyframe = tag.packet == VideoPacket::Frame && tag.is_keyframe();
        if is_keyframe || self.is_overdue(time) {
            self.finish_old();
        }
        if let Some(old) = &mut self.old {
            old.on_video(time, tag, payload);
        }
        if let Some(new) = &mut self.new
            && (is_header || self.old.is_none())
        {
            new.on_video(time, tag, payload);
        }
    }

    fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) {
        // Without video there is no keyframe to wait for.
        if self.old.as_ref().is_some_and(|old| !old.has_video()) || self.is_overdue(time) {
            self.finish_old();
        }
        if let Some(old) = &mut self.old {
            old.on_audio(time, tag, payload);
        }
        if let Some(new) = &mut self.new
            && (tag.packet == AudioPacket::SequenceHeader || self.old.is_none())
        {
            new.on_audio(time, tag, payload);
        }
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        match &mut self.new {
            Some(new) => new.reconfigure(vhost),
            None => !vhost.hls.enabled,
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.finish_old();
    }
}
