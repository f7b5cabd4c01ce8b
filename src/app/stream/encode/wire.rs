//! The wires of HTTP viewers, and the state of one viewer.
//!
//! All viewers of a wire share every byte but those at their start: its tags have absolute timestamps, which count from
//! the first message that was encoded for the wire.

use bytes::Bytes;

use super::shared_log::{SharedBatch, SharedLog, SharedWire};
use crate::app::stream::headers::HeaderCache;
use crate::app::stream::packet_log::{LogEntry, PacketKind};
use crate::app::stream::track::Track;
use crate::http::websocket::encode_frame_head;
use crate::memory::{Category, MemoryTracker};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// None: the bytes of a response's body.
    Plain,
    WebSocket,
}

pub(crate) struct WireEncoder {
    wire: SharedWire,
    framing: Framing,
    is_started: bool,
    /// Headers may be missing: the viewer starts, or its cursor was moved.
    checks_headers: bool,
    /// Headers with a lower sequence number were sent.
    headers_sent_to: u64,
}

impl WireEncoder {
    pub(crate) fn new(wire: SharedWire, framing: Framing) -> Self {
        Self { wire, framing, is_started: false, checks_headers: true, headers_sent_to: 0 }
    }

    pub(crate) fn wire(&self) -> SharedWire {
        self.wire
    }

    /// Returns the bytes of a batch for this viewer; `None` before its start.
    pub(crate) fn bytes_of<'a>(&self, batch: &'a SharedBatch) -> Option<&'a Bytes> {
        let bytes = match self.framing {
            Framing::Plain => &batch.plain,
            Framing::WebSocket => &batch.framed,
        };
        (self.is_started && !self.checks_headers).then_some(bytes)
    }

    pub(crate) fn set_position(&mut self, seq: u64) {
        // Headers are sent with the next frame that is handed out.
        if !self.checks_headers {
            self.headers_sent_to = seq;
        }
    }

    pub(crate) fn on_move(&mut self) {
        self.checks_headers = true;
    }

    /// Appends a message, after the headers that it needs at the start and after a move. `wanted` are the tracks of the viewer, a
    /// bit each, and `known` those of the stream.
    pub(crate) fn append(
        &mut self,
        entry: &LogEntry,
        seq: u64,
        shared: &SharedLog,
        headers: &HeaderCache,
        (wanted, known): (u8, u8),
        out: &mut Vec<Bytes>,
    ) {
        let is_media = entry.track != Track::Data && entry.kind != PacketKind::Header;
        if self.checks_headers {
            // Headers in the log before the first frame are in the cache too.
            if !is_media {
                return;
            }
            let mut start = Vec::new();
            if !self.is_started {
                shared.format().start(wanted & known, &mut start);
            }
            for header in headers.missing(seq, self.headers_sent_to, 0) {
                if wanted & header.key.track().bit() != 0 {
                    shared.format().header(header, entry.time, &mut start);
                }
            }
            (self.is_started, self.checks_headers) = (true, false);
            if !start.is_empty() {
                out.push(shared.memory().charge_bytes(Category::Media, start.into()));
            }
        }
        if let Some(bytes) = shared.get(seq).filter(|bytes| !bytes.is_empty()) {
            out.push(bytes.clone());
        }
    }

    /// Completes output that starts at index `from`: one message of WebSocket.
    pub(crate) fn frame(&self, from: usize, memory: &MemoryTracker, out: &mut Vec<Bytes>) {
        let length: usize = out[from..].iter().map(Bytes::len).sum();
        if self.framing == Framing::WebSocket && length > 0 {
            let head = Bytes::copy_from_slice(encode_frame_head(length).as_slice());
            out.insert(from, memory.charge_bytes(Category::Media, head));
        }
    }
}
