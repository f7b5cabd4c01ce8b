//! End-to-end tests: the real server against real clients (ffmpeg, rtmpdump, GStreamer, nginx-rtmp, a browser), and against the
//! tests' own RTMP client where the bytes on the wire matter.
//!
//! It is one program, so that it is linked once. Everything runs on 127.0.0.1, every wait has a limit, and no test depends on
//! the speed of the machine. The files of a failed test stay in the build's `tmp` folder.
//!
//! | variable | meaning |
//! |---|---|
//! | `SRS_TEST_BINARY=PATH` | the server to test, instead of the build of this test run |
//! | `SRS_TEST_FFMPEG_NEW=PATH` | an ffmpeg of 6.1 or newer, for Enhanced RTMP |
//! | `SRS_TEST_SKIP_MISSING=1` | skip tests whose client is not installed, instead of failing |
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]
#![allow(clippy::disallowed_methods, reason = "the tests measure real time")]

#[path = "../common/mod.rs"]
mod common;

mod align;
mod backend;
mod binary;
#[cfg(all(feature = "hls", feature = "http"))]
mod browser;
mod media;
mod players;
mod tools;
#[cfg(all(feature = "hls", feature = "http"))]
mod web;
#[cfg(all(feature = "hls", feature = "http"))]
mod websocket;

mod access;
#[cfg(feature = "http")]
mod api;
#[cfg(feature = "http")]
mod api_events;
#[cfg(feature = "http")]
mod api_pages;
#[cfg(feature = "http")]
mod api_schema;
#[cfg(feature = "http")]
mod api_tools;
mod bandwidth;
#[cfg(all(feature = "hls", feature = "http"))]
mod bandwidth_http;
mod bandwidth_shaped;
mod closing;
mod codecs;
mod command_line;
#[cfg(all(feature = "hls", feature = "http"))]
mod console;
#[cfg(all(feature = "hls", feature = "http"))]
mod console_recordings;
mod credentials;
#[cfg(feature = "http")]
mod dvr_api;
mod encoders;
mod forward;
mod forward_crowd;
mod forward_trouble;
mod gstreamer;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls_browser;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls_changes;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls_interop;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls_sessions;
#[cfg(all(feature = "hls", feature = "http"))]
mod hls_streams;
mod hooks;
mod hooks_events;
mod hooks_spool;
#[cfg(feature = "http")]
mod http;
#[cfg(all(feature = "hls", feature = "http"))]
mod http_flv;
#[cfg(all(feature = "hls", feature = "http"))]
mod http_remux;
mod interop;
mod live;
mod nginx;
#[cfg(feature = "ssl")]
mod obs;
mod operations;
mod recording;
mod recording_mp4;
mod refused;
mod reload;
#[cfg(feature = "ssl")]
mod rtmps;
mod session;
mod shedding;
#[cfg(feature = "http")]
mod srs_ctl;
mod timestamps;
#[cfg(feature = "http")]
mod transcode;
#[cfg(feature = "http")]
mod transcode_programs;
#[cfg(feature = "http")]
mod transcode_trouble;
#[cfg(all(feature = "hls", feature = "http"))]
mod transcode_web;
#[cfg(all(feature = "hls", feature = "http"))]
mod ts_info;
mod vanished;
