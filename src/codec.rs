//! Formats of what RTMP carries, and of what stands before it: bytes in, values out.
//!
//! Nothing here knows a socket, a chunk or a session. Every reader takes bytes that a peer chose, so each one has its bounds
//! as named constants beside it, and none of them panics, whatever the bytes are.

pub mod aac;
mod amf;
pub mod amf0;
pub mod amf3;
pub mod avc;
pub mod flv;
pub mod hevc;
pub mod mp3;
pub mod nalu;
pub mod proxy;
pub mod ts;
