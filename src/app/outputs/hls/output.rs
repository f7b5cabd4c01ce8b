//! The output that a publisher's stream is written to.

use std::sync::Arc;

use super::stream::HlsStream;
use crate::app::stream::{ClientHandle, EndReason, Output, Packet, PacketKind, Tag, Track};
use crate::codec::flv::{AudioPacket, VideoPacket};
use crate::config::{Hls, Vhost};
use crate::memory::MemoryTracker;

const MAX_WAIT_FOR_KEYFRAME: u64 = 10_000;

pub(super) struct HlsOutput(HlsStream);

impl HlsOutput {
    /// Starts the output of a publisher, whose buffers are charged to `memory`. Returns `None` if there is one already: two
    /// streams of different vhosts may have the same files.
    pub(super) fn start(
        stream: &HlsStream,
        settings: &Hls,
        publisher: Arc<dyn ClientHandle>,
        memory: &MemoryTracker,
    ) -> Option<Self> {
        let started = stream.0.with(|state| state.start(settings, publisher, memory));
        started.then(|| Self(stream.clone()))
    }

    fn has_video(&self) -> bool {
        self.0.0.with(|state| state.has_video())
    }

    /// Ends the output although the publisher goes on, so that its playlist is marked as complete. `is_moved` means that the
    /// stream continues in another directory.
    pub(super) fn finish(self, is_moved: bool) {
        self.0.0.try_with(|state| state.request_finish(is_moved));
    }
}

impl Output for HlsOutput {
    fn packet(&mut self, packet: &Packet<'_>) {
        match &packet.tag {
            Some(Tag::Video(tag)) => self.0.0.with(|state| state.on_video(packet.dts, tag, packet.payload)),
            Some(Tag::Audio(tag)) => self.0.0.with(|state| state.on_audio(packet.dts, tag, packet.payload)),
            None if packet.track == Track::Data => self.0.0.with(|state| state.on_data(packet.payload)),
            None => {}
        }
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        self.0.0.with(|state| state.reconfigure(&vhost.hls))
    }

    // Dropping it ends it.
    fn end(self: Box<Self>, reason: EndReason) {
        if reason == EndReason::Unpublished {
            self.0.0.try_with(|state| state.on_unpublish());
        }
    }

    fn replace_with(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Output>>) -> Option<Box<dyn Output>> {
        Some(Box::new(Handover::new(*self, next())))
    }
}

impl Drop for HlsOutput {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.0.0.try_with(|state| state.on_publication_end());
    }
}

/// The move of a running stream to another directory, or to none: the two outputs meet at a keyframe, so that no segment is cut
/// short and no frame is lost. Feeds the old output until the next keyframe, and the new one from there on. Dropping it ends
/// both.
struct Handover {
    old: Option<HlsOutput>,
    new: Option<Box<dyn Output>>,
    started_at: Option<u64>,
}

impl Handover {
    fn new(old: HlsOutput, new: Option<Box<dyn Output>>) -> Self {
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
            None => (packet.kind == PacketKind::Header, false),
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

    fn end(mut self: Box<Self>, reason: EndReason) {
        if let Some(new) = self.new.take() {
            new.end(reason);
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
