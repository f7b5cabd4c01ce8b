//! The product: who connects, who publishes what, who plays it.
//!
//! [`listeners`] are the sockets, [`server`] accepts and keeps count, [`connection`] is a client's life from handshake to close,
//! [`source`] is a stream and what its players are owed, `forward` sends streams on to other servers, [`request`] says what a
//! client's URL means, [`rtmps`] puts clients under TLS, `http` serves files (feature `hls`), [`control`] does what the operator asks
//! for, `reload` among it.

mod addresses;
mod batch;
mod client;
mod clients;
mod close;
mod connection;
pub mod control;
mod forward;
#[cfg(feature = "hls")]
pub mod hls;
#[cfg(feature = "hls")]
pub mod http;
pub mod listeners;
mod memory;
mod overload;
mod pace;
mod pithy;
mod reload;
pub mod request;
pub mod rtmps;
pub mod server;
mod slack;
pub mod source;
mod turn;

pub use close::CloseReason;
