//! HLS of what encoders send, as ffmpeg, ffprobe and `ts_info` read it. Frames of real encoders are sent at once, so that a
//! stream of many seconds takes one.

use std::path::{Path, PathBuf};
use std::process::Command;

use m3u8_rs::MediaPlaylist;

use crate::common::amf::Amf;
use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::Wire;
use crate::hls::{packets, playlist};
use crate::http;
use crate::media;
use crate::players::CLIENT_TIMEOUT;
use crate::tools::need;
use crate::ts_info;

/// Bytes of a video message before its NAL units: frame type and codec, packet type, composition time.
const VIDEO_HEADER: usize = 5;

/// A server that writes HLS with segments of a second, and says that a stream is over as soon as its publisher stops.
struct Hls {
    scratch: Scratch,
    server: Server,
    http: u16,
    list: PathBuf,
}

impl Hls {
    fn start() -> Hls {
        Hls::with("hls_fragment 1; hls_window 60; hls_endlist_delay 0;")
    }

    fn with(directives: &str) -> Hls {
        let scratch = Scratch::new();
        let vhost = format!("hls {{ enabled on; hls_path html; {directives} }}");
        let (server, http) = http::start(&scratch, "", Settings { vhost: &vhost, ..Settings::default() });
        let list = scratch.file("html/live/s.m3u8");
        Hls { scratch, server, http, list }
    }

    /// Publishes these messages and stops. Returns the complete playlist.
    fn publish(&self, tags: &[Tag]) -> MediaPlaylist {
        let mut publisher = Wire::publisher(self.server.port, "s");
        tags.iter().for_each(|tag| publisher.send_tag(tag));
        stop(&mut publisher);
        self.wait(|list| list.end_list)
    }

    fn wait(&self, is_due: impl Fn(&MediaPlaylist) -> bool) -> MediaPlaylist {
        eventually("the playlist", CLIENT_TIMEOUT, || playlist(&self.list).filter(&is_due))
    }

    fn segments(&self, list: &MediaPlaylist) -> Vec<PathBuf> {
        list.segments.iter().map(|segment| self.list.with_file_name(&segment.uri)).collect()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/live/s.m3u8", self.http)
    }
}

fn stop(publisher: &mut Wire) {
    publisher.command(0, "deleteStream", 0.0, &[Amf::Null, Amf::Number(1.0)]);
}

/// Returns the durations of the segments in hundredths of a second.
fn durations(list: &MediaPlaylist) -> Vec<u32> {
    list.segments.iter().map(|segment| (segment.duration * 100.0).round() as u32).collect()
}

fn discontinuities(list: &MediaPlaylist) -> Vec<bool> {
    list.segments.iter().map(|segment| segment.discontinuity).collect()
}

fn frames(tags: &[Tag], kind: u8) -> Vec<&Tag> {
    tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).collect()
}

/// Returns presentation times in milliseconds, relative to the first one of video.
fn times(segments: &[PathBuf]) -> [Vec<f64>; 2] {
    let [video, audio] =
        ["v", "a"].map(|kind| segments.iter().flat_map(|file| packets(file, kind)).collect::<Vec<_>>());
    let first = video[0].pts;
    [video, audio].map(|packets| packets.iter().map(|packet| (packet.pts - first) * 1000.0).collect())
}

/// Decodes a file or playlist with ffmpeg. Fails on any warning. Returns the number of pictures.
fn decode(ffmpeg: &Path, input: &Path) -> usize {
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "warning", "-live_start_index", "0"]);
    if input.extension().is_some_and(|end| end == "ts") {
        command = Command::new(ffmpeg);
        command.args(["-nostdin", "-v", "warning"]);
    }
    command.arg("-i").arg(input).args(["-map", "0:v", "-f", "framecrc", "-"]);
    let output = command.output().expect("ffmpeg can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{}: {said}", input.display());
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count()
}

