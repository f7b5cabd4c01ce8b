//! HTTP/1.1 of a server as a protocol: bytes in, values out. Knows no socket.
//!
//! ```text
//! bytes ──> request::parse ──> Request: method, path, query, headers
//!      └──> BodyDecoder ─────> the bytes of its body
//! Head ───> Head::encode ────> bytes, followed by a body, or by chunks of one (chunked::chunk_start)
//! ```
//!
//! | module | content |
//! |---|---|
//! | `request` (feature `http`) | the parser of request heads |
//! | [`body`], [`chunked`] | bodies of requests, the chunked transfer coding in both directions |
//! | [`headers`], [`uri`] | header fields; targets, queries and percent-encoding |
//! | [`conditions`], [`file_metadata`], [`date`] | conditional and range requests |
//! | [`response`], [`status`], [`refusal`] | response heads, status codes, refused requests |
//! | `websocket` (feature `http`) | WebSocket: frames of both directions |
//!
//! Specifications: RFC 3986 (URIs), RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1), RFC
//! 6455 (WebSocket).

pub mod body;
pub mod chunked;
pub mod conditions;
pub mod date;
pub mod file_metadata;
pub mod headers;
pub mod refusal;
// `httparse` reads the lines.
#[cfg(feature = "http")]
pub mod request;
pub mod response;
pub mod status;
pub mod uri;
// `tungstenite` reads the frames of clients.
#[cfg(feature = "http")]
pub mod websocket;
