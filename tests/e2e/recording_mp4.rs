//! Recording as fragmented MP4: ffprobe reads each packet of ffmpeg's streams with its times, also of files that were cut.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::Wire;
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::recording::{probe, text_of_first_frame};
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

const SESSION: Settings<'_> =
    Settings { root: "", vhost: "dvr { enabled on; dvr_path rec/[app]/[stream].[timestamp].mp4; }", vhosts: "" };

/// A frame as ffprobe sees it in a file, and as the publisher sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packet {
    kind: u8,
    dts: i64,
    pts: i64,
    is_key: bool,
    size: usize,
    hash: String,
}

/// Returns the packets of a file.
fn packets(ffprobe: &Path, file: &Path) -> Vec<Packet> {
    let entries = "packet=codec_type,pts,dts,size,flags,data_hash";
    let text = probe(ffprobe, &["-show_entries", entries, "-show_data_hash", "sha256", "-of", "json"], file);
    parse(&text)
}

fn parse(text: &str) -> Vec<Packet> {
    let json: Value = serde_json::from_str(text).expect("JSON");
    let packets = json["packets"].as_array().expect("packets");
    let number = |value: &Value| value.as_i64().expect("a time");
    let packet = |packet: &Value| Packet {
        kind: if packet["codec_type"] == "video" { VIDEO } else { AUDIO },
        dts: number(&packet["dts"]),
        pts: number(&packet["pts"]),
        is_key: packet["flags"].as_str().expect("flags").starts_with('K'),
        size: packet["size"].as_str().expect("a size").parse().expect("a number"),
        hash: packet["data_hash"].as_str().expect("a hash").trim_start_matches("SHA256:").to_owned(),
    };
    packets.iter().map(packet).collect()
}

