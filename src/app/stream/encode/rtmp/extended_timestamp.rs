//! Encoder for a message with an extended timestamp, for one subscriber.
//!
//! A timestamp of 2^24 - 1 ms or more is repeated in each chunk (RTMP section 5.3.1.3), so the chunks of the packet log
//! do not fit. A large message is encoded piece by piece, because a thousand players may get it at once.

use bytes::{Bytes, BytesMut};

use super::shared::{MAX_CONTINUATION_HEADER, MAX_MESSAGE_HEADER, SharedMessage};
use crate::memory::{Category, MemoryTracker};
use crate::rtmp::chunk::{ChunkHeader, encode, encode_continuation};

/// Payload encoded at a time, in bytes, and at least one chunk.
const PIECE_BYTES: usize = 128 * 1024;

pub(crate) struct ExtendedTimestampEncoder {
    message: SharedMessage,
    header: ChunkHeader,
    encoded_chunks: usize,
}

impl ExtendedTimestampEncoder {
    pub(crate) fn new(message: SharedMessage, header: ChunkHeader) -> Self {
        Self { message, header, encoded_chunks: 0 }
    }

    /// Returns the next piece, charged to `memory`.
    pub(crate) fn next_piece(&mut self, memory: &MemoryTracker) -> Bytes {
        let chunk_size = self.message.layout.chunk_size as usize;
        let chunks = (PIECE_BYTES / chunk_size).max(1);
        let payload = self.message.payload_of_chunks(self.encoded_chunks, chunks);
        let max_len = payload.len() + payload.len() / chunk_size * MAX_CONTINUATION_HEADER + MAX_MESSAGE_HEADER;
        let mut piece = BytesMut::with_capacity(max_len);
        if self.encoded_chunks == 0 {
            encode(&mut piece, &self.header, &payload, chunk_size);
            // The header has the length of this piece.
            self.message.set_message_length(&mut piece);
        } else {
            encode_continuation(&mut piece, &self.header, &payload, chunk_size);
        }
        self.encoded_chunks += chunks;
        memory.charge_bytes(Category::Media, piece.freeze())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.encoded_chunks * self.message.layout.chunk_size as usize >= self.message.layout.payload_len()
    }
}
