//! RTMP sessions on the wire: answers, the first messages for a new player, stream status, and several streams on one connection.

use std::time::Duration;

use crate::align::{Aligned, assert_monotone};
use crate::common::amf::{Amf, amf_payload, amf_values};
use crate::common::flv::{AUDIO, DATA, Tag, VIDEO};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};

/// User control events.
const STREAM_BEGIN: u16 = 0;
const STREAM_EOF: u16 = 1;

fn metadata(wrapped: bool) -> Tag {
    let mut values = vec![Amf::text("onMetaData"), Amf::Object(vec![("width".to_owned(), Amf::Number(320.0))])];
    if wrapped {
        values.insert(0, Amf::text("@setDataFrame"));
    }
    Tag { kind: DATA, timestamp: 0, payload: amf_payload(&values) }
}

fn video_header(id: u8) -> Tag {
    Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 0, 0, 0, 0, 1, 100, 0, 31, id] }
}

fn audio_header() -> Tag {
    Tag { kind: AUDIO, timestamp: 0, payload: vec![0xaf, 0, 0x12, 0x10] }
}

/// Returns video frame `number` at 25 frames a second, with a keyframe each tenth, and the audio of the same time.
fn frames(number: u32) -> [Tag; 2] {
    let first = if number.is_multiple_of(10) { 0x17 } else { 0x27 };
    let id = number.to_be_bytes();
    let timestamp = number * 40;
    [
        Tag { kind: VIDEO, timestamp, payload: [[first, 1, 0, 0, 0].as_slice(), &id].concat() },
        Tag { kind: AUDIO, timestamp, payload: [[0xaf, 1].as_slice(), &id].concat() },
    ]
}

/// Sends the sequence headers and the frames of these numbers. Returns what was sent.
pub(crate) fn send(publisher: &mut Wire, header: u8, numbers: std::ops::Range<u32>) -> Vec<Tag> {
    let tags: Vec<Tag> = [video_header(header), audio_header()].into_iter().chain(numbers.flat_map(frames)).collect();
    tags.iter().for_each(|tag| publisher.send_tag(tag));
    tags
}

/// Returns true for the publisher's `onMetaData`.
fn is_metadata(tag: &Tag) -> bool {
    tag.kind == DATA && amf_values(&tag.payload).first() == Some(&Amf::text("onMetaData"))
}

#[test]
fn connect_and_play_are_answered_as_flash_players_expect() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut wire = Wire::connect(server.port);
    let answer = wire.connect_app("live");
    assert!((answer.transaction - 1.0).abs() < f64::EPSILON, "{answer:?}");
    assert_eq!(answer.arguments[0].get_text("fmsVer"), "FMS/3,5,3,888");
    assert_eq!(answer.arguments[0].get("capabilities"), Some(&Amf::Number(127.0)));
    assert_eq!(answer.arguments[1].get_text("level"), "status");
    wire.wait_command("onBWDone", |command| command.name == "onBWDone");
    let id = wire.create_stream();
    wire.play(id, "livestream");
    wire.wait_status("NetStream.Play.Reset");
    wire.wait_status("NetStream.Play.Start");
    let begin = id.to_be_bytes();
    wire.wait("StreamBegin", ANSWER_TIMEOUT, |wire| {
        wire.events.iter().any(|(event, data)| *event == 0 && *data == begin).then_some(())
    });
    // ffmpeg shows any data message that no publisher sent as a data stream.
    let mut publisher = Wire::publisher(server.port, "livestream");
    let sent = send(&mut publisher, 1, 0..2);
    wire.wait_frames(4);
    assert_eq!(wire.tags.len(), sent.len(), "{:?}", wire.tags);
    assert!(wire.tags.iter().all(|tag| tag.kind != DATA), "{:?}", wire.tags);
    server.assert_healthy();
}

