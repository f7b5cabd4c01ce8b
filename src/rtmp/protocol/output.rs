//! The sending half of a connection: encodes messages and keeps them until they are written.

use std::io::Write;

use bytes::Bytes;

use super::Protocol;
use crate::rtmp::Error;
use crate::rtmp::chunk::{ChunkHeader, ChunkStreamId, encode};
use crate::rtmp::command::Command;
use crate::rtmp::message::{Message, MessageType, UserControl};

impl<S> Protocol<S> {
    /// Queues a message as chunks of type 0 and 3.
    pub fn send(&mut self, csid: ChunkStreamId, message: &Message) {
        let header =
            ChunkHeader { csid, kind: message.kind, timestamp: message.timestamp, stream_id: message.stream_id };
        encode(&mut self.outbox, &header, &message.payload, self.chunk_size);
    }

    /// Queues a command of the connection (stream 0) or of a message stream.
    pub fn send_command(&mut self, stream_id: u32, command: &Command) {
        let csid = if stream_id == 0 { ChunkStreamId::COMMAND } else { ChunkStreamId::STATUS };
        self.send(csid, &Message { kind: MessageType::COMMAND, timestamp: 0, stream_id, payload: command.write() });
    }

    /// Queues a User Control message.
    pub fn user_control(&mut self, event: UserControl) {
        self.send_control(MessageType::USER_CONTROL, &event.write());
    }

    /// Queues Set Chunk Size and uses the size for all messages after it. 1 to 65536 bytes.
    pub fn set_chunk_size(&mut self, size: usize) {
        self.send_control(MessageType::SET_CHUNK_SIZE, &(size as u32).to_be_bytes());
        self.chunk_size = size;
    }

    /// Sets the chunk size for sending without a message, because the caller sends Set Chunk Size itself.
    pub fn assume_chunk_size(&mut self, size: usize) {
        self.chunk_size = size;
    }

    /// Returns the chunk size for sending, in bytes.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Queues Window Acknowledgement Size: the peer must acknowledge every `window` bytes.
    pub fn set_window(&mut self, window: u32) {
        self.own_window = window;
        self.send_control(MessageType::WINDOW_ACKNOWLEDGEMENT_SIZE, &window.to_be_bytes());
    }

    /// Queues Set Peer Bandwidth with the limit type "dynamic".
    pub fn set_peer_bandwidth(&mut self, bandwidth: u32) {
        const DYNAMIC: u8 = 2;
        let [a, b, c, d] = bandwidth.to_be_bytes();
        self.send_control(MessageType::SET_PEER_BANDWIDTH, &[a, b, c, d, DYNAMIC]);
    }

    /// Takes the queued bytes, for a caller that writes them itself.
    pub fn take_output(&mut self) -> Bytes {
        std::mem::take(&mut self.outbox).freeze()
    }

    /// Returns true if bytes are queued.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Returns the number of queued bytes.
    pub fn output_len(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn send_control(&mut self, kind: MessageType, payload: &[u8]) {
        let header = ChunkHeader { csid: ChunkStreamId::CONTROL, kind, timestamp: 0, stream_id: 0 };
        encode(&mut self.outbox, &header, payload, self.chunk_size);
    }
}

impl<S: Write> Protocol<S> {
    /// Blocks until all queued bytes are written. Fails when the connection fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.outbox.is_empty() {
            let bytes = self.take_output();
            self.set_in_flight_replies(bytes.len());
            self.stream.write_all(&bytes)?;
            self.stream.flush()?;
            self.set_in_flight_replies(0);
        }
        Ok(())
    }
}
