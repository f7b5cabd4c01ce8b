//! HLS while the server is told to do something else: reloads on a running stream, and the end of the server. The publisher is ours,
//! so that it goes no further than a test wants.

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
use crate::players::PATIENCE;
use crate::reload::Reloaded;
use crate::tools::need;

/// A publisher, a player that shows how far the server is, and the playlist of the stream.
struct Rig {
    publisher: Wire,
    player: Wire,
    tags: Iter<'static, Tag>,
    sent: usize,
    list: PathBuf,
}

impl Rig {
    fn new(port: u16, source: &'static Source, folder: &Path) -> Rig {
        let player = Wire::player(port, "s");
        let publisher = Wire::publisher(port, "s");
        Rig { publisher, player, tags: source.tags.iter(), sent: 0, list: folder.join("live/s.m3u8") }
    }

    /// Publishes what is before this time, in milliseconds, and waits until the server has had it.
    fn send_until(&mut self, time: u32) {
        while let Some(tag) = self.tags.as_slice().first().filter(|tag| tag.timestamp < time) {
            self.tags.next();
            self.publisher.send_tag(tag);
            self.sent += usize::from(tag.is_frame());
        }
        self.player.wait_frames(self.sent);
    }

    /// Waits until there are so many segments, and gives how long each is, in tenths of a second.
    fn lengths(&self, count: usize) -> Vec<u32> {
        let list = eventually(&format!("{count} segments"), PATIENCE, || {
            playlist(&self.list).filter(|list| list.segments.len() >= count)
        });
        list.segments.iter().map(|segment| (segment.duration * 10.0).round() as u32).collect()
    }
}

fn vhost(folder: &Path, hls: &str) -> String {
    format!("vhost __defaultVhost__ {{ hls {{ hls_path {}; {hls} }} }}", folder.display())
}

/// How many frames of video were published before this time.
fn frames_before(source: &Source, time: u32) -> usize {
    source.tags.iter().filter(|tag| tag.kind == VIDEO && tag.is_frame() && tag.timestamp < time).count()
}

#[test]
fn lengths_change_and_hls_goes_off_and_on_under_a_running_stream() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let folder = scratch.file("html");
    let mut reloaded = Reloaded::start(&scratch, &vhost(&folder, "enabled on; hls_fragment 1;"));
    // A keyframe each second.
    let source = media::long_h264_aac(&ffmpeg);
    let mut rig = Rig::new(reloaded.server.port, source, &folder);
    rig.send_until(3500);
    assert_eq!(rig.lengths(3), [10, 10, 10]);
    reloaded.reload(&vhost(&folder, "enabled on; hls_fragment 2;"));
    rig.send_until(7500);
    assert_eq!(rig.lengths(5), [10, 10, 10, 20, 20], "from the segment on that was open");
    reloaded.reload(&vhost(&folder, "enabled off;"));
    rig.send_until(9500);
    assert_eq!(rig.lengths(6), [10, 10, 10, 20, 20, 10], "the one that was open ends at the next keyframe");
    eventually("the end is in the playlist", PATIENCE, || playlist(&rig.list).filter(|list| list.end_list));
    reloaded.reload(&vhost(&folder, "enabled on; hls_fragment 1;"));
    rig.send_until(11_500);
    assert_eq!(rig.lengths(7), [10, 10, 10, 20, 20, 10, 10], "it begins again with the next keyframe");
    assert!(playlist(&rig.list).is_some_and(|list| !list.end_list), "and goes on");
    drop(rig.publisher);
    let list = eventually("the last segment", PATIENCE, || playlist(&rig.list).filter(|list| list.segments.len() == 8));
    let breaks: Vec<_> = list.segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, false, false, false, false, false, true, false]);
    assert!(list.segments.iter().all(|segment| segment.duration.round() as u64 <= list.target_duration), "{list:?}");
    let names: Vec<_> = list.segments.iter().map(|segment| segment.uri.clone()).collect();
    assert_eq!(names, (0..8).map(|n| format!("s-{n}.ts")).collect::<Vec<_>>());
    let count = |range: &[String]| -> usize {
        range.iter().map(|name| packets(&rig.list.with_file_name(name), "v").len()).sum()
    };
    assert_eq!(count(&names[..6]), frames_before(source, 8000), "nothing is lost before it went off");
    assert_eq!(count(&names[6..]), frames_before(source, 11_500) - frames_before(source, 10_000));
    reloaded.server.assert_healthy();
}

