//! The server as a product: clients, streams, outputs, and what keeps them in bounds.
//!
//! ```text
//! publisher ──> rtmp ──> stream ──> rtmp ──> players
//!                          ├──────> outputs: HLS files, forwarders
//! viewer    <── http <─────┘ (feature `hls`)
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`server`] | listeners, accepting, background coroutines, control commands, reload |
//! | [`session`] | connected clients, their requests, close reasons |
//! | [`rtmp`] | RTMP connections from handshake to close, TLS |
//! | [`stream`] | streams, their packet logs, publishers and players |
//! | [`outputs`] | HLS and forwarding |
//! | `http` | HTTP server for HLS and the console |
//! | `limits` | memory limiter, load shedding, fairness, batching |
//! | `stats` | periodic statistics in the log |

#[cfg(feature = "hls")]
pub mod http;
mod limits;
pub mod outputs;
pub mod rtmp;
pub mod server;
pub mod session;
mod stats;
pub mod stream;

pub use session::close::CloseReason;
