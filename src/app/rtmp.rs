//! RTMP clients: connections, TLS, and the constants that connections in both directions share.
//!
//! ```text
//! server: accepted socket ─> serve: handshake, connect ─> gates ─┬─> publish: PublisherRole ─┬─> pump
//!                            (TLS, PROXY header)                 ├─> play: PlayerRole ───────┘
//!                                                                └─> bandwidth_test
//! ```
//!
//! [`pump`] is the one loop of publishers, players and forwarders: reads, replies, backpressure, priority, time limits.

pub(crate) mod bandwidth_test;
mod codec_log;
mod connection;
mod delayed_acks;
mod errors;
mod play;
mod publish;
pub(crate) mod pump;
mod serve;
pub(crate) mod server;
mod test_admission;
pub mod tls;

use std::time::Duration;

/// Time that a peer has to take the last messages and close.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Silence after which the kernel probes whether the peer is still there: such that with a `send_timeout` of 30 s, a peer that
/// is sent nothing is found dead within 45 s.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
