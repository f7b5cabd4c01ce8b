//! Tests of publishers that come and go, and of their messages.

use super::super::headers::{CLEAR_DATA_FRAME, MAX_HEADER_BYTES, MAX_HEADERS};
use super::*;
use crate::rtmp::message::UserControl;

#[test]
fn of_publishers_that_come_and_go_players_are_told_a_few_times_a_second_and_at_the_end() {
    let source = source("");
    let mut player = TestPlayer::join(&source);
    for _ in 0..50 {
        publish(&source).unpublish();
    }
    let notices = player.got().len();
    assert!((8..=16).contains(&notices), "{notices}, and it may have been two seconds");
    source.notify_unpublished_if_due(Instant::now() + Duration::from_secs(2));
    std::thread::sleep(Duration::from_secs(1));
    source.notify_unpublished_if_due(Instant::now() + Duration::from_secs(2));
    assert!(player.got().len() == 1, "players are told of the end in any case");
}

/// Asserts that a player was told by a user control event of its message stream and a status.
fn assert_notice(received: &[Message], event: UserControl, code: &str) {
    let [control, status] = received else { panic!("{received:?}") };
    assert_eq!((control.kind, control.stream_id, control.timestamp), (MessageType::USER_CONTROL, 0, 0));
    assert_eq!(UserControl::read(&control.payload), Some(event));
    assert_eq!((status.kind, status.stream_id), (MessageType::COMMAND, 1));
    let text = String::from_utf8_lossy(&status.payload).into_owned();
    assert!(text.contains(code), "{text}");
}

#[test]
fn players_stay_when_the_publisher_goes_and_go_on_when_it_is_back() {
    let (source, publication) = live("");
    send(&publication, &[key(90_000, 10), inter(90_040, 11)]);
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got().last(), Some(&('v', 40, 11)));
    publication.unpublish();
    drop(publication);
    let notice = {
        player.run();
        player.received()
    };
    assert_notice(&notice, UserControl::StreamEof(1), "NetStream.Play.UnpublishNotify");
    let mut joiner = TestPlayer::join(&source);
    assert_eq!(joiner.got(), [], "nothing of the old publication");

    let publication = publish(&source);
    player.run();
    assert_notice(&player.received(), UserControl::StreamBegin(1), "NetStream.Play.PublishNotify");
    send(&publication, &[metadata(5), video_header(6), audio_header(7)]);
    send(&publication, &[key(0, 20), audio(3, 21), inter(40, 22)]);
    let got = player.got();
    let kinds: Vec<_> = got.iter().map(|message| (message.0, message.2)).collect();
    assert_eq!(kinds, [('d', 5), ('v', 6), ('a', 7), ('v', 20), ('a', 21), ('v', 22)]);
    let media: Vec<_> = got[3..].iter().map(|message| message.1).collect();
    assert!(media[0] > 40 && media[1] == media[0] + 3 && media[2] == media[0] + 40, "the timeline goes on: {media:?}");
    assert_eq!(joiner.got().last().unwrap().2, 22);
}

