//! A source with players whose sockets are in memory: what arrives at a player is decoded as a client would decode it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::config::Config as ServerConfig;
use crate::rtmp::chunk::ChunkDecoder;

/// A player: a socket that takes so many bytes, and what its coroutine would do.
struct Socket {
    room: AtomicUsize,
    written: Mutex<Vec<u8>>,
    woken: AtomicBool,
    closed: Mutex<Option<CloseReason>>,
}

impl Socket {
    fn new(room: usize) -> Arc<Self> {
        let room = AtomicUsize::new(room);
        Arc::new(Self { room, written: Mutex::default(), woken: AtomicBool::new(false), closed: Mutex::default() })
    }
}

impl Outlet for Socket {
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.room.fetch_sub(n, Ordering::Relaxed);
        self.written.lock().unwrap().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn wake(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    fn close(&self, reason: CloseReason) {
        *self.closed.lock().unwrap() = Some(reason);
    }
}

struct TestPlayer {
    socket: Arc<Socket>,
    consumer: Consumer,
    pending: Vec<u8>,
    decoder: ChunkDecoder,
}

impl TestPlayer {
    fn join(source: &Source) -> Self {
        Self::with_room(source, usize::MAX / 2)
    }

    fn with_room(source: &Source, room: usize) -> Self {
        let socket = Socket::new(room);
        let consumer = source.join(socket.clone(), 1);
        let mut decoder = ChunkDecoder::new();
        // What the server has told the player before.
        let size = (source.chunk_size() as u32).to_be_bytes();
        let set_chunk_size = [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &size].concat();
        assert_eq!(decoder.decode(&mut &set_chunk_size[..]), Ok(None));
        Self { socket, consumer, pending: Vec::new(), decoder }
    }

    /// Does what the player's coroutine does, until there is nothing to do or no room.
    fn run(&mut self) {
        loop {
            if !self.pending.is_empty() {
                let n = self.socket.offer(&self.pending).unwrap();
                self.pending.drain(..n);
                if !self.pending.is_empty() {
                    return;
                }
            }
            let mut batch = Vec::new();
            self.consumer.fill(&mut batch);
            if batch.is_empty() {
                self.socket.woken.store(false, Ordering::Relaxed);
                return;
            }
            self.pending = batch.concat();
        }
    }

    /// What has arrived since it was asked last.
    fn received(&mut self) -> Vec<Message> {
        let bytes = std::mem::take(&mut *self.socket.written.lock().unwrap());
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some(message) = self.decoder.decode(&mut rest).unwrap() {
            messages.push(message);
        }
        messages
    }

