//! HLS during reloads and at the end of the server. The tests' own publisher sends exactly the frames that a test needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::slice::Iter;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::flv::{Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{self, free_port};
use crate::common::wire::Wire;
use crate::hls::{packets, playlist};
use crate::media::{self, Source};
use crate::players::CLIENT_TIMEOUT;
use crate::reload::ReloadableServer;
use crate::tools::need;

/// A publisher, a player that shows the server's progress, and the playlist of the stream.
struct Session {
    publisher: Wire,
    player: Wire,
    tags: Iter<'static, Tag>,
    sent: usize,
    list: PathBuf,
}

impl Session {
    fn new(port: u16, source: &'static Source, folder: &Path) -> Session {
        let player = Wire::player(port, "s");
        let publisher = Wire::publisher(port, "s");
        Session { publisher, player, tags: source.tags.iter(), sent: 0, list: folder.join("live/s.m3u8") }
    }

    /// Publishes the frames before this time, in milliseconds, and waits until the server has handled them.
    fn send_until(&mut self, time: u32) {
        while let Some(tag) = self.tags.as_slice().first().filter(|tag| tag.timestamp < time) {
            self.tags.next();
            self.publisher.send_tag(tag);
            self.sent += usize::from(tag.is_frame());
        }
        self.player.wait_frames(self.sent);
    }

    /// Waits for a number of segments, and returns their durations in tenths of a second.
    fn durations(&self, count: usize) -> Vec<u32> {
        let list = eventually(&format!("{count} segments"), CLIENT_TIMEOUT, || {
            playlist(&self.list).filter(|list| list.segments.len() >= count)
        });
        list.segments.iter().map(|segment| (segment.duration * 10.0).round() as u32).collect()
    }
}

fn vhost(folder: &Path, hls: &str) -> String {
    format!("vhost __defaultVhost__ {{ hls {{ hls_path {}; {hls} }} }}", folder.display())
}

/// Returns the number of video frames before this time, in milliseconds.
fn frames_before(source: &Source, time: u32) -> usize {
    source.tags.iter().filter(|tag| tag.kind == VIDEO && tag.is_frame() && tag.timestamp < time).count()
}

#[test]
fn lengths_change_and_hls_goes_off_and_on_under_a_running_stream() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let mut reloaded = ReloadableServer::start(&scratch, &vhost(&folder, "enabled on; hls_fragment 1;"));
    // One keyframe a second.
    let source = media::long_h264_aac(&ffmpeg);
    let mut session = Session::new(reloaded.server.port, source, &folder);
    session.send_until(3500);
    assert_eq!(session.durations(3), [10, 10, 10]);
    reloaded.reload(&vhost(&folder, "enabled on; hls_fragment 2;"));
    session.send_until(7500);
    assert_eq!(session.durations(5), [10, 10, 10, 20, 20], "the change applies to the open segment");
    reloaded.reload(&vhost(&folder, "enabled off;"));
    session.send_until(9500);
    assert_eq!(session.durations(6), [10, 10, 10, 20, 20, 10], "the open segment ends at the next keyframe");
    eventually("the end is in the playlist", CLIENT_TIMEOUT, || playlist(&session.list).filter(|list| list.end_list));
    reloaded.reload(&vhost(&folder, "enabled on; hls_fragment 1;"));
    session.send_until(11_500);
    assert_eq!(session.durations(7), [10, 10, 10, 20, 20, 10, 10], "HLS starts again with the next keyframe");
    assert!(playlist(&session.list).is_some_and(|list| !list.end_list), "HLS continues");
    drop(session.publisher);
    let list = eventually("the last segment", CLIENT_TIMEOUT, || {
        playlist(&session.list).filter(|list| list.segments.len() == 8)
    });
    let breaks: Vec<_> = list.segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, false, false, false, false, false, true, false]);
    assert!(list.segments.iter().all(|segment| segment.duration.round() as u64 <= list.target_duration), "{list:?}");
    let names: Vec<_> = list.segments.iter().map(|segment| segment.uri.clone()).collect();
    assert_eq!(names, (0..8).map(|n| format!("s-{n}.ts")).collect::<Vec<_>>());
    let count = |range: &[String]| -> usize {
        range.iter().map(|name| packets(&session.list.with_file_name(name), "v").len()).sum()
    };
    assert_eq!(count(&names[..6]), frames_before(source, 8000), "no frame before the change is missing");
    assert_eq!(count(&names[6..]), frames_before(source, 11_500) - frames_before(source, 10_000));
    reloaded.server.assert_healthy();
}

