//! Tests of HTTP viewers: the bytes of HTTP-FLV, shared and framed.

use super::*;
use crate::codec::flv;

struct TestViewer {
    socket: Arc<Socket>,
    consumer: Consumer,
    unwritten: Vec<u8>,
    /// The flags of the head of the file once it was read: audio, video.
    flags: Option<(bool, bool)>,
}

impl TestViewer {
    fn join(source: &Source) -> Self {
        Self::with(source, Framing::Plain, (true, true), usize::MAX / 2)
    }

    fn with(source: &Source, framing: Framing, (has_audio, has_video): (bool, bool), room: usize) -> Self {
        let socket = Socket::new(room);
        let wire = ViewerWire { wire: Wire::Flv, framing, has_audio, has_video };
        let consumer = source.join_viewer(socket.clone(), wire, stream_info(), client_info(100));
        Self { socket, consumer, unwritten: Vec::new(), flags: None }
    }

    fn run(&mut self) {
        write_to(&self.socket, &mut self.consumer, &mut self.unwritten);
    }

    fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.socket.written.lock().unwrap())
    }

    /// Returns the tags that arrived, as type, timestamp and last payload byte.
    fn received(&mut self) -> Vec<(char, u32, u8)> {
        let bytes = self.bytes();
        let mut rest = &bytes[..];
        if self.flags.is_none() && !rest.is_empty() {
            let header = flv::read_file_header(&mut rest).unwrap().unwrap();
            self.flags = Some((header.has_audio, header.has_video));
        }
        let mut tags = Vec::new();
        while let Some(tag) = flv::read_tag(&mut rest).unwrap() {
            let kind = match tag.kind {
                flv::TAG_AUDIO => 'a',
                flv::TAG_VIDEO => 'v',
                _ => 'd',
            };
            tags.push((kind, tag.timestamp, *tag.payload.last().unwrap()));
        }
        assert!(rest.is_empty(), "whole tags");
        tags
    }

    fn got(&mut self) -> Vec<(char, u32, u8)> {
        self.run();
        self.received()
    }
}

#[test]
fn a_viewer_that_joins_starts_at_the_keyframe_with_all_it_needs() {
    let (source, publication) = live("");
    send(&publication, &[key(1000, 10), audio(1010, 11), key(2000, 20), audio(2010, 21), inter(2040, 22)]);
    let mut viewer = TestViewer::join(&source);
    let expected = [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 20), ('a', 10, 21), ('v', 40, 22)];
    assert_eq!(viewer.got(), expected);
    assert_eq!(viewer.flags, Some((true, true)));
    // Caught up: the stream writes to the socket, and the coroutine is not woken.
    send(&publication, &[audio(2033, 23), inter(2080, 24)]);
    assert!(!viewer.socket.woken.load(Ordering::Relaxed));
    assert_eq!(viewer.received(), [('a', 33, 23), ('v', 80, 24)]);
    assert!(viewer.consumer.stats().caught_up);
}

#[test]
fn viewers_that_join_at_different_times_share_every_byte() {
    let (source, publication) = live("");
    send(&publication, &[key(0, 1), audio(5, 1)]);
    let mut early = TestViewer::join(&source);
    let mut player = TestPlayer::join(&source);
    early.run();
    player.run();
    send(&publication, &(1..50).flat_map(|n| [inter(n * 40, 2), audio(n * 40 + 5, 3)]).collect::<Vec<_>>());
    send(&publication, &[key(2000, 4), audio(2005, 5)]);
    let mut late = TestViewer::join(&source);
    assert_eq!(late.got(), [('d', 2000, 1), ('v', 2000, 2), ('a', 2000, 3), ('v', 2000, 4), ('a', 2005, 5)]);
    early.bytes();
    player.received();
    send(&publication, &[inter(2040, 6), audio(2045, 7), key(2080, 8)]);
    let bytes = early.bytes();
    assert!(!bytes.is_empty());
    assert_eq!(bytes, late.bytes());
    assert_eq!(player.received().len(), 3, "players of RTMP are not affected");
}

