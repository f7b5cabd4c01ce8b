//! HLS on disk: ffprobe reads back every packet that ffmpeg has published, and a parser checks the playlists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use m3u8_rs::MediaPlaylist;

use crate::align::Aligned;
use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, write_configuration};
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Segments of one second: the test media have a keyframe each second.
fn settings(folder: &Path, more: &str) -> String {
    format!("hls {{ enabled on; hls_path {}; hls_fragment 1; hls_window 60; {more} }}", folder.display())
}

/// A packet as ffprobe reports it, with times in seconds.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) dts: f64,
    pub(crate) pts: f64,
    size: usize,
}

/// Returns the packets of one kind ("v" or "a") in a file or a playlist. Fails if ffprobe reports an error.
pub(crate) fn packets(input: &Path, kind: &str) -> Vec<Packet> {
    // Reads a playlist from its start instead of near its end.
    let is_playlist = input.extension().is_some_and(|end| end == "m3u8");
    let start: &[&str] = if is_playlist { &["-live_start_index", "0"] } else { &[] };
    let output = Command::new("ffprobe")
        .args([
            "-hide_banner",
            "-v",
            "warning",
            "-select_streams",
            kind,
            "-show_entries",
            "packet=dts_time,pts_time,size",
        ])
        .args(["-of", "csv=p=0"])
        .args(start)
        .arg(input)
        .output()
        .expect("ffprobe can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "ffprobe of {}: {said}", input.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let packet = |line: &str| {
        let mut fields = line.split(',');
        let (pts, dts) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Packet { pts, dts, size: fields.next()?.parse().ok()? })
    };
    text.lines().filter(|line| !line.is_empty()).map(|line| packet(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

pub(crate) fn playlist(path: &Path) -> Option<MediaPlaylist> {
    let text = std::fs::read(path).ok()?;
    Some(m3u8_rs::parse_media_playlist_res(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
}

/// Reader of a playlist that checks each version against the rules for HLS servers.
struct PlaylistWatcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl PlaylistWatcher {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut seen, mut last): (usize, Option<MediaPlaylist>) = (0, None);
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                let Some(now) = playlist(&path) else { continue };
                if last.as_ref() == Some(&now) {
                    continue;
                }
                assert!(!now.segments.is_empty());
                for segment in &now.segments {
                    assert!(segment.duration.round() as u64 <= now.target_duration, "{now:?}");
                    let file = path.with_file_name(&segment.uri);
                    assert!(
                        file.metadata().unwrap().len().is_multiple_of(188),
                        "{} is there as a whole",
                        file.display()
                    );
                }
                if let Some(last) = last {
                    assert_eq!(last.target_duration, now.target_duration, "the target duration must not change");
                    assert!(last.media_sequence <= now.media_sequence);
                    let at = |list: &MediaPlaylist, n: u64| {
                        let index = n.checked_sub(list.media_sequence)?;
                        list.segments.get(usize::try_from(index).ok()?).map(|segment| segment.uri.clone())
                    };
                    for number in now.media_sequence..last.media_sequence + last.segments.len() as u64 {
                        assert_eq!(at(&last, number), at(&now, number), "a segment keeps its number");
                    }
                }
                (seen, last) = (seen + 1, Some(now));
            }
            seen
        });
        Self { stop, thread }
    }

    /// Returns the number of versions that were read.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("each playlist holds to the rules")
    }
}

fn frames(source: &Source, kind: u8) -> Vec<&Tag> {
    source.tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).collect()
}

/// Fails unless each published frame is in the segments, in order and at its time.
fn assert_published(source: &Source, list: &Path) {
    let (video, audio) = (packets(list, "v"), packets(list, "a"));
    let (frames_v, frames_a) = (frames(source, VIDEO), frames(source, AUDIO));
    assert_eq!((video.len(), audio.len()), (frames_v.len(), frames_a.len()), "frames of video and audio");
    let start = video.first().map_or(0.0, |packet| packet.dts);
    let first = f64::from(frames_v[0].timestamp) / 1000.0;
    for (packet, tag) in video.iter().zip(&frames_v) {
        assert!((packet.dts - start - (f64::from(tag.timestamp) / 1000.0 - first)).abs() < 0.002, "{packet:?} {tag:?}");
        assert!(packet.pts >= packet.dts);
        assert!(packet.size + 20 > tag.payload.len(), "{packet:?} {tag:?}");
    }
    for (packet, tag) in audio.iter().zip(&frames_a) {
        let time = f64::from(tag.timestamp) / 1000.0 - first;
        assert!((packet.pts - start - time).abs() < 0.003, "{packet:?} {tag:?}: audio and video stay together");
    }
    let step = 1024.0 / 44_100.0;
    assert!(audio.windows(2).all(|pair| (pair[1].pts - pair[0].pts - step).abs() < 0.0001), "no gap, no overlap");
}

