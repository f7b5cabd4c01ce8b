//! Streams over HTTP: ffmpeg plays HLS from the embedded server and from nginx with the same files, and a browser plays HLS and
//! HTTP-FLV.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::browser::Browser;
use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::http_client::Client;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::Settings;
use crate::common::wire::Wire;
use crate::http;
use crate::media;
use crate::nginx;
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::tools::need;

/// Segments of one second, in the folder that the HTTP server of `http::start` serves.
const HLS: Settings<'_> =
    Settings { root: "", vhost: "hls { enabled on; hls_path html; hls_fragment 1; hls_window 60; }", vhosts: "" };

/// A packet that ffmpeg has read from a playlist: stream, dts, pts, size and checksum.
#[derive(Debug, PartialEq)]
struct Packet {
    stream: u32,
    dts: i64,
    pts: i64,
    rest: String,
}

/// Plays the first `seconds` of a playlist, with unchanged timestamps.
fn play(ffmpeg: &Path, url: &str, seconds: &str) -> Vec<Packet> {
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "warning", "-live_start_index", "0", "-copyts", "-start_at_zero", "-i", url]);
    command.args(["-map", "0:v", "-map", "0:a", "-c", "copy", "-t", seconds, "-f", "framecrc", "-"]);
    let output = command.output().expect("ffmpeg can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{url}: {} {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let packet = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        let mut number = || fields.next().expect("a field").parse().expect("a number");
        let (stream, dts, pts) = (number(), number(), number());
        Packet { stream: u32::try_from(stream).expect("small"), dts, pts, rest: fields.collect::<Vec<_>>().join(",") }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(packet).collect()
}

/// Starts nginx with conf/nginx-hls.conf for the folder `html`.
fn start_nginx(scratch: &Scratch, program: &Path) -> (Process, u16) {
    std::fs::create_dir_all(scratch.file("objs/nginx")).expect("a folder in the scratch folder");
    std::os::unix::fs::symlink(scratch.file("html"), scratch.file("objs/nginx/html")).expect("a link");
    nginx::start_shipped(scratch, program, "nginx-hls.conf", |text| text)
}

#[test]
fn ffmpeg_plays_the_same_from_the_server_and_from_nginx() {
    let (ffmpeg, nginx) = (need!(ffmpeg), need!(plain_nginx));
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", HLS);
    let source = media::h264_aac(&ffmpeg);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    server.wait_log(&["publish stopped"], CLIENT_TIMEOUT);
    let playlist = scratch.file("html/live/livestream.m3u8");
    eventually("six segments on disk", CLIENT_TIMEOUT, || {
        let text = std::fs::read_to_string(&playlist).ok()?;
        (text.matches("#EXTINF").count() >= 6).then_some(())
    });

    // The last keyframe of the source is at five seconds. The playlist has no end yet, so ffmpeg gets a duration.
    let by_server = play(&ffmpeg, &format!("http://127.0.0.1:{port}/live/livestream.m3u8"), "5.5");
    let (_nginx, port) = start_nginx(&scratch, &nginx);
    let by_nginx = play(&ffmpeg, &format!("http://127.0.0.1:{port}/live/livestream.m3u8"), "5.5");
    assert_eq!(by_server, by_nginx);

    let video: Vec<_> = by_server.iter().filter(|packet| packet.stream == 0).collect();
    let audio: Vec<_> = by_server.iter().filter(|packet| packet.stream == 1).collect();
    // 25 video frames and 44100 / 1024 audio frames a second.
    let in_time = source.tags.iter().filter(|tag| tag.kind == VIDEO && tag.is_frame() && tag.timestamp < 5500).count();
    assert!(video.len().abs_diff(in_time) <= 3, "{} of {in_time} video frames", video.len());
    assert!(audio.len().abs_diff(236) <= 5, "{} audio frames", audio.len());
    // In units of 1/90000 s: 40 ms and 1024 samples, across all segments.
    for (packets, step) in [(&video, 3600), (&audio, 2090)] {
        for pair in packets.windows(2) {
            let gap = pair[1].dts - pair[0].dts;
            assert!((gap - step).abs() <= 1, "{gap} between {pair:?}");
        }
    }
    // All frames of both kinds are shifted by the same time: audio and video stay in sync. Video times are exact. The source
    // has audio times in whole milliseconds, and HLS counts the samples from the first one.
    let shifts = |packets: &[&Packet], kind| {
        let frames = source.tags.iter().filter(move |tag| tag.kind == kind && tag.is_frame());
        let shift = |(packet, tag): (&&Packet, &Tag)| packet.pts - 90 * tag.presentation_time();
        packets.iter().zip(frames).map(shift).collect::<Vec<_>>()
    };
    let (of_video, of_audio) = (shifts(&video, VIDEO), shifts(&audio, AUDIO));
    assert!(of_video.iter().all(|&shift| shift == of_video[0]), "{of_video:?}");
    assert!(
        of_audio.iter().all(|&shift| (shift - of_video[0]).abs() <= 90),
        "{of_audio:?}, and video by {}",
        of_video[0]
    );
    server.assert_healthy();
}

