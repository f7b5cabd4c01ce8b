//! Attacks by name: what a client calls its stream is no path, and no line of a log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attacker::{Attacker, End};
use crate::rig::Rig;
use crate::rtmp::{
    VIDEO, command, create_stream, handshake, keyframe, message, object, play, publish, publishing, text, video_header,
};

/// Names that mean another place, another line, or another name.
fn names() -> Vec<Vec<u8>> {
    let long = "n".repeat(70_000);
    let texts = [
        "..",
        "../..",
        "../../../../tmp/hostile",
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
fn names_that_lie() {
    all(Rig::plain("", ""));
}

#[cfg(feature = "ssl")]
#[test]
fn names_that_lie_through_tls() {
    all(Rig::encrypted("", ""));
}

fn all(mut rig: Rig) {
    let before = files(rig.scratch.folder());
    rig.attack("names of streams and applications", |rig| {
        for name in names() {
            let connect = |app: &[u8]| {
                let members = [("app", text(app)), ("tcUrl", text([b"rtmp://127.0.0.1/", app].concat()))];
                command(0, "connect", 1.0, &object(&members))
            };
            let frames = [keyframe(100), keyframe(5000)].map(|frame| message(6, 0, VIDEO, 1, &frame));
            let media = [message(6, 0, VIDEO, 1, &video_header()), frames.concat()].concat();
            for session in [
                [publishing(&name), media.clone()].concat(),
                [handshake(), connect(&name), create_stream(), publish("x"), media.clone()].concat(),
                [handshake(), connect(b"live"), create_stream(), play(&name)].concat(),
            ] {
                if let Some(mut attacker) = Attacker::connect(rig.target) {
                    attacker.send(&session);
                    attacker.listen(Duration::from_millis(5));
                    attacker.leave(End::Fin);
                }
            }
        }
    });
    // Files of HLS are below its directory, in one of the application's name, and nowhere else.
    let web = rig.scratch.folder().join("html");
    let is_hls = |file: &Path| {
        let Ok(below) = file.strip_prefix(&web) else { return false };
        let extension = file.extension().and_then(|extension| extension.to_str());
        let is_name = !below.to_string_lossy().chars().any(char::is_control);
        is_name && below.components().count() >= 2 && matches!(extension, Some("m3u8" | "ts" | "tmp"))
    };
    let new: Vec<_> = files(rig.scratch.folder()).into_iter().filter(|file| !before.contains(file)).collect();
    let strange: Vec<_> = new.iter().filter(|file| !is_hls(file)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(cfg!(not(feature = "hls")) || new.len() > 10, "names that are files came to none: {new:?}");
    let outside = [Path::new("/tmp/hostile"), Path::new("/tmp/hostile.m3u8"), Path::new("/tmp/hostile-1.ts")];
    assert!(outside.iter().all(|path| !path.exists()), "a file outside of everything");
    // Each line of the log begins as lines do, and shows what is in it.
    for line in rig.server.log().lines() {
        assert!(line.starts_with("[20"), "a line that was forged: {line:?}");
        let is_odd = |c: char| c.is_control() || ['\u{202e}', '\u{2028}', '\u{feff}'].contains(&c);
        assert!(!line.chars().any(is_odd), "{line:?}");
    }
    rig.finish();
}
