//! Recordings over the API: operators start and stop them, list them, load them and remove them.

use std::path::PathBuf;
use std::time::Duration;

use crate::api::{curl, jq, start_with};
use crate::common::flv::{self, Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::common::wire::Wire;
use crate::session::send;
use crate::srs_ctl::{fails, prints};
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(30);

/// Recording that is off until an operator starts it.
const DVR_OFF: &str = "dvr { dvr_path rec/[app]/[stream].[timestamp].flv; }";

/// Calls curl until jq finds what is wanted.
fn wait_json(port: u16, path: &str, filter: &str, wanted: &str) -> String {
    eventually(&format!("{path}: {filter} is {wanted}"), LIMIT, || {
        let body = curl(port, path, &[]).1;
        (jq(&body, filter) == wanted).then_some(body)
    })
}

fn post(port: u16, path: &str) -> (u16, String) {
    curl(port, path, &["-X", "POST"])
}

fn delete(port: u16, path: &str) -> (u16, String) {
    curl(port, path, &["-X", "DELETE"])
}

/// Publishes keyframes and frames of this range.
fn publish(server: &Server, frames: std::ops::Range<u32>) -> Wire {
    let mut publisher = Wire::publisher(server.port, "cam");
    send(&mut publisher, 1, frames);
    publisher
}

/// Returns the files of the recordings, finished or not.
fn files(scratch: &Scratch) -> Vec<PathBuf> {
    let entries = scratch.file("rec/live").read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn an_operator_records_one_stream_and_loads_it() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let (mut server, api) = start_with(&scratch, "", DVR_OFF);
    assert_eq!(post(api, "/api/v1/streams/live/cam/record").0, 404, "nobody publishes it");
    // It has received what the server has recorded.
    let mut player = Wire::player(server.port, "cam");
    let mut publisher = publish(&server, 0..5);
    player.wait_frames(10);
    let _other = Wire::publisher(server.port, "other");
    wait_json(api, "/api/v1/streams", ".total", "2");
    let (status, body) = post(api, "/api/v1/streams/live/cam/record");
    assert_eq!(
        (status, jq(&body, ".stream, .recording, .changed")),
        (200, "__defaultVhost__/live/cam\ntrue\ntrue".into())
    );
    assert_eq!(jq(&post(api, "/api/v1/streams/live/cam/record").1, ".changed"), "false");
    // The file begins with the keyframe of frame 10.
    send(&mut publisher, 1, 5..25);
    player.wait_frames(50);
    let filter = ".total, (.recordings[0] | .id, .state, .app, .stream, .path, .duration_ms)";
    wait_json(api, "/api/v1/recordings", filter, "1\n\nrecording\nlive\ncam\nnull\nnull");
    let (status, body) = delete(api, "/api/v1/streams/live/cam/record");
    assert_eq!((status, jq(&body, ".recording, .changed")), (200, "false\ntrue".into()));
    let body = wait_json(api, "/api/v1/recordings?stream=live/cam", ".recordings[0].state", "finished");
    let [id, path, bytes] = ["id", "path", "bytes"].map(|name| jq(&body, &format!(".recordings[0].{name}")));
    assert_eq!(jq(&body, ".recordings[0].duration_ms"), "560");
    let content = std::fs::read(scratch.file("rec").join(&path)).expect("the file");
    assert_eq!(bytes, content.len().to_string());
    // It goes on being published, and is not recorded any more.
    send(&mut publisher, 1, 25..45);
    wait_json(api, "/api/v1/recordings", ".total", "1");

    let url = format!("/api/v1/recordings/{id}");
    assert_eq!(jq(&curl(api, &url, &[]).1, ".recording.path"), path);
    let loaded = scratch.file("loaded.flv");
    let output = loaded.to_str().expect("a path");
    assert_eq!(curl(api, &format!("{url}/file"), &["-o", output]).0, 200);
    assert!(std::fs::read(&loaded).expect("it was loaded") == content);
    let frames: Vec<Tag> = flv::read(&loaded).into_iter().filter(|tag| tag.kind == VIDEO && tag.is_frame()).collect();
    assert!(frames.len() == 15 && frames[0].is_keyframe() && frames[0].timestamp == 0, "{frames:?}");
    let (status, _) = curl(api, &format!("{url}/file"), &["-r", "3-13", "-o", output]);
    assert_eq!((status, std::fs::read(&loaded).expect("a part")), (206, content[3..14].to_vec()));
    let (_, head) = curl(api, &format!("{url}/file"), &["-I"]);
    assert!(
        head.contains("video/x-flv") && head.contains(&format!("filename*=UTF-8''{}", &path["live/".len()..])),
        "{head}"
    );

    assert_eq!(delete(api, &url).0, 200);
    assert_eq!((delete(api, &url).0, curl(api, &format!("{url}/file"), &[]).0), (404, 404));
    assert!(files(&scratch).is_empty());
    for bad in ["..", "%2e%2e%2fsrs.conf", "live/cam.1.flv", "x/file", "/file", "%00"] {
        let status = curl(api, &format!("/api/v1/recordings/{bad}"), &["--path-as-is"]).0;
        assert!((400..500).contains(&status), "{bad}: {status}");
    }
    server.assert_healthy();
}

#[test]
fn what_an_operator_says_counts_until_the_stream_ends() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let vhost = "publish { reconnect_grace 0; } dvr { enabled on; dvr_path rec/[app]/[stream].[timestamp].flv; }";
    let (mut server, api) = start_with(&scratch, "", vhost);
    let mut publisher = publish(&server, 0..5);
    wait_json(api, "/api/v1/recordings", ".recordings[0].state", "recording");
    assert_eq!(jq(&delete(api, "/api/v1/streams/live/cam/record").1, ".changed"), "true");
    wait_json(api, "/api/v1/recordings", ".total, .recordings[0].state", "1\nfinished");
    // A reload does not record it again.
    assert_eq!(post(api, "/api/v1/reload").0, 200);
    send(&mut publisher, 1, 5..25);
    server.wait_log(&["reload"], LIMIT);
    wait_json(api, "/api/v1/recordings", ".total", "1");
    drop(publisher);
    wait_json(api, "/api/v1/streams", "[.streams[] | select(.state == \"live\" or .state == \"lost\")] | length", "0");
    let _publisher = publish(&server, 0..5);
    wait_json(api, "/api/v1/recordings", ".total, .recordings[0].state", "2\nrecording");
    server.assert_healthy();
}

