//! What forwarders get, who are players that publish elsewhere.

use super::*;

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
