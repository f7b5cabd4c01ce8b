//! Transport streams, AAC and MP3 over HTTP: what curl receives is compared with the source, and played by ffmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::flv::{self, AUDIO, Tag, VIDEO};
use crate::common::http_client::Client;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::Wire;
use crate::http;
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::session::send;
use crate::tools::need;
use crate::ts_info::report;

const LIMIT: Duration = Duration::from_secs(30);

/// All formats, below a directory, so that viewers wait for the publisher.
const ALL: Settings<'_> = Settings {
    root: "",
    vhost: "http_remux { enabled on; wait 60; mount r/[app]/[stream].ts r/[app]/[stream].mp3 r/[app]/[stream].aac; }",
    vhosts: "",
};

/// Bytes of an ADTS header.
const ADTS: usize = 7;

/// curl, which writes what it receives to a file until the server closes.
struct Download {
    process: Process,
    file: PathBuf,
}

impl Download {
    fn start(scratch: &Scratch, port: u16, path: &str) -> Self {
        let name = path.replace('/', "_");
        let file = scratch.file(&name);
        let url = format!("http://127.0.0.1:{port}/{path}");
        let arguments = ["-sS", "-N", "-f", "-o", file.to_str().expect("a path"), &url];
        Self { process: Process::start(scratch, &format!("curl-{name}"), Path::new("curl"), arguments), file }
    }

    fn finish(mut self) -> Vec<u8> {
        self.process.wait_success(CLIENT_TIMEOUT);
        std::fs::read(&self.file).expect("what curl has written")
    }
}

fn wait_viewers(server: &Server, count: usize) {
    let viewers = || server.log().matches("play started:").count();
    eventually("the viewers have joined", LIMIT, || (viewers() >= count).then_some(()));
}

fn frames(tags: &[Tag], kind: u8) -> Vec<&Tag> {
    tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).collect()
}