/// From the second request on, a segment is sent from memory of the kernel; to a connection that has taken it whole, in another
/// way than to one that is slow or wants a part.
#[test]
fn a_segment_is_the_same_at_each_request() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let vhost = HLS.vhost.replace("hls_fragment 1", "hls_fragment 3");
    let (mut server, port) = http::start(&scratch, "", Settings { vhost: &vhost, ..HLS });
    let source = media::h264_aac(&ffmpeg);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("s"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    let path = scratch.file("html/live/s-0.ts");
    let segment = eventually("a segment on disk", CLIENT_TIMEOUT, || std::fs::read(&path).ok());
    assert!(segment.len() > 64 * 1024, "smaller ones are sent from the heap");
    // The responses can only come from memory.
    std::fs::write(&path, "of the disk").expect("a file in the scratch folder");

    const REQUEST: &[u8] = b"GET /live/s-0.ts HTTP/1.1\r\nHost: h\r\n\r\n";
    const UNREAD: usize = 100;
    let mut late = Client::new(port);
    let mut client = Client::new(port);
    for n in 0..30 {
        let whole = client.get("/live/s-0.ts", "");
        assert!(whole.status == 200 && whole.body == segment, "request {n}");
        if n % 10 == 5 {
            let part = client.get("/live/s-0.ts", "Range: bytes=1000-70000\r\n");
            assert!(part.status == 206 && part.body == segment[1000..=70_000], "after request {n}");
        }
    }
    // More than the socket takes while nobody reads.
    late.send(&REQUEST.repeat(UNREAD));
    for n in 0..10 {
        assert!(client.get("/live/s-0.ts", "").body == segment, "request {n} while another client does not read");
    }
    for n in 0..UNREAD {
        assert!(late.answer(true).is_some_and(|answer| answer.body == segment), "late answer {n}");
    }
    server.assert_healthy();
}

