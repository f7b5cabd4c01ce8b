//! Recording: files of ffmpeg's streams are compared packet by packet, sought in, and survive kills and full disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::align::Aligned;
use crate::common::flv::{self, AUDIO, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, write_configuration};
use crate::common::wire::Wire;
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

const SESSION: Settings<'_> =
    Settings { root: "", vhost: "dvr { enabled on; dvr_path rec/[app]/[stream].[timestamp].flv; }", vhosts: "" };

/// Returns the finished recordings, by name.
fn recordings(scratch: &Scratch, folder: &str) -> Vec<PathBuf> {
    let entries = scratch.file(folder).read_dir().into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "flv")).collect();
    files.sort();
    files
}

fn wait_recordings(scratch: &Scratch, count: usize) -> Vec<PathBuf> {
    eventually("the recordings are complete", LIMIT, || {
        let files = recordings(scratch, "rec/live");
        (files.len() >= count).then_some(files)
    })
}

/// Runs ffprobe or ffmpeg on a file, and returns what it writes. Fails if it complains.
pub(crate) fn probe(program: &Path, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    command.args(["-v", "warning"]).args(arguments).arg(file);
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {} {said}", file.display(), output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Publishes `source`. The recording must have each packet, with its timestamps.
fn records(ffmpeg: &Path, source: &Source) {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    let mut publisher = publish(&scratch, "publisher", ffmpeg, source, &server.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let files = wait_recordings(&scratch, 1);
    assert_eq!(files.len(), 1);
    Aligned::new(&source.tags, &flv::read(&files[0])).assert_whole().assert_starts_at_zero();
    let line = server.wait_log(&["recorded:", "seconds="], LIMIT);
    assert!(line.contains(&format!("bytes={}", files[0].metadata().expect("a file").len())), "{line}");
    assert!(
        !scratch
            .file("rec/live")
            .read_dir()
            .expect("a folder")
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
    );
    server.assert_healthy();
}

#[test]
fn each_packet_is_recorded() {
    let ffmpeg = need!(ffmpeg);
    records(&ffmpeg, media::h264_aac(&ffmpeg));
}

#[test]
fn audio_or_video_alone_is_recorded() {
    let ffmpeg = need!(ffmpeg);
    records(&ffmpeg, media::audio_only(&ffmpeg));
    records(&ffmpeg, media::video_only(&ffmpeg));
}

#[test]
fn other_codecs_are_recorded() {
    let (ffmpeg, new_ffmpeg) = (need!(ffmpeg), need!(new_ffmpeg));
    records(&ffmpeg, media::vp6_mp3(&ffmpeg));
    records(&new_ffmpeg, media::hevc_aac(&new_ffmpeg));
    records(&new_ffmpeg, media::av1_opus(&new_ffmpeg));
}

#[test]
fn a_finished_file_has_its_duration_and_can_be_sought_in() {
    let (ffmpeg, ffprobe) = (need!(ffmpeg), need!(ffprobe));
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    let file = &wait_recordings(&scratch, 1)[0];
    let text = probe(&ffprobe, &["-show_entries", "format=duration,size", "-of", "csv=p=0"], file);
    let (duration, size) = text.trim().split_once(',').expect("two values");
    let duration: f64 = duration.parse().expect("a number");
    assert!((5.9..6.1).contains(&duration), "{duration}");
    assert_eq!(size, file.metadata().expect("a file").len().to_string());
    // The keyframe index has each of the six keyframes, and the position is that of a keyframe.
    let bytes = std::fs::read(file).expect("the file");
    let times = bytes.windows(7).position(|window| window == b"\x00\x05times").expect("an index");
    assert_eq!(bytes[times + 7..][..5], [10, 0, 0, 0, 6], "six times");
    let first = text_of_first_frame(&ffprobe, file);
    assert!((2.9..=4.1).contains(&first), "a seek to 4 s comes to the keyframe before it: {first}");
    server.assert_healthy();
}

/// Returns the time of the first video packet after a seek to 4 s.
pub(crate) fn text_of_first_frame(ffprobe: &Path, file: &Path) -> f64 {
    let arguments =
        ["-read_intervals", "4%+#1", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let text = probe(ffprobe, &arguments, file);
    text.lines().next().expect("a packet").trim_end_matches(',').parse().expect("a time")
}

#[test]
fn segments_follow_each_other_without_a_gap() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let vhost = "dvr { enabled on; dvr_plan segment; dvr_duration 2; dvr_path rec/[app]/[stream].[timestamp].flv; }";
    let mut server = Server::with(&scratch, Settings { vhost, ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    let files = wait_recordings(&scratch, 3);
    let parts: Vec<_> = files.iter().map(|file| flv::read(file)).collect();
    for (file, part) in files.iter().zip(&parts) {
        let first = part.iter().find(|tag| tag.kind == VIDEO && tag.is_frame()).expect("a frame");
        assert!(first.is_keyframe() && first.timestamp == 0, "{}: {first:?}", file.display());
        assert!([VIDEO, AUDIO].iter().all(|kind| part.iter().any(|tag| tag.kind == *kind && tag.is_header())));
    }
    for kind in [VIDEO, AUDIO] {
        let frames = |tags: &[flv::Tag]| {
            tags.iter()
                .filter(|tag| tag.kind == kind && tag.is_frame())
                .map(|tag| tag.payload.clone())
                .collect::<Vec<_>>()
        };
        let recorded: Vec<_> = parts.iter().flat_map(|part| frames(part)).collect();
        assert!(recorded == frames(&source.tags), "all frames of type {kind}, once each");
    }
    server.assert_healthy();
}

#[test]
fn a_killed_server_leaves_a_file_that_plays() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    // Long enough to be recorded still when the server is killed.
    let source = media::long_h264_aac(&ffmpeg);
    let _publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    let temporary = eventually("3 s are on the disk", CLIENT_TIMEOUT, || {
        let entries = scratch.file("rec/live").read_dir().into_iter().flatten().flatten();
        let file = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(".flv.tmp"))?;
        (flv::read(&file).iter().filter(|tag| tag.is_frame()).count() > 3000 / 40 + 3000 / 24).then_some(file)
    });
    server.process().kill();
    Aligned::new(&source.tags, &flv::read(&temporary)).assert_one_shift().assert_starts_at_zero();
    let played = scratch.file("played.flv");
    let arguments = [
        "-v",
        "error",
        "-f",
        "flv",
        "-i",
        temporary.to_str().expect("a path"),
        "-c",
        "copy",
        played.to_str().expect("a path"),
    ];
    let status = Command::new(&ffmpeg).args(arguments).status().expect("ffmpeg can be started");
    assert!(status.success());
}

#[test]
fn a_stopping_server_completes_its_recordings() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, SESSION);
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..12);
    server.wait_log(&["codecs known"], LIMIT);
    server.process().signal(nix::sys::signal::Signal::SIGTERM);
    server.process().wait_success(LIMIT);
    let files = recordings(&scratch, "rec/live");
    assert_eq!(files.len(), 1);
    assert!(flv::read(&files[0]).iter().filter(|tag| tag.is_frame()).count() >= 12);
    let list = std::fs::read_to_string(scratch.file("rec/.srs-recordings")).expect("a list");
    assert!(list.contains("\"stream\":\"livestream\""), "{list}");
}

