//! The product: who connects, who publishes what, who plays it.
//!
//! [`listeners`] are the sockets, [`server`] accepts and keeps count, [`connection`] is a client's life from handshake to close,
//! [`source`] is a stream and what its players are owed, `forward` sends streams on to other servers, [`request`] says what a
//! client's URL means, [`rtmps`] puts clients under TLS, `http` serves files (feature `hls`), [`control`] does what the operator asks
//! for, `reload` among it.

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
