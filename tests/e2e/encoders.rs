//! Habits and faults of encoders: frame types, start times, tracks, URLs, messages without content.

use crate::align::Aligned;
use crate::common::amf::{Amf, amf_payload, amf_values};
use crate::common::flv::{AUDIO, DATA, Tag, VIDEO};
use crate::common::process::Process;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

const FRAME_TYPE: u8 = 0x70;
const SET_CHUNK_SIZE: u8 = 1;
const COMMAND: u8 = 20;
const COMMAND_AMF3: u8 = 17;

fn video(timestamp: u32, payload: &[u8]) -> Tag {
    Tag { kind: VIDEO, timestamp, payload: payload.to_vec() }
}

fn audio(timestamp: u32, payload: &[u8]) -> Tag {
    Tag { kind: AUDIO, timestamp, payload: payload.to_vec() }
}

/// Publishes `tags`. Returns what a player gets that waits for them, and what one gets that joins after them.
fn play(tags: &[Tag]) -> (Vec<Tag>, Vec<Tag>) {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut waiting = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    tags.iter().for_each(|tag| publisher.send_tag(tag));
    let last = tags.iter().rfind(|tag| !tag.is_header()).expect("frames").payload[1..].to_vec();
    let wait_last = |player: &mut Wire| {
        player.wait("the last frame", ANSWER_TIMEOUT, |wire| {
            wire.tags.iter().any(|tag| tag.payload[1..] == last).then_some(())
        });
    };
    wait_last(&mut waiting);
    let mut joiner = Wire::player(server.port, "livestream");
    wait_last(&mut joiner);
    server.assert_healthy();
    (waiting.tags.clone(), joiner.tags.clone())
}

/// A widespread library sends Enhanced RTMP without frame types. Players get their pictures, from a keyframe on, with the frame
/// types set: `ffmpeg -c copy` waits for a frame that is marked as a keyframe.
#[test]
fn frames_without_a_frame_type_are_played() {
    let ffmpeg = need!(new_ffmpeg);
    for source in [media::hevc_aac(&ffmpeg), media::av1_opus(&ffmpeg)] {
        let without = |tag: &Tag| {
            let mut tag = tag.clone();
            if tag.kind == VIDEO {
                tag.payload[0] &= !FRAME_TYPE;
            }
            tag
        };
        let sent: Vec<Tag> = source.tags.iter().map(without).collect();
        assert!(!sent.iter().any(Tag::is_keyframe));
        let (waiting, joiner) = play(&sent);
        let of_video = |tags: &[Tag]| tags.iter().filter(|tag| tag.kind == VIDEO && tag.is_frame()).cloned().collect();
        let (published, waiting): (Vec<Tag>, Vec<Tag>) = (of_video(&source.tags), of_video(&waiting));
        assert_eq!(waiting.len(), published.len());
        for (waiting, published) in waiting.iter().zip(&published) {
            assert_eq!(waiting.is_keyframe(), published.is_keyframe(), "{published:?}");
            assert_eq!(waiting.payload[1..], published.payload[1..]);
        }
        let joiner: Vec<Tag> = of_video(&joiner);
        let last_key = published.iter().rposition(Tag::is_keyframe).expect("a keyframe");
        assert_eq!(joiner[0].payload, published[last_key].payload, "a joiner starts at the last keyframe");
        assert_eq!(joiner.len(), published.len() - last_key);
    }
}

/// Some encoders mark each frame as a keyframe, others none. A player that joins starts at a true one, and gets the bytes as
/// they were sent.
#[test]
fn wrong_frame_types_do_not_decide_where_players_start() {
    let ffmpeg = need!(ffmpeg);
    let source = media::h264_aac(&ffmpeg);
    for frame_type in [0x10, 0x20] {
        let marked = |tag: &Tag| {
            let mut tag = tag.clone();
            if tag.kind == VIDEO && tag.is_frame() {
                tag.payload[0] = tag.payload[0] & !FRAME_TYPE | frame_type;
            }
            tag
        };
        let sent: Vec<Tag> = source.tags.iter().map(marked).collect();
        let (waiting, joiner) = play(&sent);
        Aligned::new(&sent, &waiting).assert_whole();
        let first = joiner.iter().find(|tag| tag.kind == VIDEO && tag.is_frame()).expect("video");
        let true_key = source.tags.iter().rfind(|tag| tag.is_keyframe()).expect("a keyframe");
        assert_eq!(first.payload[1..], true_key.payload[1..], "type {frame_type:#x}");
    }
}

