//! HLS of odd streams in Chromium with hls.js: a picture that stands, a muted microphone, surround sound.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::browser::Browser;
use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::http_client::Client;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::Wire;
use crate::http;
use crate::media;
use crate::tools::need;

const VIDEO_ELEMENT: &str = "document.getElementById('video')";

/// Starts a server with segments of a second and the console with hls.js alone, which plays HLS.
fn start(scratch: &Scratch, hls_js: &Path) -> (Server, u16) {
    std::fs::create_dir(scratch.file("objs")).expect("a folder in the scratch folder");
    std::fs::copy(hls_js, scratch.file("objs/hls.min.js")).expect("a copy of hls.js");
    let vhost = "hls { enabled on; hls_path html; hls_fragment 1; hls_window 6; hls_endlist_delay 0; }";
    http::start(scratch, "", Settings { vhost, ..Settings::default() })
}

fn number(browser: &mut Browser, property: &str) -> f64 {
    browser.evaluate(&format!("{VIDEO_ELEMENT}?.{property} ?? 0")).parse().expect("a number")
}

/// Waits until the picture has moved by this many seconds.
fn watch(browser: &mut Browser, seconds: f64) {
    let start = number(browser, "currentTime");
    let limit = Duration::from_secs(60);
    eventually("the picture moves", limit, || (number(browser, "currentTime") >= start + seconds).then_some(()));
}

/// Sends messages at their times.
fn send_in_real_time(mut publisher: Wire, tags: Vec<Tag>) -> JoinHandle<Wire> {
    std::thread::spawn(move || {
        let start = Instant::now();
        for tag in &tags {
            let due = start + Duration::from_millis(tag.timestamp.into());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            publisher.send_tag(tag);
        }
        publisher
    })
}

/// Returns a stream of 33 s with a picture that stands, and then without sound, for more than ten seconds each.
fn with_gaps(source: &[Tag]) -> Vec<Tag> {
    let is_media = |tag: &&Tag| [AUDIO, VIDEO].contains(&tag.kind);
    let again = |from: u32| {
        let tags = source.iter().filter(is_media).filter(move |tag| from == 0 || tag.is_frame());
        tags.map(move |tag| Tag { timestamp: tag.timestamp + from, ..tag.clone() })
    };
    let mut tags: Vec<Tag> = [0, 12_000, 24_000].into_iter().flat_map(again).collect();
    tags.retain(|tag| {
        let stands = tag.kind == VIDEO && (4001..15_000).contains(&tag.timestamp);
        let is_mute = tag.kind == AUDIO && (18_000..29_000).contains(&tag.timestamp);
        !stands && !is_mute && tag.timestamp < 33_000
    });
    tags.sort_by_key(|tag| tag.timestamp);
    tags
}

/// Slides of a camera, a muted microphone, and a target duration that falls: nothing of that stops a viewer.
#[test]
fn a_browser_plays_through_gaps() {
    let (ffmpeg, chromium, hls_js) = (need!(ffmpeg), need!(chromium), need!(hls_js));
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, &hls_js);
    let source = &media::long_h264_aac(&ffmpeg).tags;
    let target = || {
        let list = Client::new(port).get("/live/livestream.m3u8", "").body;
        let list = m3u8_rs::parse_media_playlist_res(&list).ok()?;
        Some((list.target_duration, list.end_list))
    };
    // A publisher with a keyframe every three seconds, and the next one.
    let options = "-c:v libx264 -preset veryfast -g 75 -keyint_min 75 -sc_threshold 0 -bf 0 -b:v 300k -pix_fmt yuv420p";
    let long_gops = media::encode(&ffmpeg, "long_gops.flv", Some(options), Some("-c:a aac -ar 44100 -ac 2 -b:a 64k"));
    let mut long = Wire::publisher(server.port, "livestream");
    long_gops.tags.iter().for_each(|tag| long.send_tag(tag));
    drop(long);
    eventually("the long segment", Duration::from_secs(30), || target().filter(|(target, _)| *target == 3));
    let publisher = send_in_real_time(Wire::next_publisher(server.port, "livestream"), with_gaps(source));
    let mut browser = Browser::open(&scratch, &chromium, (480, 900), &format!("http://127.0.0.1:{port}/"));
    eventually("the picture moves", Duration::from_secs(60), || {
        (number(&mut browser, "currentTime") > 0.5).then_some(())
    });
    let (began, at) = (Instant::now(), number(&mut browser, "currentTime"));
    let decoded = |browser: &mut Browser| {
        ["webkitDecodedFrameCount", "webkitAudioDecodedByteCount"].map(|property| number(browser, property))
    };
    let mut publisher = publisher.join().expect("it sends to the end");
    // Media for the time that has passed, but for short stops where a gap begins, and those of a busy machine. A gap that is
    // not passed takes eleven seconds.
    let missing = began.elapsed().as_secs_f64() - (number(&mut browser, "currentTime") - at);
    assert!(missing < 10.0, "the picture stood for {missing} s");
    let before = decoded(&mut browser);
    watch(&mut browser, 1.0);
    let after = decoded(&mut browser);
    assert!(after[0] > before[0] && after[1] > before[1], "picture and sound go on: {before:?} {after:?}");
    for (expression, due) in [("dataset.player", "hls.js"), ("dataset.errors", "undefined"), ("dataset.attached", "1")]
    {
        assert_eq!(browser.evaluate(&format!("{VIDEO_ELEMENT}.{expression}")), due, "{expression}");
    }
    assert_eq!(target(), Some((2, false)));
    publisher.command(0, "deleteStream", 0.0, &[crate::common::amf::Amf::Null, crate::common::amf::Amf::Number(1.0)]);
    browser.wait_text(".curtain:not([hidden])", "The stream has ended");
    assert_eq!(target(), Some((2, true)));
    browser.assert_faultless();
    server.assert_healthy();
}