#[test]
fn files_go_elsewhere_at_a_keyframe_and_no_frame_is_lost() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let (old, new) = (scratch.file("old"), scratch.file("new"));
    let hls = "enabled on; hls_fragment 1;";
    let mut reloaded = ReloadableServer::start(&scratch, &vhost(&old, hls));
    let source = media::long_h264_aac(&ffmpeg);
    let mut session = Session::new(reloaded.server.port, source, &old);
    session.send_until(2500);
    assert_eq!(session.durations(2), [10, 10]);
    reloaded.reload(&vhost(&new, hls));
    session.send_until(5500);
    assert_eq!(session.durations(3), [10, 10, 10]);
    let ended = eventually("the end is in the old playlist", CLIENT_TIMEOUT, || {
        playlist(&session.list).filter(|list| list.end_list)
    });
    session.list = new.join("live/s.m3u8");
    assert_eq!(session.durations(2), [10, 10]);
    let count = |folder: &Path, list: &m3u8_rs::MediaPlaylist| -> usize {
        let segments = list.segments.iter();
        segments.map(|segment| packets(&folder.join("live").join(&segment.uri), "v").len()).sum()
    };
    assert_eq!(count(&old, &ended), frames_before(source, 3000));
    let list = playlist(&session.list).expect("a playlist");
    assert_eq!(count(&new, &list), frames_before(source, 5000) - frames_before(source, 3000));
    assert!(!list.end_list);
    reloaded.server.assert_healthy();
}

#[test]
fn the_last_segment_is_there_when_the_server_is_stopped() {
    let ffmpeg = need!(ffmpeg);
    let source = media::h264_aac(&ffmpeg);
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let scratch = Scratch::new();
        let folder = scratch.file("html");
        let mut reloaded = ReloadableServer::start(&scratch, &vhost(&folder, "enabled on; hls_fragment 1;"));
        let mut session = Session::new(reloaded.server.port, source, &folder);
        session.send_until(2500);
        let process = reloaded.server.process();
        process.signal(signal);
        drop(session.player);
        process.wait_success(CLIENT_TIMEOUT);
        let segments = playlist(&session.list).expect("a playlist").segments;
        let frames = segments.iter().map(|segment| packets(&session.list.with_file_name(&segment.uri), "v").len());
        assert_eq!((segments.len(), frames.sum::<usize>()), (3, frames_before(source, 2500)), "{signal}: {segments:?}");
        let files = std::fs::read_dir(session.list.parent().expect("a folder")).expect("it is there");
        let unfinished = |name: &String| name.ends_with(".tmp");
        let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(unfinished).collect::<Vec<_>>(), [""; 0], "{signal}");
    }
}

/// Returns the HTTP status of a file.
pub(crate) fn status(port: u16, path: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn files_are_in_memory_from_when_they_are_served_over_http() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let hls = vhost(&folder, "enabled on; hls_fragment 1;");
    // The HTTP server's directory does not contain hls_path: it serves the stream from memory.
    std::fs::create_dir(scratch.file("other")).expect("a folder in the scratch folder");
    let port = free_port();
    let http = |more: &str| format!("http_server {{ enabled on; listen 127.0.0.1:{port}; dir other; {more} }}\n{hls}");
    let mut reloaded = ReloadableServer::start(&scratch, &hls);
    let mut session = Session::new(reloaded.server.port, media::h264_aac(&ffmpeg), &folder);
    session.send_until(2500);
    session.durations(2);
    reloaded.reload(&http(""));
    eventually("HTTP is listened for", CLIENT_TIMEOUT, || server::listens(port).then_some(()));
    assert_eq!(
        ["live/s.m3u8", "live/s-1.ts"].map(|path| status(port, path)),
        [404, 404],
        "the files must not be served"
    );
    session.send_until(3500);
    session.durations(3);
    assert_eq!(["live/s.m3u8", "live/s-1.ts", "live/s-2.ts"].map(|path| status(port, path)), [200, 404, 200]);
    reloaded.reload(&hls);
    reloaded.reload(&http(""));
    eventually("HTTP is listened for", CLIENT_TIMEOUT, || server::listens(port).then_some(()));
    assert_eq!(["live/s.m3u8", "live/s-2.ts"].map(|path| status(port, path)), [404, 404], "they went");
    reloaded.server.assert_healthy();
}