/// Tracks that start up to 5 s apart keep their distance, though the one that is earlier in time arrives later.
#[test]
fn tracks_that_start_apart_keep_their_distance() {
    for skew in [200, 1000, 4900] {
        let mut tags = vec![video(skew, &[0x17, 0, 0, 0, 0, 1]), audio(0, &[0xaf, 0, 0x12, 0x10])];
        for number in 0..150_u32 {
            let id = number.to_be_bytes();
            let first = if number % 50 == 0 { 0x17 } else { 0x27 };
            tags.push(video(skew + 40 * number, &[[first, 1, 0, 0, 0].as_slice(), &id].concat()));
            tags.push(audio(40 * number, &[[0xaf, 1].as_slice(), &id].concat()));
        }
        let (waiting, joiner) = play(&tags);
        Aligned::new(&tags, &waiting).assert_whole().assert_starts_at_zero();
        Aligned::new(&tags, &joiner).assert_to_the_end().assert_one_shift();
    }
}

/// Returns a frame of one track of a multitrack stream (Enhanced RTMP, one track a message).
fn track_frame(track: u8, timestamp: u32, is_keyframe: bool, id: u8) -> Tag {
    let first = if is_keyframe { 0x96 } else { 0xa6 };
    // Coded frames without a composition time; the payload cannot be parsed.
    video(timestamp, &[&[first, 0x03], &b"hvc1"[..], &[track, 0xff, 0xff, 0xff, id]].concat())
}

/// The keyframes of one moment are a start together, in whatever order.
#[test]
fn players_start_with_a_keyframe_of_each_track() {
    let mut tags = Vec::new();
    for gop in 0..3_u8 {
        for frame in 0..5_u8 {
            for track in [1, 0, 2] {
                let time = u32::from(gop) * 200 + u32::from(frame) * 40;
                tags.push(track_frame(track, time, frame == 0, gop * 100 + frame * 10 + track));
            }
        }
    }
    let (waiting, joiner) = play(&tags);
    let id = |tag: &Tag| *tag.payload.last().expect("an id");
    assert_eq!(waiting.iter().map(id).collect::<Vec<_>>(), tags.iter().map(id).collect::<Vec<_>>());
    assert_eq!(joiner.iter().map(id).collect::<Vec<_>>(), tags[30..].iter().map(id).collect::<Vec<_>>());
}

/// The log has the codecs once, with all tracks, however their messages alternate. Unknown ones have their numbers.
#[test]
fn codecs_are_logged_once_with_all_tracks() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let enhanced = |kind: u8, fourcc: &[u8; 4], track: u8| [&[0x96, kind], &fourcc[..], &[track, 0, 0, 0, 1]].concat();
    let mut several = Wire::publisher(server.port, "several");
    for kind in [0, 3, 3, 3] {
        several.send_tag(&video(0, &enhanced(kind, b"hvc1", 0)));
        several.send_tag(&video(0, &enhanced(kind, b"av01", 1)));
        // A command to a seeking player, which has no codec.
        several.send_tag(&video(0, &[0xd0, 0]));
        several.send_tag(&audio(0, &[0xaf, u8::from(kind != 0), 0x12, 0x10]));
    }
    drop(several);
    let mut unknown = Wire::publisher(server.port, "unknown");
    unknown.send_tag(&video(0, &[0x1f, 1]));
    unknown.send_tag(&audio(0, &[0xcf, 1]));
    // Its line does not wait for its end.
    server
        .wait_log(&["codecs known", "live/unknown video=\"video codec 15\" audio=\"audio codec 12\""], ANSWER_TIMEOUT);
    server.wait_log(&["codecs known", "live/several video=\"H.265, track 1: AV1\" audio=\"AAC\""], ANSWER_TIMEOUT);
    drop(unknown);
    server.wait_log(&["[2]", "connection closed"], ANSWER_TIMEOUT);
    assert_eq!(server.log().matches("codecs known").count(), 2, "{}", server.log());
    server.assert_healthy();
}

/// Publishes with ffmpeg's MPEG-TS muxer, of which the server understands nothing: it says so once, and frees the name.
#[test]
fn a_publisher_of_mpegts_is_warned_of_and_closed() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let settings = Settings { vhost: "publish { timeout 8; }", ..Settings::default() };
    let mut server = Server::with(&scratch, settings);
    let (source, url) = (media::long_h264_aac(&ffmpeg), server.url("livestream"));
    let path = source.path.to_str().expect("a path of ours");
    let arguments = ["-nostdin", "-hide_banner", "-re", "-i", path, "-c", "copy", "-f", "mpegts", &url];
    let mut publisher = Process::start(&scratch, "publisher", &ffmpeg, arguments);
    server.wait_log(&["neither audio nor video", "message_type=", "message_bytes="], CLIENT_TIMEOUT);
    server.wait_log(&["connection closed", "silent-publisher"], CLIENT_TIMEOUT);
    publisher.wait(CLIENT_TIMEOUT);
    assert_eq!(server.log().matches("neither audio nor video").count(), 1);
    // The name is free.
    drop(Wire::publisher(server.port, "livestream"));
    server.assert_healthy();
}

