//! Attacks by names: a stream's name must not become a path of its choice, nor a line of the log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attacker::{Attacker, Close};
use crate::rig::{Port, Rig, Setup};
use crate::rtmp::{
    VIDEO, command, create_stream, handshake, keyframe, message, object, play, publish, publish_session, text,
    video_header,
};

/// Returns names that look like other paths, other log lines, or other names.
fn names() -> Vec<Vec<u8>> {
    let long = "n".repeat(70_000);
    let texts = [
        "..",
        "../..",
        "../../../../tmp/srs-attack",
        "/etc/passwd",
        "/",
        "//",
        "a/../../b",
        "..%2f..%2fx",
        "%2e%2e/x",
        "..\\..\\x",
        "C:\\x",
        "x\0y",
        "\0",
        "",
        " ",
        ".",
        "x/",
        "/x",
        "x\r\n[2026-01-01 00:00:00.000][error][1] forged",
        "x\n",
        "\x1b[2J\x1b[31m",
        "\u{202e}gpj",
        "．．/x",
        "x?../../y",
        "x?vhost=../..",
        "x#y",
        "livestream.m3u8",
        "livestream-1.ts",
        "livestream.m3u8.tmp",
        "healthy.m3u8/x",
        "healthy-3.ts/x",
        "healthy.m3u8.tmp/x",
        "con",
        "-rf",
        "$(id)",
        "`id`",
        "'; drop table",
        "\"",
        "%s%s%n",
        "é",
        "e\u{301}",
        "\u{feff}x",
        "x\u{2028}y",
        &long,
        &long[..5000],
        &long[..255],
        &long[..256],
    ];
    let mut names: Vec<Vec<u8>> = texts.iter().map(|name| name.as_bytes().to_vec()).collect();
    names.push(vec![0xff, 0xfe, b'x']);
    names.push(b"x\xc0\xaf..".to_vec());
    names
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

#[test]
fn names_through_tcp() {
    run(Port::Plain);
}

#[cfg(feature = "ssl")]
#[test]
fn names_through_tls() {
    run(Port::Tls);
}

fn run(port: Port) {
    let mut rig = Rig::start(Setup { port, side_by_side: true, ..Setup::default() });
    let before = files(rig.scratch.folder());
    let ran = rig.attack("names of streams and applications", |rig| {
        for name in names() {
            let connect = |app: &[u8]| {
                let members = [("app", text(app)), ("tcUrl", text([b"rtmp://127.0.0.1/", app].concat()))];
                command(0, "connect", 1.0, &object(&members))
            };
            let frames = [keyframe(100), keyframe(5000)].map(|frame| message(6, 0, VIDEO, 1, &frame));
            let media = [message(6, 0, VIDEO, 1, &video_header()), frames.concat()].concat();
            for session in [
                [publish_session(&name), media.clone()].concat(),
                [handshake(), connect(&name), create_stream(), publish("x"), media.clone()].concat(),
                [handshake(), connect(b"live"), create_stream(), play(&name)].concat(),
            ] {
                if let Some(mut attacker) = Attacker::connect(rig.rtmp) {
                    attacker.send(&session);
                    attacker.discard_for(Duration::from_millis(5));
                    attacker.close(Close::Fin);
                }
            }
        }
    });
    // HLS files are in a folder of the application's name below hls_path, and nowhere else.
    let hls_path = rig.scratch.folder().join("html");
    let is_hls = |file: &Path| {
        let Ok(below) = file.strip_prefix(&hls_path) else { return false };
        let extension = file.extension().and_then(|extension| extension.to_str());
        let is_name = !below.to_string_lossy().chars().any(char::is_control);
        is_name && below.components().count() >= 2 && matches!(extension, Some("m3u8" | "ts" | "tmp"))
    };
    let new: Vec<_> = files(rig.scratch.folder()).into_iter().filter(|file| !before.contains(file)).collect();
    let unexpected: Vec<_> = new.iter().filter(|file| !is_hls(file)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert!(
        cfg!(not(all(feature = "hls", feature = "http"))) || !ran || new.len() > 10,
        "valid names have no HLS files: {new:?}"
    );
    let outside = [Path::new("/tmp/srs-attack"), Path::new("/tmp/srs-attack.m3u8"), Path::new("/tmp/srs-attack-1.ts")];
    assert!(outside.iter().all(|path| !path.exists()), "a file outside of the scratch folder");
    // Each line of the log has the usual start, and no invisible characters.
    for line in rig.server.log().lines() {
        assert!(line.starts_with("[20"), "a forged line: {line:?}");
        let is_invisible = |c: char| c.is_control() || ['\u{202e}', '\u{2028}', '\u{feff}'].contains(&c);
        assert!(!line.chars().any(is_invisible), "{line:?}");
    }
    rig.finish();
}
