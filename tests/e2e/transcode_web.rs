//! The master playlist of a ladder: ffmpeg and a browser choose a rendition, and change it.

use std::path::Path;

use crate::browser::Browser;
use crate::common::http_client::Client;
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::Settings;
use crate::media;
use crate::tools::need;
use crate::transcode::{LIMIT, Transcoding, publish_for_ever};

const PAGE: &str =
    "<!doctype html><video id=video muted autoplay playsinline></video><script src=/hls.min.js></script><script>
    const video = document.getElementById('video');
    const hls = new Hls({ startLevel: 0 });
    const errors = [];
    hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) errors.push(data.details); });
    hls.loadSource('/live/cam.m3u8');
    hls.attachMedia(video);
    </script>";

#[test]
fn a_browser_changes_between_the_renditions() {
    let (ffmpeg, chromium, hls_js) = (need!(ffmpeg), need!(chromium), need!(hls_js));
    let scratch = Scratch::new();
    for folder in ["objs", "html"] {
        std::fs::create_dir(scratch.file(folder)).expect("a folder in the scratch folder");
    }
    std::fs::copy(&hls_js, scratch.file("html/hls.min.js")).expect("a copy of hls.js");
    std::fs::write(scratch.file("html/ladder.html"), PAGE).expect("a page");
    let vhost = "hls { enabled on; hls_path html; hls_fragment 1; hls_window 30; }
        ladder { enabled on; heights 180p 90p; vpreset ultrafast; keyframe_interval 1; }
        transcode {
            enabled on;
            engine picture {
                enabled on; vfilter { vf fps=1; } vcodec mjpeg; acodec an; oformat image2; vparams { update 1; }
                output html/[app]/[stream].jpg;
            }
        }";
    let mut transcoding = Transcoding::start(&scratch, Settings { vhost, ..Settings::default() });
    let url = transcoding.server.url("cam");
    let _publisher = publish_for_ever(&scratch, "publisher", &ffmpeg, media::h264_aac(&ffmpeg), &url);
    let playlist = |path: &str| {
        let answer = Client::new(transcoding.http).get(path, "");
        (answer.status == 200).then(|| String::from_utf8(answer.body).expect("text"))
    };
    let master = eventually("the renditions have playlists", LIMIT, || {
        playlist("/live/cam.m3u8").filter(|text| text.contains("cam_180p.m3u8") && text.contains("cam_90p.m3u8"))
    });
    let lines: Vec<_> = master.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("#EXT-X-STREAM-INF:BANDWIDTH=")).count(), 2, "{master}");
    for word in ["RESOLUTION=320x180", "RESOLUTION=160x90", "CODECS=\"avc1.", "mp4a.40.2\"", "FRAME-RATE=25.000"] {
        assert!(master.contains(word), "{word} in {master}");
    }
    assert!(playlist("/live/cam.m3u8?rendition=source").expect("its own").contains("#EXTINF"));
    assert!(playlist("/live/cam_90p.m3u8").expect("a rendition's").contains("#EXTINF"));

    let page = format!("http://127.0.0.1:{}/ladder.html", transcoding.http);
    let mut browser = Browser::open(&scratch, &chromium, (400, 300), &page);
    eventually("the page is loaded", LIMIT, || (browser.evaluate("typeof hls") == "object").then_some(()));
    eventually("both levels are known", LIMIT, || (browser.evaluate("hls.levels.length") == "2").then_some(()));
    let time = |browser: &mut Browser| browser.evaluate("video.currentTime").parse::<f64>().unwrap_or(0.0);
    // hls.js sorts the levels by their bit rates.
    for (level, height) in [(1, "180"), (0, "90"), (1, "180")] {
        browser.evaluate(&format!("hls.currentLevel = {level}"));
        eventually(&format!("{height} lines"), LIMIT, || {
            (browser.evaluate("video.videoHeight") == height).then_some(())
        });
        let began = time(&mut browser);
        eventually("it plays on", LIMIT, || (time(&mut browser) > began + 1.5).then_some(()));
    }
    assert_eq!(browser.evaluate("errors.join()"), "");
    assert_true_rates(&transcoding, &playlist("/live/cam.m3u8").expect("the master playlist"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ladder.png");
    std::fs::write(path, browser.screenshot()).expect("the build's tmp folder can be written");

    // Operators see the programs, the renditions, and the picture that an engine writes.
    browser.evaluate(&format!("location.href = 'http://127.0.0.1:{}/#/programs'", transcoding.api));
    browser.wait_text("table[aria-label=Programs]", "ladder");
    browser.wait_text("table[aria-label=Programs] .mark.good", "running");
    browser.wait_text("table[aria-label=Programs]", "live/cam_180p live/cam_90p");
    browser.evaluate("location.hash = '#/stream/__defaultVhost__%2Flive%2Fcam'");
    browser.wait_text("table[aria-label=Programs]", "engine picture");
    browser.wait("document.querySelector('.poster img:not([hidden])')?.naturalWidth", "320");
    browser.assert_faultless();
    transcoding.server.assert_healthy();
}

/// Asserts that BANDWIDTH is at least the bit rate of each segment, and AVERAGE-BANDWIDTH near that of all.
fn assert_true_rates(transcoding: &Transcoding, master: &str) {
    let get = |path: &str| Client::new(transcoding.http).get(path, "").body;
    let lines: Vec<&str> = master.lines().collect();
    let variants = lines.windows(2).filter(|pair| pair[0].starts_with("#EXT-X-STREAM-INF:"));
    for pair in variants {
        let number = |name: &str| -> f64 {
            let fields = pair[0].split([':', ',']);
            fields.filter_map(|field| field.strip_prefix(name)).next().expect("a field").parse().expect("a number")
        };
        let playlist = String::from_utf8(get(&format!("/live/{}", pair[1]))).expect("text");
        let lines: Vec<&str> = playlist.lines().collect();
        let segments = lines.windows(2).filter_map(|pair| {
            let seconds: f64 = pair[0].strip_prefix("#EXTINF:")?.split(',').next()?.parse().ok()?;
            Some((seconds, get(&format!("/live/{}", pair[1])).len() as f64 * 8.0))
        });
        let segments: Vec<_> = segments.collect();
        let peak = segments.iter().map(|(seconds, bits)| bits / seconds).fold(0.0, f64::max);
        let (seconds, bits) = segments.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        // Segments have been added since.
        assert!(number("BANDWIDTH=") * 1.1 >= peak, "{pair:?}: {peak}");
        let average = number("AVERAGE-BANDWIDTH=") * seconds / bits;
        assert!((0.8..1.25).contains(&average), "{pair:?}: {}", bits / seconds);
    }
}
