//! Recordings in the console: a browser lists, plays, loads and deletes them, and starts and stops one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::api::{start_with, start_with_vhosts};
use crate::browser::Browser;
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::common::wire::Wire;
use crate::console::{DESKTOP_SIZE, HOSTILE_NAME, PHONE_SIZE, open, sign_in};
use crate::media;
use crate::session::send;
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Recording of everything, without a wait for a publisher that is gone.
const DVR: &str = "publish { reconnect_grace 0; } dvr { enabled on; dvr_path rec/[app]/[stream].[timestamp].flv; }";

/// The same as MP4, in a vhost of its own.
const MP4: &str =
    "vhost mp4.test { publish { reconnect_grace 0; } dvr { enabled on; dvr_path mp4/[stream].[timestamp].mp4; } }";

const SECRETS: &str = "auth { enabled on; token look read first; token ops admin second; }";

/// Publishes a file as fast as the server takes it.
fn publish(ffmpeg: &Path, server: &Server, stream: &str) {
    let input = media::h264_aac(ffmpeg).path.to_str().expect("a path of ours");
    let arguments = ["-nostdin", "-v", "error", "-i", input, "-c", "copy", "-f", "flv"];
    let status = Command::new(ffmpeg).args(arguments).arg(server.url(stream)).status().expect("ffmpeg runs");
    assert!(status.success());
}

/// Returns the number of the rows of recordings that a page shows.
const ROWS: &str = "document.querySelectorAll('table[aria-label=Recordings] tbody tr').length";

/// Clicks the first button of a row with this label.
fn press(browser: &mut Browser, row: &str, label: &str) {
    let button = format!(
        "[...document.querySelectorAll('tbody tr')].filter((row) => row.textContent.includes('{row}'))\
         .flatMap((row) => [...row.querySelectorAll('button')]).find((button) => button.textContent === '{label}')"
    );
    browser.wait(&format!("{button} !== undefined"), "true");
    browser.evaluate(&format!("{button}.click()"));
}

#[test]
fn a_browser_plays_loads_and_deletes_recordings() {
    let (ffmpeg, chromium, mpegts_js) = (need!(ffmpeg), need!(chromium), need!(mpegts_js));
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.file("objs")).expect("a folder in the scratch folder");
    std::fs::copy(mpegts_js, scratch.file("objs/mpegts.js")).expect("a copy of mpegts.js");
    let (mut server, api) = start_with_vhosts(&scratch, SECRETS, DVR, MP4);
    publish(&ffmpeg, &server, "film");
    publish(&ffmpeg, &server, "film?vhost=mp4.test");
    server.wait_log(&["recorded:", "film", ".flv"], LIMIT);
    server.wait_log(&["recorded:", "film", ".mp4"], LIMIT);
    let mut hostile = Wire::publisher(server.port, HOSTILE_NAME);
    send(&mut hostile, 1, 0..5);

    // A reader sees the list.
    let mut browser = open(&scratch, &chromium, PHONE_SIZE, api, "#/recordings");
    sign_in(&mut browser, "", "", "first");
    browser.wait_text("table[aria-label=Recordings]", "live/film");
    browser.wait(ROWS, "3");
    browser.wait_text("table[aria-label=Recordings]", HOSTILE_NAME);
    assert_eq!(browser.evaluate("document.querySelectorAll('main button.small').length"), "0");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "true");
    drop(browser);

    let scratch_of_second = Scratch::new();
    let mut browser = open(&scratch_of_second, &chromium, DESKTOP_SIZE, api, "#/recordings");
    sign_in(&mut browser, "", "", "second");
    for file in [".flv", ".mp4"] {
        press(&mut browser, file, "Play");
        let video = "document.querySelector('.playback video')";
        // With sound, browsers start only after the click of a person.
        browser.wait(&format!("{video} !== null"), "true");
        browser.evaluate(&format!("({video}.muted = true, {video}.play(), 0)"));
        browser.wait(&format!("{video}?.currentTime > 0.5"), "true");
        for (expression, due) in [("error", "null"), ("videoWidth", "320"), ("duration > 5.5", "true")] {
            assert_eq!(browser.evaluate(&format!("{video}.{expression}")), due, "{file}: {expression}");
        }
        // The file has an index.
        browser.evaluate(&format!("{video}.currentTime = 4"));
        browser.wait(&format!("{video}.currentTime > 4.2 && !{video}.seeking"), "true");
        browser.click(".playback form button");
        browser.wait("document.querySelector('dialog')", "null");
    }

    // The link of a download needs no login, and its file is whole.
    let bytes: u64 = recordings(&scratch).iter().map(|(_, bytes)| *bytes).max().expect("a file");
    browser.evaluate("HTMLAnchorElement.prototype.click = function click() { globalThis.link = this.href; }");
    press(&mut browser, ".flv", "Download");
    browser.wait("globalThis.link?.includes('ticket=')", "true");
    browser.evaluate("fetch(link).then((file) => file.blob()).then((file) => { globalThis.loaded = file.size; })");
    browser.wait("globalThis.loaded", &bytes.to_string());
    let other = "fetch(link.replace(/.$/, (end) => (end === '0' ? '1' : '0'))).then(({ status }) => { globalThis.refused = status; })";
    browser.evaluate(other);
    browser.wait("globalThis.refused", "403");

    // Nothing is deleted without a word.
    press(&mut browser, ".flv", "Delete");
    browser.click("dialog button.quiet");
    browser.wait("document.querySelector('dialog')", "null");
    browser.wait(ROWS, "3");
    press(&mut browser, ".flv", "Delete");
    browser.click("dialog .danger");
    browser.wait_text("#toasts", "The recording was deleted.");
    browser.wait(ROWS, "2");
    assert!(recordings(&scratch).iter().all(|(name, _)| !name.starts_with("film")));
    browser.assert_faultless();
    server.assert_healthy();
}

/// Returns the names and sizes of the files of recordings.
fn recordings(scratch: &Scratch) -> Vec<(String, u64)> {
    let entries = scratch.file("rec/live").read_dir().into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), entry.metadata().map_or(0, |file| file.len()))
    };
    entries.map(file).collect()
}

#[test]
fn the_page_of_a_stream_starts_and_stops_its_recording() {
    let chromium = need!(chromium);
    let scratch = Scratch::new();
    let (mut server, api) = start_with(&scratch, "", "dvr { dvr_path rec/[app]/[stream].[timestamp].flv; }");
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, 0..5);
    let mut browser = open(&scratch, &chromium, DESKTOP_SIZE, api, "#/stream/__defaultVhost__%2Flive%2Fcam");
    browser.wait_text("button.record", "Record");
    browser.click("button.record");
    browser.wait_text("button.record", "Stop recording");
    send(&mut publisher, 1, 5..25);
    browser.click("header a[href*=recordings]");
    browser.wait_text("table[aria-label=Recordings]", "recording");
    press(&mut browser, "live/cam", "Stop");
    press(&mut browser, "live/cam", "Delete");
    browser.click("dialog .danger");
    browser.wait_text("main", "No recording.");
    assert_eq!(browser.evaluate("document.querySelector('.filter').value"), "__defaultVhost__/live/cam");
    browser.assert_faultless();
    server.assert_healthy();
}
