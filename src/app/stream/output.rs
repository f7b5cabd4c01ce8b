//! Outputs of a published stream beside its subscribers, such as HLS: any number, one of each feature.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use bytes::Bytes;

use super::client_handle::ClientHandle;
use super::packet_log::PacketKind;
use super::track::Track;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv::{AudioTag, VideoTag};
use crate::config::Vhost;
use crate::memory::MemoryTracker;

#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub track: Track,
    /// Decoding time in milliseconds since the stream was created. It never runs backwards within a track, except that
    /// a header has the time of the message before it.
    pub dts: u64,
    pub kind: PacketKind,
    /// The header of the payload; `None` for data, and for audio and video whose header is empty or truncated.
    pub tag: Option<Tag>,
    /// The payload of the RTMP message. Data has no `@setDataFrame` in front.
    pub payload: &'a Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Video(VideoTag),
    Audio(AudioTag),
}

/// Reason for the end of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    Unpublished,
    Lost,
    /// Another publisher has replaced one that stalled.
    Replaced,
    /// A new configuration disables the output, or needs another one in its place.
    Reconfigured,
    Shutdown,
}

/// An output of one publication.
///
/// Its methods are called while the stream is in use: they must not use the stream, and must not block. An output that
/// panics is dropped with an error in the log; neither the publisher nor other outputs notice.
pub trait Output: Send + Sync {
    fn packet(&mut self, packet: &Packet<'_>);

    /// Applies a new configuration of the vhost. Returns false if the output has to be replaced.
    fn reconfigure(&mut self, vhost: &Vhost) -> bool;

    fn end(self: Box<Self>, reason: EndReason);

    /// Replaces this output, by `next`'s successor if there is one, made after this output has ended unless the two overlap.
    fn replace_with(self: Box<Self>, next: &mut dyn FnMut() -> Option<Box<dyn Output>>) -> Option<Box<dyn Output>> {
        self.end(EndReason::Reconfigured);
        next()
    }
}

/// A publication, as a new output sees it.
pub struct Publishing<'a> {
    pub stream: &'a Arc<StreamInfo>,
    pub client: &'a Arc<ClientInfo>,
    pub handle: &'a Arc<dyn ClientHandle>,
    pub memory: &'a MemoryTracker,
}

#[derive(Default)]
pub(super) struct Outputs(pub(super) Vec<(&'static str, Box<dyn Output>)>);

impl Outputs {
    pub(super) fn packet(&mut self, stream: &str, packet: &Packet<'_>) {
        let mut index = 0;
        while let Some((feature, output)) = self.0.get_mut(index) {
            if catch_panic(stream, feature, || output.packet(packet)).is_some() {
                index += 1;
            } else {
                let (feature, output) = self.0.remove(index);
                catch_panic(stream, feature, || drop(output));
            }
        }
    }

    pub(super) fn end(&mut self, stream: &str, reason: EndReason) {
        for (feature, output) in self.0.drain(..) {
            catch_panic(stream, feature, || output.end(reason));
        }
    }

    pub(super) fn remove(&mut self, feature: &str) -> Option<Box<dyn Output>> {
        let index = self.0.iter().position(|(name, _)| *name == feature)?;
        Some(self.0.remove(index).1)
    }
}

/// Runs code of an output. Returns `None` if it panicked.
pub(super) fn catch_panic<R>(stream: &str, feature: &str, f: impl FnOnce() -> R) -> Option<R> {
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    if result.is_err() {
        log::error!("output panicked and was dropped: stream={stream} output={feature}");
    }
    result.ok()
}