/// ffmpeg publishes 5.1(side), whose layout has no number in AAC, and 6.1, which HLS cannot carry.
#[test]
fn a_browser_plays_surround_sound() {
    let (ffmpeg, chromium, hls_js) = (need!(ffmpeg), need!(chromium), need!(hls_js));
    let scratch = Scratch::new();
    let (mut server, port) = start(&scratch, &hls_js);
    let video = "-c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -b:v 300k -pix_fmt yuv420p";
    let publish = |name: &str, layout: &str| {
        let audio = format!("-c:a aac -ar 48000 -b:a 300k -af aformat=channel_layouts={layout}");
        let source = media::encode(&ffmpeg, &format!("{name}.flv"), Some(video), Some(&audio));
        let (input, url) = (source.path.to_str().expect("a path of ours").to_owned(), server.url(name));
        let arguments = ["-nostdin", "-re", "-stream_loop", "-1", "-i", &input, "-c", "copy", "-f", "flv", &url];
        Process::start(&scratch, name, &ffmpeg, arguments)
    };
    let _side = publish("side", "5.1(side)");
    let mut browser = Browser::open(&scratch, &chromium, (480, 900), &format!("http://127.0.0.1:{port}/"));
    eventually("the picture moves", Duration::from_secs(60), || {
        (number(&mut browser, "currentTime") > 0.5).then_some(())
    });
    watch(&mut browser, 2.0);
    assert!(number(&mut browser, "webkitAudioDecodedByteCount") > 0.0, "sound is decoded");
    for (expression, due) in [("dataset.errors", "undefined"), ("dataset.attached", "1"), ("videoWidth", "320")] {
        assert_eq!(browser.evaluate(&format!("{VIDEO_ELEMENT}.{expression}")), due, "{expression}");
    }
    browser.wait_text("#status", "Playing, muted.");
    assert_eq!(browser.evaluate("document.querySelector('#status').textContent.includes('Without')"), "false");
    // So do players that take the layout from the frames.
    let output = std::process::Command::new(&ffmpeg)
        .args(["-nostdin", "-hide_banner", "-t", "1", "-i", &format!("http://127.0.0.1:{port}/live/side.m3u8")])
        .args(["-map", "0:a", "-af", "volumedetect", "-f", "null", "-"])
        .output()
        .expect("ffmpeg can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("6 channels") && said.contains("mean_volume: -") && !said.contains("-91.0 dB"), "{said}");

    let _seven = publish("seven", "6.1");
    server.wait_log(&["HLS track skipped", "live/seven", "AAC with 7 channels"], Duration::from_secs(30));
    let play = "[...document.querySelectorAll('.stream')].find((row) => row.textContent.includes('seven')).querySelector('.play')";
    browser.wait("document.querySelector('#streams').textContent.includes('seven')", "true");
    browser.evaluate(&format!("{play}.click()"));
    browser.wait_text("#status", "Without sound: AAC with 7 channels cannot be carried in MPEG-TS");
    watch(&mut browser, 1.0);
    browser.assert_faultless();
    server.assert_healthy();
}
