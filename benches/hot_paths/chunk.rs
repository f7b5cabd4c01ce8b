//! Encoding and decoding of chunks.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use srs::rtmp::chunk::{ChunkDecoder, ChunkHeader, ChunkStreamId, encode};
use srs::rtmp::message::MessageType;

/// Messages per second of a stream of 500 kbit/s, and their size in bytes.
const MESSAGES: u32 = 68;
const MESSAGE_BYTES: usize = 900;

/// The default of RTMP, and the size that ffmpeg and OBS use.
const CHUNK_SIZES: [usize; 2] = [128, 4096];

fn encode_second(chunk_size: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(MESSAGES as usize * (MESSAGE_BYTES + MESSAGE_BYTES / chunk_size + 16));
    let payload = [0x27; MESSAGE_BYTES];
    for n in 0..MESSAGES {
        let header =
            ChunkHeader { csid: ChunkStreamId::VIDEO, kind: MessageType::VIDEO, timestamp: n * 15, stream_id: 1 };
        encode(&mut out, &header, &payload, chunk_size);
    }
    out
}

pub(crate) fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk decode");
    for chunk_size in CHUNK_SIZES {
        let set_chunk_size = [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &(chunk_size as u32).to_be_bytes()].concat();
        let chunks = encode_second(chunk_size);
        group.throughput(Throughput::Elements(MESSAGES.into()));
        group.bench_function(BenchmarkId::from_parameter(chunk_size), |bencher| {
            let decoder = || {
                let mut decoder = ChunkDecoder::new();
                assert_eq!(decoder.decode(&mut &set_chunk_size[..]), Ok(None));
                decoder
            };
            bencher.iter_batched_ref(
                decoder,
                |decoder| {
                    let (mut rest, mut count) = (&chunks[..], 0);
                    while let Some(message) = decoder.decode(&mut rest).unwrap() {
                        black_box(message);
                        count += 1;
                    }
                    assert_eq!(count, MESSAGES);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

pub(crate) fn encode_messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk encode");
    for chunk_size in CHUNK_SIZES {
        group.throughput(Throughput::Elements(MESSAGES.into()));
        group.bench_function(BenchmarkId::from_parameter(chunk_size), |bencher| {
            bencher.iter(|| encode_second(black_box(chunk_size)));
        });
    }
    group.finish();
}
