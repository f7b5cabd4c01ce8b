//! Outputs of a published stream beside its players.

pub(crate) mod dvr;
pub(crate) mod forward;
#[cfg(feature = "hls")]
pub mod hls;
pub mod live_files;
