//! The HTTP server: accepting, connections, and the handlers of requests.
//!
//! ```text
//! listener ─> server ─> connection: Channel ─ Request ─> Router ─> Handler ─> Response ─> send
//!             limits,   reads and writes                 by listener             │
//!             permits   one socket                       and path        bytes, file, or a stream that the
//!                                                                        handler writes itself (BodyWriter)
//! ```
//!
//! One coroutine per connection, which runs the handlers too: they may wait. The protocol is in [`crate::http`].
//!
//! | handler | serves |
//! |---|---|
//! | [`handlers::live_files`] | playlists and segments of live streams, from memory |
//! | [`handlers::console`] | the page at `/` with its player and its list of streams |
//! | [`handlers::static_files`] | files of a directory, read on the thread pool |

mod channel;
mod connection;
pub mod disk;
pub mod exchange;
pub mod handlers;
mod permits;
pub mod response;
pub mod router;
mod send;
mod server;
mod stalled;
mod state;
#[cfg(test)]
mod tests;
pub mod writer;

pub use channel::End;
pub(crate) use server::Http;
