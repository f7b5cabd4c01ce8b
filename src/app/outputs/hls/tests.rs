//! Tests of the way from FLV payloads to files, with a demuxer and a playlist parser that share no code with the server.

mod files;
mod interop;
mod rig;
mod streams;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use m3u8_rs::MediaPlaylist;

use self::rig::*;
use super::job::{Job, StreamFiles};
use super::playlist::{Durations, Entry};
use super::*;
use crate::codec::flv;
use crate::codec::ts::tests::Demuxed;

#[test]
fn video_and_audio() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 45_000, Some(50), true);
    rig.finish();
    let playlist = rig.read();
    assert_eq!(playlist.segments.iter().map(|s| s.duration).collect::<Vec<_>>(), [10.0, 10.0, 10.0, 10.0, 5.0]);
    let names: Vec<_> = playlist.segments.iter().map(|segment| segment.uri.as_str()).collect();
    assert_eq!(names, ["s-0.ts", "s-1.ts", "s-2.ts", "s-3.ts", "s-4.ts"]);
    assert_eq!((playlist.media_sequence, playlist.target_duration, playlist.version), (0, 10, Some(3)));
    assert!(playlist.segments.iter().all(|segment| !segment.discontinuity) && !playlist.end_list);
    let dates: Vec<_> = playlist.segments.iter().filter_map(|segment| segment.program_date_time).collect();
    assert!(dates.windows(2).all(|pair| (pair[1] - pair[0]).num_milliseconds() == 10_000));
    let all = rig.demuxed();
    assert_continuous(&all, 45 * 25, 45 * 44_100 / 1024 + 1);
    for segment in &all {
        assert_eq!(segment.streams, [(0x1b, 0x100), (0x0f, 0x101)]);
        let first = &Demuxed::select(true, &segment.frames)[0];
        assert_eq!(first.data[6..11], [0, 0, 0, 1, 0x67], "each segment begins with a keyframe and its sets");
        assert_eq!(first.pts - first.dts, 7200);
        assert!(segment.pcrs.windows(2).all(|pair| pair[1] - pair[0] <= 9000));
    }
    assert_eq!(rig.segmenter.audio_resyncs(), 0);
}

#[test]
fn audio_only_is_cut_by_time() {
    let mut rig = Rig::new();
    rig.send(0, AAC_HEADER);
    rig.run(0, 35_000, None, true);
    rig.finish();
    assert_eq!(rig.bodies.len(), 4);
    assert!(rig.read().segments[..3].iter().all(|s| (s.duration - 10.0).abs() < 0.05));
    let all = rig.demuxed();
    assert_continuous(&all, 0, 35 * 44_100 / 1024 + 1);
    assert!(all.iter().all(|segment| segment.streams == [(0x0f, 0x101)] && segment.pcr_pid == 0x101));
    assert!(all.iter().all(|segment| segment.pcrs.windows(2).all(|pair| pair[1] - pair[0] <= 9000)));
}

#[test]
fn video_only() {
    let mut rig = Rig::new();
    rig.send(0, AVC_HEADER);
    rig.run(0, 25_000, Some(25), false);
    rig.finish();
    assert_eq!(rig.read().segments.iter().map(|s| s.duration).collect::<Vec<_>>(), [10.0, 10.0, 5.0]);
    let all = rig.demuxed();
    assert_continuous(&all, 625, 0);
    assert!(all.iter().all(|segment| segment.streams == [(0x1b, 0x100)]));
}

#[test]
fn a_long_gop_makes_a_long_segment_and_the_target_follows() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 60_000, Some(400), true);
    rig.finish();
    let playlist = rig.read();
    assert_eq!(playlist.segments.iter().map(|s| s.duration).collect::<Vec<_>>(), [16.0, 16.0, 16.0, 12.0]);
    assert_eq!(playlist.target_duration, 16);
}

#[test]
fn a_stream_without_keyframes_is_cut_all_the_same() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 300_000, Some(1_000_000), false);
    assert_eq!(rig.bodies.len(), 2);
    assert_continuous(&rig.demuxed(), 6500, 0);
}

#[test]
fn times_that_stand_still_make_no_segment_without_end() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.send(0, &frame(true, 100));
    let mut large = aac(7);
    large.resize(8000, 7);
    let large = Bytes::from(large);
    let tag = flv::read_audio_header(&large).unwrap();
    let mut sizes = Vec::new();
    for _ in 0..20_000 {
        sizes.extend(rig.segmenter.on_audio(40, &tag, &large).map(|segment| segment.body.len()));
        assert!(rig.segmenter.buffered_bytes() < 80 << 20, "a quarter more for the growth of its buffer");
    }
    assert!(sizes.len() == 2 && sizes.iter().all(|&size| size >= 64 << 20), "{sizes:?}");
    assert!(
        rig.segmenter
            .on_video(40, &flv::read_video_header(&frame(false, 100)).unwrap(), &frame(false, 100).into())
            .is_none()
    );
}

