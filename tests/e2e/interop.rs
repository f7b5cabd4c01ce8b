//! Expectations of particular clients that others do not have.

use std::path::Path;
use std::process::Command;

use crate::common::flv;
use crate::common::process::Process;
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::media;
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::tools::need;

/// Containers that an ffmpeg copies all streams to. mp4 refuses streams of unknown codec, and flv writes nothing for long.
const CONTAINERS: [&str; 4] = ["flv", "mkv", "mp4", "ts"];

/// Starts an ffmpeg that copies all streams to each container.
fn copy_all(scratch: &Scratch, name: &str, ffmpeg: &Path, url: &str) -> Process {
    let mut arguments = ["-nostdin", "-hide_banner", "-y", "-i", url].map(str::to_owned).to_vec();
    for container in CONTAINERS {
        arguments.extend(["-map", "0", "-c", "copy"].map(str::to_owned));
        arguments.push(copy_path(scratch, name, container));
    }
    Process::start(scratch, name, ffmpeg, arguments)
}

fn copy_path(scratch: &Scratch, name: &str, container: &str) -> String {
    scratch.file(&format!("{name}.{container}")).to_str().expect("a path of ours").to_owned()
}

/// Asserts that the copies have one video and one audio stream, and most of the published frames.
fn assert_copies(scratch: &Scratch, name: &str, ffmpeg: &Path, frames: usize) {
    for container in CONTAINERS {
        let path = copy_path(scratch, name, container);
        let output =
            Command::new(ffmpeg).args(["-nostdin", "-hide_banner", "-i", &path]).output().expect("ffmpeg runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for (kind, count) in [("Video: h264", 1), ("Audio: aac", 1), ("Stream #", 2)] {
            assert_eq!(text.matches(kind).count(), count, "{kind} in {path}: {text}");
        }
    }
    let copied = flv::read(Path::new(&copy_path(scratch, name, "flv"))).iter().filter(|tag| tag.is_frame()).count();
    assert!(copied * 10 >= frames * 9, "{copied} of {frames} frames in the FLV file of {name}");
}

/// ffmpeg copies everything that it finds in a stream (`-map 0`), from this server and from an ffmpeg that relays it.
#[test]
fn ffmpeg_copies_all_streams_of_a_stream() {
    let (ffmpeg, new_ffmpeg) = (need!(ffmpeg), need!(new_ffmpeg));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url, relayed) = (media::h264_aac(&ffmpeg), server.url("livestream"), server.url("relayed"));
    let relay = ["-nostdin", "-hide_banner", "-i", &url, "-map", "0", "-c", "copy", "-f", "flv", &relayed];
    let mut relay = Process::start(&scratch, "relay", &ffmpeg, relay);
    let mut copies = Vec::new();
    for (name, ffmpeg, url) in [
        ("old", &ffmpeg, &url),
        ("new", &new_ffmpeg, &url),
        ("old-relayed", &ffmpeg, &relayed),
        ("new-relayed", &new_ffmpeg, &relayed),
    ] {
        copies.push((name, ffmpeg, copy_all(&scratch, name, ffmpeg, url)));
    }
    server.wait_players(5);
    publish(&scratch, "publisher", &ffmpeg, source, &url, &[]).wait_success(CLIENT_TIMEOUT);
    relay.wait_success(CLIENT_TIMEOUT);
    let frames = source.tags.iter().filter(|tag| tag.is_frame()).count();
    for (name, ffmpeg, copy) in &mut copies {
        copy.wait_success(CLIENT_TIMEOUT);
        assert_copies(&scratch, name, ffmpeg, frames);
        assert!(!copy.log().contains("Data:"), "{}", copy.log());
    }
    server.assert_healthy();
}

/// Players end by themselves when a stream ends: rtmp2src at StreamEof, the others at UnpublishNotify.
#[test]
fn players_end_with_the_stream() {
    let (ffmpeg, gst_launch, rtmpdump) = (need!(ffmpeg), need!(gstreamer), need!(rtmpdump));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));
    let file = |name: &str| scratch.file(name).to_str().expect("a path of ours").to_owned();
    let (dumped, copied, location) = (file("dumped.flv"), file("copied.flv"), format!("location={url}"));
    let sink = format!("location={}", file("gstreamer.flv"));
    let players = [
        ("rtmp2src", &gst_launch, vec!["rtmp2src", &location, "!", "filesink", &sink]),
        ("rtmpdump", &rtmpdump, vec!["--live", "--rtmp", &url, "--flv", &dumped]),
        ("ffmpeg", &ffmpeg, vec!["-nostdin", "-y", "-i", &url, "-c", "copy", &copied]),
    ];
    let mut players =
        players.map(|(name, program, arguments)| (name, Process::start(&scratch, name, program, arguments)));
    server.wait_players(3);
    publish(&scratch, "publisher", &ffmpeg, source, &url, &[]).wait_success(CLIENT_TIMEOUT);
    for (name, player) in &mut players {
        player.wait(CLIENT_TIMEOUT);
        let file = match *name {
            "rtmp2src" => "gstreamer.flv",
            "rtmpdump" => "dumped.flv",
            _ => "copied.flv",
        };
        let frames = flv::read(&scratch.file(file)).iter().filter(|tag| tag.is_frame()).count();
        assert!(frames > source.tags.len() / 2, "{frames} frames of {name}: {}", player.log());
    }
    server.assert_healthy();
}