/// Returns what a frame is in a file without the header of its message.
fn expected(tag: &Tag) -> Packet {
    let payload = &tag.payload;
    let has_composition =
        tag.kind == VIDEO && payload[0] & 0x8f != 0x83 && (payload[0] & 0x80 == 0 || &payload[1..5] == b"hvc1");
    let header = match tag.kind {
        VIDEO if payload[0] & 0x80 != 0 => 5,
        VIDEO => 2,
        _ if payload[0] >> 4 == 9 => 5,
        _ if payload[0] >> 4 == 10 => 2,
        _ => 1,
    };
    let (composition, body) = match payload[header..] {
        [a, b, c, ..] if has_composition => (i32::from_be_bytes([a, b, c, 0]) >> 8, &payload[header + 3..]),
        _ => (0, &payload[header..]),
    };
    Packet {
        kind: tag.kind,
        dts: tag.timestamp.into(),
        pts: i64::from(tag.timestamp) + i64::from(composition),
        is_key: tag.kind == AUDIO || tag.is_keyframe(),
        size: body.len(),
        hash: Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Fails unless a recording has the first frames of each kind, with their times from 0 on. Returns their numbers.
fn compare(published: &[Tag], recorded: &[Packet]) -> [usize; 2] {
    let frames: Vec<_> = published.iter().filter(|tag| tag.is_frame()).map(expected).collect();
    let start = frames.iter().map(|frame| frame.dts).min().expect("frames");
    [VIDEO, AUDIO].map(|kind| {
        let published: Vec<_> = frames.iter().filter(|frame| frame.kind == kind).collect();
        let recorded: Vec<_> = recorded.iter().filter(|packet| packet.kind == kind).collect();
        assert!(recorded.len() <= published.len(), "{} of {}", recorded.len(), published.len());
        for (published, recorded) in published.iter().zip(&recorded) {
            let Packet { dts, pts, .. } = **published;
            let published = Packet { dts: dts - start, pts: pts - start, ..(*published).clone() };
            assert_eq!(published, **recorded);
        }
        recorded.len()
    })
}

fn files(scratch: &Scratch, extension: &str) -> Vec<PathBuf> {
    let entries = scratch.file("rec/live").read_dir().into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn wait_files(scratch: &Scratch, count: usize) -> Vec<PathBuf> {
    eventually("the recordings are complete", LIMIT, || {
        let files = files(scratch, "mp4");
        (files.len() >= count).then_some(files)
    })
}

/// Publishes `source`. The recording must have each frame of these kinds, with its times.
fn records(ffmpeg: &Path, source: &Source, kinds: &[u8]) {
    let ffprobe = need!(ffprobe);
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    publish(&scratch, "publisher", ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    let files = wait_files(&scratch, 1);
    assert_eq!((files.len(), self::files(&scratch, "tmp").len()), (1, 0));
    // ffmpeg ends FLAC with an empty frame, which is none in MP4.
    let is_wanted = |tag: &&Tag| kinds.contains(&tag.kind) && !(tag.is_frame() && expected(tag).size == 0);
    let published: Vec<_> = source.tags.iter().filter(is_wanted).cloned().collect();
    let counts = compare(&published, &packets(&ffprobe, &files[0]));
    let of = |kind| published.iter().filter(|tag| tag.kind == kind && tag.is_frame()).count();
    assert_eq!(counts, [of(VIDEO), of(AUDIO)]);
    let text = probe(&ffprobe, &["-show_entries", "format=duration,size", "-of", "csv=p=0"], &files[0]);
    let (duration, size) = text.trim().split_once(',').expect("two values");
    let duration: f64 = duration.parse().expect("a number");
    assert!((5.9..6.2).contains(&duration), "{duration}");
    if kinds.contains(&VIDEO) {
        let first = text_of_first_frame(&ffprobe, &files[0]);
        assert!((2.9..=4.2).contains(&first), "a seek to 4 s comes to the keyframe before it: {first}");
    }
    let line = server.wait_log(&["recorded:", "seconds=", &format!("bytes={size}")], LIMIT);
    assert!(line.contains(".mp4"), "{line}");
    server.assert_healthy();
}

/// Runs parts of a test that wait for live streams.
fn at_once(parts: &[fn(&Path)], ffmpeg: &Path) {
    std::thread::scope(|scope| parts.iter().for_each(|part| _ = scope.spawn(|| part(ffmpeg))));
}

#[test]
fn each_frame_is_recorded() {
    let ffmpeg = need!(ffmpeg);
    records(&ffmpeg, media::h264_aac(&ffmpeg), &[VIDEO, AUDIO]);
}

#[test]
fn audio_or_video_alone_is_recorded() {
    let ffmpeg = need!(ffmpeg);
    let audio = |ffmpeg: &Path| records(ffmpeg, media::audio_only(ffmpeg), &[AUDIO]);
    let video = |ffmpeg: &Path| records(ffmpeg, media::video_only(ffmpeg), &[VIDEO]);
    at_once(&[audio, video], &ffmpeg);
}

#[test]
fn other_codecs_are_recorded() {
    let new_ffmpeg = need!(new_ffmpeg);
    let hevc = |ffmpeg: &Path| records(ffmpeg, media::hevc_aac(ffmpeg), &[VIDEO, AUDIO]);
    let av1 = |ffmpeg: &Path| records(ffmpeg, media::av1_opus(ffmpeg), &[VIDEO, AUDIO]);
    let vp9 = |ffmpeg: &Path| records(ffmpeg, media::vp9_flac(ffmpeg), &[VIDEO, AUDIO]);
    at_once(&[hevc, av1, vp9], &new_ffmpeg);
}

#[test]
fn a_track_that_mp4_cannot_have_is_left_out() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    let source = media::vp6_mp3(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    server.wait_log(&["[warn]", "track not recorded:", "live/livestream", "track=video", "codec=\"VP6\""], LIMIT);
    let files = wait_files(&scratch, 1);
    let sound: Vec<_> = source.tags.iter().filter(|tag| tag.kind == AUDIO).cloned().collect();
    let recorded = packets(&ffprobe, &files[0]);
    // Its time is that of the whole stream.
    let first = recorded[0].dts;
    let recorded: Vec<_> =
        recorded.into_iter().map(|p| Packet { dts: p.dts - first, pts: p.pts - first, ..p }).collect();
    assert_eq!(compare(&sound, &recorded), [0, sound.len()]);
    server.assert_healthy();
}

#[test]
fn segments_follow_each_other_without_a_gap() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let scratch = Scratch::new();
    let vhost = "dvr { enabled on; dvr_plan segment; dvr_duration 2; dvr_path rec/[app]/[stream].[timestamp].mp4; }";
    let mut server = Server::with(&scratch, Settings { vhost, ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    let parts: Vec<_> = wait_files(&scratch, 3).iter().map(|file| packets(&ffprobe, file)).collect();
    for part in &parts {
        let first = part.iter().find(|packet| packet.kind == VIDEO).expect("a picture");
        assert!(first.is_key && first.dts == 0, "{first:?}");
    }
    for kind in [VIDEO, AUDIO] {
        let published = source.tags.iter().filter(|tag| tag.kind == kind && tag.is_frame());
        let published: Vec<_> = published.map(|tag| expected(tag).hash).collect();
        let recorded = parts.iter().flatten().filter(|packet| packet.kind == kind);
        assert_eq!(recorded.map(|packet| packet.hash.clone()).collect::<Vec<_>>(), published);
    }
    server.assert_healthy();
}

#[test]
fn a_killed_server_leaves_a_file_that_plays_wherever_it_is_cut() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    // Long enough to be recorded still when the server is killed.
    let source = media::long_h264_aac(&ffmpeg);
    let _publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    let temporary = eventually("three fragments are on the disk", CLIENT_TIMEOUT, || {
        let file = files(&scratch, "tmp").into_iter().next()?;
        (fragments(&std::fs::read(&file).ok()?).len() >= 3).then_some(file)
    });
    server.process().kill();
    let whole = std::fs::read(&temporary).expect("the file");
    let fragments = fragments(&whole);
    let counts = compare(&source.tags, &packets(&ffprobe, &temporary));
    assert!(counts[0] >= 50 && counts[1] >= 80, "more than two seconds: {counts:?}");
    let played = scratch.file("played.mp4");
    probe(&ffmpeg, &["-y", "-c", "copy", played.to_str().expect("a path"), "-i"], &temporary);
    // Before, in and after the boxes of the last fragment, and within its samples.
    let [.., (start, samples)] = fragments[..] else { panic!("{fragments:?}") };
    std::fs::write(&played, &whole[..start]).expect("a file");
    let before = packets(&ffprobe, &played);
    compare(&source.tags, &before);
    for end in [start + 1, start + 7, start + 9, start + 100, samples - 1, samples + 4, samples + 8, samples + 2000] {
        // A fragment that is being written has another type until it is whole.
        let mut bytes = whole[..end].to_vec();
        bytes.iter_mut().skip(start + 4).zip(*b"free").for_each(|(byte, hidden)| *byte = hidden);
        let cut = scratch.file("cut.mp4");
        std::fs::write(&cut, bytes).expect("a file");
        assert_eq!(packets(&ffprobe, &cut), before, "cut at {end} of {}", whole.len());
    }
}

/// Returns the position of each fragment in a file, and of its samples.
fn fragments(file: &[u8]) -> Vec<(usize, usize)> {
    let (mut fragments, mut at, mut start) = (Vec::new(), 0, None);
    while let Some(header) = file.get(at..at + 8) {
        let size = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        match &header[4..] {
            b"moof" => start = Some(at),
            b"mdat" => fragments.extend(start.take().filter(|_| at + size <= file.len()).map(|start| (start, at))),
            _ => {}
        }
        at += size.max(8);
    }
    fragments
}

#[test]
fn other_parameters_start_another_file() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    // The second picture has another size; its sound is the same.
    let (first, second) = (media::h264_aac(&ffmpeg), media::video_only(&ffmpeg));
    let mut publisher = Wire::publisher(server.port, "livestream");
    let mut send = |tags: &[Tag], shift: u32| {
        tags.iter().for_each(|tag| publisher.send_tag(&Tag { timestamp: tag.timestamp + shift, ..tag.clone() }));
    };
    send(&first.tags, 0);
    send(&second.tags, 7000);
    // The same header again is no change.
    send(&second.tags, 14_000);
    drop(publisher);
    let files = wait_files(&scratch, 2);
    let counts: Vec<_> = files.iter().map(|file| packets(&ffprobe, file).len()).collect();
    let frames = |source: &Source| source.tags.iter().filter(|tag| tag.is_frame()).count();
    assert_eq!(counts, [frames(first), 2 * frames(second)]);
    server.assert_healthy();
}

#[test]
fn gstreamer_reads_each_frame() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer));
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    let file = wait_files(&scratch, 1).remove(0);
    let location = format!("location={}", file.display());
    for (pad, kind) in [("in.video_0", VIDEO), ("in.audio_0", AUDIO)] {
        let output = Command::new(&gst_launch)
            .args(["-v", "filesrc", &location, "!", "qtdemux", "name=in", pad, "!", "fakesink", "silent=false"])
            .output()
            .expect("GStreamer can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let frames = source.tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).count();
        assert_eq!(text.matches("chain").count(), frames, "{text}");
    }
    server.assert_healthy();
}

#[cfg(feature = "http")]
#[test]
fn the_api_sends_it_as_mp4() {
    use crate::api::{curl, jq, start_with};

    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start_with(&scratch, "", SESSION.vhost);
    let mut publisher = Wire::publisher(server.port, "livestream");
    media::video_only(&need!(ffmpeg)).tags.iter().for_each(|tag| publisher.send_tag(tag));
    drop(publisher);
    let file = wait_files(&scratch, 1).remove(0);
    let body = curl(api, "/api/v1/recordings", &[]).1;
    let (path, id) = (jq(&body, ".recordings[0].path"), jq(&body, ".recordings[0].id"));
    assert!(path.ends_with(".mp4"), "{body}");
    let loaded = scratch.file("loaded.mp4");
    let to = loaded.to_str().expect("a path");
    let (status, kind) =
        curl(api, &format!("/api/v1/recordings/{id}/file"), &["-o", to, "-w", "%{content_type}\n%{http_code}"]);
    assert_eq!((status, kind.trim()), (200, "video/mp4"));
    assert!(std::fs::read(loaded).expect("it was loaded") == std::fs::read(file).expect("the file"));
    server.assert_healthy();
}
