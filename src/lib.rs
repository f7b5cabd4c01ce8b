//! simple-rtmp-server: an RTMP live origin server on stackful coroutines.

pub mod codec;
pub mod config;
pub mod rtmp;
pub mod st;
