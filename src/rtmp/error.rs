//! The failures that end an RTMP connection.

use std::io;

use super::chunk;
use super::handshake::error::Error as HandshakeError;
use crate::codec::amf0;

/// A failure that ends an RTMP connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed or timed out.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection.
    #[error("the connection was closed by the peer")]
    Closed,
    /// The peer's first bytes are not an RTMP handshake.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// The chunk stream is malformed.
    #[error("chunk stream: {0}")]
    Chunk(#[from] chunk::Error),
    /// The AMF0 content of a message is malformed.
    #[error("{message}: {error}")]
    Amf {
        /// The message that was being decoded.
        message: &'static str,
        /// The decoding error.
        error: amf0::Error,
    },
    /// A message that is not allowed at this point, or an error reply.
    #[error("{0}")]
    Protocol(String),
}
