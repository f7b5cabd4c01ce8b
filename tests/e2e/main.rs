//! The real server against real clients: ffmpeg, rtmpdump, GStreamer and nginx-rtmp, and against a client of our own where the
//! bytes on the wire matter.
//!
//! One binary, so that it is linked once. Everything is on 127.0.0.1, every wait has a bound, and no test depends on how fast
//! the machine is. What a test wrote stays in the build's `tmp` folder when it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected is to fail")]

mod align;
#[cfg(feature = "hls")]
mod browser;
mod flv;
#[cfg(feature = "hls")]
mod http_client;
mod media;
mod players;
mod process;
mod scratch;
mod server;
mod tools;
#[cfg(feature = "hls")]
mod web;
mod wire;

mod access;
mod closing;
mod codecs;
mod command_line;
mod forward;
mod forward_crowd;
mod forward_trouble;
mod gstreamer;
#[cfg(feature = "hls")]
mod hls;
#[cfg(feature = "hls")]
mod hls_changes;
#[cfg(feature = "hls")]
mod hls_streams;
#[cfg(feature = "hls")]
mod http;
mod live;
mod nginx;
mod operations;
mod refused;
mod reload;
#[cfg(feature = "ssl")]
mod rtmps;
mod session;
mod shedding;
mod timestamps;
#[cfg(feature = "hls")]
mod ts_info;