    /// The same, after its coroutine has run, as kind, time and first payload bytes.
    fn got(&mut self) -> Vec<(char, u32, u8)> {
        self.run();
        let kind = |message: &Message| match message.kind {
            MessageType::AUDIO => 'a',
            MessageType::VIDEO => 'v',
            MessageType::DATA => 'd',
            _ => 's',
        };
        self.received()
            .iter()
            .map(|message| (kind(message), message.timestamp, *message.payload.last().unwrap()))
            .collect()
    }
}

fn source(directives: &str) -> Source {
    source_with_window(&format!("min_latency on; {directives}"))
}

fn source_with_window(directives: &str) -> Source {
    let text = format!("listen 1935; chunk_size 128; vhost __defaultVhost__ {{ {directives} }}");
    let config = ServerConfig::parse("t", &text).unwrap();
    Source::new("v/live/s", config.vhost("x").unwrap().clone())
}

fn publish(source: &Source) -> Publication {
    source.acquire_publish(1, Socket::new(0)).unwrap()
}

fn message(kind: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    Message { kind, timestamp, stream_id: 1, payload: Bytes::copy_from_slice(payload) }
}

/// Messages that end in `n`: sequence headers, a keyframe, an inter frame, audio, metadata.
fn video_header(n: u8) -> Message {
    message(MessageType::VIDEO, 0, &[0x17, 0, 0, 0, 0, n])
}

fn audio_header(n: u8) -> Message {
    message(MessageType::AUDIO, 0, &[0xaf, 0, n])
}

fn key(time: u32, n: u8) -> Message {
    message(MessageType::VIDEO, time, &[&[0x17, 1, 0, 0, 0][..], &[n; 300]].concat())
}

fn inter(time: u32, n: u8) -> Message {
    message(MessageType::VIDEO, time, &[0x27, 1, 0, 0, 0, n])
}

fn audio(time: u32, n: u8) -> Message {
    message(MessageType::AUDIO, time, &[0xaf, 1, n])
}

fn metadata(n: u8) -> Message {
    message(MessageType::DATA, 0, &[SET_DATA_FRAME, ON_META_DATA, &[n]].concat())
}

fn send(publication: &Publication, messages: &[Message]) {
    let now = Instant::now();
    for message in messages {
        publication.on_message(message, now);
        assert_eq!(publication.flush_due(now, 0.0), None, "min_latency: at once");
    }
}

fn begin(publication: &Publication) {
    send(publication, &[metadata(1), video_header(2), audio_header(3)]);
}

#[test]
fn a_player_that_joins_starts_at_the_keyframe_with_all_it_needs() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(1000, 10), audio(1010, 11), key(2000, 20), audio(2010, 21), inter(2040, 22)]);
    let mut player = TestPlayer::join(&source);
    let expected = [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 20), ('a', 10, 21), ('v', 40, 22)];
    assert_eq!(player.got(), expected);
    // Level now: the source writes to the socket, nobody is woken.
    send(&publication, &[audio(2033, 23), inter(2080, 24)]);
    assert!(!player.socket.woken.load(Ordering::Relaxed));
    let live: Vec<_> = player.received().iter().map(|message| message.timestamp).collect();
    assert_eq!(live, [33, 80]);
    assert_eq!(player.consumer.stats(), ConsumerStats { sent: 8, dropped: 0, level: true });
}

#[test]
fn without_gop_cache_a_player_waits_for_the_next_keyframe_but_not_for_audio() {
    let source = source("gop_cache off;");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(1000, 10), inter(1040, 11)]);
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got(), [('d', 0, 1), ('v', 0, 2), ('a', 0, 3)]);
    send(&publication, &[inter(1080, 12), audio(1080, 13), key(1120, 14), inter(1160, 15)]);
    assert_eq!(player.got(), [('a', 0, 13), ('v', 40, 14), ('v', 80, 15)]);
}

#[test]
fn a_player_that_is_there_first_gets_everything() {
    let source = source("");
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got(), []);
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(5000, 10), audio(5010, 11), inter(5040, 12)]);
    let got = player.got();
    // First the status that the stream is published now.
    assert_eq!(got[0].0, 's');
    assert_eq!(got[1..], [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 10), ('a', 10, 11), ('v', 40, 12)]);
}

#[test]
fn players_that_join_at_different_times_share_every_byte() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1), audio(5, 1)]);
    let mut early = TestPlayer::join(&source);
    early.run();
    send(&publication, &(1..50).flat_map(|n| [inter(n * 40, 2), audio(n * 40 + 5, 3)]).collect::<Vec<_>>());
    send(&publication, &[key(2000, 4), audio(2005, 5)]);
    let mut late = TestPlayer::join(&source);
    late.run();
    early.received();
    late.received();
    send(&publication, &[inter(2040, 6), audio(2045, 7), key(2080, 8)]);
    let bytes = |player: &TestPlayer| player.socket.written.lock().unwrap().clone();
    assert!(!bytes(&early).is_empty());
    assert_eq!(bytes(&early), bytes(&late));
    let times = |player: &mut TestPlayer| player.received().iter().map(|m| m.timestamp).collect::<Vec<_>>();
    assert_eq!(times(&mut early), [2040, 2045, 2080]);
    assert_eq!(times(&mut late), [40, 45, 80]);
}

