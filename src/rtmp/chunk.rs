//! The chunk stream (section 5.3): messages cut into chunks, so that a large one does not hold up the small ones.

mod decoder;
mod encoder;

pub use decoder::ChunkDecoder;
pub use encoder::{ChunkHeader, MAX_DELTA, encode, encode_delta, encode_rest};

/// The chunk size of either direction until Set Chunk Size changes it (section 5.4.1).
pub const DEFAULT_CHUNK_SIZE: usize = 128;

/// The greatest payload of a message: its length has 24 bits.
pub const MAX_MESSAGE: usize = 0xff_ffff;

/// What a 24-bit time stamp field holds when the time stamp is in the 32-bit field behind the header (section 5.3.1.3).
const EXTENDED: u32 = 0xff_ffff;

/// Chunk streams of one connection. Real clients use fewer than ten; each costs memory for as long as the connection lives.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// Bytes of messages that are not complete yet, over all chunk streams of a connection: one message of the greatest size, and
/// as much again for what interleaves with it.
pub const MAX_INCOMPLETE: usize = 2 * MAX_MESSAGE;

/// A chunk stream id (section 5.3.1.1), 2 to 65599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkStreamId(pub u32);

impl ChunkStreamId {
    /// Protocol control messages; the specification demands this one.
    pub const CONTROL: Self = Self(2);
    /// Commands of the connection.
    pub const COMMAND: Self = Self(3);
    /// Audio of a stream.
    pub const AUDIO: Self = Self(4);
    /// Status of a stream.
    pub const STATUS: Self = Self(5);
    /// Video of a stream.
    pub const VIDEO: Self = Self(6);
    /// Metadata and other data of a stream.
    pub const DATA: Self = Self(8);
}

/// Why a chunk stream cannot be read on. The connection is of no use afterwards: where the next chunk begins is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A chunk without its own length and type began a message on a chunk stream that has had none.
    #[error("a chunk of type {fmt} is the first of chunk stream {csid}")]
    NoHeader {
        /// The chunk stream.
        csid: u32,
        /// The chunk's type.
        fmt: u8,
    },
    /// A new message, or another length, came while a message was incomplete.
    #[error("chunk stream {csid}: a new header of {length} bytes inside a message with {received} of {expected} bytes")]
    HeaderInMessage {
        /// The chunk stream.
        csid: u32,
        /// What the new header says.
        length: usize,
        /// What had come of the message.
        received: usize,
        /// What the message was to have.
        expected: usize,
    },
    /// More than [`MAX_CHUNK_STREAMS`].
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams")]
    TooManyStreams,
    /// More than so many bytes, at first [`MAX_INCOMPLETE`].
    #[error("more than {0} bytes of incomplete messages")]
    TooMuchIncomplete(usize),
    /// Set Chunk Size with a size of 0 or above 2^31-1, or without one.
    #[error("chunk size {0:?} is not within 1..=2147483647")]
    BadChunkSize(Option<u32>),
}

#[cfg(test)]
mod tests;
