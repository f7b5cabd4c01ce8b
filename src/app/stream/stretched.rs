//! A message whose time does not fit into three bytes, for one player. Such a time is repeated in each chunk (section 5.3.1.3), so the
//! chunks are made again; of a large message not all at once, since a thousand players may get it.

use bytes::{Bytes, BytesMut};

use super::backlog::Entry;
use crate::memory::{Account, Part};
use crate::rtmp::chunk::{ChunkHeader, encode, encode_rest};

/// The payload that is made into chunks at a time, in bytes; at least a chunk.
const PIECE: usize = 128 * 1024;

/// The message, as far as it is not made yet.
#[derive(Clone)]
pub(super) struct Stretched {
    entry: Entry,
    header: ChunkHeader,
    /// Chunks that are made.
    made: usize,
}

impl Stretched {
    pub(super) fn new(entry: &Entry, header: ChunkHeader) -> Self {
        Self { entry: entry.clone(), header, made: 0 }
    }

    /// The next piece of it, in `memory`.
    pub(super) fn next_piece(&mut self, account: &Account) -> Bytes {
        let chunk_size = self.entry.chunk_size as usize;
        let chunks = (PIECE / chunk_size).max(1);
        let payload = self.entry.payload_of(self.made, chunks);
        let mut piece = BytesMut::with_capacity(payload.len() + payload.len() / chunk_size * 5 + 64);
        if self.made == 0 {
            encode(&mut piece, &self.header, &payload, chunk_size);
            // What it says is the length of this piece.
            let length = self.entry.payload_len() as u32;
            piece[4..7].copy_from_slice(&length.to_be_bytes()[1..]);
        } else {
            encode_rest(&mut piece, &self.header, &payload, chunk_size);
        }
        self.made += chunks;
        account.count(Part::Media, piece.freeze())
    }

    /// Whether all of it is made.
    pub(super) fn is_done(&self) -> bool {
        self.made * self.entry.chunk_size as usize >= self.entry.payload_len()
    }
}
