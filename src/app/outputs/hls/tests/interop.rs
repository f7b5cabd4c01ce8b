//! Tests of what real encoders send and players need: composition times, tracks that come and go, parameter sets.

use super::*;
use crate::codec::amf0;

const AAC_48000_HEADER: &[u8] = &[0xaf, 0, 0x11, 0x90];

/// The configuration of 5.1(side) as ffmpeg 5.1 writes it, with a program config element.
const SURROUND_HEADER: &[u8] = &[
    0xaf, 0, 0x11, 0x80, 0x04, 0xc8, 0x44, 0x00, 0x20, 0x00, 0xc4, 0x0d, 0x4c, 0x61, 0x76, 0x63, 0x35, 0x39, 0x2e,
    0x33, 0x37, 0x2e, 0x31, 0x30, 0x30, 0x56, 0xe5, 0x00,
];

/// Returns a frame with this composition time in milliseconds.
fn frame_at(is_key: bool, composition: i32) -> Vec<u8> {
    let mut payload = frame(is_key, 100);
    payload[2..5].copy_from_slice(&composition.to_be_bytes()[1..]);
    payload
}

/// Returns the presentation time of frame `n` of GOPs of `gop` frames in frames, relative to its own number: groups of four
/// frames, of which the first three are shown before the last, as x264 sends them.
fn shown_at(n: u64, gop: u64) -> u64 {
    let (gop_start, at) = (n / gop * gop, n % gop);
    let group = |at: u64| (at - 1) / 4 * 4;
    let order = [4, 2, 1, 3];
    if at == 0 { n } else { gop_start + group(at) + order[((at - 1) % 4) as usize] }
}

/// Returns the number of frames that are due before the clock reference in front of them, and of those shown before they are
/// decoded.
fn wrong_times(body: &[u8]) -> (usize, usize) {
    let (mut pcr, mut behind, mut early) = (0, 0, 0);
    for packet in body.chunks(188) {
        let has_field = packet[3] & 0x20 != 0;
        let field = if has_field { 1 + usize::from(packet[4]) } else { 0 };
        if has_field && packet[4] > 0 && packet[5] & 0x10 != 0 {
            pcr = packet[6..12].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)) >> 15;
        }
        let content = &packet[4 + field..];
        if packet[1] & 0x40 != 0 && content.starts_with(&[0, 0, 1]) {
            let time = |at: usize| {
                let bytes = &content[at..at + 5];
                let bits = |byte: u8| u64::from(byte);
                (bits(bytes[0]) >> 1 & 7) << 30
                    | bits(bytes[1]) << 22
                    | (bits(bytes[2]) >> 1) << 15
                    | bits(bytes[3]) << 7
                    | bits(bytes[4]) >> 1
            };
            let pts = time(9);
            let dts = if content[7] & 0x40 != 0 { time(14) } else { pts };
            behind += usize::from(dts < pcr);
            early += usize::from(pts < dts);
        }
    }
    (behind, early)
}

fn assert_times(rig: &Rig) {
    for (n, body) in rig.bodies.iter().enumerate() {
        assert_eq!(wrong_times(body), (0, 0), "behind the clock, and shown before they are decoded, in segment {n}");
    }
}

fn discontinuities(rig: &Rig) -> Vec<bool> {
    rig.read().segments.iter().map(|segment| segment.discontinuity).collect()
}

/// Sends a second of audio at 44100 Hz from `from` on, in milliseconds.
fn audio_second(rig: &mut Rig, from: u64) {
    for n in 0..43 {
        rig.send(from + n * 1024 * 1000 / 44_100, &aac(1));
    }
}

#[test]
fn frames_that_are_shown_before_their_dts_shift_the_whole_publication() {
    let mut rig = Rig::new();
    rig.fragment = 4000;
    rig.segmenter.set_fragment(Duration::from_secs(4));
    rig.send_headers(0);
    let mut sound = 0;
    for n in 0..300 {
        let composition = (shown_at(n, 50) as i32 - n as i32) * 40;
        rig.send(n * 40, &frame_at(n % 50 == 0, composition));
        while sound * 1024 * 1000 / 44_100 <= n * 40 {
            rig.send(sound * 1024 * 1000 / 44_100, &aac(1));
            sound += 1;
        }
    }
    rig.finish();
    assert_times(&rig);
    let all = rig.demuxed();
    assert_eq!((all.len(), discontinuities(&rig)), (3, vec![false; 3]));
    let frames: Vec<_> = all.iter().flat_map(|segment| segment.frames.iter().cloned()).collect();
    let video = Demuxed::select(true, &frames);
    let wrong = (0..300).filter(|&n| video[n].pts - video[0].pts != shown_at(n as u64, 50) * 3600).count();
    assert_eq!((video.len(), wrong), (300, 0), "frames at a wrong presentation time");
    assert_eq!(video[0].pts - video[0].dts, 2 * 3600, "the largest negative offset");
    let audio = Demuxed::select(false, &frames);
    assert_eq!(audio[0].pts.abs_diff(video[0].pts), 1, "audio is shifted with it; its first time is one unit late");
}

