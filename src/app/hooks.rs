//! Programs outside of the server that take part in its decisions, or are told of them.
//!
//! | module | takes part by | is told by |
//! |---|---|---|
//! | [`http_callbacks`] | a gate: requests to backends, which allow, refuse or rename | requests for each event |
//! | `transcode` | streams that ffmpeg publishes | events: it starts and ends programs |

pub mod http_callbacks;
pub(crate) mod transcode;