#[test]
fn files_go_elsewhere_at_a_keyframe_and_no_frame_is_lost() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let (old, new) = (scratch.file("old"), scratch.file("new"));
    let hls = "enabled on; hls_fragment 1;";
    let mut reloaded = Reloaded::start(&scratch, &vhost(&old, hls));
    let source = media::long_h264_aac(&ffmpeg);
    let mut rig = Rig::new(reloaded.server.port, source, &old);
    rig.send_until(2500);
    assert_eq!(rig.lengths(2), [10, 10]);
    reloaded.reload(&vhost(&new, hls));
    rig.send_until(5500);
    assert_eq!(rig.lengths(3), [10, 10, 10]);
    let ended =
        eventually("the end is in the old playlist", PATIENCE, || playlist(&rig.list).filter(|list| list.end_list));
    rig.list = new.join("live/s.m3u8");
    assert_eq!(rig.lengths(2), [10, 10]);
    let count = |folder: &Path, list: &m3u8_rs::MediaPlaylist| -> usize {
        let segments = list.segments.iter();
        segments.map(|segment| packets(&folder.join("live").join(&segment.uri), "v").len()).sum()
    };
    assert_eq!(count(&old, &ended), frames_before(source, 3000));
    let list = playlist(&rig.list).expect("a playlist");
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
        let mut reloaded = Reloaded::start(&scratch, &vhost(&folder, "enabled on; hls_fragment 1;"));
        let mut rig = Rig::new(reloaded.server.port, source, &folder);
        rig.send_until(2500);
        let process = reloaded.server.process();
        process.signal(signal);
        drop(rig.player);
        process.wait_success(PATIENCE);
        let segments = playlist(&rig.list).expect("a playlist").segments;
        let frames = segments.iter().map(|segment| packets(&rig.list.with_file_name(&segment.uri), "v").len());
        assert_eq!((segments.len(), frames.sum::<usize>()), (3, frames_before(source, 2500)), "{signal}: {segments:?}");
        let files = std::fs::read_dir(rig.list.parent().expect("a folder")).expect("it is there");
        let unfinished = |name: &String| name.ends_with(".tmp");
        let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(unfinished).collect::<Vec<_>>(), [""; 0], "{signal}");
    }
}

/// The status of a file over HTTP.
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
    // It has a directory of its own: what it serves of the stream is from memory.
    std::fs::create_dir(scratch.file("other")).expect("a folder in the scratch folder");
    let port = free_port();
    let http = |more: &str| format!("http_server {{ enabled on; listen 127.0.0.1:{port}; dir other; {more} }}\n{hls}");
    let mut reloaded = Reloaded::start(&scratch, &hls);
    let mut rig = Rig::new(reloaded.server.port, media::h264_aac(&ffmpeg), &folder);
    rig.send_until(2500);
    rig.lengths(2);
    reloaded.reload(&http(""));
    eventually("HTTP is listened for", PATIENCE, || server::listens(port).then_some(()));
    assert_eq!(["live/s.m3u8", "live/s-1.ts"].map(|path| status(port, path)), [404, 404], "nobody was to have them");
    rig.send_until(3500);
    rig.lengths(3);
    assert_eq!(["live/s.m3u8", "live/s-1.ts", "live/s-2.ts"].map(|path| status(port, path)), [200, 404, 200]);
    reloaded.reload(&hls);
    reloaded.reload(&http(""));
    eventually("HTTP is listened for", PATIENCE, || server::listens(port).then_some(()));
    assert_eq!(["live/s.m3u8", "live/s-2.ts"].map(|path| status(port, path)), [404, 404], "they went");
    reloaded.server.assert_healthy();
}
