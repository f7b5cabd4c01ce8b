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
        ladder { enabled on; heights 180p 90p; vpreset ultrafast; keyframe_interval 1; }";
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
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ladder.png");
    std::fs::write(path, browser.screenshot()).expect("the build's tmp folder can be written");
    transcoding.server.assert_healthy();
}