#[test]
fn a_player_whose_socket_is_full_loses_nothing_while_the_backlog_holds() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    let mut player = TestPlayer::join(&source);
    player.run();
    let mut expected = Vec::new();
    for n in 0..200u32 {
        let messages =
            [if n % 25 == 0 { key(n * 40, n as u8) } else { inter(n * 40, n as u8) }, audio(n * 40 + 7, n as u8)];
        send(&publication, &messages);
        expected.extend(messages.map(|message| (message.kind, message.timestamp, message.payload)));
        // A little room now and then, cut at any place.
        player.socket.room.store((n as usize * 7) % 23, Ordering::Relaxed);
        player.run();
    }
    player.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    player.run();
    let got: Vec<_> = player.received().into_iter().map(|m| (m.kind, m.timestamp, m.payload)).collect();
    assert_eq!(got[3..], expected, "after the three of configuration");
    assert_eq!(player.consumer.stats().dropped, 0);
}

#[test]
fn a_player_too_far_behind_goes_on_at_a_keyframe_and_the_backlog_is_bounded() {
    let source = source("queue_length 5;");
    let publication = publish(&source);
    begin(&publication);
    let mut player = TestPlayer::join(&source);
    send(&publication, &[key(0, 1)]);
    player.run();
    player.socket.room.store(0, Ordering::Relaxed);
    let mut held = 0;
    for n in 1..2500u32 {
        send(&publication, &[if n % 25 == 0 { key(n * 40, 1) } else { inter(n * 40, 2) }, audio(n * 40 + 7, 3)]);
        held = held.max(source.0.with(|state| state.backlog.end() - state.backlog.first()));
        player.run();
    }
    assert!(held <= 2 * 25 * 6, "5 s and what is under way, not 100 s: {held}");
    player.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    let got = player.got();
    // It had been given a batch before it got stuck; after that it begins at the last keyframe.
    let jump = got.windows(2).position(|pair| pair[1].1 > pair[0].1 + 1000).unwrap();
    assert_eq!((got[jump + 1].0, got[jump + 1].2), ('v', 1), "a keyframe");
    assert_eq!(got[jump + 1].1, 2475 * 40);
    assert!(player.consumer.stats().dropped > 4000);
    assert_eq!(got.len() as u64, player.consumer.stats().sent);
}

#[test]
fn a_backlog_has_a_bound_in_bytes_also_without_keyframes() {
    let source = source("queue_bytes 1m; queue_length 600;");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1)]);
    let big = [&[0x27, 1, 0, 0, 0][..], &[9; 100_000]].concat();
    for n in 1..100 {
        send(&publication, &[message(MessageType::VIDEO, n * 40, &big)]);
        assert!(source.0.with(|state| state.backlog.bytes()) <= 1 << 20);
    }
    // The GOP does not fit any more: who joins now waits for a keyframe.
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got().len(), 3);
    send(&publication, &[inter(4000, 2), key(4040, 3)]);
    assert_eq!(player.got(), [('v', 0, 3)]);
}

#[test]
fn an_audio_stream_gives_a_joining_player_its_last_second() {
    let source = source("");
    let publication = publish(&source);
    send(&publication, &[audio_header(3)]);
    send(&publication, &(0..1000).map(|n| audio(n * 23, n as u8)).collect::<Vec<_>>());
    assert!(source.0.with(|state| state.backlog.end() - state.backlog.first()) < 50);
    let mut player = TestPlayer::join(&source);
    let got = player.got();
    assert_eq!(got[0], ('a', 0, 3));
    assert_eq!(got[1].1, 0);
    assert!((950..=1000).contains(&got.last().unwrap().1), "{got:?}");
}