/// Encoders that keep dts = first pts have frames that are shown before they are decoded. All times are shifted together.
#[test]
fn signed_composition_times_keep_order_and_distance() {
    let ffmpeg = need!(ffmpeg);
    let mut tags = media::h264_aac(&ffmpeg).tags.clone();
    let composition = |tag: &Tag| tag.presentation_time() - i64::from(tag.timestamp);
    let first = composition(frames(&tags, VIDEO)[0]);
    for tag in tags.iter_mut().filter(|tag| tag.kind == VIDEO && tag.is_frame()) {
        let signed = i32::try_from(composition(tag) - first).expect("small");
        tag.payload[2..VIDEO_HEADER].copy_from_slice(&signed.to_be_bytes()[1..]);
    }
    let negative = frames(&tags, VIDEO).iter().filter(|tag| composition(tag) < 0).count();
    assert!(negative > 50, "{negative} frames are shown early");
    let mut hls = Hls::start();
    let list = hls.publish(&tags);
    assert_eq!(discontinuities(&list), [false; 6]);
    let of_video = packets(&hls.list, "v");
    assert!(of_video.iter().all(|packet| packet.pts >= packet.dts));
    let shown = times(&hls.segments(&list));
    for (kind, shown) in [VIDEO, AUDIO].into_iter().zip(&shown) {
        let start = frames(&tags, VIDEO)[0].presentation_time();
        let sent: Vec<_> = frames(&tags, kind).iter().map(|tag| (tag.presentation_time() - start) as f64).collect();
        assert_eq!(shown.len(), sent.len());
        let wrong = shown.iter().zip(&sent).filter(|(shown, sent)| (*shown - *sent).abs() > 2.0).count();
        assert_eq!(wrong, 0, "of {} frames of kind {kind}: {shown:?}", sent.len());
    }
    assert_eq!(decode(&ffmpeg, &hls.list), 150);
    hls.server.assert_healthy();
}

/// A long segment raises the target duration until it has left the playlist, and no longer: viewers would stay behind for good.
/// ffmpeg, which has begun before, plays on.
#[test]
fn a_long_segment_does_not_delay_the_viewers_of_the_next_publisher() {
    let ffmpeg = need!(ffmpeg);
    let source = media::long_h264_aac(&ffmpeg);
    let mut hls = Hls::with("hls_fragment 1; hls_window 6; hls_endlist_delay 0;");
    // One keyframe in six seconds.
    let is_sent = |tag: &&Tag| tag.timestamp < 6000 || tag.is_header();
    let mut long: Vec<Tag> = source.tags.iter().filter(is_sent).cloned().collect();
    for tag in long.iter_mut().filter(|tag| tag.is_keyframe()).skip(1) {
        // A sequence of pictures without a key cannot be decoded; this one is only measured.
        tag.payload = [&[0x27][..], &tag.payload[1..VIDEO_HEADER], &[0, 0, 0, 2, 0x41, 0x9a]].concat();
    }
    assert_eq!(hls.publish(&long).target_duration, 6);
    let mut publisher = Wire::next_publisher(hls.server.port, "s");
    let mut send = |tags: &[Tag], from: u32| {
        tags.iter().for_each(|tag| publisher.send_tag(&Tag { timestamp: tag.timestamp + from, ..tag.clone() }));
    };
    let (start, rest): (Vec<Tag>, Vec<Tag>) = source.tags.iter().cloned().partition(|tag| tag.timestamp < 4500);
    send(&start, 0);
    let before = hls.wait(|list| list.segments.len() >= 5);
    assert_eq!((before.target_duration, durations(&before)[0]), (6, 600));
    let copy = hls.scratch.file("copy.flv");
    let (url, copy_path) = (hls.url(), copy.to_str().expect("a path of ours"));
    // From the second segment on.
    let arguments = [
        "-nostdin",
        "-live_start_index",
        "1",
        "-i",
        &url,
        "-map",
        "0:v",
        "-c",
        "copy",
        "-flush_packets",
        "1",
        copy_path,
    ];
    let mut reader = Process::start(&hls.scratch, "reader", &ffmpeg, arguments);
    eventually("ffmpeg reads", CLIENT_TIMEOUT, || (crate::common::flv::read(&copy).len() > 25).then_some(()));
    send(&rest, 0);
    send(&source.tags, 12_000);
    let after = hls.wait(|list| list.target_duration < 6);
    assert_eq!(after.target_duration, 2, "{:?}", durations(&after));
    assert!(durations(&after).iter().all(|duration| *duration <= 100), "{:?}", durations(&after));
    stop(&mut publisher);
    reader.wait_success(CLIENT_TIMEOUT);
    let read = crate::common::flv::read(&copy).iter().filter(|tag| tag.is_frame()).count();
    // The publisher is faster than the reader, which may miss segments, but goes on to the end.
    assert!(read > 5 * 25, "{read} frames: {}", reader.log());
    hls.server.assert_healthy();
}

