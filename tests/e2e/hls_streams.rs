//! HLS of streams with audio or video alone or with unsupported codecs, and of a finished stream.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::flv::{AUDIO, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::Settings;
use crate::hls::{packets, playlist};
use crate::hls_changes::status;
use crate::http;
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, publish};
use crate::tools::need;

const HLS: Settings<'_> = Settings {
    root: "",
    vhost: "hls { enabled on; hls_path html; hls_fragment 1; hls_window 60; hls_dispose 2; }",
    vhosts: "",
};

/// Returns the number of frames of one kind in the segments of a source. Fails if ffprobe reports an error.
fn count_frames(folder: &Path, source: &Source, name: &str, kind: &str) -> usize {
    let list = folder.join(format!("html/live/{name}.m3u8"));
    let last = source.tags.iter().map(|tag| tag.timestamp).max().unwrap_or(0);
    eventually("the whole source on disk", CLIENT_TIMEOUT, || {
        let long: f32 = playlist(&list)?.segments.iter().map(|segment| segment.duration).sum();
        (long * 1000.0 >= last as f32).then_some(())
    });
    // The segments are read as one file, since ffprobe does not recognize a last segment of four packets as a transport stream;
    // and the playlist gets an end, for which ffmpeg's demuxer would wait.
    let ended = list.with_extension("ended.m3u8");
    let text = std::fs::read_to_string(&list).expect("a playlist");
    std::fs::write(&ended, text + "#EXT-X-ENDLIST\n").expect("a file in the scratch folder");
    packets(&ended, kind).len()
}

#[test]
fn one_kind_alone_and_mp3_are_in_the_segments() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    // Segments must not be removed while the test reads them.
    let vhost = HLS.vhost.replace("hls_dispose 2", "hls_dispose 0");
    let (mut server, _) = http::start(&scratch, "", Settings { vhost: &vhost, ..HLS });
    let sources = [
        ("sound", media::audio_only(&ffmpeg), [(AUDIO, "a", true), (VIDEO, "v", false)]),
        ("picture", media::video_only(&ffmpeg), [(AUDIO, "a", false), (VIDEO, "v", true)]),
        // Transport streams cannot carry VP6.
        ("mp3", media::vp6_mp3(&ffmpeg), [(AUDIO, "a", true), (VIDEO, "v", false)]),
    ];
    let start = |(name, source, _): &(&str, &'static Source, _)| {
        publish(&scratch, name, &ffmpeg, source, &server.url(name), &[])
    };
    let publishers: Vec<_> = sources.iter().map(start).collect();
    publishers.into_iter().for_each(|mut publisher| publisher.wait_success(CLIENT_TIMEOUT));
    for (name, source, kinds) in sources {
        for (kind, letter, is_there) in kinds {
            let published = source.tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).count();
            let expected = if is_there { published } else { 0 };
            assert_eq!(count_frames(scratch.folder(), source, name, letter), expected, "{name}, {letter}");
        }
    }
    let said = server.log().lines().filter(|line| line.contains("not supported in MPEG-TS")).count();
    assert_eq!(said, 1, "one warning for VP6");
    server.assert_healthy();
}

#[test]
fn a_player_of_a_stream_that_is_over_ends_and_the_files_go() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", HLS);
    let source = media::h264_aac(&ffmpeg);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    let list = scratch.file("html/live/livestream.m3u8");
    eventually("a segment", CLIENT_TIMEOUT, || playlist(&list));
    let mut command = Command::new(&ffmpeg);
    let url = format!("http://127.0.0.1:{port}/live/livestream.m3u8");
    let out = scratch.file("played.framecrc");
    command.args(["-nostdin", "-v", "warning", "-live_start_index", "0", "-i", &url, "-map", "0:v", "-c", "copy"]);
    let mut player = Process::spawn(&scratch, "player", {
        command.args(["-f", "framecrc"]).arg(&out);
        command
    });
    publisher.wait_success(CLIENT_TIMEOUT);
    // ffmpeg ends at the end of the playlist.
    player.wait_success(CLIENT_TIMEOUT);
    let played = std::fs::read_to_string(&out).expect("what was played");
    let frames = source.tags.iter().filter(|tag| tag.kind == VIDEO && tag.is_frame()).count();
    assert_eq!(played.lines().filter(|line| !line.starts_with('#')).count(), frames);

    let first = list.with_file_name("livestream-0.ts");
    eventually("segments are removed", Duration::from_secs(60), || (!first.exists()).then_some(()));
    eventually("segments are removed from memory", CLIENT_TIMEOUT, || {
        (status(port, "live/livestream-0.ts") == 404).then_some(())
    });
    let left =
        eventually("the playlist is empty", CLIENT_TIMEOUT, || playlist(&list).filter(|list| list.segments.is_empty()));
    assert!(left.end_list);
    let files = std::fs::read_dir(scratch.file("html/live")).expect("a folder").count();
    assert_eq!(files, 1, "only the playlist is left");
    server.assert_healthy();
}