#[test]
fn players_stay_when_the_publisher_goes_and_go_on_when_it_is_back() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(90_000, 10), inter(90_040, 11)]);
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got().last(), Some(&('v', 40, 11)));
    publication.end();
    drop(publication);
    let notice = {
        player.run();
        player.received()
    };
    assert_eq!(notice.len(), 1);
    let text = String::from_utf8_lossy(&notice[0].payload).into_owned();
    assert!(text.contains("NetStream.Play.UnpublishNotify"), "{text}");
    let mut joiner = TestPlayer::join(&source);
    assert_eq!(joiner.got(), [], "nothing of the old publication");

    let publication = publish(&source);
    send(&publication, &[metadata(5), video_header(6), audio_header(7)]);
    send(&publication, &[key(0, 20), audio(3, 21), inter(40, 22)]);
    let got = player.got();
    assert_eq!(got[0].0, 's');
    let kinds: Vec<_> = got[1..].iter().map(|message| (message.0, message.2)).collect();
    assert_eq!(kinds, [('d', 5), ('v', 6), ('a', 7), ('v', 20), ('a', 21), ('v', 22)]);
    let media: Vec<_> = got[4..].iter().map(|message| message.1).collect();
    assert!(media[0] > 40 && media[1] == media[0] + 3 && media[2] == media[0] + 40, "the timeline goes on: {media:?}");
    assert_eq!(joiner.got().last().unwrap().2, 22);
}

#[test]
fn players_are_not_told_of_a_publisher_that_is_back_soon() {
    let source = source("publish { reconnect_grace 10; }");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    drop(publication);
    source.tell_loss_due(Instant::now() + Duration::from_secs(9));
    assert_eq!(player.got(), []);
    let publication = publish(&source);
    source.tell_loss_due(Instant::now() + Duration::from_secs(60));
    assert_eq!(player.got(), [], "neither of the loss nor of the return");
    drop(publication);
    source.tell_loss_due(Instant::now() + Duration::from_secs(11));
    source.tell_loss_due(Instant::now() + Duration::from_secs(12));
    assert_eq!(player.got().len(), 1, "told once");
    drop(publish(&source));
    assert_eq!(player.got().len(), 1, "and of the return");
}

#[test]
fn a_second_publisher_is_refused_and_one_that_stalls_is_replaced() {
    let source = source("publish { stall_timeout 1; }");
    let first_socket = Socket::new(0);
    let first = source.acquire_publish(1, first_socket.clone()).unwrap();
    assert_eq!(source.acquire_publish(2, Socket::new(0)).err().unwrap().by, 1);
    source.0.with(|state| state.publisher.as_mut().unwrap().heard -= Duration::from_secs(2));
    let second = source.acquire_publish(3, Socket::new(0)).unwrap();
    assert_eq!(*first_socket.closed.lock().unwrap(), Some(CloseReason::Replaced { by: 3 }));
    assert!(!first.is_current() && second.is_current());
    // What the first still says, and its end, change nothing for the second.
    first.on_message(&key(0, 1), Instant::now());
    drop(first);
    assert!(second.is_current());
    assert_eq!(source.0.with(|state| state.backlog.next()), 0);
    drop(second);
    assert!(source.acquire_publish(4, Socket::new(0)).is_ok());
}

#[test]
fn pausing_stops_the_stream_and_going_on_is_live() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1), audio(5, 2)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.pause(true);
    send(&publication, &[inter(40, 3), key(2000, 4), inter(2040, 5)]);
    assert_eq!(player.got(), []);
    player.consumer.pause(false);
    send(&publication, &[audio(2045, 6)]);
    assert_eq!(player.got(), [('v', 2000, 4), ('v', 2040, 5), ('a', 2045, 6)]);
}

#[test]
fn a_player_may_do_without_audio_or_video() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1), audio(5, 2)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.receive_audio(false);
    player.run();
    send(&publication, &[inter(40, 3), audio(45, 4), inter(80, 5)]);
    assert_eq!(player.got(), [('v', 40, 3), ('v', 80, 5)]);
    player.consumer.receive_audio(true);
    player.consumer.receive_video(false);
    player.run();
    send(&publication, &[inter(120, 6), audio(125, 7)]);
    assert_eq!(player.got(), [('a', 80, 3), ('a', 125, 7)], "the sequence header once more");
    player.consumer.receive_video(true);
    player.run();
    send(&publication, &[inter(160, 8), key(200, 9)]);
    assert_eq!(player.got(), [('v', 125, 2), ('v', 200, 9)], "video begins with a keyframe again");
}