#[test]
fn players_are_not_told_of_a_publisher_that_is_back_soon() {
    let (source, publication) = live("publish { reconnect_grace 10; }");
    send(&publication, &[key(0, 1)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    drop(publication);
    source.notify_unpublished_if_due(Instant::now() + Duration::from_secs(9));
    assert_eq!(player.got(), []);
    let publication = publish(&source);
    source.notify_unpublished_if_due(Instant::now() + Duration::from_secs(60));
    assert_eq!(player.got(), [], "neither of the loss nor of the return");
    drop(publication);
    source.notify_unpublished_if_due(Instant::now() + Duration::from_secs(11));
    source.notify_unpublished_if_due(Instant::now() + Duration::from_secs(12));
    assert_eq!(player.got().len(), 1, "told once");
    drop(publish(&source));
    assert_eq!(player.got().len(), 1, "and of the return");
}

#[test]
fn a_second_publisher_is_refused_and_one_that_stalls_is_replaced() {
    let source = source("publish { stall_timeout 1; }");
    let first_socket = Socket::new(0);
    let first = acquire(&source, 1, first_socket.clone()).unwrap();
    assert_eq!(acquire(&source, 2, Socket::new(0)).err().unwrap().client, 1);
    source.with(|state| state.publisher.as_mut().unwrap().last_activity -= Duration::from_secs(2));
    let is_current = |publication: &Publication| source.with(|state| publication.is_current(state));
    let second = acquire(&source, 3, Socket::new(0)).unwrap();
    assert_eq!(*first_socket.closed.lock().unwrap(), Some(CloseReason::Replaced { by: 3 }));
    assert!(!is_current(&first) && is_current(&second));
    // Messages of the first, and its end, change nothing for the second.
    first.on_message(&key(0, 1), Instant::now());
    drop(first);
    assert!(is_current(&second));
    assert_eq!(source.with(|state| state.log.next_seq()), 0);
    drop(second);
    assert!(acquire(&source, 4, Socket::new(0)).is_ok());
}

#[test]
fn a_reserved_stream_is_refused_to_others_and_a_stalled_publisher_goes_on_until_it_is_replaced() {
    let source = source("publish { stall_timeout 1; }");
    let mut player = TestPlayer::join(&source);
    player.got();
    let reservation = source.reserve(7).unwrap();
    assert_eq!(source.reserve(8).err().unwrap().client, 7);
    assert!(!source.is_live() && player.got().is_empty(), "players are told when it is published");
    drop(reservation);
    let first = publish(&source);
    assert_eq!(player.got().len(), 1);
    let stall = || source.with(|state| state.publisher.as_mut().unwrap().last_activity -= Duration::from_secs(2));
    assert_eq!(source.reserve(2).err().unwrap().client, 1);
    stall();
    let reservation = source.reserve(2).unwrap();
    assert_eq!(source.reserve(3).err().unwrap().client, 2);
    // It recovers while the other client is checked.
    first.on_message(&key(0, 1), Instant::now());
    let refused = reservation.publish(Socket::new(0), stream_info(), client_info(2));
    assert_eq!(refused.err().unwrap().client, 1);
    stall();
    let second = acquire(&source, 3, Socket::new(0)).unwrap();
    assert!(source.with(|state| second.is_current(state) && state.reserved_by.is_none()));
}

#[test]
fn a_header_too_large_to_keep_is_passed_on() {
    let source = source("");
    let publication = publish(&source);
    let mut player = TestPlayer::join(&source);
    player.run();
    let large = [ON_META_DATA, &[7; MAX_HEADER_BYTES]].concat();
    send(&publication, &[metadata(1), message(MessageType::DATA, 0, &large)]);
    assert_eq!(player.got().last(), Some(&('d', 0, 7)));
    assert!(source.with(|state| state.headers.iter().count() == 0));
}

#[test]
fn new_sequence_headers_reach_those_who_are_there_and_those_who_come() {
    let (source, publication) = live("");
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
    assert!(source.with(|state| state.headers.iter().count() == 0));
}

#[test]
fn the_window_is_what_the_vhost_says() {
    let vhost = |directives: &str| {
        let source = source_with_window(directives);
        move |window_scale| source.with(|state| state.batch_window(window_scale).as_millis())
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
    let start = Instant::now();
    publication.on_message(&key(0, 1), start);
    let due = publication.finish_round(start, |_| 0.0).flush_due.unwrap();
    assert_eq!(due - start, Duration::from_millis(350));
    publication.on_message(&inter(40, 2), start + Duration::from_millis(40));
    assert_eq!(publication.finish_round(start + Duration::from_millis(349), |_| 0.0).flush_due, Some(due));
    assert_eq!(player.got(), []);
    assert_eq!(publication.finish_round(due, |_| 0.0).flush_due, None);
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
    assert_eq!(got.len(), MAX_HEADERS);
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
            (9, Some(publication)) => send_headers(publication),
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
                    // Decoding fails if a message was cut or bytes were mixed; times run backwards if a delta is wrong.
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

/// Publishes for more than 50 days: the clocks of the encoder, of a player that is there from the start, and of players
/// that join shortly before all pass 24, 31 and 32 bits.
#[test]
fn publishing_and_playing_for_longer_than_any_clock_of_the_protocol() {
    const STEP: u64 = 5 * 60_000;
    const BOUNDARIES: [u64; 3] = [1 << 24, 1 << 31, 1 << 32];
    let (source, start) = (source(""), Instant::now());
    let publication = publish(&source);
    send_headers(&publication);
    let mut first = TestPlayer::join(&source);
    first.got();
    let mut late: Vec<(u64, TestPlayer)> = Vec::new();
    // Until the player that joins before 2^24 ms has passed 2^32 ms on its own clock.
    for step in 0..((1 << 32) + (1 << 24)) / STEP + 2 {
        let (time, now) = (step * STEP, start + Duration::from_millis(step * STEP));
        // RTMP carries the low 32 bits of the encoder's clock.
        for message in [key(time as u32, 7), audio((time + 20) as u32, 8)] {
            publication.on_message(&message, now);
            publication.finish_round(now, |_| 0.0);
        }
        assert_eq!(first.got(), [('v', time as u32, 7), ('a', (time + 20) as u32, 8)], "step {step}");
        for (joined, player) in &mut late {
            let time = time - *joined;
            assert_eq!(player.got(), [('v', time as u32, 7), ('a', (time + 20) as u32, 8)], "step {step}");
        }
        if BOUNDARIES.iter().any(|boundary| boundary / STEP == step + 3) {
            let mut player = TestPlayer::join(&source);
            let start = player.got();
            assert_eq!(start[start.len() - 2..], [('v', 0, 7), ('a', 20, 8)], "{start:?}");
            late.push((time, player));
        }
    }
    assert_eq!(late.len(), 3);
    assert_eq!(first.consumer.stats().dropped, 0);
}
