//! ffmpeg publishes, others play: from the first packet, joining later, waiting for the stream, and with a publisher that is
//! killed.

use std::path::Path;

use crate::align::{Aligned, assert_monotone};
use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish, while_stopped};
use crate::tools::need;

#[test]
fn two_players_that_join_at_different_times_get_each_packet() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));

    let first = Player::ffmpeg(&scratch, "first", &ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    // In the third GOP, so that the second player starts with a keyframe that is not the first.
    first.wait_time(2300);
    let second = while_stopped(&mut publisher, || {
        let second = Player::ffmpeg(&scratch, "second", &ffmpeg, &url, MediaKinds::Both);
        server.wait_players(2);
        second
    });
    publisher.wait_success(CLIENT_TIMEOUT);

    let (first, second) = (first.finish(&source.tags), second.finish(&source.tags));
    Aligned::new(&source.tags, &first).assert_whole().assert_starts_at_zero();
    Aligned::new(&source.tags, &second).assert_tail().assert_starts_at_zero();
    server.assert_healthy();
}

#[test]
fn without_a_gop_cache_a_player_starts_live() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { vhost: "gop_cache off;", ..Settings::default() });
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));

    let first = Player::ffmpeg(&scratch, "first", &ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    first.wait_time(2300);
    let second = while_stopped(&mut publisher, || {
        let second = Player::ffmpeg(&scratch, "second", &ffmpeg, &url, MediaKinds::Both);
        server.wait_players(2);
        second
    });
    publisher.wait_success(CLIENT_TIMEOUT);

    let (first, second) = (first.finish(&source.tags), second.finish(&source.tags));
    Aligned::new(&source.tags, &first).assert_whole();
    Aligned::new(&source.tags, &second).assert_one_shift();
    server.assert_healthy();
}

#[test]
fn ffmpeg_goes_on_when_a_killed_publisher_comes_back() {
    let ffmpeg = need!(ffmpeg);
    let play = |scratch: &Scratch, url: &str| Player::ffmpeg(scratch, "player", &ffmpeg, url, MediaKinds::Both);
    survives_publisher_restart(&ffmpeg, play).assert_whole();
}

#[test]
fn gstreamer_goes_on_when_a_killed_publisher_comes_back() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer));
    let play = |scratch: &Scratch, url: &str| Player::gstreamer(scratch, "player", &gst_launch, url);
    survives_publisher_restart(&ffmpeg, play).without_lost_end().assert_whole();
}

/// Kills an encoder, which returns soon, like one that crashes and is restarted by a script. Its players stay.
///
/// ffmpeg, rtmpdump and players built on them end at the first `NetStream.Play.UnpublishNotify`, so the server must not send it
/// before the reconnect grace is over.
///
/// Returns the frames of the second publication, which the player must have got.
fn survives_publisher_restart(ffmpeg: &Path, play: impl FnOnce(&Scratch, &str) -> Player) -> Aligned {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(ffmpeg), server.url("livestream"));

    let mut player = play(&scratch, &url);
    server.wait_players(1);
    let mut killed = publish(&scratch, "killed", ffmpeg, source, &url, &[]);
    eventually("the player has 2 s", CLIENT_TIMEOUT, || (player.frames() > 2000 / 40 + 2000 / 24).then_some(()));
    killed.kill();
    server.wait_log(&["publish stopped"], CLIENT_TIMEOUT);
    let mut back = publish(&scratch, "back", ffmpeg, source, &url, &[]);
    server.wait_publishers(2);
    assert!(player.process().ended().is_none(), "the player ended when its publisher was killed");
    back.wait_success(CLIENT_TIMEOUT);

    let received = player.finish(&source.tags);
    assert_monotone(&received);
    let second = frames_after_restart(&source.tags, &received);
    server.assert_healthy();
    Aligned::new(&source.tags, &second)
}

/// Returns the frames that were received after the publisher returned. Fails if more than the last second before the kill is
/// missing.
fn frames_after_restart(published: &[Tag], received: &[Tag]) -> Vec<Tag> {
    let mut second: Vec<Tag> = Vec::new();
    for kind in [VIDEO, AUDIO] {
        let of_kind = |tags: &[Tag]| tags.iter().filter(|tag| tag.kind == kind).cloned().collect::<Vec<_>>();
        let (published, received) = (of_kind(published), of_kind(received));
        let frames: Vec<_> = published.iter().filter(|tag| tag.is_frame()).collect();
        let mut at = 0;
        let mut rest = received.len();
        for (number, tag) in received.iter().enumerate() {
            if !tag.is_frame() {
                continue;
            }
            if tag.payload != frames[at].payload {
                rest = number;
                break;
            }
            at += 1;
        }
        assert!(frames[at].timestamp >= 1000, "only {at} frames of type {kind} were received before the kill");
        assert!(rest < received.len(), "no frames of type {kind} were received after the publisher returned");
        second.extend(published.iter().find(|tag| tag.is_header()).cloned());
        second.extend_from_slice(&received[rest..]);
    }
    second
}

#[test]
fn rtmpdump_plays_and_may_come_before_the_publisher() {
    let (ffmpeg, rtmpdump) = (need!(ffmpeg), need!(rtmpdump));
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));

    let early = Player::rtmpdump(&scratch, "early", &rtmpdump, &url, &[]);
    server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    early.wait_time(2300);
    let late = while_stopped(&mut publisher, || {
        let late = Player::rtmpdump(&scratch, "late", &rtmpdump, &url, &[]);
        server.wait_players(2);
        late
    });
    publisher.wait_success(CLIENT_TIMEOUT);

    let (early, late) = (early.finish(&source.tags), late.finish(&source.tags));
    Aligned::new(&source.tags, &early).assert_whole().assert_starts_at_zero();
    Aligned::new(&source.tags, &late).assert_tail().assert_starts_at_zero();
    server.assert_healthy();
}
