//! Clients that speak RTMP.

pub(crate) mod connection;
pub mod tls;
pub(crate) mod write_queue;