#[test]
fn a_larger_negative_offset_later_is_a_discontinuity() {
    let mut rig = Rig::new();
    rig.send(0, AVC_HEADER);
    for n in 0..1000u64 {
        let composition = if n % 5 == 3 && n > 600 { -80 } else { 0 };
        rig.send(n * 40, &frame_at(n % 50 == 0, composition));
    }
    rig.finish();
    assert_times(&rig);
    assert_eq!(discontinuities(&rig), [false, false, true, false]);
    let shifts: Vec<_> = rig.demuxed().iter().map(|segment| segment.frames[0].pts - segment.frames[0].dts).collect();
    assert_eq!(shifts, [0, 0, 7200, 7200]);
}

#[test]
fn a_long_segment_of_an_earlier_publisher_does_not_delay_later_viewers() {
    let mut rig = Rig::new();
    rig.fragment = 4000;
    rig.window = 20_000;
    rig.segmenter.set_fragment(Duration::from_secs(4));
    rig.send(0, AVC_HEADER);
    rig.run(0, 60_000, Some(10_000), false);
    rig.finish();
    assert_eq!(rig.read().target_duration, 60);
    rig.segmenter.start();
    rig.send(61_000, AVC_HEADER);
    let mut targets = Vec::new();
    for second in 0..100 {
        let from = 61_000 + second * 2000;
        rig.run(from, from + 2000, Some(50), false);
        targets.push(rig.read().target_duration);
    }
    targets.dedup();
    assert_eq!(targets, [60, 4], "as soon as the long segment has left");
    // A long segment of this publisher counts to its end.
    rig.run(261_000, 281_000, Some(10_000), false);
    rig.run(281_000, 361_000, Some(50), false);
    assert_eq!(rig.read().target_duration, 20);
    rig.finish();
    // The server starts again, and the long segment is still listed, or not.
    let mut rig = Rig::at(rig.folder, 400_000);
    (rig.fragment, rig.window) = (4000, 20_000);
    rig.segmenter.set_fragment(Duration::from_secs(4));
    rig.send(400_000, AVC_HEADER);
    rig.run(400_000, 409_000, Some(50), false);
    assert_eq!(rig.read().target_duration, 4);
}

#[test]
fn a_disposed_stream_starts_with_its_own_target_duration() {
    let mut rig = Rig::new();
    rig.send(0, AVC_HEADER);
    rig.run(0, 60_000, Some(10_000), false);
    rig.finish();
    let now = rig.now();
    rig.handle(Job::Close { dispose: true, cleanup: true });
    rig.handle_at(Job::Close { dispose: true, cleanup: true }, now);
    rig.writer.tick(now + Duration::from_secs(1000));
    rig.playlist = rig.open();
    rig.segmenter.start();
    rig.send(70_000, AVC_HEADER);
    rig.run(70_000, 95_000, Some(50), false);
    assert_eq!(rig.read().target_duration, 10);
}

#[test]
fn audio_with_a_layout_of_its_own_describes_it_in_each_frame() {
    let mut rig = Rig::new();
    rig.send(0, SURROUND_HEADER);
    for n in 0..500 {
        rig.send(n * 64 / 3, &aac(1));
    }
    rig.finish();
    let frames: Vec<_> = rig.demuxed().into_iter().flat_map(|segment| segment.frames).collect();
    let audio: Vec<u8> = frames.into_iter().flat_map(|frame| frame.data).collect();
    let (mut rest, mut count) = (&audio[..], 0);
    while !rest.is_empty() {
        let size = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
        assert_eq!((rest[2] & 1, rest[3] >> 6), (1, 2), "the channel configuration of six channels, for hls.js");
        assert_eq!(rest[7] >> 5, 5, "the first element is a program config element");
        assert_eq!(rest[size - 198..size], [1; 198], "then the frame as it was sent");
        (rest, count) = (&rest[size..], count + 1);
    }
    assert_eq!(count, 500);
}

