//! The Real-Time Messaging Protocol: handshake, chunks, messages, commands.
//!
//! ```text
//! bytes <─> handshake, then chunk <─> protocol: Message <─> server: events and replies of a client
//!                                              └────────> client: calls to another server
//! ```
//!
//! This module knows no coroutine and no socket. Code that does I/O is generic over `Read + Write`; decoders take bytes and
//! return values, and consume either a whole unit or nothing. Section numbers are those of Adobe's "RTMP specification 1.0"
//! unless stated otherwise; E-RTMP is Veovera's "Enhanced RTMP" version 2.

pub mod bandwidth_test;
pub mod chunk;
pub mod client;
pub mod command;
pub mod connect;
mod error;
pub mod handshake;
pub mod message;
pub mod protocol;
pub mod server;

pub use error::Error;
