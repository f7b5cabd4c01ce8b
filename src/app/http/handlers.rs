//! The handlers of requests, each behind [`Handler`](super::router::Handler).

pub(crate) mod api;
pub(crate) mod console;
pub(crate) mod live_files;
pub(crate) mod static_files;