#[test]
fn what_a_player_does_without_does_not_hide_what_it_wants() {
    let source = source_with_window("mw_latency 350; mw_adaptive off;");
    let publication = publish(&source);
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    [video_header(1), audio_header(2), key(0, 3), audio(0, 4)]
        .iter()
        .for_each(|message| publication.on_message(message, now));
    publication.flush_due(later, 0.0);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.receive_video(false);
    player.run();
    // More than a batch of video that it does not want, and audio behind it, on one page.
    let large = message(MessageType::VIDEO, 40, &[&[0x17, 1, 0, 0, 0][..], &[9; 300_000]].concat());
    [large, audio(23, 5)].iter().for_each(|message| publication.on_message(message, later));
    publication.flush_due(later + Duration::from_secs(1), 0.0);
    assert_eq!(player.got(), [('a', 23, 5)]);
    for (time, n) in [(46, 6), (69, 7)] {
        publication.on_message(&audio(time, n), later);
        publication.flush_due(later + Duration::from_secs(1), 0.0);
    }
    assert_eq!(player.got(), [('a', 46, 6), ('a', 69, 7)]);
}

#[test]
fn a_player_that_joins_while_a_keyframe_is_held_back_begins_with_it() {
    let source = source_with_window("mw_latency 2000; mw_adaptive off;");
    let publication = publish(&source);
    // For one alone nothing is held back.
    let _other = TestPlayer::join(&source);
    let now = Instant::now();
    [video_header(1), inter(0, 2), inter(40, 3), key(80, 4), inter(120, 5)]
        .iter()
        .for_each(|message| publication.on_message(message, now));
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got(), []);
    publication.flush_due(now + Duration::from_secs(3), 0.0);
    assert_eq!(player.got(), [('v', 0, 1), ('v', 0, 4), ('v', 40, 5)]);
}

#[test]
fn what_came_while_nobody_played_is_there_for_the_first_player() {
    let source = source_with_window("mw_latency 2000; mw_adaptive off;");
    let publication = publish(&source);
    let now = Instant::now();
    [video_header(1), key(0, 2), inter(40, 3)].iter().for_each(|message| publication.on_message(message, now));
    assert_eq!(publication.flush_due(now + Duration::from_secs(3), 0.0), None, "there is nobody to wait for it");
    assert_eq!(TestPlayer::join(&source).got(), [('v', 0, 1), ('v', 0, 2), ('v', 40, 3)]);
}

#[test]
fn asking_for_what_one_gets_already_changes_nothing() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.receive_video(true);
    player.consumer.receive_audio(true);
    send(&publication, &[inter(40, 2)]);
    assert_eq!(player.got(), [('v', 40, 2)]);
}

#[test]
fn a_sequence_header_that_came_while_its_track_was_off_is_sent_when_it_is_on() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.receive_video(false);
    player.run();
    send(&publication, &[video_header(7), key(40, 2), audio(45, 3)]);
    assert_eq!(player.got(), [('a', 45, 3)]);
    player.consumer.receive_video(true);
    send(&publication, &[key(80, 4)]);
    let got: Vec<_> = player.got().iter().map(|message| (message.0, message.2)).collect();
    assert_eq!(got, [('v', 7), ('v', 4)]);
}

#[test]
fn going_on_after_a_short_pause_repeats_nothing() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1), inter(1000, 2), inter(2000, 3)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.pause(true);
    player.consumer.pause(false);
    send(&publication, &[inter(2040, 4)]);
    assert_eq!(player.got(), [('v', 2040, 4)]);
}