/// Some clients send commands without content, and `@clearDataFrame`.
#[test]
fn messages_without_content_are_passed_over() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut publisher = Wire::connect(server.port);
    for kind in [COMMAND, COMMAND_AMF3] {
        publisher.send_raw(kind, &[]);
    }
    publisher.send_raw(COMMAND_AMF3, &[0]);
    publisher.connect_app("live");
    let id = publisher.create_stream();
    publisher.publish(id, "livestream");
    publisher.wait_status("NetStream.Publish.Start");
    publisher.send_raw(COMMAND, &[]);
    let metadata = [Amf::text("@setDataFrame"), Amf::text("onMetaData"), Amf::Number(1.0)];
    let send_data = |publisher: &mut Wire, values: &[Amf]| {
        publisher.send_tag(&Tag { kind: DATA, timestamp: 0, payload: amf_payload(values) });
    };
    send_data(&mut publisher, &metadata);
    let key = video(0, &[0x17, 1, 0, 0, 0, 9]);
    publisher.send_tag(&key);
    let mut first = Wire::player(server.port, "livestream");
    first.wait_frames(1);
    assert_eq!(amf_values(&first.tags[0].payload)[0], Amf::text("onMetaData"));
    send_data(&mut publisher, &[Amf::text("@clearDataFrame"), Amf::text("onMetaData")]);
    publisher.send_tag(&Tag { timestamp: 40, ..key.clone() });
    first.wait_frames(2);
    let mut second = Wire::player(server.port, "livestream");
    second.wait_frames(1);
    assert!(second.tags.iter().all(|tag| tag.kind != DATA), "{:?}", second.tags);
    server.assert_healthy();
}

#[test]
fn a_chunk_size_of_zero_is_named() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut wire = Wire::connect(server.port);
    wire.connect_app("live");
    wire.send_raw(SET_CHUNK_SIZE, &[0; 4]);
    wire.wait_closed(ANSWER_TIMEOUT);
    server.wait_log(&["connection closed", "a chunk size of 0, not within 1 to 2147483647"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

/// A stream has several URLs. The way in which a client divides them into application and stream name does not matter.
#[test]
fn a_stream_has_many_urls() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let player = |app: &str, tc_url: &str, stream: &str| {
        let mut wire = Wire::connect(server.port);
        let answer = wire.try_connect_app(app, &[("tcUrl", Amf::text(tc_url))]);
        assert_eq!(answer.name, "_result", "{app} {tc_url}: {answer:?}");
        let id = wire.create_stream();
        wire.play(id, stream);
        wire.wait_status("NetStream.Play.Start");
        wire
    };
    let mut players = [
        player("live", "rtmp://h/live", "cam"),
        player("live/cam", "rtmp://h/live/cam", ""),
        player("live/cam", "rtmp://h/live/cam", "?token=1"),
        player("live/", "rtmp://h/live/", "cam/"),
        player("cam", "rtmp://h/cam", ""),
        player("", "rtmp://h", "cam"),
        player("live/_definst_", "rtmp://h/live/_definst_", "cam"),
        player("__defaultApp__", "rtmp://h/__defaultApp__", "cam"),
        player("live", "rtmp://h/live", "rtmp://h/live/cam?token=1"),
        player("live", "rtmp://h/live", "cam...vhost...h&token=1"),
        player("live?domain=h", "rtmp://h/live?domain=h", "cam"),
    ];
    let mut publisher = Wire::publisher(server.port, "cam");
    publisher.send_tag(&video(0, &[0x17, 1, 0, 0, 0, 9]));
    players.iter_mut().for_each(|player| player.wait_frames(1));
    server.assert_healthy();
}

/// ffmpeg publishes and plays at a URL without application.
#[test]
fn ffmpeg_uses_the_default_application() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, short) = (media::h264_aac(&ffmpeg), format!("rtmp://127.0.0.1:{}/cam", server.port));
    let long = Player::ffmpeg(&scratch, "long", &ffmpeg, &server.url("cam"), MediaKinds::Both);
    let same = Player::ffmpeg(&scratch, "same", &ffmpeg, &short, MediaKinds::Both);
    server.wait_players(2);
    publish(&scratch, "publisher", &ffmpeg, source, &short, &[]).wait_success(CLIENT_TIMEOUT);
    for player in [long, same] {
        Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    }
    server.assert_healthy();
}

#[test]
fn a_refusal_names_the_url_without_its_secrets() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut wire = Wire::connect(server.port);
    wire.try_connect_app("live", &[("tcUrl", Amf::text("rtmp://h/live?password=hidden"))]);
    let id = wire.create_stream();
    wire.publish(id, "a//b?key=hidden");
    let refusal = wire.wait_status("NetStream.Publish.Denied");
    assert!(refusal.description().contains("tcUrl=rtmp://h/live app=live stream=a//b)"), "{refusal:?}");
    let line = server.wait_log(&["connection closed", "refused", "stream=a//b"], ANSWER_TIMEOUT);
    assert!(!line.contains("hidden"), "{line}");
    wire.wait_closed(ANSWER_TIMEOUT);
    server.assert_healthy();
}