#[test]
fn a_track_that_comes_or_goes_follows_a_discontinuity() {
    let mp3 = || {
        let mut mp3 = vec![0x2f, 0xff, 0xfb, 0x90, 0x64];
        mp3.resize(418, 0);
        mp3
    };
    let mut rig = Rig::new();
    rig.send(0, AVC_HEADER);
    for n in 0..1500u64 {
        rig.send(n * 40, &frame(n % 250 == 0, 100));
        // Sound from 20 to 40 s.
        if (500..1000).contains(&n) {
            rig.send(n * 40, &mp3());
        }
    }
    rig.finish();
    let streams: Vec<_> = rig.demuxed().iter().map(|segment| segment.streams.len()).collect();
    assert_eq!(streams, [1, 1, 2, 2, 1, 1]);
    assert_eq!(discontinuities(&rig), [false, false, true, false, true, false]);
}

#[test]
fn a_muted_microphone_is_silence() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 20_000, Some(50), true);
    rig.run(20_000, 45_000, Some(50), false);
    rig.run(45_000, 60_000, Some(50), true);
    rig.finish();
    let all = rig.demuxed();
    assert!(all.iter().all(|segment| segment.streams.len() == 2), "each segment has both tracks");
    assert!(discontinuities(&rig).iter().all(|is_break| !is_break), "{:?}", discontinuities(&rig));
    assert_times(&rig);
    let frames: Vec<_> = all.iter().flat_map(|segment| segment.frames.iter().cloned()).collect();
    let audio = Demuxed::select(false, &frames);
    let gaps: Vec<_> = audio.windows(2).map(|pair| pair[1].pts - pair[0].pts).filter(|gap| *gap > 9100).collect();
    assert!(gaps.len() == 1 && gaps[0] < 90_000, "less than a second until silence starts: {gaps:?}");
    let silent = audio.iter().filter(|packet| packet.data.windows(6).any(|at| at == [0x21, 0, 0, 0, 0, 0x1c])).count();
    assert!((240..300).contains(&silent), "{silent} packets of a tenth of a second in 25 s");
    // As long as there is sound, nothing is added.
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 20_000, Some(50), true);
    rig.finish();
    assert_continuous(&rig.demuxed(), 500, 20 * 44_100 / 1024 + 1);
}

#[test]
fn a_camera_with_rare_pictures_leaves_audio_as_it_is() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    for slide in 0..8u64 {
        rig.send(slide * 6000, &frame(true, 100));
        for second in 0..6 {
            audio_second(&mut rig, slide * 6000 + second * 1000);
        }
    }
    rig.finish();
    let frames: Vec<_> = rig.demuxed().into_iter().flat_map(|segment| segment.frames).collect();
    let audio: usize = Demuxed::select(false, &frames).iter().map(|packet| packet.data.len() / 205).sum();
    assert_eq!(audio, 8 * 6 * 43, "no silence, and nothing missing");
    assert_times(&rig);
}

#[test]
fn the_first_segment_waits_for_audio_that_is_announced() {
    let first_segments = |announce: bool, audio_from: u64| {
        let mut rig = Rig::new();
        (rig.fragment, rig.window) = (1000, 60_000);
        rig.segmenter.set_fragment(Duration::from_secs(1));
        if announce {
            let mut metadata = Vec::new();
            amf0::write(&mut metadata, &amf0::Value::from("onMetaData"));
            amf0::write(&mut metadata, &amf0::Object::new().with("audiocodecid", 10.0).into());
            rig.segmenter.on_data(&metadata);
        }
        rig.send(0, AVC_HEADER);
        for n in 0..150u64 {
            rig.send(n * 40, &frame(n % 25 == 0, 100));
            if n * 40 == audio_from {
                rig.send(audio_from, AAC_HEADER);
            }
            if n * 40 >= audio_from {
                rig.send(n * 40, &aac(1));
            }
        }
        rig.finish();
        let tracks: Vec<_> = rig.demuxed().iter().take(3).map(|segment| segment.streams.len()).collect();
        (tracks, discontinuities(&rig)[..3].to_vec())
    };
    assert_eq!(first_segments(true, 1200), (vec![2, 2, 2], vec![false; 3]));
    assert_eq!(first_segments(false, 1200), (vec![1, 2, 2], vec![false, true, false]));
    assert_eq!(first_segments(true, 3600), (vec![1, 1, 2], vec![false, false, true]), "for a second, and no longer");
}

