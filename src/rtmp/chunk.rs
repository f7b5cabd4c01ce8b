//! The chunk stream (section 5.3): messages are split into chunks, so that a large message does not delay small ones.
//!
//! ```text
//!  bytes of a peer -> ChunkDecoder::decode -> Message             (Set Chunk Size and Abort are applied here)
//!  Message -> encode                       -> chunk of type 0, then type 3 (absolute time stamp)
//!          -> encode_delta                 -> chunk of type 1, then type 3 (time stamp delta)
//!          -> encode_continuation          -> more chunks of type 3
//! ```

mod decoder;
mod encoder;
mod header;

pub use decoder::ChunkDecoder;
pub use encoder::{ChunkHeader, MAX_DELTA, encode, encode_continuation, encode_delta};

/// Chunk size of either direction until Set Chunk Size changes it (section 5.4.1), in bytes.
pub const DEFAULT_CHUNK_SIZE: usize = 128;

/// Maximum payload of a message, in bytes: the length field has 24 bits.
pub const MAX_MESSAGE: usize = 0xff_ffff;

/// Value of the 24-bit time stamp field if the time stamp is in the 32-bit field after the header (section 5.3.1.3).
const EXTENDED_TIMESTAMP: u32 = 0xff_ffff;

/// Maximum number of chunk streams of one connection. Real clients use fewer than ten; each costs memory as long as the
/// connection exists.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// Maximum size of all incomplete messages of a connection, in bytes: one message of the maximum size, and the same again
/// for messages that interleave with it.
pub const MAX_INCOMPLETE: usize = 2 * MAX_MESSAGE;

/// A chunk stream id (section 5.3.1.1), 2 to 65599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkStreamId(pub u32);

impl ChunkStreamId {
    /// Protocol control messages; this id is required by the specification.
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

/// A malformed chunk stream. The connection must be closed, because the start of the next chunk is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first chunk of a chunk stream has no length and type of its own.
    #[error("a chunk of type {fmt} is the first of chunk stream {csid}")]
    NoHeader {
        /// The chunk stream.
        csid: u32,
        /// The chunk type.
        fmt: u8,
    },
    /// A chunk starts a new message, or changes the length, while a message is incomplete.
    #[error("chunk stream {csid}: a new header of {length} bytes inside a message with {received} of {expected} bytes")]
    HeaderInMessage {
        /// The chunk stream.
        csid: u32,
        /// The length in the new header.
        length: usize,
        /// The bytes of the incomplete message received so far.
        received: usize,
        /// The length of the incomplete message.
        expected: usize,
    },
    /// More than [`MAX_CHUNK_STREAMS`] chunk streams.
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams")]
    TooManyStreams,
    /// The incomplete messages exceed this limit in bytes, by default [`MAX_INCOMPLETE`].
    #[error("more than {0} bytes of incomplete messages")]
    TooMuchIncomplete(usize),
    /// Set Chunk Size with a size of 0 or above 2^31-1, or without a size.
    #[error("{}", bad_chunk_size(*.0))]
    BadChunkSize(Option<u32>),
}

fn bad_chunk_size(size: Option<u32>) -> String {
    match size {
        Some(size) => format!("a chunk size of {size}, not within 1 to 2147483647"),
        None => "Set Chunk Size without a size".to_owned(),
    }
}

#[cfg(test)]
mod tests;
