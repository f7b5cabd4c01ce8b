//! Codecs pass through unchanged: the oldest of RTMP, audio or video alone, and those of Enhanced RTMP.

use std::path::Path;

use crate::align::Aligned;
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::media::{self, Source};
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish, while_stopped};
use crate::tools::need;

/// Publishes `source` with ffmpeg, and plays it by two players: one that waits for it, and one that joins later. `wait_joined`
/// waits until as many have joined. Returns what they received.
pub(crate) fn play_twice(
    scratch: &Scratch,
    ffmpeg: &Path,
    (source, kinds): (&Source, MediaKinds),
    (publish_url, play_url): (&str, &str),
    wait_joined: impl Fn(usize),
) -> (Aligned, Aligned) {
    let first = Player::ffmpeg(scratch, "first", ffmpeg, play_url, kinds);
    wait_joined(1);
    let mut publisher = publish(scratch, "publisher", ffmpeg, source, publish_url, &[]);
    first.wait_time(2300);
    let second = while_stopped(&mut publisher, || {
        let second = Player::ffmpeg(scratch, "second", ffmpeg, play_url, kinds);
        wait_joined(2);
        second
    });
    publisher.wait_success(CLIENT_TIMEOUT);
    let aligned = |player: Player| Aligned::new(&source.tags, &player.finish(&source.tags));
    (aligned(first), aligned(second))
}

/// Checks that the first of two players gets everything, and the second one the tail.
fn pass_through(ffmpeg: &Path, source: &Source, kinds: MediaKinds) {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let url = server.url("livestream");
    let (first, second) = play_twice(&scratch, ffmpeg, (source, kinds), (&url, &url), |n| server.wait_players(n));
    first.assert_whole().assert_starts_at_zero();
    if kinds == MediaKinds::Audio {
        // Without video there are no keyframes; how much of the past a new player gets is the server's choice.
        second.assert_one_shift().assert_starts_at_zero();
    } else {
        second.assert_tail().assert_starts_at_zero();
    }
    server.assert_healthy();
}

#[test]
fn audio_only() {
    let ffmpeg = need!(ffmpeg);
    pass_through(&ffmpeg, media::audio_only(&ffmpeg), MediaKinds::Audio);
}

#[test]
fn video_only() {
    let ffmpeg = need!(ffmpeg);
    pass_through(&ffmpeg, media::video_only(&ffmpeg), MediaKinds::Video);
}

#[test]
fn hevc_over_enhanced_rtmp() {
    let ffmpeg = need!(new_ffmpeg);
    let source = media::hevc_aac(&ffmpeg);
    let fourcc = |kind| source.tags.iter().find(|t| t.kind == kind && t.is_header()).map(|t| t.payload[1..5].to_vec());
    assert_eq!(
        fourcc(crate::common::flv::VIDEO).as_deref(),
        Some(b"hvc1".as_slice()),
        "ffmpeg writes HEVC as Enhanced RTMP has it"
    );
    pass_through(&ffmpeg, source, MediaKinds::Both);
}

#[test]
fn av1_and_opus_over_enhanced_rtmp() {
    let ffmpeg = need!(new_ffmpeg);
    let source = media::av1_opus(&ffmpeg);
    let fourcc = |kind| source.tags.iter().find(|t| t.kind == kind && t.is_header()).map(|t| t.payload[1..5].to_vec());
    assert_eq!(
        fourcc(crate::common::flv::VIDEO).as_deref(),
        Some(b"av01".as_slice()),
        "ffmpeg writes AV1 as Enhanced RTMP has it"
    );
    assert_eq!(
        fourcc(crate::common::flv::AUDIO).as_deref(),
        Some(b"Opus".as_slice()),
        "ffmpeg writes Opus as Enhanced RTMP has it"
    );
    pass_through(&ffmpeg, source, MediaKinds::Both);
}

#[test]
fn vp6_and_mp3() {
    let (ffmpeg, rtmpdump) = (need!(ffmpeg), need!(rtmpdump));
    let source = media::vp6_mp3(&ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let url = server.url("livestream");
    let first = Player::rtmpdump(&scratch, "first", &rtmpdump, &url, &[]);
    server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    first.wait_time(2300);
    let second = while_stopped(&mut publisher, || {
        let second = Player::rtmpdump(&scratch, "second", &rtmpdump, &url, &[]);
        server.wait_players(2);
        second
    });
    publisher.wait_success(CLIENT_TIMEOUT);

    let (first, second) = (first.finish(&source.tags), second.finish(&source.tags));
    Aligned::new(&source.tags, &first).assert_whole().assert_starts_at_zero();
    Aligned::new(&source.tags, &second).assert_tail().assert_starts_at_zero();
    server.assert_healthy();
}
