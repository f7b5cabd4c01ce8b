//! The handlers of requests, each behind [`Handler`](super::router::Handler).

pub(crate) mod api;
pub(crate) mod bandwidth;
pub(crate) mod console;
pub(crate) mod hls_access;
pub(crate) mod hls_sessions;
pub(crate) mod live_files;
pub(crate) mod live_streams;
pub(crate) mod master_playlist;
pub(crate) mod static_files;
