//! The move of a running stream to another directory, or to none. The old output ends and the new one starts at the same
//! keyframe, so that no segment is cut short and no frame is lost.

use super::output::HlsOutput;
use crate::app::stream::{EndReason, Output, Packet, Tag};
use crate::codec::flv::{AudioPacket, VideoPacket};
use crate::config::Vhost;

/// Maximum wait for a keyframe, in milliseconds.
const MAX_WAIT_FOR_KEYFRAME: u64 = 10_000;

/// Feeds the old output until the next keyframe, and the new one from there on. Dropping it ends both.
pub(super) struct Handover {
    old: Option<HlsOutput>,
    /// `None` if HLS was disabled.
    new: Option<Box<dyn Output>>,
    /// Time of the first message, in milliseconds.
    started_at: Option<u64>,
}

impl Handover {
    pub(super) fn new(old: HlsOutput, new: Option<Box<dyn Output>>) -> Self {
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

impl Output for Handover {
    fn packet(&mut self, packet: &Packet<'_>) {
        let (is_header, ends_old) = match &packet.tag {
            Some(Tag::Video(tag)) => {
                let is_keyframe = tag.packet == VideoPacket::Frame && tag.is_keyframe();
                (tag.packet == VideoPacket::SequenceHeader, is_keyframe)
            }
            // Without video there is no keyframe to wait for.
            Some(Tag::Audio(tag)) => {
                let is_audio_only = self.old.as_ref().is_some_and(|old| !old.has_video());
                (tag.packet == AudioPacket::SequenceHeader, is_audio_only)
            }
            None => return,
        };
        if ends_old || self.is_overdue(packet.dts) {
            self.finish_old();
        }
        if let Some(old) = &mut self.old {
            old.packet(packet);
        }
        if let Some(new) = &mut self.new
            && (is_header || self.old.is_none())
        {
            new.packet(packet);
        }
    }

    // Dropping it ends both.
    fn end(self: Box<Self>, _: EndReason) {}

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