#[test]
fn unknown_calls_are_answered() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut wire = Wire::connect(server.port);
    wire.connect_app("live");
    for name in ["releaseStream", "FCPublish", "_checkbw", "getStreamLength", "noSuchCall"] {
        wire.call(0, name, &[Amf::Null, Amf::text("livestream")]);
    }
    assert_eq!(wire.create_stream(), 1);
    assert_eq!(wire.create_stream(), 2);
    server.assert_healthy();
}

#[test]
fn a_joiner_gets_metadata_headers_and_the_last_gop_before_what_is_live() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut watcher = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    publisher.send_tag(&metadata(true));
    let mut sent = send(&mut publisher, 1, 0..15);
    watcher.wait_frames(30);
    let mut joiner = Wire::player(server.port, "livestream");
    joiner.wait_frames(10);
    for tag in (15..18).flat_map(frames) {
        publisher.send_tag(&tag);
        sent.push(tag);
    }
    joiner.wait_frames(16);

    let media: Vec<&Tag> = joiner.tags.iter().filter(|tag| tag.kind != DATA || is_metadata(tag)).collect();
    assert_eq!(media[0].payload, metadata(false).payload, "@setDataFrame is stripped");
    assert!(media[1].is_header() && media[2].is_header() && media[1].kind != media[2].kind, "{:?}", &media[..3]);
    assert!(media[3].is_keyframe(), "{:?}", media[3]);
    assert_eq!(media[3].payload, frames(10)[0].payload, "the last keyframe");
    assert_eq!(joiner.frames().count(), 16, "frames from the last keyframe on");
    Aligned::new(&sent, &joiner.tags).assert_tail().assert_starts_at_zero();
    Aligned::new(&sent, &last_frames(&mut watcher, 36)).assert_whole().assert_starts_at_zero();
    server.assert_healthy();
}

fn last_frames(watcher: &mut Wire, frames: usize) -> Vec<Tag> {
    watcher.wait_frames(frames);
    watcher.tags.clone()
}

#[test]
fn other_data_messages_pass() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    let cue = amf_payload(&[Amf::text("onCuePoint"), Amf::Object(vec![("name".to_owned(), Amf::text("goal"))])]);
    publisher.send_tag(&frames(0)[0]);
    publisher.send_tag(&Tag { kind: DATA, timestamp: 10, payload: cue.clone() });
    player.wait("the cue point", ANSWER_TIMEOUT, |wire| wire.tags.iter().any(|tag| tag.payload == cue).then_some(()));
    server.assert_healthy();
}

#[test]
fn players_stay_while_publishers_come_and_go() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..12);
    player.wait_frames(24);
    // A publisher that closes its connection, and one that starts at zero with another sequence header.
    drop(publisher);
    let mut publisher = Wire::next_publisher(server.port, "livestream");
    let sent = send(&mut publisher, 2, 0..12);
    player.wait_frames(48);
    assert_monotone(&player.tags);
    let before: usize =
        player.tags.iter().position(|tag| *tag.payload == video_header(2).payload).expect("the new header came");
    assert!(player.tags[before..].iter().any(Tag::is_keyframe), "the keyframe must follow the new sequence header");
    Aligned::new(&sent, &second_half(&player.tags)).assert_whole();
    server.assert_healthy();
}

/// Returns the sequence headers, and the second half of the frames of each kind.
fn second_half(tags: &[Tag]) -> Vec<Tag> {
    let mut half = Vec::new();
    for kind in [VIDEO, AUDIO] {
        let of_kind: Vec<&Tag> = tags.iter().filter(|tag| tag.kind == kind).collect();
        let headers: Vec<&Tag> = of_kind.iter().copied().filter(|tag| tag.is_header()).collect();
        let frames: Vec<&Tag> = of_kind.iter().copied().filter(|tag| tag.is_frame()).collect();
        half.extend(headers.last().copied().cloned());
        half.extend(frames[frames.len() / 2..].iter().copied().cloned());
    }
    half
}

