//! The handlers of requests, each behind [`Handler`](super::router::Handler).
//!
//! | handler | serves |
//! |---|---|
//! | `api` | `/api/v1`, metrics, health |
//! | `console`, `bandwidth` | pages, and what they need |
//! | `hls_access`, `hls_sessions` | HLS of vhosts that ask for signatures, keys or sessions |
//! | `master_playlist`, `live_files` | playlists and segments from memory |
//! | `live_streams` | HTTP-FLV and the like, also over WebSocket |
//! | `static_files` | files of a directory |

pub(crate) mod api;
pub(crate) mod bandwidth;
pub(crate) mod console;
pub(crate) mod hls_access;
pub(crate) mod hls_sessions;
pub(crate) mod live_files;
pub(crate) mod live_streams;
pub(crate) mod master_playlist;
pub(crate) mod static_files;
