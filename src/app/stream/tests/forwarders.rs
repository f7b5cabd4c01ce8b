//! Tests of forwarders, which publish the stream elsewhere.

use super::*;

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
    send_headers(&publication);
    send(&publication, &[key(1000, 10), audio(1010, 11), key(2000, 20)]);
    assert!(forwarder.socket.written.lock().unwrap().is_empty(), "nothing is sent until the target has answered");
    forwarder.consumer.start(1, 128, StartPosition::Retained);
    let expected = [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 10), ('a', 10, 11), ('v', 1000, 20)];
    assert_eq!(forwarder.got(), expected);
    // Caught up like a player: the stream writes to its socket.
    send(&publication, &[inter(2040, 21)]);
    assert_eq!(forwarder.received().len(), 1);
    assert_eq!(forwarder.consumer.delay(), Duration::ZERO);
}

#[test]
fn after_a_failure_a_forwarder_begins_as_a_player_that_joins() {
    let source = source("");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    send_headers(&publication);
    forwarder.consumer.start(1, 128, StartPosition::Retained);
    send(&publication, &[key(1000, 10), inter(1040, 11)]);
    assert_eq!(forwarder.got().len(), 5);
    forwarder.consumer.pause(true);
    send(&publication, &[inter(1080, 12), key(2000, 20), inter(2040, 21)]);
    assert_eq!(forwarder.got(), []);
    forwarder.consumer.start(1, 128, StartPosition::JoinPoint);
    forwarder.decoder = TestPlayer::join(&source).decoder;
    assert_eq!(forwarder.got(), [('d', 0, 1), ('v', 0, 2), ('a', 0, 3), ('v', 0, 20), ('v', 40, 21)]);
}

#[test]
fn a_forwarder_publishes_and_says_nothing_that_is_for_players() {
    let source = source("");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    forwarder.consumer.start(1, 128, StartPosition::Retained);
    let cue = message(MessageType::DATA, 40, b"\x02\x00\x0aonCuePoint");
    send(&publication, &[metadata(1), video_header(2), key(0, 10), cue.clone(), metadata(5), inter(80, 12)]);
    forwarder.run();
    let data: Vec<_> = forwarder.received().into_iter().filter(|message| message.kind == MessageType::DATA).collect();
    let payloads: Vec<_> = data.iter().map(|message| message.payload.clone()).collect();
    assert_eq!(payloads, [metadata(1).payload, cue.payload, metadata(5).payload]);
    publication.unpublish();
    forwarder.run();
    assert!(forwarder.received().is_empty(), "players are told, the target is not");
}

#[test]
fn a_forwarder_is_over_at_the_end_that_players_are_told_of_and_goes_on_with_the_next_publication() {
    let source = source("publish { reconnect_grace 3600; }");
    let publication = publish(&source);
    let mut forwarder = forwarder(&source);
    forwarder.consumer.start(1, 128, StartPosition::Retained);
    send_headers(&publication);
    send(&publication, &[key(0, 10), inter(40, 11)]);
    assert_eq!(forwarder.got().len(), 5);
    // The publisher is lost: the stream has not ended, and the messages of a publisher that is back follow.
    drop(publication);
    assert!(source.is_live() && !forwarder.consumer.stream_ended());
    let publication = publish(&source);
    send(&publication, &[video_header(2), key(0, 20)]);
    assert_eq!(forwarder.got().iter().map(|got| got.2).collect::<Vec<_>>(), [2, 20]);
    // Unpublished, while the target is slow.
    forwarder.socket.room.store(10, Ordering::Relaxed);
    send(&publication, &[inter(40, 21)]);
    publication.unpublish();
    assert!(forwarder.consumer.stream_ended() && !source.is_live());
    assert!(forwarder.socket.woken.load(Ordering::Relaxed));
    let next = publish(&source);
    send(&next, &[video_header(3), key(0, 30)]);
    forwarder.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    assert_eq!(forwarder.got().iter().map(|got| got.2).collect::<Vec<_>>(), [21], "and nothing of the next one");
    assert!(forwarder.consumer.is_finished());
    assert_eq!(forwarder.consumer.reset_for_next(), StartPosition::Retained);
    assert!(!forwarder.consumer.stream_ended());
    forwarder.consumer.start(1, 128, StartPosition::Retained);
    forwarder.decoder = TestPlayer::join(&source).decoder;
    assert_eq!(forwarder.got(), [('v', 0, 3), ('v', 0, 30)]);
}