#[test]
fn a_browser_plays_the_page() {
    let (ffmpeg, chromium, hls_js) = (need!(ffmpeg), need!(chromium), need!(hls_js));
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.file("objs")).expect("a folder in the scratch folder");
    std::fs::copy(hls_js, scratch.file("objs/hls.min.js")).expect("a copy of hls.js");
    let (mut server, port) = http::start(&scratch, "", HLS);
    let source = media::h264_aac(&ffmpeg);
    let input = source.path.to_str().expect("a path of ours");
    let url = server.url("livestream");
    let arguments =
        ["-nostdin", "-hide_banner", "-re", "-stream_loop", "-1", "-i", input, "-c", "copy", "-f", "flv", &url];
    let publisher = Process::start(&scratch, "publisher", &ffmpeg, arguments);
    let hostile = "<img src=x onerror=document.title=666>";
    let _hostile = Wire::publisher(server.port, hostile);
    let mut browser = Browser::open(&scratch, &chromium, (480, 900), &format!("http://127.0.0.1:{port}/"));
    let video = "document.getElementById('video')";
    let time = |browser: &mut Browser| -> f64 {
        browser.evaluate(&format!("{video} ? {video}.currentTime : 0")).parse().expect("a number")
    };
    let began =
        eventually("the picture moves", Duration::from_secs(60), || Some(time(&mut browser)).filter(|at| *at > 0.5));
    eventually("the playback continues", Duration::from_secs(30), || (time(&mut browser) > began + 3.0).then_some(()));
    for (expression, due) in [
        ("dataset.player", "hls.js"),
        ("dataset.errors", "undefined"),
        ("dataset.attached", "1"),
        ("error", "null"),
        ("paused", "false"),
        ("videoWidth", "320"),
    ] {
        assert_eq!(browser.evaluate(&format!("{video}.{expression}")), due, "{expression}");
    }
    // Audio is decoded, too.
    assert_ne!(browser.evaluate(&format!("{video}.webkitAudioDecodedByteCount")), "0");
    assert_eq!(browser.evaluate("document.title"), "Live streams", "a stream name must be shown as plain text");
    let names = browser.evaluate("[...document.querySelectorAll('.name')].map((name) => name.textContent).join()");
    assert_eq!(names, format!("live/{hostile},live/livestream"));
    let on_screen = browser.evaluate("document.querySelector('.stream[aria-current] .name').textContent");
    assert_eq!(on_screen, "live/livestream");
    let picture = browser.screenshot();
    assert!(picture.starts_with(b"\x89PNG"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page.png");
    std::fs::write(&path, picture).expect("the build's tmp folder can be written");

    // The end is said instead of showing the last picture for ever, and a new begin needs no click.
    drop(publisher);
    browser.wait_text(".curtain:not([hidden])", "The stream has ended");
    let _publisher = Process::start(&scratch, "publisher", &ffmpeg, arguments);
    browser.wait("document.querySelector('.curtain').hidden", "true");
    let restarted = time(&mut browser);
    eventually("the picture moves again", Duration::from_secs(60), || {
        (time(&mut browser) > restarted + 1.0).then_some(())
    });
    browser.assert_faultless();
    server.assert_healthy();
}

#[test]
fn a_browser_plays_http_flv_near_its_end() {
    let (ffmpeg, chromium, mpegts_js) = (need!(ffmpeg), need!(chromium), need!(mpegts_js));
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.file("objs")).expect("a folder in the scratch folder");
    std::fs::copy(mpegts_js, scratch.file("objs/mpegts.js")).expect("a copy of mpegts.js");
    let (mut server, port) =
        http::start(&scratch, "", Settings { vhost: "http_remux { enabled on; }", ..Settings::default() });
    let input = media::h264_aac(&ffmpeg).path.to_str().expect("a path of ours");
    let url = server.url("livestream");
    let arguments =
        ["-nostdin", "-hide_banner", "-re", "-stream_loop", "-1", "-i", input, "-c", "copy", "-f", "flv", &url];
    let _publisher = Process::start(&scratch, "publisher", &ffmpeg, arguments);
    let mut browser = Browser::open(&scratch, &chromium, (480, 900), &format!("http://127.0.0.1:{port}/"));
    let video = "document.getElementById('video')";
    browser.wait(&format!("{video}?.played.length > 0 && {video}.currentTime > 0.5"), "true");
    assert_eq!(browser.evaluate(&format!("{video}.dataset.player")), "flv");
    // A picture that has fallen behind, as in a page that was hidden, comes back to the end by itself.
    let behind = format!("{video}.buffered.end({video}.buffered.length - 1) - {video}.currentTime");
    browser.evaluate(&format!("{video}.pause()"));
    browser.wait(&format!("{behind} > 3"), "true");
    browser.evaluate(&format!("({video}.play(), 0)"));
    browser.wait(&format!("!{video}.paused && {behind} < 1.5"), "true");
    let at: f64 = browser.evaluate(&format!("{video}.currentTime")).parse().expect("a number");
    browser.wait(&format!("{video}.currentTime > {at} + 0.5"), "true");
    for (expression, due) in [("dataset.errors", "undefined"), ("dataset.attached", "1"), ("error", "null")] {
        assert_eq!(browser.evaluate(&format!("{video}.{expression}")), due, "{expression}");
    }
    browser.assert_faultless();
    server.assert_healthy();
}
