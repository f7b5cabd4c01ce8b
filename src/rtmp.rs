//! The Real-Time Messaging Protocol: handshake, chunks, messages, commands.
//!
//! Knows no coroutine and no socket: what does I/O is generic over `Read + Write`, what decodes takes bytes and returns values,
//! consuming all of a unit or nothing. Section numbers are those of Adobe's "RTMP specification 1.0" unless said otherwise;
//! E-RTMP is veovera's "Enhanced RTMP" version 2.

pub mod chunk;
pub mod client;
pub mod command;
pub mod handshake;
pub mod message;
pub mod protocol;
pub mod server;

use std::io;

use crate::codec::amf0;

/// What ends a conversation over RTMP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed or timed out.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer ended the connection.
    #[error("the connection was closed by the peer")]
    Closed,
    /// The peer's first bytes are no RTMP handshake.
    #[error("handshake: {0}")]
    Handshake(#[from] handshake::Error),
    /// The chunk stream is broken.
    #[error("chunk stream: {0}")]
    Chunk(#[from] chunk::Error),
    /// A message's content is broken.
    #[error("{what}: {error}")]
    Amf {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        error: amf0::Error,
    },
    /// The peer said something that makes no sense at this point, or answered with an error.
    #[error("{0}")]
    Protocol(String),
}