/// Found by fuzzing: what waited was written behind what had come since.
#[test]
fn audio_that_waits_for_video_goes_first_when_that_turns_out_to_be_none() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.send(0, &aac(1));
    rig.send(20, &aac(2));
    // A sequence header that says nothing.
    rig.send(30, &[0x17, 0, 0, 0, 0]);
    for n in 2..40 {
        rig.send(n * 23, &aac(3));
    }
    rig.send_headers(950);
    rig.send(960, &frame(true, 100));
    rig.finish();
    let frames: Vec<_> = rig.demuxed().into_iter().flat_map(|segment| segment.frames).collect();
    let audio: Vec<u8> = Demuxed::select(false, &frames).into_iter().flat_map(|frame| frame.data).collect();
    // An ADTS header, and what the frames are filled with.
    let fillings: Vec<u8> = audio.chunks(7 + 198).map(|frame| frame[7]).collect();
    assert_eq!(fillings[..4], [1, 2, 3, 3], "of {}", fillings.len());
}

#[test]
fn what_a_publisher_says_of_its_stream_is_bounded_counted_and_gone_with_it() {
    let mut rig = Rig::new();
    let mut long = AVC_HEADER.to_vec();
    long.resize(16 << 20, 0);
    rig.send(0, &long);
    rig.send(0, &frame(true, 100));
    assert_eq!(rig.segmenter.buffered_bytes(), 0, "not a sequence header");
    rig.send(0, AVC_HEADER);
    let header = rig.segmenter.buffered_bytes();
    assert!((AVC_HEADER.len()..100).contains(&header), "{header}");
    rig.send(0, AAC_HEADER);
    // A frame that is a part of a large message, as those of an aggregate are.
    let message = Bytes::from(vec![0xaf, 1, 7, 7].into_iter().chain(vec![0; 1 << 20]).collect::<Vec<_>>());
    let part = message.slice(..4);
    assert!(rig.segmenter.on_audio(0, &flv::read_audio_header(&part).unwrap(), &part).is_none());
    assert_eq!(rig.segmenter.buffered_bytes(), header + 2);
    drop(part);
    assert!(message.is_unique(), "the whole message is not kept");
    rig.send(40, &frame(true, 100));
    rig.finish();
    assert_eq!((rig.segmenter.buffered_bytes(), rig.bodies.len()), (0, 1));
}

#[test]
fn an_encoder_that_comes_back_follows_a_discontinuity() {
    let mut rig = Rig::new();
    rig.window = 20_000;
    rig.send_headers(0);
    rig.run(0, 24_000, Some(50), true);
    rig.finish();
    rig.segmenter.start();
    rig.send_headers(24_200);
    rig.run(24_200, 45_000, Some(50), true);
    rig.finish();
    let playlist = rig.read();
    let breaks: Vec<_> = playlist.segments.iter().map(|s| (s.uri.as_str(), s.discontinuity)).collect();
    assert_eq!(breaks, [("s-1.ts", false), ("s-2.ts", false), ("s-3.ts", true), ("s-4.ts", false), ("s-5.ts", false)]);
    assert_eq!((playlist.media_sequence, playlist.discontinuity_sequence), (1, 0));
    rig.segmenter.start();
    rig.send_headers(45_200);
    rig.run(45_200, 100_000, Some(50), true);
    let playlist = rig.read();
    assert_eq!(playlist.discontinuity_sequence, 2, "both have left the playlist");
    assert!(playlist.segments.iter().all(|segment| !segment.discontinuity));
}

#[test]
fn other_parameters_begin_a_segment_after_a_discontinuity() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 4000, Some(50), true);
    rig.send_headers(4000);
    rig.run(4000, 8000, Some(50), true);
    rig.send(8000, OTHER_AVC_HEADER);
    rig.run(8000, 20_000, Some(50), true);
    rig.finish();
    let playlist = rig.read();
    let segments: Vec<_> = playlist.segments.iter().map(|s| (s.duration, s.discontinuity)).collect();
    assert_eq!(segments[0], (8.0, false), "the same header again changes nothing");
    assert_eq!((segments[1], segments.len()), ((10.0, true), 3));
    let all = rig.demuxed();
    assert_eq!(Demuxed::select(true, &all[1].frames)[0].data[10..13], [0x67, 0x64, 1], "the new parameters");
}

