//! Encoders: the bytes of a stream's messages on the wire of its subscribers.
//!
//! | file | wire |
//! |---|---|
//! | [`rtmp`] | RTMP chunks, for players and forwarders |
//! | `wire`, `shared_log` | the wires of HTTP viewers: one viewer, and the bytes that all viewers share |
//! | `flv` | FLV tags |
//! | `ts` | transport streams, AAC and MP3 |
//!
//! The packet log holds its messages as RTMP chunks, since nearly all subscribers use them. What all viewers of another
//! wire share exists only while the stream has such a viewer.

#[cfg(feature = "http")]
mod flv;
pub(super) mod rtmp;
#[cfg(feature = "http")]
pub(super) mod shared_log;
#[cfg(feature = "http")]
mod ts;
#[cfg(feature = "http")]
pub(super) mod wire;

use bytes::Bytes;

use self::rtmp::RtmpEncoder;
#[cfg(feature = "http")]
use self::shared_log::{SharedBatch, SharedWire};
#[cfg(feature = "http")]
use self::wire::WireEncoder;
use super::packet_log::{Batch, PacketLog};
use super::track::Track;

pub(super) enum Encoder {
    Rtmp(RtmpEncoder),
    #[cfg(feature = "http")]
    Wire(WireEncoder),
}

/// A batch that was just closed, on each wire.
pub(super) struct LiveBatch {
    pub(super) chunks: Batch,
    #[cfg(feature = "http")]
    pub(super) shared: Vec<SharedBatch>,
}

impl LiveBatch {
    /// Returns a handle to the [bytes](Encoder::live_bytes) for subscribers with this encoder.
    pub(super) fn share(&self, encoder: &Encoder, log: &mut PacketLog) -> Bytes {
        match encoder {
            Encoder::Rtmp(_) => log.share_last_batch(),
            #[cfg(feature = "http")]
            Encoder::Wire(viewer) => self.shared_bytes(viewer).cloned().unwrap_or_default(),
        }
    }

    #[cfg(feature = "http")]
    fn shared_bytes(&self, viewer: &WireEncoder) -> Option<&Bytes> {
        viewer.bytes_of(self.shared.iter().find(|shared| shared.wire == viewer.wire())?)
    }
}

impl Encoder {
    /// Returns the bytes of the last batch if they can be sent as they are, and its tracks that the wire carries, a bit each.
    pub(super) fn live_bytes<'a>(&self, batch: &'a LiveBatch, log: &'a PacketLog) -> Option<(&'a [u8], u8)> {
        let chunks = &batch.chunks;
        match self {
            Self::Rtmp(rtmp) => rtmp.shares(chunks).then(|| (log.last_batch(), chunks.tracks)),
            #[cfg(feature = "http")]
            Self::Wire(viewer) => {
                let bytes = batch.shared_bytes(viewer)?;
                Some((bytes, chunks.tracks & viewer.wire().tracks))
            }
        }
    }

    /// Records that all messages before `seq` were handed out or skipped.
    pub(super) fn set_position(&mut self, seq: u64) {
        match self {
            Self::Rtmp(rtmp) => rtmp.set_position(seq),
            #[cfg(feature = "http")]
            Self::Wire(viewer) => viewer.set_position(seq),
        }
    }

    pub(super) fn on_move(&mut self) {
        match self {
            Self::Rtmp(rtmp) => rtmp.on_move(),
            #[cfg(feature = "http")]
            Self::Wire(viewer) => viewer.on_move(),
        }
    }

    /// Records that the subscriber has selected or deselected a track, which only RTMP can.
    pub(super) fn on_select(&mut self, track: Track, wanted: bool) {
        if let Some(rtmp) = self.rtmp() {
            rtmp.on_select(track, wanted);
        }
    }

    pub(super) fn rtmp(&mut self) -> Option<&mut RtmpEncoder> {
        match self {
            Self::Rtmp(rtmp) => Some(rtmp),
            #[cfg(feature = "http")]
            Self::Wire(_) => None,
        }
    }

    #[cfg(feature = "http")]
    pub(super) fn wire(&self) -> Option<SharedWire> {
        match self {
            Self::Rtmp(_) => None,
            Self::Wire(viewer) => Some(viewer.wire()),
        }
    }

    /// Returns whether the subscriber ends with its stream, although it is a player.
    pub(super) fn ends_with_stream(&self) -> bool {
        !matches!(self, Self::Rtmp(_))
    }
}
