//! A stream: one publisher, any number of players, and the packets in between.
//!
//! ```text
//! publisher ─ Publication ─▶ Timeline ─▶ PacketLog ─┬─▶ players that have caught up: written at once, without blocking
//!                                │                  └─▶ players that are behind: one coroutine each (Consumer)
//!                                └─▶ Outputs (HLS)
//! ```
//!
//! Each message is encoded once. Only the writes to sockets grow with the number of players. What happens to streams is
//! reported to the [`StreamObserver`] of their registry.
//!
//! | file | contents |
//! |---|---|
//! | [`registry`], [`source`] | all streams by name; the handle to one, and its events |
//! | [`publication`], [`consumer`] | the handles of a publisher's and a player's coroutine |
//! | [`state`], [`incoming`] | a stream, and the path of a message through it |
//! | [`timeline`], [`packet_log`], [`headers`], [`gop`] | corrected times, encoded packets, cached sequence headers, the last GOP |
//! | [`subscriber`], [`cursor`], [`encode`] | a player or forwarder: its position in the log, and its bytes on the wire |
//! | [`forwarder`], [`reclaim`] | the end of a forwarder; memory that is given up when it is short |
//! | `viewer` | HTTP viewers |
//! | [`snapshot`], [`ingest`], [`media_info`] | a stream in numbers: health of its input, properties of its media |
//! | [`output`], [`attach`] | outputs of features beside the players |

mod attach;
mod changes;
mod client_handle;
mod consumer;
mod cursor;
mod encode;
mod forwarder;
mod frame_type;
mod gop;
mod headers;
mod incoming;
mod ingest;
mod media_info;
mod output;
mod packet_log;
mod publication;
mod reclaim;
mod registry;
mod snapshot;
mod source;
mod state;
mod subscriber;
mod timeline;
mod track;
#[cfg(feature = "http")]
mod viewer;

pub use changes::{Codecs, MoreTracks};
pub use client_handle::ClientHandle;
pub use consumer::Consumer;
pub use cursor::ConsumerStats;
#[cfg(feature = "http")]
pub use encode::shared_log::Wire;
#[cfg(feature = "http")]
pub use encode::wire::Framing;
pub use forwarder::StartPosition;
pub use ingest::IngestSnapshot;
pub use media_info::MediaInfo;
pub use output::{EndReason, Output, Packet, Publishing, Tag};
pub use packet_log::PacketKind;
pub use publication::{Publication, Reservation, RoundEnd, StreamBusy};
pub use reclaim::StreamUsage;
pub use registry::{StreamRegistry, StreamSummary};
#[cfg(feature = "http")]
pub(crate) use snapshot::StreamNames;
pub use snapshot::StreamSnapshot;
pub use source::{Source, StreamEvent, StreamObserver};
pub use timeline::VIDEO_TIMEOUT_MS;
pub use track::Track;
#[cfg(feature = "http")]
pub use viewer::ViewerWire;

#[cfg(test)]
pub(in crate::app) mod tests;
