//! What a server does for each message, each command and each client: `cargo bench`.
#![allow(missing_docs, reason = "the macros of criterion make items without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that meets the unexpected is to fail")]

mod amf0;
mod chunk;
mod handshake;
mod source;
mod ts;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    hot_paths,
    chunk::decoding,
    chunk::encoding,
    amf0::reading_and_writing,
    handshake::accepting,
    source::publishing,
    ts::muxing
);
criterion_main!(hot_paths);
