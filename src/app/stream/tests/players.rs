//! Tests of players: joining, falling behind, pausing, selecting tracks.

use super::*;

#[test]
fn a_player_that_joins_starts_at_the_keyframe_with_all_it_needs() {
    let (source, publication) = live("");
    send(&publication, &[key(1000, 10), audio(1010, 11), key(2000, 20), audio(2010, 21), inter(2040, 22)]);
    let mut player = TestPlayer::join(&source);
    let expected = [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 20), ('a', 10, 21), ('v', 40, 22)];
    assert_eq!(player.got(), expected);
    // Caught up: the stream writes to the socket, and the coroutine is not woken.
    send(&publication, &[audio(2033, 23), inter(2080, 24)]);
    assert!(!player.socket.woken.load(Ordering::Relaxed));
    let live: Vec<_> = player.received().iter().map(|message| message.timestamp).collect();
    assert_eq!(live, [33, 80]);
    assert_eq!(player.consumer.stats(), ConsumerStats { sent: 8, dropped: 0, caught_up: true });
}

#[test]
fn without_gop_cache_a_player_waits_for_the_next_keyframe_but_not_for_audio() {
    let (source, publication) = live("gop_cache off;");
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
    send_headers(&publication);
    send(&publication, &[key(5000, 10), audio(5010, 11), inter(5040, 12)]);
    let got = player.got();
    // The first message is the status that the stream is published.
    assert_eq!(got[0].0, 's');
    assert_eq!(got[1..], [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 10), ('a', 10, 11), ('v', 40, 12)]);
}