/// A track that begins late follows a discontinuity, and so do other parameters of audio, which wait for the next segment.
#[test]
fn other_tracks_and_parameters_begin_a_segment() {
    let ffmpeg = need!(ffmpeg);
    let source = media::h264_aac(&ffmpeg);
    let other = media::encode(&ffmpeg, "aac_48000.flv", None, Some("-c:a aac -ar 48000 -ac 2 -b:a 64k"));
    let mut hls = Hls::start();
    // Sound from 1.5 s on, at another rate from 3.5 s on.
    let of_source = source.tags.iter().filter(|tag| match tag.kind {
        AUDIO => (1500..3500).contains(&tag.timestamp),
        VIDEO => true,
        _ => false,
    });
    let headers = [source, &other].map(|source| {
        let header = source.tags.iter().find(|tag| tag.kind == AUDIO && tag.is_header());
        header.expect("a header").clone()
    });
    let [first, second] = headers;
    let of_other = other.tags.iter().filter(|tag| tag.kind == AUDIO && tag.is_frame() && tag.timestamp >= 3500);
    let mut tags: Vec<Tag> = of_source.chain(of_other).cloned().collect();
    tags.extend([Tag { timestamp: 1490, ..first }, Tag { timestamp: 3490, ..second }]);
    tags.sort_by_key(|tag| tag.timestamp);
    let list = hls.publish(&tags);
    assert_eq!(durations(&list), [100; 6]);
    // The audio of the second half of a second is in a segment that had none before.
    assert_eq!(discontinuities(&list), [false, true, false, false, true, false]);
    let rates = |segment: &PathBuf| {
        let path = hls.scratch.file("audio.aac");
        let mut extract = Command::new(&ffmpeg);
        extract.args(["-nostdin", "-v", "quiet", "-y", "-i"]).arg(segment);
        extract.args(["-map", "0:a?", "-c", "copy", "-f", "adts"]).arg(&path);
        let has_audio = extract.status().expect("ffmpeg can be started").success();
        let bytes = if has_audio { std::fs::read(&path).expect("a file of ffmpeg") } else { Vec::new() };
        let (mut rest, mut rates) = (&bytes[..], Vec::new());
        while let [0xff, _, rate, third, fourth, fifth, ..] = rest {
            rates.push(rate >> 2 & 15);
            let size = usize::from(third & 3) << 11 | usize::from(*fourth) << 3 | usize::from(fifth >> 5);
            rest = &rest[size..];
        }
        rates
    };
    let rates: Vec<Vec<u8>> = hls.segments(&list).iter().map(rates).collect();
    let kinds: Vec<Vec<u8>> = rates
        .iter()
        .map(|rates| {
            let mut kinds = rates.clone();
            kinds.dedup();
            kinds
        })
        .collect();
    // The numbers of 44100 and 48000 Hz.
    assert_eq!(kinds, [vec![], vec![4], vec![4], vec![4], vec![3], vec![3]]);
    let whole = frames(&other.tags, AUDIO).iter().filter(|tag| tag.timestamp >= 4000).count();
    let written = rates[4].len() + rates[5].len();
    assert!(written.abs_diff(whole) <= 2, "{written} of {whole} frames at 48000 Hz");
    hls.server.assert_healthy();
}