#[test]
fn segments_hold_each_frame_at_its_time() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let mut server = Server::with(&scratch, Settings { vhost: &settings(&folder, ""), ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    let list = folder.join("live/livestream.m3u8");
    let poller = PlaylistWatcher::start(list.clone());
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    eventually("the last segment", CLIENT_TIMEOUT, || {
        playlist(&list).filter(|list| list.segments.len() == 6 && list.segments[5].duration > 0.9)
    });
    assert!(poller.stop() >= 5, "a version for each segment, except those between two reads");
    // ffmpeg's HLS demuxer waits for more segments until the playlist has an end.
    let ended = list.with_file_name("ended.m3u8");
    std::fs::write(&ended, std::fs::read_to_string(&list).unwrap() + "#EXT-X-ENDLIST\n").unwrap();
    assert_published(source, &ended);
    for segment in playlist(&list).unwrap().segments {
        let file = list.with_file_name(&segment.uri);
        assert!(!segment.discontinuity);
        let video = packets(&file, "v");
        assert_eq!(
            (video.len(), packets(&file, "a").len().abs_diff(43) <= 4),
            (25, true),
            "each segment starts with a keyframe"
        );
    }
    server.assert_healthy();
}

#[test]
fn hevc_of_enhanced_rtmp_is_in_the_segments() {
    let ffmpeg = need!(new_ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let mut server = Server::with(&scratch, Settings { vhost: &settings(&folder, ""), ..Settings::default() });
    let source = media::hevc_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("hevc"), &[]).wait_success(CLIENT_TIMEOUT);
    let list = folder.join("live/hevc.m3u8");
    let segments = eventually("the last segment", CLIENT_TIMEOUT, || {
        playlist(&list).filter(|list| list.segments.len() == 6).map(|list| list.segments)
    });
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"])
        .arg(list.with_file_name(&segments[1].uri))
        .output()
        .unwrap();
    let names: BTreeSet<_> = String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(names, BTreeSet::from(["aac".to_owned(), "hevc".to_owned()]));
    let count: usize = segments.iter().map(|segment| packets(&list.with_file_name(&segment.uri), "v").len()).sum();
    assert_eq!(count, frames(source, VIDEO).len());
    server.assert_healthy();
}

#[test]
fn after_a_kill_and_a_restart_the_playlist_goes_on() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let vhost = settings(&folder, "");
    let source = media::h264_aac(&ffmpeg);
    let list = folder.join("live/livestream.m3u8");
    let mut server = Server::with(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let mut killed = publish(&scratch, "killed", &ffmpeg, source, &server.url("livestream"), &[]);
    let before =
        eventually("three segments", CLIENT_TIMEOUT, || playlist(&list).filter(|list| list.segments.len() >= 3));
    server.process().kill();
    killed.kill();
    let port = server.port;
    drop(server);
    let configuration = write_configuration(&scratch, port, Settings { vhost: &vhost, ..Settings::default() });
    let mut server = Server::run(&scratch, port, &configuration).expect("its port is free again");
    let at_kill = playlist(&list).unwrap();
    publish(&scratch, "again", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    let known = at_kill.segments.len();
    let after =
        eventually("all segments", CLIENT_TIMEOUT, || playlist(&list).filter(|list| list.segments.len() == known + 6));
    assert!(known >= before.segments.len());
    assert_eq!(after.segments[..known], at_kill.segments[..], "earlier segments stay in the playlist");
    let breaks: Vec<_> = after.segments.iter().map(|segment| segment.discontinuity).collect();
    assert!(breaks[known] && breaks.iter().filter(|is_break| **is_break).count() == 1, "{breaks:?}");
    let names: Vec<_> = after.segments.iter().map(|segment| segment.uri.clone()).collect();
    let expected: Vec<_> = (0..names.len()).map(|n| format!("livestream-{n}.ts")).collect();
    assert_eq!(names, expected, "segment numbers without gaps or repetitions");
    server.assert_healthy();
}

/// Checks that RTMP players get everything while `break_disk` makes the disk fail, and that the server logs the failure.
fn play_with_failing_disk(folder: &Path, scratch: &Scratch, ffmpeg: &Path, break_disk: impl FnOnce()) -> Server {
    let server = Server::with(scratch, Settings { vhost: &settings(folder, ""), ..Settings::default() });
    let (source, url) = (media::h264_aac(ffmpeg), server.url("livestream"));
    let player = Player::ffmpeg(scratch, "player", ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    let mut publisher = publish(scratch, "publisher", ffmpeg, source, &url, &[]);
    eventually("the player has 2.5 s", CLIENT_TIMEOUT, || (player.frames() > 2500 / 40 + 2500 / 24).then_some(()));
    break_disk();
    publisher.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole().assert_starts_at_zero();
    server
}

#[test]
fn a_directory_that_is_removed_is_made_again() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let mut server = play_with_failing_disk(&folder, &scratch, &ffmpeg, || std::fs::remove_dir_all(&folder).unwrap());
    let list = eventually("files are written again", CLIENT_TIMEOUT, || playlist(&folder.join("live/livestream.m3u8")));
    assert!(list.segments.iter().all(|segment| folder.join("live").join(&segment.uri).exists()));
    server.assert_healthy();
}

#[test]
fn a_directory_that_cannot_be_made_costs_nobody_anything() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    // Root may write to read-only folders, but not below a file.
    std::fs::write(&folder, "in the way").unwrap();
    let mut server = play_with_failing_disk(&folder, &scratch, &ffmpeg, || {});
    server.wait_log(&["HLS segments not written to disk", "livestream-"], CLIENT_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn a_publisher_is_disconnected_when_the_configuration_says_so() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    std::fs::write(&folder, "in the way").unwrap();
    let vhost = settings(&folder, "hls_on_error disconnect;");
    let mut server = Server::with(&scratch, Settings { vhost: &vhost, ..Settings::default() });
    let mut publisher =
        publish(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &server.url("livestream"), &[]);
    assert!(!publisher.wait(CLIENT_TIMEOUT).success());
    server.wait_log(&["code=hls", "cannot be written"], CLIENT_TIMEOUT);
    server.assert_healthy();
}

/// A separate file system, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the file system; `None` if mounting is not allowed.
    fn tmpfs(folder: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(folder).output().ok()?.status;
        status.success().then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_costs_nobody_anything_and_is_used_when_there_is_room() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let Some(mounted) = Mounted::tmpfs(&folder, "size=1m") else {
        eprintln!("passed over: nothing may be mounted here");
        return;
    };
    let filling = folder.join("filling");
    std::fs::write(&filling, vec![0; 1 << 19]).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&filling).unwrap();
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    let mut server = play_with_failing_disk(&folder, &scratch, &ffmpeg, || {});
    server.wait_log(&["HLS segments not written to disk", "space"], CLIENT_TIMEOUT);
    std::fs::remove_file(&filling).unwrap();
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "again", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    eventually("segments", CLIENT_TIMEOUT, || playlist(&folder.join("live/livestream.m3u8")));
    server.wait_log(&["HLS segments written to disk again"], CLIENT_TIMEOUT);
    server.assert_healthy();
    drop(mounted);
}

#[test]
fn a_read_only_disk_costs_nobody_anything() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let Some(mounted) = Mounted::tmpfs(&folder, "ro,size=1m") else {
        eprintln!("passed over: nothing may be mounted here");
        return;
    };
    let mut server = play_with_failing_disk(&folder, &scratch, &ffmpeg, || {});
    server.wait_log(&["HLS segments not written to disk", "read-only"], CLIENT_TIMEOUT);
    server.assert_healthy();
    drop(mounted);
}
