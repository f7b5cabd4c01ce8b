//! Frames to a transport stream.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use srs::codec::nalu::{Codec, VideoConfig};
use srs::codec::ts::{AudioCodec, HZ, Muxer};

/// A second of a stream of 2 Mbit/s: frames of video of this size, and of audio.
const FRAMES: u64 = 25;
const FRAME: usize = 9300;
const SOUNDS: u64 = 43;
const SOUND: usize = 370;

pub(crate) fn muxing(criterion: &mut Criterion) {
    let config = VideoConfig { codec: Codec::H264, length_size: 4, parameter_sets: vec![0, 0, 0, 1, 0x67, 1, 2, 3] };
    let frame = [&(FRAME as u32 - 4).to_be_bytes()[..], &[0x65; FRAME - 4]].concat();
    let sound = [0x21; SOUND];
    let mut muxer = Muxer::new();
    let mut buffer = Vec::new();
    let mut group = criterion.benchmark_group("ts mux");
    group.throughput(Throughput::Bytes(FRAMES * FRAME as u64 + SOUNDS * SOUND as u64));
    group.bench_function("second", |bencher| {
        bencher.iter(|| {
            muxer.write_into(std::mem::take(&mut buffer));
            let mut sounds = 0;
            for n in 0..FRAMES {
                let time = n * HZ / FRAMES;
                muxer.video(&config, time, 0, n == 0, black_box(&frame)).unwrap();
                while sounds * HZ / SOUNDS <= time {
                    muxer.audio(AudioCodec::Aac, sounds * HZ / SOUNDS, HZ / SOUNDS, &[0xff; 7], black_box(&sound));
                    sounds += 1;
                }
            }
            buffer = muxer.finish().unwrap();
        });
    });
    group.finish();
}