/// Clock references are behind the slower track, up to ten seconds, and the tracks keep their distance. Players drop what is
/// due before the clock.
#[test]
fn tracks_that_are_apart_are_due_after_the_clock() {
    let ffmpeg = need!(ffmpeg);
    let source = media::long_h264_aac(&ffmpeg);
    // Sound alone begins after a second. Then video is a new track, and the clock is set back once.
    for (late, by, expected) in [(AUDIO, 3000, 1), (VIDEO, 900, 0), (VIDEO, 3000, 2)] {
        let mut hls = Hls::start();
        // Without the end of the sequence, which stands where its track ends.
        let is_media = |tag: &&Tag| [AUDIO, VIDEO].contains(&tag.kind) && (tag.is_frame() || tag.is_header());
        let mut tags: Vec<Tag> = source.tags.iter().filter(is_media).cloned().collect();
        tags.sort_by_key(|tag| tag.timestamp + if tag.kind == late && tag.is_frame() { by } else { 0 });
        let list = hls.publish(&tags);
        for segment in hls.segments(&list) {
            let (report, is_sound) = ts_info::report(&std::fs::read(&segment).expect("a segment"));
            assert!(is_sound, "{late} is late by {by} ms: {report}");
        }
        let [video, audio] = times(&hls.segments(&list));
        let last = |kind| frames(&tags, kind).last().map(|tag| tag.presentation_time()).expect("frames");
        let distance = video.last().expect("video") - audio.last().expect("audio");
        // The picture that is shown last is not the one that is sent last.
        let sent = (last(VIDEO) - last(AUDIO)) as f64;
        assert!((distance - sent).abs() < 5.0, "{distance} ms and not {sent}: {late} is late by {by} ms");
        let breaks = discontinuities(&list).iter().filter(|is_break| **is_break).count();
        assert_eq!(breaks, expected, "{late} is late by {by} ms");
        hls.server.assert_healthy();
    }
}

/// Returns the units of the first parameter sets of an H.264 sequence header: one of the sequence, one of the picture.
fn avc_sets(tags: &[Tag]) -> [Vec<u8>; 2] {
    let header = tags.iter().find(|tag| tag.kind == VIDEO && tag.is_header()).expect("a header");
    // After version, profile, compatibility, level, length size and count.
    let rest = &header.payload[VIDEO_HEADER + 6..];
    let take = |rest: &[u8]| {
        let size = usize::from(rest[0]) << 8 | usize::from(rest[1]);
        rest[2..2 + size].to_vec()
    };
    let sequence = take(rest);
    // The count of picture parameter sets stands between.
    let picture = take(&rest[2 + sequence.len() + 1..]);
    [sequence, picture]
}

/// A keyframe may have the picture parameter set alone, and only once. Each later segment has it, and the sequence parameter set.
#[test]
fn each_segment_has_all_parameter_sets() {
    let ffmpeg = need!(ffmpeg);
    let source = media::video_only(&ffmpeg);
    let options = "-c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -b:v 300k -pix_fmt yuv420p";
    // Another entropy coder is another picture parameter set.
    let other = media::encode(&ffmpeg, "cavlc.flv", Some(&format!("{options} -coder 0")), None);
    let [[sequence, picture], [other_sequence, other_picture]] = [&source.tags, &other.tags].map(|tags| avc_sets(tags));
    assert_eq!(sequence, other_sequence, "ffmpeg changes nothing else");
    assert_ne!(picture, other_picture);
    let mut hls = Hls::start();
    let early = source.tags.iter().filter(|tag| tag.kind == VIDEO && tag.timestamp < 3000);
    let late = other.tags.iter().filter(|tag| tag.is_frame() && tag.timestamp >= 3000);
    let mut tags: Vec<Tag> = early.chain(late).cloned().collect();
    let first = tags.iter_mut().find(|tag| tag.is_keyframe() && tag.timestamp >= 3000).expect("a keyframe");
    let size = u32::try_from(other_picture.len()).expect("small").to_be_bytes();
    first.payload.splice(VIDEO_HEADER..VIDEO_HEADER, [&size[..], &other_picture].concat());
    let list = hls.publish(&tags);
    assert_eq!(durations(&list), [100; 6]);
    for segment in hls.segments(&list) {
        assert_eq!(decode(&ffmpeg, &segment), 25, "{}", segment.display());
    }
    hls.server.assert_healthy();
}