#[test]
fn a_segment_has_one_sample_rate() {
    let mut rig = Rig::new();
    rig.send_headers(0);
    rig.run(0, 13_500, Some(50), true);
    // Between two keyframes.
    rig.send(13_500, AAC_48000_HEADER);
    for n in 0..1125u64 {
        if n % 15 == 0 {
            for frame_in_group in 0..15 {
                let at = 13_500 + (n + frame_in_group) * 40;
                rig.send(at, &frame((at - 13_500) % 2000 == 1000, 100));
            }
        }
        rig.send(13_500 + n * 64 / 3, &aac(2));
    }
    rig.finish();
    let rates: Vec<Vec<u8>> = rig
        .demuxed()
        .iter()
        .map(|segment| {
            let audio = Demuxed::select(false, &segment.frames);
            let mut rates: Vec<_> =
                audio.iter().flat_map(|packet| packet.data.chunks(205)).map(|frame| frame[2] >> 2 & 15).collect();
            rates.dedup();
            rates
        })
        .collect();
    let (of_44100, of_48000) = (vec![4], vec![3]);
    assert_eq!(rates[..3], [of_44100.clone(), of_44100, of_48000], "{rates:?}");
    assert!(discontinuities(&rig)[2], "after a discontinuity");
}

#[test]
fn the_clock_is_that_of_the_slower_track() {
    for (behind, is_audio_late) in [(3000u64, true), (3000, false), (800, true), (9000, true)] {
        let mut rig = Rig::new();
        rig.send_headers(0);
        for n in 0..1500u64 {
            let (first, second) = (20_000 + n * 40, 20_000 + n * 40 - behind);
            let (video, audio) = if is_audio_late { (first, second) } else { (second, first) };
            rig.send(video, &frame_at(n % 50 == 0, 0));
            rig.send(audio, &aac(1));
        }
        rig.finish();
        assert_times(&rig);
        let breaks = discontinuities(&rig);
        // The distance of late video shows only after some segments, and the clock is set back once then.
        let most = usize::from(!is_audio_late);
        assert!(breaks.iter().filter(|is_break| **is_break).count() <= most, "{behind} ms: {breaks:?}");
        let pcrs: Vec<_> = rig.demuxed().into_iter().flat_map(|segment| segment.pcrs).collect();
        assert!(pcrs.windows(2).all(|pair| pair[1].saturating_sub(pair[0]) <= 9000), "the clock has no jumps");
    }
}

#[test]
fn parameter_sets_are_complete_in_each_segment() {
    let mut rig = Rig::new();
    rig.send(0, AVC_HEADER);
    let unit = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    for n in 0..1000u64 {
        let mut payload = frame(n % 50 == 0, 100);
        if n == 50 {
            // The picture parameter set alone, once, after an SEI message.
            let sets = [unit(&[6, 5, 0]), unit(&[0x68, 0xec])].concat();
            payload.splice(5..5, sets);
        }
        rig.send(n * 40, &payload);
    }
    rig.finish();
    let sets: Vec<_> = rig.demuxed().iter().map(|segment| segment.frames[0].data[6..19].to_vec()).collect();
    let of = |picture: u8| [&[0, 0, 0, 1, 0x67, 0x64, 0, 0, 0, 0, 1, 0x68][..], &[picture]].concat();
    assert_eq!(sets, [of(0xeb), of(0xec), of(0xec), of(0xec)]);
    let at_50 = &rig.demuxed()[0].frames[50].data;
    assert_eq!(at_50[6..19], of(0xec));
    assert_eq!(at_50[19..26], [0, 0, 0, 1, 6, 5, 0], "then the rest of the frame");
    assert_eq!(discontinuities(&rig), [false; 4]);
}

#[test]
fn open_gops_do_not_double_the_first_segment() {
    let mut rig = Rig::new();
    rig.fragment = 2000;
    rig.segmenter.set_fragment(Duration::from_secs(2));
    rig.send(0, AVC_HEADER);
    // A keyframe is decoded two frames before the last ones that are shown before it, except for the first keyframe.
    for n in 0..250u64 {
        let is_key = n == 0 || n % 50 == 48;
        let composition = if n == 0 {
            80
        } else if is_key {
            160
        } else {
            40
        };
        rig.send(n * 40, &frame_at(is_key, composition));
    }
    rig.finish();
    let durations: Vec<_> = rig.read().segments.iter().map(|segment| segment.duration).collect();
    assert_eq!(durations, [2.0, 2.0, 2.0, 2.0, 2.0, 0.04], "the last keyframe begins a segment of two frames");
}

#[test]
fn a_last_segment_of_one_frame_has_the_length_of_a_frame() {
    let mut rig = Rig::new();
    rig.send(0, AVC_HEADER);
    rig.run(0, 10_040, Some(250), false);
    rig.finish();
    let durations: Vec<_> = rig.read().segments.iter().map(|segment| segment.duration).collect();
    assert_eq!(durations, [10.0, 0.04]);
}