#[test]
fn a_configuration_too_large_to_keep_is_passed_on() {
    let source = source("");
    let publication = publish(&source);
    let mut player = TestPlayer::join(&source);
    player.run();
    let large = [ON_META_DATA, &[7; MAX_CONFIG]].concat();
    send(&publication, &[metadata(1), message(MessageType::DATA, 0, &large)]);
    assert_eq!(player.got().last(), Some(&('d', 0, 7)));
    assert!(source.0.with(|state| state.configs.is_empty()));
}

#[test]
fn new_sequence_headers_reach_those_who_are_there_and_those_who_come() {
    let source = source("");
    let publication = publish(&source);
    begin(&publication);
    send(&publication, &[key(0, 1)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    send(&publication, &[video_header(7), inter(40, 2)]);
    assert_eq!(player.got(), [('v', 0, 7), ('v', 40, 2)]);
    let mut joiner = TestPlayer::join(&source);
    let before: Vec<_> = joiner.got().iter().map(|message| (message.0, message.2)).collect();
    assert_eq!(before, [('d', 1), ('v', 7), ('a', 3)], "the GOP cannot be decoded with the new header");
    send(&publication, &[key(80, 3)]);
    assert_eq!(joiner.got(), [('v', 0, 3)]);
}

#[test]
fn data_messages_pass_and_metadata_is_kept() {
    let source = source("");
    let publication = publish(&source);
    let mut player = TestPlayer::join(&source);
    let cue = [b"\x02\x00\x0aonCuePoint", &[7][..]].concat();
    let amf3 = [&[0][..], &cue].concat();
    send(&publication, &[metadata(1), message(MessageType::DATA, 5, &cue), message(MessageType::DATA_AMF3, 6, &amf3)]);
    player.run();
    let payloads: Vec<_> = player.received().into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, [[ON_META_DATA, &[1][..]].concat(), cue.clone(), cue]);
    send(&publication, &[message(MessageType::DATA, 7, CLEAR_DATA_FRAME)]);
    assert!(source.0.with(|state| state.configs.is_empty()));
}

#[test]
fn the_window_is_what_the_vhost_says() {
    let vhost = |directives: &str| {
        let source = source_with_window(directives);
        move |opening| source.0.with(|state| state.window(opening).as_millis())
    };
    let adaptive = vhost("mw_latency 350;");
    assert_eq!((adaptive(0.0), adaptive(0.2), adaptive(1.0)), (0, 70, 350));
    let fixed = vhost("mw_latency 350; mw_adaptive off;");
    assert_eq!((fixed(0.0), fixed(1.0)), (350, 350));
    assert_eq!(vhost("min_latency on;")(1.0), 0);
}

#[test]
fn messages_within_the_window_are_sent_together() {
    let source = source_with_window("mw_latency 350; mw_adaptive off;");
    let publication = publish(&source);
    let mut player = TestPlayer::join(&source);
    player.run();
    let begin = Instant::now();
    publication.on_message(&key(0, 1), begin);
    let due = publication.flush_due(begin, 0.0).unwrap();
    assert_eq!(due - begin, Duration::from_millis(350));
    publication.on_message(&inter(40, 2), begin + Duration::from_millis(40));
    assert_eq!(publication.flush_due(begin + Duration::from_millis(349), 0.0), Some(due));
    assert_eq!(player.got(), []);
    assert_eq!(publication.flush_due(due, 0.0), None);
    assert_eq!(player.got(), [('v', 0, 1), ('v', 40, 2)]);
}

#[test]
fn multitrack_sequence_headers_are_kept_by_track_and_bounded() {
    let source = source("");
    let publication = publish(&source);
    for track in 0..100 {
        // E-RTMP video: multitrack packet (6), one track with sequence start (0x00), avc1, track id.
        send(&publication, &[message(MessageType::VIDEO, 0, &[0x96, 0x00, b'a', b'v', b'c', b'1', track, 0xee])]);
    }
    let got = TestPlayer::join(&source).got();
    assert_eq!(got.len(), MAX_CONFIGS);
}

#[test]
fn random_messages_and_players_keep_every_player_in_order() {
    let mut random = 7u32;
    let mut next = move |bound: u32| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % bound
    };
    let source = source("queue_length 2;");
    let mut publication = Some(publish(&source));
    let mut players: Vec<TestPlayer> = Vec::new();
    let mut time = 0u32;
    for _ in 0..20_000 {
        time = time.wrapping_add(next(60));
        let current = publication.as_ref();
        match (next(100), current) {
            (0..=1, _) if players.len() < 20 => players.push(TestPlayer::with_room(&source, next(5000) as usize)),
            (2, _) if !players.is_empty() => drop(players.swap_remove(next(players.len() as u32) as usize)),
            (3, Some(_)) => publication = None,
            (3..=8, None) => publication = Some(publish(&source)),
            (9, Some(publication)) => begin(publication),
            (10, _) => time = next(u32::MAX),
            (11..=13, Some(publication)) => send(publication, &[key(time, 1)]),
            (14..=50, Some(publication)) => send(publication, &[inter(time, 2)]),
            (51..=80, Some(publication)) => send(publication, &[audio(time, 3)]),
            (81, _) if !players.is_empty() => {
                let paused = next(2) == 0;
                players[next(players.len() as u32) as usize].consumer.pause(paused);
            }
            _ => {
                for player in &mut players {
                    player.socket.room.store(next(4000) as usize, Ordering::Relaxed);
                    player.run();
                    // Decoding fails if a message was cut or bytes were mixed; times go backwards if a delta went wrong.
                    let mut last = [0; 32];
                    for message in player.received() {
                        let last = &mut last[usize::from(message.kind.0)];
                        assert!(message.timestamp >= *last || message.kind == MessageType::COMMAND);
                        *last = message.timestamp;
                    }
                }
            }
        }
    }
}