#[test]
fn each_way_to_unpublish_frees_the_name() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    for (number, way) in ["FCUnpublish", "closeStream", "deleteStream", "close"].into_iter().enumerate() {
        let mut publisher = Wire::publisher(server.port, "livestream");
        send(&mut publisher, 1, 0..2);
        player.wait_frames(4 * (number + 1));
        match way {
            "FCUnpublish" => publisher.command(0, way, 0.0, &[Amf::Null, Amf::text("livestream")]),
            "closeStream" => publisher.command(1, way, 0.0, &[Amf::Null]),
            "deleteStream" => publisher.command(0, way, 0.0, &[Amf::Null, Amf::Number(1.0)]),
            _ => drop(publisher),
        }
        // After a lost connection the encoder may return; players need not be told at once.
        player.wait("UnpublishNotify", Duration::from_secs(20), |wire| {
            let at = wire.commands.iter().position(|command| command.code() == "NetStream.Play.UnpublishNotify")?;
            Some(wire.commands.remove(at))
        });
        // One event each: stream 1 begins at the play and at each publish, and ends after each.
        let events: Vec<u16> =
            player.events.iter().filter(|(_, data)| *data == [0, 0, 0, 1]).map(|event| event.0).collect();
        let begins_and_ends = [STREAM_BEGIN, STREAM_EOF].repeat(number + 1);
        assert_eq!(events, [vec![STREAM_BEGIN], begins_and_ends].concat(), "after {way}");
        player.receive_for(Duration::from_millis(100));
        assert!(!player.closed, "the player stays after {way}");
    }
    server.assert_healthy();
}

#[test]
fn a_connection_publishes_again_and_then_plays() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut wire = Wire::publisher(server.port, "first");
    send(&mut wire, 1, 0..2);
    wire.command(1, "closeStream", 0.0, &[Amf::Null]);
    wire.publish(1, "second");
    wire.wait_status("NetStream.Publish.Start");
    send(&mut wire, 1, 0..2);
    let mut player = Wire::player(server.port, "second");
    player.wait_frames(4);
    wire.command(0, "deleteStream", 0.0, &[Amf::Null, Amf::Number(1.0)]);
    let id = wire.create_stream();
    wire.play(id, "third");
    wire.wait_status("NetStream.Play.Start");
    let mut publisher = Wire::publisher(server.port, "third");
    send(&mut publisher, 1, 0..2);
    wire.wait_frames(4);
    server.assert_healthy();
}

#[test]
fn a_paused_player_gets_nothing_and_goes_on_live() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    let mut watcher = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..5);
    player.wait_frames(10);
    player.command(1, "pause", 0.0, &[Amf::Null, Amf::Boolean(true), Amf::Number(0.0)]);
    player.wait_status("NetStream.Pause.Notify");
    (5..15).flat_map(frames).for_each(|tag| publisher.send_tag(&tag));
    watcher.wait_frames(30);
    player.receive_for(Duration::from_millis(600));
    assert_eq!(player.frames().count(), 10, "frames that came while paused");
    player.command(1, "pause", 0.0, &[Amf::Null, Amf::Boolean(false), Amf::Number(0.0)]);
    player.wait_status("NetStream.Unpause.Notify");
    (15..25).flat_map(frames).for_each(|tag| publisher.send_tag(&tag));
    let last = frames(24)[1].payload.clone();
    player.wait("the last frame", ANSWER_TIMEOUT, |wire| wire.frames().any(|tag| tag.payload == last).then_some(()));
    assert_monotone(&player.tags);
    let resumed = player.frames().filter(|tag| tag.kind == VIDEO).nth(5).cloned().expect("video came");
    assert!(resumed.is_keyframe(), "video resumes with {resumed:?}");
    server.assert_healthy();
}

