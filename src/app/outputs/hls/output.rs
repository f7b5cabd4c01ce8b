//! The output that a publisher's stream is written to.

use super::handover::Handover;
use super::stream::HlsStream;
use crate::app::stream::{EndReason, Output, Packet, Tag};
use crate::config::Vhost;

/// The HLS output of one publisher. Dropping it ends the last segment.
pub(super) struct HlsOutput(HlsStream);

impl HlsOutput {
    pub(super) fn new(stream: HlsStream) -> Self {
        Self(stream)
    }

    pub(super) fn has_video(&self) -> bool {
        self.0.0.with(|state| state.has_video())
    }

    /// Ends the output although the publisher goes on, so that its playlist is marked as complete. `is_moved` means that the stream
    /// continues in another directory.
    pub(super) fn finish(self, is_moved: bool) {
        self.0.0.try_with(|state| state.request_finish(is_moved));
    }
}

impl Output for HlsOutput {
    fn packet(&mut self, packet: &Packet<'_>) {
        match &packet.tag {
            Some(Tag::Video(tag)) => self.0.0.with(|state| state.on_video(packet.dts, tag, packet.payload)),
            Some(Tag::Audio(tag)) => self.0.0.with(|state| state.on_audio(packet.dts, tag, packet.payload)),
            None => {}
        }
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        self.0.0.with(|state| state.reconfigure(&vhost.hls))
    }

    // Dropping it ends it: the reason makes no difference.
    fn end(self: Box<Self>, _: EndReason) {}

    fn replace_with(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Output>>) -> Option<Box<dyn Output>> {
        Some(Box::new(Handover::new(*self, next())))
    }
}

impl Drop for HlsOutput {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.0.0.try_with(|state| state.on_publisher_gone());
    }
}