/// Returns a transport stream as ffmpeg reads it, as tags of FLV. It must not complain.
fn remuxed(scratch: &Scratch, ffmpeg: &Path, ts: &Path) -> Vec<Tag> {
    let flv = scratch.file("remuxed.flv");
    let mut command = Command::new(ffmpeg);
    command
        .args(["-nostdin", "-v", "warning", "-y", "-copyts", "-i"])
        .arg(ts)
        .args(["-map", "0", "-c", "copy", "-f", "flv"]);
    let output = command.arg(&flv).output().expect("ffmpeg can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    flv::read(&flv)
}

/// Publishes `source`. A viewer of the transport stream from before must get each frame.
fn transport_stream(ffmpeg: &Path, source: &Source) {
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", ALL);
    let first = Download::start(&scratch, port, "r/live/livestream.ts");
    wait_viewers(&server, 1);
    let mut publisher = publish(&scratch, "publisher", ffmpeg, source, &server.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let path = first.file.clone();
    let (json, is_valid) = report(&first.finish());
    assert!(is_valid, "{json}");
    let received = remuxed(&scratch, ffmpeg, &path);
    let audio = |tags: &[Tag]| frames(tags, AUDIO).iter().map(|tag| tag.payload.clone()).collect::<Vec<_>>();
    assert!(audio(&received) == audio(&source.tags), "each frame of audio");
    let [due, got] = [&source.tags, &received].map(|tags| frames(tags, VIDEO));
    assert_eq!(due.len(), got.len(), "frames of video");
    for (kind, tolerance) in [(VIDEO, 0), (AUDIO, 1)] {
        let [due, got] = [&source.tags, &received].map(|tags| frames(tags, kind));
        let shift = |(due, got): (&&Tag, &&Tag)| got.timestamp.wrapping_sub(due.timestamp).cast_signed();
        let shifts: Vec<_> = due.iter().zip(&got).map(shift).collect();
        assert!(shifts.iter().all(|shift| (shift - shifts[0]).abs() <= tolerance), "type {kind}: {shifts:?}");
    }
    server.wait_log(&["connection closed", "code=stream-ended"], LIMIT);
    server.assert_healthy();
}

#[test]
fn a_transport_stream_has_each_frame() {
    let ffmpeg = need!(ffmpeg);
    need!(curl);
    transport_stream(&ffmpeg, media::h264_aac(&ffmpeg));
    transport_stream(&ffmpeg, media::audio_only(&ffmpeg));
    transport_stream(&ffmpeg, media::video_only(&ffmpeg));
}

#[test]
fn a_transport_stream_of_hevc() {
    let ffmpeg = need!(new_ffmpeg);
    need!(curl);
    transport_stream(&ffmpeg, media::hevc_aac(&ffmpeg));
}

#[test]
fn who_joins_later_starts_at_a_keyframe_and_sound_can_be_had_alone() {
    let ffmpeg = need!(ffmpeg);
    need!(curl);
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", ALL);
    let source = media::h264_aac(&ffmpeg);
    let aac = Download::start(&scratch, port, "r/live/livestream.aac");
    wait_viewers(&server, 1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    eventually("2 s of sound", CLIENT_TIMEOUT, || {
        (aac.file.metadata().is_ok_and(|file| file.len() > 2 * 8000)).then_some(())
    });
    let late = Download::start(&scratch, port, "r/live/livestream.ts");
    publisher.wait_success(CLIENT_TIMEOUT);
    let aac = aac.finish();
    let mut rest = &aac[..];
    for tag in frames(&source.tags, AUDIO) {
        let (header, after) = rest.split_at(ADTS);
        assert_eq!(header[..2], [0xff, 0xf1], "ADTS without a checksum");
        assert!(after.starts_with(&tag.payload[2..]), "each frame");
        rest = &after[tag.payload.len() - 2..];
    }
    assert!(rest.is_empty());
    let path = late.file.clone();
    let (json, is_valid) = report(&late.finish());
    assert!(is_valid, "{json}");
    let received = remuxed(&scratch, &ffmpeg, &path);
    let video = frames(&received, VIDEO);
    assert!(video[0].is_keyframe() && (50..150).contains(&video.len()), "{} frames", video.len());
    server.assert_healthy();
}

#[test]
fn mp3_is_the_frames_of_the_publisher() {
    let ffmpeg = need!(ffmpeg);
    need!(curl);
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", ALL);
    let source = media::vp6_mp3(&ffmpeg);
    let mp3 = Download::start(&scratch, port, "r/live/livestream.mp3");
    wait_viewers(&server, 1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let due: Vec<u8> = frames(&source.tags, AUDIO).iter().flat_map(|tag| tag.payload[1..].to_vec()).collect();
    assert!(mp3.finish() == due, "each frame");
    server.assert_healthy();
}

#[test]
fn other_files_with_such_names_are_served_as_before() {
    let scratch = Scratch::new();
    let vhost = "http_remux { enabled on; mount [vhost]/[app]/[stream].ts [vhost]/[app]/[stream].mp3; }";
    let (mut server, port) = http::start(&scratch, "", Settings { vhost, ..ALL });
    std::fs::create_dir_all(scratch.file("html/live")).expect("a folder");
    std::fs::write(scratch.file("html/live/cam-1.ts"), b"a segment").expect("a file in the scratch folder");
    assert_eq!(Client::new(port).get("/live/cam-1.ts", "").body, b"a segment");
    let status = |path: &str| {
        let mut client = Client::new(port);
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = client.answer(false).expect("an answer");
        (answer.status, answer.field("Content-Type").unwrap_or_default().to_owned())
    };
    assert_eq!(status("/live/cam.ts").0, 404, "at once");
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..12);
    server.wait_log(&["codecs known"], LIMIT);
    assert_eq!(status("/live/cam.ts"), (200, "video/mp2t".to_owned()));
    // It has AAC.
    let mut client = Client::new(port);
    client.send(b"GET /live/cam.mp3 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer(true).expect("an answer").status, 404);
    server.assert_healthy();
}