#[test]
fn a_viewer_that_is_there_first_is_woken_and_gets_everything() {
    let source = source("");
    let mut viewer = TestViewer::join(&source);
    assert_eq!(viewer.got(), []);
    let publication = publish(&source);
    assert!(viewer.socket.woken.load(Ordering::Relaxed));
    send_headers(&publication);
    assert_eq!((viewer.got(), viewer.flags), (vec![], None), "nothing before the first frame");
    send(&publication, &[key(5000, 10), audio(5010, 11), inter(5040, 12)]);
    let expected = [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 10), ('a', 10, 11), ('v', 40, 12)];
    assert_eq!(viewer.got(), expected);
}

#[test]
fn the_head_names_the_tracks_that_the_stream_has() {
    let source = source("");
    let publication = publish(&source);
    send(&publication, &[audio_header(3), audio(10, 4)]);
    let mut viewer = TestViewer::join(&source);
    assert_eq!((viewer.got(), viewer.flags), (vec![('a', 0, 3), ('a', 0, 4)], Some((true, false))));
    // Metadata name a track whose first message has not arrived.
    let mut named = [SET_DATA_FRAME, ON_META_DATA, &[3, 0, 5], b"width"].concat();
    named.extend_from_slice(&[0, 0x40, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    send(&publication, &[message(MessageType::DATA, 0, &named)]);
    let mut viewer = TestViewer::join(&source);
    viewer.got();
    assert_eq!(viewer.flags, Some((true, true)));
    let mut viewer = TestViewer::with(&source, Framing::Plain, (true, false), usize::MAX / 2);
    viewer.got();
    assert_eq!(viewer.flags, Some((true, false)), "a track that the vhost does not send is not named");
}

#[test]
fn a_viewer_gets_only_the_tracks_of_its_vhost() {
    let (source, publication) = live("");
    send(&publication, &[key(0, 10), audio(5, 11)]);
    let mut viewer = TestViewer::with(&source, Framing::Plain, (false, true), usize::MAX / 2);
    assert_eq!(viewer.got(), [('d', 0, 1), ('v', 0, 2), ('v', 0, 10)]);
    assert_eq!(viewer.flags, Some((false, true)));
    send(&publication, &[audio(28, 12), inter(40, 13)]);
    assert_eq!(viewer.got(), [('v', 40, 13)]);
}

#[test]
fn an_audio_stream_is_written_by_the_stream_itself() {
    let source = source("");
    let publication = publish(&source);
    send(&publication, &[audio_header(3), audio(10, 4)]);
    let (mut viewer, mut player) = (TestViewer::join(&source), TestPlayer::join(&source));
    viewer.got();
    player.got();
    send(&publication, &[audio(33, 5)]);
    assert!(![&viewer.socket, &player.socket].iter().any(|socket| socket.woken.load(Ordering::Relaxed)));
    assert_eq!(viewer.received(), [('a', 23, 5)]);
    assert_eq!(player.received().len(), 1);
}

#[test]
fn a_slow_viewer_loses_whole_gops_and_gets_changed_headers() {
    let (source, publication) = live("queue_length 1s;");
    send(&publication, &[key(0, 10)]);
    let mut viewer = TestViewer::with(&source, Framing::Plain, (true, true), 100);
    viewer.run();
    send(&publication, &[video_header(9)]);
    send(
        &publication,
        &(0..10).flat_map(|n| [key(n * 500 + 500, 100 + n as u8), inter(n * 500 + 540, 99)]).collect::<Vec<_>>(),
    );
    viewer.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    let got = viewer.got();
    let moved = got.iter().rposition(|&(kind, _, last)| (kind, last) == ('v', 9)).expect("the new header");
    assert_eq!(got[moved + 1].2, 109, "it continues at the last keyframe: {got:?}");
    assert!(viewer.consumer.stats().dropped > 0);
    assert!(got.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{got:?}");
    send(&publication, &[inter(5080, 77)]);
    assert_eq!(viewer.received().last(), Some(&('v', 5080, 77)));
}

#[test]
fn a_viewer_ends_with_the_stream_but_not_with_its_publisher() {
    let (source, publication) = live("publish { reconnect_grace 60; }");
    send(&publication, &[key(0, 10)]);
    let mut viewer = TestViewer::join(&source);
    viewer.got();
    drop(publication);
    assert!(!viewer.consumer.is_finished() && source.is_live());
    let publication = publish(&source);
    send_headers(&publication);
    send(&publication, &[key(0, 20)]);
    let got = viewer.got();
    assert_eq!(got.last().map(|tag| (tag.0, tag.2)), Some(('v', 20)), "{got:?}");
    assert!(got.last().unwrap().1 > 0, "the time goes on");
    assert!(!viewer.consumer.is_finished());
    publication.unpublish();
    assert!(viewer.socket.woken.load(Ordering::Relaxed));
    viewer.run();
    assert!(viewer.consumer.is_finished());
}

#[test]
fn frames_of_websocket_have_the_same_content() {
    /// Returns the content of the frames, and their number.
    fn content(mut bytes: &[u8]) -> (Vec<u8>, usize) {
        let (mut content, mut frames) = (Vec::new(), 0);
        while let [0x82, length, rest @ ..] = bytes {
            let (length, rest) = match length {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
                short => (usize::from(*short), rest),
            };
            content.extend_from_slice(&rest[..length]);
            (bytes, frames) = (&rest[length..], frames + 1);
        }
        assert!(bytes.is_empty());
        (content, frames)
    }
    let (source, publication) = live("");
    send(&publication, &[key(0, 10), audio(5, 11)]);
    let mut plain = TestViewer::join(&source);
    let mut framed = TestViewer::with(&source, Framing::WebSocket, (true, true), usize::MAX / 2);
    plain.run();
    framed.run();
    assert_eq!(content(&framed.bytes()), (plain.bytes(), 1), "what the coroutine writes is one frame");
    let large = message(MessageType::VIDEO, 40, &[&[0x27, 1, 0, 0, 0][..], &[7; 70_000]].concat());
    send(&publication, &[audio(28, 12), inter(30, 13), large]);
    assert!(!framed.socket.woken.load(Ordering::Relaxed));
    assert_eq!(content(&framed.bytes()), (plain.bytes(), 3), "and each batch");
}

#[test]
fn the_bytes_of_a_wire_are_there_only_while_it_has_viewers() {
    let (source, publication) = live("");
    send(&publication, &[key(0, 10), audio(5, 11)]);
    // The first one closes the open batch.
    drop(TestViewer::join(&source));
    let (before, pinned) = (source.memory().total(), source.usage().pinned);
    let first = TestViewer::join(&source);
    let mut second = TestViewer::with(&source, Framing::WebSocket, (true, true), usize::MAX / 2);
    second.run();
    assert!(source.memory().total() > before);
    // The head of a frame in front of each run is not counted as the log's.
    assert!(source.usage().pinned <= pinned + 16, "the bytes count for the stream, not for its viewers");
    drop(second);
    assert!(source.memory().total() > before);
    drop(first);
    assert_eq!(source.memory().total(), before);
    let mut again = TestViewer::join(&source);
    assert_eq!(again.got().len(), 5);
}

#[test]
fn sound_alone_starts_with_the_fast_cache() {
    for (directives, expected) in [
        ("http_remux { enabled on; fast_cache 5; }", 51),
        ("gop_cache off; http_remux { enabled on; fast_cache 5; }", 51),
        ("http_remux { enabled on; fast_cache 20; }", 100),
        ("http_remux { enabled on; }", 11),
        ("gop_cache off; http_remux { enabled on; }", 0),
    ] {
        let source = source(directives);
        let publication = publish(&source);
        let config = message(MessageType::AUDIO, 0, &[0xaf, 0, 0x12, 0x10]);
        let frames: Vec<_> = (0..100).map(|n| audio(n * 100, 1)).collect();
        send(&publication, &[&[config], &frames[..]].concat());
        let socket = Socket::new(usize::MAX / 2);
        let wire = ViewerWire { wire: Wire::Aac, framing: Framing::Plain, has_audio: true, has_video: true };
        let mut consumer = source.join_viewer(socket.clone(), wire, stream_info(), client_info(100));
        write_to(&socket, &mut consumer, &mut Vec::new());
        // The header of ADTS in front of each frame.
        let bytes = socket.written.lock().unwrap().clone();
        let frames = bytes.windows(2).filter(|pair| matches!(pair, [0xff, 0xf0..=0xff])).count();
        assert_eq!(frames, expected, "{directives}");
        drop(consumer);
        // With video, all start at the keyframe.
        send(&publication, &[key(10_000, 1), audio(10_010, 1), inter(10_040, 1)]);
        assert_eq!(
            TestViewer::join(&source).got().len(),
            if directives.contains("gop_cache") { 0 } else { 4 },
            "{directives}"
        );
    }
}
