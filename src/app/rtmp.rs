//! RTMP clients: connections, TLS, and the constants that connections in both directions share.

pub(crate) mod connection;
pub mod tls;
pub(crate) mod write_queue;

use std::time::Duration;

/// Reads in a row after which a connection writes what is queued for its peer.
pub(crate) const READS_PER_TURN: usize = 4;

/// Time that a peer has to take the last messages and close.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Silence after which the kernel probes whether the peer is still there.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