#[test]
fn a_disk_that_cannot_be_written_affects_nobody() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    std::fs::write(scratch.file("rec"), "a file in the place of the folder").expect("a file");
    let vhost = "dvr { enabled on; dvr_path rec/[app]/[stream].flv; }";
    let mut server = Server::with(&scratch, Settings { vhost, ..Settings::default() });
    let source = media::h264_aac(&ffmpeg);
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &server.url("livestream"), MediaKinds::Both);
    server.wait_players(1);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    server.wait_log(&["[error]", "recording failed:", "stream=__defaultVhost__/live/livestream"], LIMIT);
    // Too little space is such a failure.
    let scratch = Scratch::new();
    let vhost = "dvr { enabled on; dvr_min_free 1000000g; dvr_path rec/[stream].flv; }";
    let mut server_without_space = Server::with(&scratch, Settings { vhost, ..Settings::default() });
    let mut publisher = Wire::publisher(server_without_space.port, "livestream");
    send(&mut publisher, 1, 0..12);
    server_without_space.wait_log(&["recording failed:", "dvr_min_free"], LIMIT);
    server_without_space.assert_healthy();
    server.assert_healthy();
}

#[test]
fn a_disk_that_does_not_answer_holds_nobody() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.file("rec")).expect("a folder");
    // The thread that writes opens the list first, and waits for whoever writes to the pipe.
    let list = scratch.file("rec/.srs-recordings");
    nix::unistd::mkfifo(&list, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut server = Server::with(&scratch, SESSION);
    let source = media::h264_aac(&ffmpeg);
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &server.url("livestream"), MediaKinds::Both);
    server.wait_players(1);
    publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]).wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    assert!(!scratch.file("rec/live").exists(), "nothing is written meanwhile");
    // It answers again: what has waited is written.
    drop(std::fs::OpenOptions::new().write(true).open(&list).expect("the server waits at the other end"));
    let files = wait_recordings(&scratch, 1);
    Aligned::new(&source.tags, &flv::read(&files[0])).assert_whole().assert_starts_at_zero();
    server.assert_healthy();
}

