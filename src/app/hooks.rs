//! Programs outside of the server that take part in its decisions, or are told of them.

pub(crate) mod http_callbacks;
pub(crate) mod transcode;