#[test]
fn roles_and_a_restart() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let auth = "auth { enabled on; token a read r1; token b kick k1; token c admin a1; }";
    let (mut server, api) = start_with(&scratch, auth, DVR_OFF);
    let with = |method: &str, path: &str, secret: &str| {
        let header = format!("Authorization: Bearer {secret}");
        curl(api, path, &["-X", method, "-H", &header])
    };
    let mut publisher = publish(&server, 0..5);
    server.wait_log(&["codecs known"], LIMIT);
    for secret in ["r1", "k1"] {
        assert_eq!(with("POST", "/api/v1/streams/live/cam/record", secret).0, 403);
    }
    assert_eq!(with("POST", "/api/v1/streams/live/cam/record", "a1").0, 200);
    send(&mut publisher, 1, 5..25);
    drop(publisher);
    server.wait_log(&["recorded:"], LIMIT);
    server.process().signal(nix::sys::signal::Signal::SIGTERM);
    server.process().wait_success(LIMIT);
    let configuration = scratch.file("srs.conf");
    let mut server = Server::run(&scratch, server.port, &configuration).expect("its ports are free");
    let body = eventually("the recording is known", LIMIT, || {
        let (status, body) = with("GET", "/api/v1/recordings", "r1");
        (status == 200 && jq(&body, ".total") == "1").then_some(body)
    });
    let url = format!("/api/v1/recordings/{}", jq(&body, ".recordings[0].id"));
    for (method, path, secret, status) in [
        ("GET", url.clone(), "r1", 200),
        ("GET", format!("{url}/file"), "k1", 403),
        ("DELETE", url.clone(), "k1", 403),
        ("GET", format!("{url}/file"), "wrong", 401),
        ("DELETE", url, "a1", 200),
    ] {
        assert_eq!(with(method, &path, secret).0, status, "{method} {path} {secret}");
    }
    server.assert_healthy();
}

#[test]
fn srs_ctl_records_loads_and_deletes() {
    let scratch = Scratch::new();
    let (mut server, port) = start_with(&scratch, "", DVR_OFF);
    let api = format!("127.0.0.1:{port}");
    let ctl = |arguments: &[&str]| prints(&[&["--api", &api], arguments].concat());
    let mut player = Wire::player(server.port, "cam");
    let mut publisher = publish(&server, 0..5);
    server.wait_log(&["codecs known"], LIMIT);
    player.wait_frames(10);
    assert_eq!(ctl(&["recordings"]), "no recordings\n");
    assert_eq!(ctl(&["record", "live/cam"]), "__defaultVhost__/live/cam: recording\n");
    assert_eq!(ctl(&["record", "live/cam"]), "__defaultVhost__/live/cam: recording, as before\n");
    send(&mut publisher, 1, 5..25);
    player.wait_frames(50);
    eventually("it is recorded", LIMIT, || ctl(&["recordings"]).contains("recording  live/cam").then_some(()));
    assert_eq!(ctl(&["record", "live/cam", "--stop"]), "__defaultVhost__/live/cam: recording stopped\n");
    let table = eventually("it is finished", LIMIT, || {
        Some(ctl(&["recordings", "--stream", "cam"])).filter(|table| table.contains("finished"))
    });
    let id = table.lines().nth(1).and_then(|line| line.split(' ').next()).expect("an id").to_owned();
    let file = scratch.file("loaded.flv");
    let output = file.to_str().expect("a path");
    assert!(ctl(&["download", &id, "-o", output]).starts_with(output));
    assert!(flv::read(&file).iter().filter(|tag| tag.kind == VIDEO && tag.is_frame()).count() == 15);
    let (code, error) = fails(&["--api", &api, "download", &id, "-o", output]);
    assert!(code == 1 && error.contains("exists"), "{error}");
    assert_eq!(ctl(&["delete", &id]), "removed\n");
    for command in ["delete", "download"] {
        let (code, error) = fails(&["--api", &api, command, &id]);
        assert!(code == 1 && error.starts_with("srs_ctl: no such recording"), "{command}: {error}");
    }
    server.assert_healthy();
}