/// The arrays of an H.265 configuration may have any order. With open GOPs, x265's default, a keyframe is decoded before frames
/// that are shown before it: segments are cut by presentation times.
#[test]
fn h265_of_any_form_is_cut_at_each_keyframe() {
    let ffmpeg = need!(new_ffmpeg);
    let options = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p \
                   -x265-params log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=3:open-gop=1";
    let source = media::encode(&ffmpeg, "open_gop.flv", Some(options), None);
    let mut tags: Vec<Tag> = source.tags.iter().filter(|tag| tag.kind == VIDEO).cloned().collect();
    let header = tags.iter_mut().find(|tag| tag.is_header()).expect("a header");
    // FourCC of Enhanced RTMP, and a record of 23 bytes before the arrays.
    const ARRAYS: usize = 5 + 23;
    let mut arrays = Vec::new();
    let mut rest = &header.payload[ARRAYS..];
    while let [_, high, low, ..] = *rest {
        let (count, mut size) = (usize::from(high) << 8 | usize::from(low), 3);
        for _ in 0..count {
            size += 2 + (usize::from(rest[size]) << 8 | usize::from(rest[size + 1]));
        }
        let (array, after) = rest.split_at(size);
        arrays.push(array.to_vec());
        rest = after;
    }
    assert!(arrays.len() >= 3, "VPS, SPS and PPS");
    arrays.reverse();
    let reversed = [&header.payload[..ARRAYS], &arrays.concat()].concat();
    assert_ne!(reversed, header.payload);
    header.payload = reversed;
    let mut hls = Hls::start();
    let list = hls.publish(&tags);
    let durations = durations(&list);
    assert!(durations.len() == 6 && durations[1..5] == [100; 4], "{durations:?}");
    assert!(durations[0].abs_diff(100) <= 12, "{durations:?}: the first segment is not twice as long");
    for segment in hls.segments(&list) {
        let sets = Command::new(&ffmpeg)
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(&segment)
            .args(["-map", "0:v", "-frames:v", "1", "-f", "null", "-"])
            .output()
            .expect("ffmpeg can be started");
        assert!(sets.status.success() && sets.stderr.is_empty(), "{}", String::from_utf8_lossy(&sets.stderr));
    }
    assert_eq!(decode(&ffmpeg, &hls.list), 150);
    hls.server.assert_healthy();
}

/// The last segment may have one frame, which has the length of a frame. After a polite end, the playlist says that the stream
/// is over, and ffmpeg ends by itself; after a lost connection it does not say so.
#[test]
fn a_stream_ends_with_its_last_frame() {
    let ffmpeg = need!(ffmpeg);
    let source = media::video_only(&ffmpeg);
    let tags: Vec<Tag> = source.tags.iter().filter(|tag| tag.kind == VIDEO && tag.timestamp <= 3000).cloned().collect();
    assert!(tags.last().is_some_and(Tag::is_keyframe));
    let mut hls = Hls::start();
    let mut publisher = Wire::publisher(hls.server.port, "s");
    tags.iter().for_each(|tag| publisher.send_tag(tag));
    drop(publisher);
    let lost = hls.wait(|list| list.segments.len() == 4);
    assert_eq!(durations(&lost), [100, 100, 100, 4]);
    assert!(!lost.end_list);
    // The encoder comes back, and ends.
    let list = hls.publish(&tags);
    assert_eq!(durations(&list), [100, 100, 100, 4, 100, 100, 100, 4]);
    assert_eq!(discontinuities(&list), [false, false, false, false, true, false, false, false]);
    let url = hls.url();
    let arguments = ["-nostdin", "-live_start_index", "0", "-i", &url, "-f", "null", "-"];
    let mut reader = Process::start(&hls.scratch, "reader", &ffmpeg, arguments);
    reader.wait_success(CLIENT_TIMEOUT);
    assert!(reader.log().contains("frame=  152"), "{}", reader.log());
    hls.server.assert_healthy();
}