/// A forwarder that has been let in by its target.
fn forwarder(source: &Source) -> TestPlayer {
    let mut player = TestPlayer::join(source);
    player.consumer = source.join_forwarder(player.socket.clone());
    player
}

#[test]
fn a_forwarder_begins_with_the_first_message_however_late_its_target_answers() {
    let source = source("");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    begin(&publication);
    send(&publication, &[key(1000, 10), audio(1010, 11), key(2000, 20)]);
    assert!(forwarder.socket.written.lock().unwrap().is_empty(), "on hold until the target has answered");
    forwarder.consumer.begin(1, 128, Begin::First);
    let expected = [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 10), ('a', 10, 11), ('v', 1000, 20)];
    assert_eq!(forwarder.got(), expected);
    // And like a player: level, and written to by the source.
    send(&publication, &[inter(2040, 21)]);
    assert_eq!(forwarder.received().len(), 1);
    assert_eq!(forwarder.consumer.delay(), Duration::ZERO);
}

#[test]
fn after_a_failure_a_forwarder_begins_as_a_player_that_joins() {
    let source = source("");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    begin(&publication);
    forwarder.consumer.begin(1, 128, Begin::First);
    send(&publication, &[key(1000, 10), inter(1040, 11)]);
    assert_eq!(forwarder.got().len(), 5);
    forwarder.consumer.pause(true);
    send(&publication, &[inter(1080, 12), key(2000, 20), inter(2040, 21)]);
    assert_eq!(forwarder.got(), []);
    forwarder.consumer.begin(1, 128, Begin::Join);
    forwarder.decoder = TestPlayer::join(&source).decoder;
    assert_eq!(forwarder.got(), [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 20), ('v', 40, 21)]);
}

#[test]
fn a_forwarder_publishes_and_says_nothing_that_is_for_players() {
    let source = source("");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    forwarder.consumer.begin(1, 128, Begin::First);
    let cue = message(MessageType::DATA, 40, b"\x02\x00\x0aonCuePoint");
    send(&publication, &[metadata(1), video_header(2), key(0, 10), cue.clone(), metadata(5), inter(80, 12)]);
    forwarder.run();
    let data: Vec<_> = forwarder.received().into_iter().filter(|message| message.kind == MessageType::DATA).collect();
    let payloads: Vec<_> = data.iter().map(|message| message.payload.clone()).collect();
    assert_eq!(payloads, [metadata(1).payload, cue.payload, metadata(5).payload]);
    publication.end();
    forwarder.run();
    assert!(forwarder.received().is_empty(), "players are told, the target is not");
}

