//! Attacks on the disk: HLS files that a server easily forgets to bound or to remove.

use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close};
use crate::common::process::eventually;
use crate::hls_media;
use crate::rig::{Rig, Setup};
use crate::rtmp::{
    AUDIO, NULL, VIDEO, command, connect_session, create_stream, keyframe, message, publish, publish_session,
    video_header,
};

#[test]
fn files_that_are_easily_forgotten() {
    let mut rig = Rig::start(Setup::default());
    rig.attack("segments without duration", short_segments);
    rig.attack("a segment that claims hours, and then some without duration", long_claims);
    rig.attack("gaps of sound and picture without end", hls_media::gaps);
    rig.attack("sound that is another one with each frame", hls_media::changing_sound);
    rig.attack("pictures with times and parameters at their limits", hls_media::odd_pictures);
    rig.attack("names by the thousand, each with a frame", short_streams);
    rig.attack("thousands of streams without media, on one connection", empty_streams);
    rig.attack("nested directories for files that cannot be created", deep_names);
    rig.finish();
}

/// Returns two sequence headers that differ: each change of the header starts a segment.
pub(crate) fn two_headers() -> [Vec<u8>; 2] {
    [0x64, 0x4d].map(|profile| {
        let mut header = video_header();
        header[6] = profile;
        message(6, 0, VIDEO, 1, &header)
    })
}

/// Makes each publisher start two segments of a millisecond each, then pauses, and so on for `time_limit`.
fn start_segments(publishers: &mut [Attacker], mut timestamp: u32, pause: Duration, time_limit: Duration) {
    let headers = two_headers();
    let until = Instant::now() + time_limit;
    while Instant::now() < until {
        for header in &headers {
            timestamp += 1;
            let segment = [header.clone(), message(6, timestamp, VIDEO, 1, &keyframe(50))].concat();
            publishers.iter_mut().for_each(|attacker| {
                attacker.send(&segment);
            });
        }
        std::thread::sleep(pause);
    }
}

fn short_segments(rig: &Rig) {
    let name = rig.unique_name("short") + "-";
    let mut all = Vec::new();
    for n in 0..20 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.send(&publish_session(format!("{name}{n}")));
        all.push(attacker);
    }
    start_segments(&mut all, 0, Duration::from_millis(10), rig.seconds(4, 60));
    let files = rig.count_hls_files(&format!("{name}7-"));
    println!("    {files} files of one stream");
    // At most 256 are in the playlist. Those of twice its duration, four a second, stay for viewers with an older playlist.
    assert!((10..320).contains(&files), "{files} files of one stream");
}

fn long_claims(rig: &Rig) {
    let [header, _] = two_headers();
    let name = rig.unique_name("claim") + "-";
    let mut all = Vec::new();
    for n in 0..20 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        let frames = (0..2500).flat_map(|n| message(6, 4900 * n, VIDEO, 1, &keyframe(20)));
        attacker.send(&[publish_session(format!("{name}{n}")), header.clone(), frames.collect()].concat());
        all.push(attacker);
    }
    start_segments(&mut all, 2500 * 4900, Duration::from_millis(100), rig.seconds(4, 90));
    let file = rig.scratch.folder().join(format!("html/live/{name}7.m3u8"));
    let playlist = std::fs::read_to_string(file).expect("a playlist");
    let count = playlist.matches("#EXTINF").count();
    println!("    {count} segments in the playlist");
    assert!((10..=256).contains(&count), "{count} segments in a playlist");
}

fn short_streams(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&[connect_session(), create_stream()].concat());
    let media = [message(4, 0, AUDIO, 1, &[0xaf, 0, 0x12, 0x10]), message(4, 0, AUDIO, 1, &[0xaf, 1, 7])].concat();
    let stop = command(1, "closeStream", 0.0, &NULL);
    let time = rig.seconds(3, 60);
    let until = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < until {
        let names = (0..30).map(|n| [publish(format!("frame{}", count + n)), media.clone(), stop.clone()].concat());
        attacker.send(&names.collect::<Vec<_>>().concat());
        attacker.discard_for(Duration::from_millis(1));
        count += 30;
    }
    println!("    {count} names");
    assert!(!attacker.closed, "the server closed the connection");
    assert!(count as u64 > 100 * time.as_secs(), "the attack is too slow: {count} names");
    rig.assert_new_players_served();
}

fn empty_streams(rig: &Rig) {
    let Some(mut attacker) = Attacker::connect(rig.rtmp) else { return };
    attacker.send(&[connect_session(), create_stream()].concat());
    let stop = command(1, "closeStream", 0.0, &NULL);
    let count = rig.count(20_000, 200_000, "streams");
    for n in 0..count / 100 {
        let burst: Vec<u8> = (0..100).flat_map(|m| [publish(format!("empty{n}-{m}")), stop.clone()].concat()).collect();
        attacker.send(&burst);
        attacker.discard_for(Duration::from_millis(1));
    }
    assert!(!attacker.closed, "the server closed the connection");
    // Another stream gets its HLS all the same.
    let mut other = Attacker::connect(rig.rtmp).expect("a connection");
    other.send(&[publish_session("other"), message(6, 0, VIDEO, 1, &video_header())].concat());
    let mut time = 0;
    let is_there = || rig.hls_files().contains("other.m3u8");
    eventually("another stream's playlist", Duration::from_secs(10), || {
        time += 500;
        other.send(&message(6, time, VIDEO, 1, &keyframe(500)));
        std::thread::sleep(Duration::from_millis(50));
        is_there().then_some(())
    });
    assert_eq!(rig.count_hls_files("empty"), 0, "files of streams without media");
}

fn deep_names(rig: &Rig) {
    let media = [message(6, 0, VIDEO, 1, &video_header()), message(6, 0, VIDEO, 1, &keyframe(100))].concat();
    let deep = |n: usize, parts: usize| format!("deep{n}/{}", "d/".repeat(parts));
    for n in 0..rig.count(100, 1000, "names of each kind") {
        for name in [deep(n, 120) + "x", deep(n, 3) + &"n".repeat(240), deep(n, 3) + "s.m3u8/x"] {
            let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
            attacker.send(&[publish_session(name), media.clone()].concat());
            attacker.discard_for(Duration::from_millis(2));
            attacker.close(Close::Fin);
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.count_hls_files("deep"), 0, "directories without files");
}
