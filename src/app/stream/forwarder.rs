//! Forwarders: subscribers that publish the stream on another server, up to the end that players are told of.

use std::sync::Arc;

use super::client_handle::ClientHandle;
use super::consumer::Consumer;
use super::cursor::JoinPoint;
use super::encode::Encoder;
use super::encode::rtmp::RtmpEncoder;
use super::source::Source;
use super::subscriber::Subscriber;
use super::track::{Track, VideoTracks};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// The first packet kept for the forwarder since it joined, or since its stream ended.
    Retained,
    /// The place where a player that joins now starts.
    JoinPoint,
}

impl Source {
    /// Adds a forwarder, which publishes the stream elsewhere. It gets messages as a publisher sends them, without
    /// status messages. Packets are kept for it from now on; output starts with [`Consumer::start`]. At the end that
    /// players are told of, its client is woken, and [`Consumer::is_finished`] holds once all was handed out.
    pub fn join_forwarder(&self, client: Arc<dyn ClientHandle>) -> Consumer {
        self.with(|state| {
            state.on_first_subscriber();
            let encoder = RtmpEncoder::new(0, state.log.chunk_size()).for_publishing();
            let mut forwarder = Subscriber::new(client, None, Encoder::Rtmp(encoder), state.join_point());
            forwarder.receive(Track::Status, false);
            Consumer::new(self.clone(), state.add_subscriber(forwarder))
        })
    }
}

impl Consumer {
    /// Starts a forwarder on the message stream `stream_id` of its target, which was told `chunk_size`.
    pub fn start(&self, stream_id: u32, chunk_size: usize, position: StartPosition) {
        self.with_join_point(|forwarder, join_point| {
            let start = match position {
                StartPosition::Retained => JoinPoint { seq: forwarder.cursor.seq, awaited: VideoTracks::ALL },
                StartPosition::JoinPoint => join_point,
            };
            forwarder.discard_unsent();
            forwarder.cursor.caught_up = false;
            forwarder.cursor.paused = false;
            if let Some(encoder) = forwarder.encoder.rtmp() {
                encoder.restart(stream_id, chunk_size);
            }
            forwarder.move_to(start);
        });
    }

    /// Prepares a forwarder whose stream has ended for the next publication. Returns the start of that: its first packet, unless
    /// the connection failed before.
    pub fn reset_for_next(&self) -> StartPosition {
        let position = self.with_subscriber(|forwarder| {
            let cursor = &mut forwarder.cursor;
            cursor.seq = cursor.seq.max(cursor.end.take().unwrap_or(0));
            if cursor.paused { StartPosition::JoinPoint } else { StartPosition::Retained }
        });
        position.unwrap_or(StartPosition::JoinPoint)
    }

    /// Returns whether the stream of a forwarder or HTTP viewer has ended and all of it was handed out.
    pub fn is_finished(&self) -> bool {
        let is_finished = |forwarder: &mut Subscriber| {
            let cursor = &forwarder.cursor;
            cursor.end.is_some() && (cursor.paused || cursor.is_at_end())
        };
        self.with_subscriber(is_finished).unwrap_or(true)
    }

    pub fn stream_ended(&self) -> bool {
        self.with_subscriber(|forwarder| forwarder.cursor.end.is_some()).unwrap_or(true)
    }
}

impl Subscriber {
    /// Ends the stream of a forwarder or HTTP viewer before the sequence number `end`. RTMP players are told in the stream.
    pub(super) fn end_before(&mut self, end: u64) {
        if (!self.is_player() || self.encoder.ends_with_stream()) && self.cursor.end.is_none() {
            self.cursor.end = Some(end);
            self.wake();
        }
    }
}