#[test]
fn a_forwarder_is_over_at_the_end_that_players_are_told_of_and_goes_on_with_the_next_publication() {
    let source = source("publish { reconnect_grace 3600; }");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    forwarder.consumer.begin(1, 128, Begin::First);
    begin(&publication);
    send(&publication, &[key(0, 10), inter(40, 11)]);
    assert_eq!(forwarder.got().len(), 5);
    // Lost: not over, and what a publisher that is back sends follows.
    drop(publication);
    assert!(source.is_live() && !forwarder.consumer.is_ending());
    let publication = publish(&source);
    send(&publication, &[video_header(2), key(0, 20)]);
    assert_eq!(forwarder.got().iter().map(|got| got.2).collect::<Vec<_>>(), [2, 20]);
    // Ended in words, while the target is slow.
    forwarder.socket.room.store(10, Ordering::Relaxed);
    send(&publication, &[inter(40, 21)]);
    publication.end();
    assert!(forwarder.consumer.is_ending() && !source.is_live());
    assert!(forwarder.socket.woken.load(Ordering::Relaxed));
    let next = publish(&source);
    send(&next, &[video_header(3), key(0, 30)]);
    forwarder.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    assert_eq!(forwarder.got().iter().map(|got| got.2).collect::<Vec<_>>(), [21], "and nothing of the next one");
    assert!(forwarder.consumer.is_over());
    assert_eq!(forwarder.consumer.rearm(), Begin::First);
    assert!(!forwarder.consumer.is_ending());
    forwarder.consumer.begin(1, 128, Begin::First);
    forwarder.decoder = TestPlayer::join(&source).decoder;
    assert_eq!(forwarder.got(), [('v', 0, 3), ('v', 0, 30)]);
}

/// 50 days and more: each of the numbers of bits that clocks have on the way is passed by the encoder's clock, by that of a
/// player who was there from the first, and by those of players who join shortly before.
#[test]
fn publishing_and_playing_for_longer_than_any_clock_of_the_protocol() {
    const STEP: u64 = 5 * 60_000;
    const BOUNDARIES: [u64; 3] = [1 << 24, 1 << 31, 1 << 32];
    let (source, start) = (source(""), Instant::now());
    let publication = publish(&source);
    begin(&publication);
    let mut first = TestPlayer::join(&source);
    first.got();
    let mut late: Vec<(u64, TestPlayer)> = Vec::new();
    // Until the player that joins before 2^24 ms has passed 2^32 on its own clock.
    for step in 0..((1 << 32) + (1 << 24)) / STEP + 2 {
        let (time, now) = (step * STEP, start + Duration::from_millis(step * STEP));
        // What RTMP has room for of the encoder's clock.
        for message in [key(time as u32, 7), audio((time + 20) as u32, 8)] {
            publication.on_message(&message, now);
            publication.flush_due(now, 0.0);
        }
        assert_eq!(first.got(), [('v', time as u32, 7), ('a', (time + 20) as u32, 8)], "step {step}");
        for (joined, player) in &mut late {
            let time = time - *joined;
            assert_eq!(player.got(), [('v', time as u32, 7), ('a', (time + 20) as u32, 8)], "step {step}");
        }
        if BOUNDARIES.iter().any(|boundary| boundary / STEP == step + 3) {
            let mut player = TestPlayer::join(&source);
            let begin = player.got();
            assert_eq!(begin[begin.len() - 2..], [('v', 0, 7), ('a', 20, 8)], "{begin:?}");
            late.push((time, player));
        }
    }
    assert_eq!(late.len(), 3);
    assert_eq!(first.consumer.stats().dropped, 0);
}