#[test]
fn players_that_join_at_different_times_share_every_byte() {
    let (source, publication) = live("");
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
fn a_player_whose_socket_is_full_loses_nothing_that_the_packet_log_keeps() {
    let (source, publication) = live("");
    let mut player = TestPlayer::join(&source);
    player.run();
    let mut expected = Vec::new();
    for n in 0..200u32 {
        let messages =
            [if n % 25 == 0 { key(n * 40, n as u8) } else { inter(n * 40, n as u8) }, audio(n * 40 + 7, n as u8)];
        send(&publication, &messages);
        expected.extend(messages.map(|message| (message.kind, message.timestamp, message.payload)));
        // A few bytes of room now and then, so that writes end anywhere.
        player.socket.room.store((n as usize * 7) % 23, Ordering::Relaxed);
        player.run();
    }
    player.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    player.run();
    let got: Vec<_> = player.received().into_iter().map(|m| (m.kind, m.timestamp, m.payload)).collect();
    assert_eq!(got[3..], expected, "after metadata and two sequence headers");
    assert_eq!(player.consumer.stats().dropped, 0);
}

#[test]
fn a_player_too_far_behind_goes_on_at_a_keyframe_and_the_packet_log_is_bounded() {
    let (source, publication) = live("queue_length 5;");
    let mut player = TestPlayer::join(&source);
    send(&publication, &[key(0, 1)]);
    player.run();
    player.socket.room.store(0, Ordering::Relaxed);
    let mut held = 0;
    for n in 1..2500u32 {
        send(&publication, &[if n % 25 == 0 { key(n * 40, 1) } else { inter(n * 40, 2) }, audio(n * 40 + 7, 3)]);
        held = held.max(source.with(|state| state.log.end_seq() - state.log.first_seq()));
        player.run();
    }
    assert!(held <= 2 * 25 * 6, "5 s and the output under way, not 100 s: {held}");
    player.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    let got = player.got();
    // It got some output before its socket was full; then it continues at the last keyframe.
    let jump = got.windows(2).position(|pair| pair[1].1 > pair[0].1 + 1000).unwrap();
    assert_eq!((got[jump + 1].0, got[jump + 1].2), ('v', 1), "a keyframe");
    assert_eq!(got[jump + 1].1, 2475 * 40);
    assert!(player.consumer.stats().dropped > 4000);
    assert_eq!(got.len() as u64, player.consumer.stats().sent);
}

#[test]
fn a_packet_log_has_a_bound_in_bytes_also_without_keyframes() {
    let (source, publication) = live("queue_bytes 1m; queue_length 600;");
    send(&publication, &[key(0, 1)]);
    let big = [&[0x27, 1, 0, 0, 0][..], &[9; 100_000]].concat();
    for n in 1..100 {
        send(&publication, &[message(MessageType::VIDEO, n * 40, &big)]);
        assert!(source.with(|state| state.log.bytes()) <= 1 << 20);
    }
    // The GOP does not fit any more: a player that joins now waits for a keyframe.
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
    assert!(source.with(|state| state.log.end_seq() - state.log.first_seq()) < 50);
    let mut player = TestPlayer::join(&source);
    let got = player.got();
    assert_eq!(got[0], ('a', 0, 3));
    assert_eq!(got[1].1, 0);
    assert!((950..=1000).contains(&got.last().unwrap().1), "{got:?}");
}

#[test]
fn pausing_stops_the_stream_and_going_on_is_live() {
    let (source, publication) = live("");
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
    let (source, publication) = live("");
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
fn what_a_player_does_without_is_passed_over_in_pieces() {
    let (source, publication) = live("");
    send(&publication, &[key(0, 1)]);
    for n in 0..5000 {
        publication.on_message(&inter(n, 2), Instant::now());
    }
    publication.finish_round(Instant::now(), |_| 0.0);
    let player = TestPlayer::join(&source);
    player.consumer.receive_video(false);
    let (mut out, mut fills) = (Vec::new(), 1);
    player.consumer.fill(&mut out);
    while player.consumer.has_more() {
        out.clear();
        player.consumer.fill(&mut out);
        fills += 1;
    }
    assert!((5..10).contains(&fills) && player.consumer.stats().caught_up, "{fills}");
    send(&publication, &[audio(5000, 3)]);
    assert_eq!(
        player.socket.written.lock().unwrap().len() + usize::from(player.socket.woken.load(Ordering::Relaxed)),
        1
    );
}

#[test]
fn a_large_message_is_not_written_to_all_in_one_go() {
    let (source, publication) = live("");
    let mut player = TestPlayer::join(&source);
    player.got();
    send(&publication, &[key(0, 1)]);
    player.got();
    let large = [&[0x27, 1, 0, 0, 0][..], &vec![7; 1_000_000]].concat();
    send(&publication, &[message(MessageType::VIDEO, 40, &large)]);
    let written = player.socket.written.lock().unwrap().len();
    assert!(written <= 256 * 1024 && player.socket.woken.load(Ordering::Relaxed), "{written}");
    player.run();
    let got = player.received();
    assert!(got.len() == 1 && got[0].payload == large, "and nothing is missing");
}

#[test]
fn a_large_message_with_a_late_time_comes_in_pieces() {
    let (source, publication) = live("");
    let mut player = TestPlayer::join(&source);
    player.got();
    for n in 0..3500 {
        send(&publication, &[audio(n * 5000, 1)]);
        player.got();
    }
    let large = [&[0x17, 1, 0, 0, 0][..], &vec![7; 1_000_000]].concat();
    send(&publication, &[message(MessageType::VIDEO, 3500 * 5000, &large)]);
    let (mut out, mut sent, mut pieces) = (Vec::new(), Vec::new(), 0);
    player.consumer.fill(&mut out);
    while !out.is_empty() {
        assert!(out.iter().map(Bytes::len).sum::<usize>() < 300_000);
        sent.append(&mut out);
        // It pauses in the middle of the message, and still gets the rest.
        player.consumer.pause(pieces >= 2);
        player.consumer.fill(&mut out);
        pieces += 1;
    }
    assert!(pieces >= 8, "{pieces}");
    player.socket.written.lock().unwrap().extend(sent.concat());
    let got = player.received();
    let video = got.iter().find(|message| message.kind == MessageType::VIDEO).unwrap();
    assert!(video.timestamp == 3500 * 5000 && video.payload == large);
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
    publication.finish_round(later, |_| 0.0);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.receive_video(false);
    player.run();
    // More unwanted video than one fill returns, and audio after it, in one batch.
    let large = message(MessageType::VIDEO, 40, &[&[0x17, 1, 0, 0, 0][..], &[9; 300_000]].concat());
    [large, audio(23, 5)].iter().for_each(|message| publication.on_message(message, later));
    publication.finish_round(later + Duration::from_secs(1), |_| 0.0);
    assert_eq!(player.got(), [('a', 23, 5)]);
    for (time, n) in [(46, 6), (69, 7)] {
        publication.on_message(&audio(time, n), later);
        publication.finish_round(later + Duration::from_secs(1), |_| 0.0);
    }
    assert_eq!(player.got(), [('a', 46, 6), ('a', 69, 7)]);
}

#[test]
fn a_player_that_joins_while_a_keyframe_is_held_back_begins_with_it() {
    let source = source_with_window("mw_latency 2000; mw_adaptive off;");
    let publication = publish(&source);
    // Without a player nothing is held back.
    let _other = TestPlayer::join(&source);
    let now = Instant::now();
    [video_header(1), inter(0, 2), inter(40, 3), key(80, 4), inter(120, 5)]
        .iter()
        .for_each(|message| publication.on_message(message, now));
    let mut player = TestPlayer::join(&source);
    assert_eq!(player.got(), []);
    publication.finish_round(now + Duration::from_secs(3), |_| 0.0);
    assert_eq!(player.got(), [('v', 0, 1), ('v', 0, 4), ('v', 40, 5)]);
}

#[test]
fn what_came_while_nobody_played_is_there_for_the_first_player() {
    let source = source_with_window("mw_latency 2000; mw_adaptive off;");
    let publication = publish(&source);
    let now = Instant::now();
    [video_header(1), key(0, 2), inter(40, 3)].iter().for_each(|message| publication.on_message(message, now));
    assert_eq!(
        publication.finish_round(now + Duration::from_secs(3), |_| 0.0).flush_due,
        None,
        "there is nobody to wait for it"
    );
    assert_eq!(TestPlayer::join(&source).got(), [('v', 0, 1), ('v', 0, 2), ('v', 40, 3)]);
}

#[test]
fn asking_for_what_one_gets_already_changes_nothing() {
    let (source, publication) = live("");
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
    let (source, publication) = live("");
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
    let (source, publication) = live("");
    send(&publication, &[key(0, 1), inter(1000, 2), inter(2000, 3)]);
    let mut player = TestPlayer::join(&source);
    player.got();
    player.consumer.pause(true);
    player.consumer.pause(false);
    send(&publication, &[inter(2040, 4)]);
    assert_eq!(player.got(), [('v', 2040, 4)]);
}

#[test]
fn the_ids_of_players_that_left_are_used_again() {
    let source = source("");
    let mut players: Vec<_> = (0..4).map(|_| TestPlayer::join(&source)).collect();
    players.remove(2);
    players.remove(0);
    assert_eq!(source.with(|state| (state.subscriber_count(), state.subscribers.len())), (2, 4));
    players.extend((0..3).map(|_| TestPlayer::join(&source)));
    assert_eq!(source.with(|state| (state.subscriber_count(), state.subscribers.len())), (5, 5));
    drop(players);
    assert_eq!(source.with(|state| (state.subscriber_count(), state.subscribers.len())), (0, 0));
}