#[test]
fn another_kind_of_audio_begins_a_segment() {
    let mut rig = Rig::new();
    rig.send(0, AAC_HEADER);
    rig.run(0, 5000, None, true);
    for n in 0..300 {
        let mut mp3 = vec![0x2f, 0xff, 0xfb, 0x90, 0x64];
        mp3.resize(418, 0);
        rig.send(5000 + n * 26, &mp3);
    }
    rig.finish();
    let all = rig.demuxed();
    assert_eq!(all.iter().map(|segment| segment.streams[0].0).collect::<Vec<_>>(), [0x0f, 0x03]);
    assert!(rig.read().segments[1].discontinuity);
}

#[test]
fn video_that_comes_late_or_goes_early_is_a_change() {
    let mut rig = Rig::new();
    rig.send(0, AAC_HEADER);
    rig.run(0, 5000, None, true);
    rig.send(5000, AVC_HEADER);
    rig.run(5000, 17_000, Some(50), true);
    rig.run(17_000, 45_000, None, true);
    rig.finish();
    let all = rig.demuxed();
    let streams: Vec<_> = all.iter().map(|segment| segment.streams.len()).collect();
    assert_eq!(streams, [1, 2, 2, 2, 2], "the last picture is repeated");
    let breaks: Vec<_> = rig.read().segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, true, false, false, false]);
}

#[test]
fn hevc_of_enhanced_rtmp() {
    let mut record = vec![1];
    record.extend([0; 20]);
    record.extend([0x0f, 3, 0xa0, 0, 1, 0, 2, 0x40, 1, 0xa1, 0, 1, 0, 3, 0x42, 1, 1, 0xa2, 0, 1, 0, 2, 0x44, 1]);
    let mut rig = Rig::new();
    rig.send(0, &[&[0x90][..], b"hvc1", &record].concat());
    rig.send(0, &[&[0x90][..], b"mp4a", &[0x12, 0x10]].concat());
    for n in 0..600u64 {
        // CodedFramesX of a keyframe, CodedFrames of others.
        let frame = match n % 50 {
            0 => [&[0x93][..], b"hvc1", &[0, 0, 0, 4, 0x26, 1, 2, 3]].concat(),
            _ => [&[0xa1][..], b"hvc1", &[0, 0, 40], &[0, 0, 0, 4, 0x02, 1, 2, 3]].concat(),
        };
        rig.send(n * 40, &frame);
    }
    rig.finish();
    let all = rig.demuxed();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|segment| segment.streams[0] == (0x24, 0x100)));
    assert_continuous(&all, 600, 0);
    let first = &all[0].frames[0].data;
    let units: Vec<_> = first.split(|byte| *byte == 0).filter(|unit| unit.len() > 1).map(|unit| unit[1]).collect();
    assert_eq!(units, [0x46, 0x40, 0x42, 0x44, 0x26], "delimiter, VPS, SPS, PPS, keyframe");
}

#[test]
fn what_a_transport_stream_cannot_carry_is_left_out() {
    let mut rig = Rig::new();
    rig.send(0, AAC_HEADER);
    for n in 0..600 {
        rig.send(n * 40, &[&[0x91][..], b"av01", &[1, 2, 3]].concat());
        rig.send(n * 40, &aac(1));
    }
    rig.finish();
    assert!(!rig.bodies.is_empty());
    assert!(rig.demuxed().iter().all(|segment| segment.streams == [(0x0f, 0x101)]));
}

#[test]
fn ten_hours_are_continuous() {
    // Timestamps as an encoder has them, one segment an hour in memory at a time.
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.segmenter.set_fragment(Duration::from_secs(600));
    let (mut video, mut sound) = (0u64, 0u64);
    let mut segments = 0;
    let mut last_end = None;
    while video < 36_000 {
        let audio_time = sound * 1024 * 1000 / 44_100;
        let segment = if video * 1000 <= audio_time {
            let payload = Bytes::from(frame(video % 2 == 0, 40));
            let tag = flv::read_video_header(&payload).unwrap();
            video += 1;
            rig.segmenter.on_video((video - 1) * 1000, &tag, &payload)
        } else {
            let payload = Bytes::from_static(&[0xaf, 1, 0x21, 0x10]);
            sound += 1;
            rig.segmenter.on_audio(audio_time, &flv::read_audio_header(&payload).unwrap(), &payload)
        };
        let Some(segment) = segment else { continue };
        segments += 1;
        assert_eq!(segment.duration, 600_000);
        let date = segment.started_at.duration_since(UNIX_EPOCH).unwrap();
        assert!(last_end.is_none_or(|end| end == date) || segments > 1, "dates follow durations");
        last_end = Some(date + Duration::from_millis(segment.duration));
    }
    assert_eq!((segments, rig.segmenter.audio_resyncs()), (59, 0));
}
