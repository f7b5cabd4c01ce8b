//! Benchmarks of the work per message, per command and per client: `cargo bench`.
#![allow(missing_docs, reason = "criterion generates items without docs")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails on unexpected results")]
#![allow(clippy::disallowed_methods, reason = "the benchmarks measure real time")]

mod amf0;
mod chunk;
mod handshake;
mod source;
mod ts;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    hot_paths,
    chunk::decode,
    chunk::encode_messages,
    amf0::read_and_write,
    handshake::accept,
    source::publish,
    ts::mux
);
criterion_main!(hot_paths);
