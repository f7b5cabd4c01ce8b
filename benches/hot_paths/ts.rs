//! Muxing frames into an MPEG transport stream.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use srs::codec::nalu::{Codec, VideoConfig};
use srs::codec::ts::{AudioCodec, CLOCK_HZ, Muxer};

/// Frames per second of a stream of 2 Mbit/s, and their sizes in bytes.
const VIDEO_FRAMES: u64 = 25;
const VIDEO_FRAME_BYTES: usize = 9300;
const AUDIO_FRAMES: u64 = 43;
const AUDIO_FRAME_BYTES: usize = 370;

pub(crate) fn mux(criterion: &mut Criterion) {
    let config = VideoConfig { codec: Codec::H264, length_size: 4, parameter_sets: vec![0, 0, 0, 1, 0x67, 1, 2, 3] };
    let video_frame = [&(VIDEO_FRAME_BYTES as u32 - 4).to_be_bytes()[..], &[0x65; VIDEO_FRAME_BYTES - 4]].concat();
    let audio_frame = [0x21; AUDIO_FRAME_BYTES];
    let mut muxer = Muxer::new();
    let mut buffer = Vec::new();
    let mut group = criterion.benchmark_group("ts mux");
    let bytes = VIDEO_FRAMES * VIDEO_FRAME_BYTES as u64 + AUDIO_FRAMES * AUDIO_FRAME_BYTES as u64;
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("second", |bencher| {
        bencher.iter(|| {
            muxer.reuse_buffer(std::mem::take(&mut buffer));
            let mut audio_frames = 0;
            for n in 0..VIDEO_FRAMES {
                let time = n * CLOCK_HZ / VIDEO_FRAMES;
                muxer.video(&config, time, 0, n == 0, black_box(&video_frame)).unwrap();
                while audio_frames * CLOCK_HZ / AUDIO_FRAMES <= time {
                    let (pts, duration) = (audio_frames * CLOCK_HZ / AUDIO_FRAMES, CLOCK_HZ / AUDIO_FRAMES);
                    muxer.audio(AudioCodec::Aac, pts, duration, &[0xff; 7], black_box(&audio_frame));
                    audio_frames += 1;
                }
            }
            buffer = muxer.finish().unwrap();
        });
    });
    group.finish();
}
