//! The fuzz targets: one function for each decoder of untrusted bytes. Each feeds the decoder and checks a round trip if there
//! is an encoder. The drivers are `fuzz_targets/` (libFuzzer, guided by coverage) and `tests/fuzz` (the corpus and seeded
//! mutations of it, on any toolchain).
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed assumption must end the run"
)]

use std::io::{self, Cursor, Read, Write};

#[path = "targets/media.rs"]
mod media;
#[path = "targets/rtmp.rs"]
mod rtmp;
#[path = "targets/text.rs"]
mod text;

pub use media::*;
pub use rtmp::*;
pub use text::*;

/// A target: the name of its file in `fuzz_targets/` and its folder in `corpus/`, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("handshake", handshake),
    ("chunk", chunk),
    ("message", message),
    ("session", session),
    ("client", client),
    ("request", request),
    ("amf0", amf0),
    ("amf3", amf3),
    ("flv", flv),
    ("avc", avc),
    ("hevc", hevc),
    ("aac", aac),
    ("mp3", mp3),
    #[cfg(feature = "hls")]
    ("ts", ts),
    #[cfg(feature = "http")]
    ("http", http),
    #[cfg(feature = "http")]
    ("http_body", http_body),
    ("proxy", proxy),
    ("directive", directive),
    ("callback_answer", callback_answer),
    ("spool", spool),
    ("stream_keys", stream_keys),
];

/// A peer that sends fixed bytes and counts the received ones.
pub(crate) struct Script<'a> {
    input: Cursor<&'a [u8]>,
    pub(crate) received: usize,
}

impl<'a> Script<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input: Cursor::new(input), received: 0 }
    }
}

impl Read for Script<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.received += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
