//! Long streams: timestamps across 2^24 ms (4.6 hours), where RTMP needs its extended timestamp, and across 2^31 and 2^32 ms.

use crate::align::Aligned;
use crate::common::flv::{AUDIO, Tag, VIDEO};
use crate::common::scratch::Scratch;
use crate::common::server::Server;
use crate::common::wire::Wire;
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Publishes with ffmpeg, with timestamps shifted by `offset` seconds. Returns the tags that a waiting player received.
fn play_with_offset(offset: &str, check: impl FnOnce(&Aligned)) {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &["-output_ts_offset", offset]);
    publisher.wait_success(CLIENT_TIMEOUT);
    check(&Aligned::new(&source.tags, &player.finish(&source.tags)));
    server.assert_healthy();
}

#[test]
fn ffmpeg_publishes_across_24_bits() {
    // 2^24 ms are 16777.216 s, which is 3.2 s into the stream.
    play_with_offset("16774", |received| {
        received.assert_whole().assert_starts_at_zero();
    });
}

#[test]
fn ffmpeg_publishes_across_31_bits() {
    // 2^31 ms are 2147483.648 s, 3.6 s into the stream. There ffmpeg, which sends 31 bits, starts at zero again: for the server
    // a jump back by 24 days. The corrected timestamps may be off by one video frame each time that audio or video jumps.
    play_with_offset("2147480", |received| {
        received.assert_shift_within(100);
    });
}

#[test]
fn ffmpeg_publishes_across_32_bits() {
    // 2^32 ms are 4294967.296 s, 3.3 s into the stream: ffmpeg's 31 bits overflow for the second time.
    play_with_offset("4294964", |received| {
        received.assert_shift_within(100);
    });
}

/// Returns video each 40 ms and audio each 20 ms from `start` on, with `count` video frames.
fn frames(start: u32, count: u32) -> Vec<Tag> {
    let mut tags = vec![
        Tag { kind: VIDEO, timestamp: start, payload: vec![0x17, 0, 0, 0, 0, 1, 100, 0, 31] },
        Tag { kind: AUDIO, timestamp: start, payload: vec![0xaf, 0, 0x12, 0x10] },
    ];
    for number in 0..count {
        let timestamp = start.wrapping_add(number * 40);
        let id = number.to_be_bytes();
        let first = if number % 25 == 0 { 0x17 } else { 0x27 };
        tags.push(Tag { kind: VIDEO, timestamp, payload: [[first, 1, 0, 0].as_slice(), &[0], &id].concat() });
        tags.push(Tag { kind: AUDIO, timestamp, payload: [[0xaf, 1].as_slice(), &[0], &id].concat() });
        let timestamp = timestamp.wrapping_add(20);
        tags.push(Tag { kind: AUDIO, timestamp, payload: [[0xaf, 1].as_slice(), &[1], &id].concat() });
    }
    tags
}

/// Publishes 4 s across `boundary`. One player waits for the stream, and one joins before the boundary.
fn publish_across(boundary: u64) {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let start = u32::try_from((boundary - 2000) & 0xffff_ffff).expect("32 bits");
    let tags = frames(start, 100);
    let mut first = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    let (before, after) = tags.split_at(2 + 3 * 40);
    before.iter().for_each(|tag| publisher.send_tag(tag));
    first.wait_frames(before.len() - 2);
    let mut second = Wire::player(server.port, "livestream");
    // From the keyframe at 1 s on: 15 video frames and their audio.
    second.wait_frames(3 * 15);
    after.iter().for_each(|tag| publisher.send_tag(tag));
    first.wait_frames(tags.len() - 2);
    second.wait_frames(3 * 75);
    Aligned::new(&tags, &first.tags).assert_whole().assert_starts_at_zero();
    let last = |wire: &Wire| wire.frames().last().cloned().expect("frames came");
    assert_eq!(last(&first).timestamp, 3980, "the timeline of a player starts at zero");
    let header = second.tags.clone();
    Aligned::new(&tags, &header).assert_one_shift().assert_starts_at_zero();
    assert_eq!(last(&second).timestamp, 2980, "the timeline of a player that joins later starts at zero, too");
    server.assert_healthy();
}

#[test]
fn a_client_publishes_across_24_bits() {
    publish_across(1 << 24);
}

#[test]
fn a_client_publishes_across_31_bits() {
    publish_across(1 << 31);
}

#[test]
fn a_client_publishes_across_32_bits() {
    publish_across(1 << 32);
}