#[test]
fn old_recordings_are_removed_and_nothing_else() {
    let scratch = Scratch::new();
    let vhost = "dvr { enabled on; dvr_max_age 1; dvr_path rec/[app]/[stream].[timestamp].flv; }";
    let mut server = Server::with(&scratch, Settings { vhost, ..Settings::default() });
    std::fs::create_dir_all(scratch.file("rec/live")).expect("a folder");
    std::fs::write(scratch.file("rec/live/foreign.1.flv"), "of somebody else").expect("a file");
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..12);
    drop(publisher);
    server.wait_log(&["recorded:"], LIMIT);
    server.wait_log(&["recording removed:", "bytes="], LIMIT);
    assert_eq!(recordings(&scratch, "rec/live"), [scratch.file("rec/live/foreign.1.flv")]);
    server.assert_healthy();
}

#[test]
fn a_reload_starts_moves_and_ends_recordings() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..2);
    let reload = |server: &mut Server, vhost: &str| {
        write_configuration(&scratch, server.port, Settings { vhost, ..Settings::default() });
        let before = server.log().matches("reload").count();
        server.process().signal(nix::sys::signal::Signal::SIGHUP);
        eventually("the reload is done", LIMIT, || (server.log().matches("reload").count() > before).then_some(()));
    };
    reload(&mut server, "dvr { enabled on; dvr_path a/[stream].flv; }");
    send(&mut publisher, 1, 2..12);
    eventually("it is recorded", LIMIT, || scratch.file("a/livestream.flv.tmp").exists().then_some(()));
    reload(&mut server, "dvr { enabled on; dvr_path b/[stream].flv; }");
    send(&mut publisher, 1, 12..22);
    eventually("the first file is complete", LIMIT, || scratch.file("a/livestream.flv").exists().then_some(()));
    eventually("it is recorded elsewhere", LIMIT, || scratch.file("b/livestream.flv.tmp").exists().then_some(()));
    reload(&mut server, "");
    eventually("the second file is complete", LIMIT, || scratch.file("b/livestream.flv").exists().then_some(()));
    let frames =
        |name: &str| flv::read(&scratch.file(name)).iter().filter(|tag| tag.kind == VIDEO && tag.is_frame()).count();
    assert!(frames("a/livestream.flv") > 0 && frames("b/livestream.flv") > 0);
    server.assert_healthy();
}
