//! Outputs of a published stream beside its players.
//!
//! | module | gets a stream | ends in |
//! |---|---|---|
//! | `hls` | as an `Output` | segments and playlists, in [`live_files`] and on disk |
//! | `dvr` | as an `Output` | FLV or MP4 files on disk |
//! | `forward` | by a cursor into the packet log | another server |

pub(crate) mod dvr;
pub(crate) mod forward;
#[cfg(feature = "hls")]
pub mod hls;
pub mod live_files;
