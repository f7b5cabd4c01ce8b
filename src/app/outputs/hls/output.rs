//! The output that a publisher's stream is written to.

use bytes::Bytes;

use super::handover::Handover;
use super::stream::HlsStream;
use crate::app::stream::Sink;
use crate::codec::flv::{AudioTag, VideoTag};
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

impl Sink for HlsOutput {
    fn on_video(&mut self, time: u64, tag: &VideoTag, payload: &Bytes) {
        self.0.0.with(|state| state.on_video(time, tag, payload));
    }

    fn on_audio(&mut self, time: u64, tag: &AudioTag, payload: &Bytes) {
        self.0.0.with(|state| state.on_audio(time, tag, payload));
    }

    fn reconfigure(&mut self, vhost: &Vhost) -> bool {
        self.0.0.with(|state| state.reconfigure(&vhost.hls))
    }

    fn replace_with(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Sink>>) -> Option<Box<dyn Sink>> {
        Some(Box::new(Handover::new(*self, next())))
    }
}

impl Drop for HlsOutput {
    fn drop(&mut self) {
        // Not `with`: this may run while a panic unwinds out of one.
        self.0.0.try_with(|state| state.on_publisher_gone());
    }
}