#[test]
fn streams_of_different_vhosts_are_apart() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { vhosts: "vhost a.example.com { }", ..Settings::default() });
    let play = |server: &Server, app: &str, stream: &str, url: &str| {
        let mut wire = Wire::connect(server.port);
        assert_eq!(wire.try_connect_app(app, &[("tcUrl", Amf::text(url))]).name, "_result", "{url}");
        let id = wire.create_stream();
        wire.play(id, stream);
        wire.wait_status("NetStream.Play.Start");
        wire
    };
    let mut same = [
        play(&server, "live", "s", "rtmp://a.example.com/live"),
        play(&server, "live?vhost=a.example.com", "s", "rtmp://127.0.0.1/live?vhost=a.example.com"),
        play(&server, "live...vhost...a.example.com", "s", "rtmp://127.0.0.1/live...vhost...a.example.com"),
        play(&server, "live", "s?vhost=a.example.com", "rtmp://127.0.0.1/live"),
        play(&server, "live", "s?token=1", "rtmp://a.example.com:1935/live"),
    ];
    let mut other = [
        play(&server, "live", "s", "rtmp://127.0.0.1/live"),
        play(&server, "live", "s", "rtmp://b.example.com/live"),
        play(&server, "other", "s", "rtmp://a.example.com/other"),
    ];
    let mut publisher = Wire::connect(server.port);
    publisher.try_connect_app("live", &[("tcUrl", Amf::text("rtmp://a.example.com/live"))]);
    let id = publisher.create_stream();
    publisher.publish(id, "s");
    publisher.wait_status("NetStream.Publish.Start");
    send(&mut publisher, 1, 0..2);
    same.iter_mut().for_each(|wire| wire.wait_frames(4));
    for wire in &mut other {
        wire.receive_for(Duration::from_millis(100));
        assert_eq!(wire.frames().count(), 0, "frames of another vhost or app");
    }
    server.assert_healthy();
}

/// The server reads a publisher's socket in pieces. It must read the last ones without the arrival of more data.
#[test]
fn a_large_frame_arrives_though_nothing_follows_it() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    publisher.send_tag(&video_header(1));
    for (number, size) in (0..).zip([20_000, 70_000, 200_000, 1_000_000, 5_000_000]) {
        let [mut video, _] = frames(number);
        video.payload.resize(size, 7);
        publisher.send_tag(&video);
        player.wait("the frame", ANSWER_TIMEOUT, |wire| {
            wire.tags.iter().any(|tag| tag.payload == video.payload).then_some(())
        });
    }
    server.assert_healthy();
}

/// A player that does not read while 60 MB are published has a bounded queue, disturbs no other client, and continues with
/// whole GOPs.
#[test]
fn a_player_that_does_not_read_loses_whole_gops() {
    const FRAME: usize = 60_000;
    const FRAMES: u32 = 1000;
    let scratch = Scratch::new();
    let mut server =
        Server::with(&scratch, Settings { vhost: "queue_length 5; queue_bytes 1048576;", ..Settings::default() });
    let mut stuck = Wire::player(server.port, "livestream");
    let mut reader = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    let big = |number: u32| {
        let [mut video, _] = frames(number);
        video.payload.resize(FRAME, number.to_le_bytes()[0]);
        video
    };
    publisher.send_tag(&video_header(1));
    let mut sent = vec![video_header(1)];
    for number in 0..FRAMES {
        let tag = big(number);
        publisher.send_tag(&tag);
        sent.push(tag);
        // The other player is never more than a few frames behind.
        reader.wait_frames(usize::try_from(number.saturating_sub(3)).expect("small"));
    }
    reader.wait_frames(sent.len() - 1);
    Aligned::new(&sent, &reader.tags).assert_whole();

    let last = sent.last().expect("frames were sent").payload.clone();
    stuck.wait("the last frame", ANSWER_TIMEOUT * 3, |wire| wire.frames().any(|tag| tag.payload == last).then_some(()));
    assert_monotone(&stuck.tags);
    let number = |tag: &Tag| u32::from_be_bytes(tag.payload[5..9].try_into().expect("four bytes"));
    let received: Vec<&Tag> = stuck.frames().collect();
    assert!(received.len() < sent.len() - 1, "no frames were dropped: the queue is unbounded");
    for pair in received.windows(2) {
        let follows = number(pair[1]) == number(pair[0]) + 1;
        assert!(follows || pair[1].is_keyframe(), "{:?} is followed by {:?}", number(pair[0]), number(pair[1]));
    }
    server.assert_healthy();
}
