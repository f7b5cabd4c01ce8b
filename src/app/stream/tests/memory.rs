//! Tests of memory: a stream is charged for exactly what it holds, and gives it up when memory is short.

use proptest::prelude::*;

use super::*;
use crate::memory::Category;

/// Returns the bytes charged for the stream: its batches, entries, headers, and the older batches that players still
/// hold.
fn charged_bytes(source: &Source) -> usize {
    source.memory().bytes_in(Category::Media)
}

fn log_bytes(source: &Source) -> usize {
    source.with(|state| state.log.bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn when_everybody_has_gone_nothing_is_held(steps in prop::collection::vec((0..7u8, 0..3000usize), 1..150)) {
        let source = source("queue_length 1; queue_bytes 1m;");
        let memory = source.memory();
        let mut publication = Some(publish(&source));
        let mut players: Vec<TestPlayer> = Vec::new();
        // Output that players' coroutines have not written yet.
        let mut output: Vec<Bytes> = Vec::new();
        for (number, (step, size)) in steps.into_iter().enumerate() {
            let now = Instant::now();
            let payload = |first| [&[first, 1, 0, 0, 0][..], &vec![7; size]].concat();
            let time = number as u32 * 40;
            match (step, &publication) {
                (0, Some(publication)) => {
                    publication.on_message(&message(MessageType::VIDEO, time, &payload(0x17)), now);
                    publication.finish_round(now, |_| 0.0);
                }
                (1 | 2, Some(publication)) => {
                    publication.on_message(&message(MessageType::VIDEO, time, &payload(0x27)), now);
                    publication.finish_round(now, |_| 0.0);
                }
                (3, Some(publication)) => send_headers(publication),
                (3, None) => publication = Some(publish(&source)),
                (4, _) => players.push(TestPlayer::with_room(&source, size)),
                (5, _) if !players.is_empty() => {
                    let player = size % players.len();
                    players[player].consumer.fill(&mut output);
                }
                (6, _) => match size % 4 {
                    0 => drop(publication.take()),
                    1 => output.clear(),
                    2 => source.reclaim_packet_log(),
                    _ => drop(players.pop()),
                },
                _ => {}
            }
            // At least the packet log.
            prop_assert!(charged_bytes(&source) >= log_bytes(&source));
            if output.is_empty() && players.is_empty() {
                // The first block stays whole while any of it is kept, and the open allocation is charged as a whole.
                prop_assert!(charged_bytes(&source) <= log_bytes(&source) + 32 * 1024);
            }
        }
        drop((publication, players));
        drop(source);
        // Chunk headers made for one player are not charged.
        let large = output.iter().map(Bytes::len).filter(|&len| len > 64).max().unwrap_or(0);
        prop_assert!(memory.total() >= large, "output is charged");
        drop(output);
        prop_assert_eq!(memory.total(), 0);
    }
}

#[test]
fn a_batch_is_charged_until_the_last_player_has_dropped_it() {
    let source = source("queue_length 1;");
    let publication = publish(&source);
    let player = TestPlayer::with_room(&source, 100);
    send_headers(&publication);
    send(&publication, &[key(0, 1), inter(40, 2)]);
    let mut out = Vec::new();
    player.consumer.fill(&mut out);
    let keyframe_bytes = 300;
    send(&publication, &[key(60_000, 3)]);
    assert!(
        charged_bytes(&source) >= log_bytes(&source) + keyframe_bytes,
        "the packet log has dropped it, the player has not"
    );
    assert!(source.usage().pinned >= keyframe_bytes);
    let before = charged_bytes(&source);
    drop(out);
    assert!(charged_bytes(&source) <= before - keyframe_bytes);
}

#[test]
fn players_that_are_behind_go_on_at_the_present_gop() {
    let (source, publication) = live("");
    let mut slow = TestPlayer::with_room(&source, 0);
    let mut other = TestPlayer::join(&source);
    other.got();
    slow.run();
    let old: Vec<_> = (0..50).map(|n| key(n * 40, 1)).collect();
    send(&publication, &old);
    send(&publication, &[key(4000, 20), inter(4040, 21)]);
    other.got();
    let before = charged_bytes(&source);
    source.reclaim_packet_log();
    assert!(charged_bytes(&source) < before / 5, "{before} before, {} now", charged_bytes(&source));
    slow.socket.room.store(usize::MAX / 2, Ordering::Relaxed);
    let got = slow.got();
    assert_eq!(got.iter().filter(|(kind, _, n)| *kind == 'v' && *n == 1).count(), 0, "{got:?}");
    assert_eq!(&got[got.len() - 2..].iter().map(|m| m.2).collect::<Vec<_>>(), &[20, 21]);
    assert!(slow.consumer.stats().dropped >= 50 && other.consumer.stats().dropped == 0);
    send(&publication, &[inter(4080, 22)]);
    assert_eq!(other.got().last().map(|m| m.2), Some(22), "nobody else notices");
}

#[test]
fn a_cache_without_players_goes_and_comes_again_with_the_next_keyframe() {
    let (source, publication) = live("");
    send(&publication, &[key(0, 1)]);
    for n in 0..100 {
        publication.on_message(&inter(40 * n, 2), Instant::now());
    }
    source.reclaim_gop_cache();
    assert_eq!(log_bytes(&source), 0);
    let mut player = TestPlayer::join(&source);
    send(&publication, &[inter(4040, 3), key(4080, 4)]);
    assert_eq!(player.got().last().map(|m| m.2), Some(4));
    let before = charged_bytes(&source);
    source.reclaim_gop_cache();
    assert_eq!(charged_bytes(&source), before, "it has a player");
}

#[test]
fn a_publisher_is_evicted_with_all_of_its_stream_and_knows_why() {
    let source = source("");
    let socket = Socket::new(0);
    let publication = acquire(&source, 1, socket.clone()).unwrap();
    send_headers(&publication);
    let slow = TestPlayer::with_room(&source, 0);
    send(&publication, &[key(0, 1), inter(40, 2), inter(80, 3)]);
    assert!(source.usage().is_published);
    assert!(source.evict_publisher(&CloseReason::Memory("short".to_owned())));
    assert_eq!(*socket.closed.lock().unwrap(), Some(CloseReason::Memory("short".to_owned())));
    assert!(!source.usage().is_published && log_bytes(&source) == 0);
    assert!(!source.evict_publisher(&CloseReason::Memory("short".to_owned())), "it is gone");
    drop(slow);
    assert_eq!(charged_bytes(&source), 0);
}

#[test]
fn a_player_that_has_paused_holds_nothing_and_is_not_closed_for_it() {
    let (source, publication) = live("");
    let mut paused = TestPlayer::join(&source);
    send(&publication, &[key(0, 1)]);
    paused.got();
    paused.consumer.pause(true);
    paused.run();
    let mut slow = TestPlayer::with_room(&source, 0);
    slow.run();
    send(&publication, &[key(40, 2)]);
    assert_eq!(source.usage().players_behind, 1, "who does not read");
    assert_eq!(source.evict_players(9, &CloseReason::Memory("short".to_owned())), 1);
    assert!(paused.socket.closed.lock().unwrap().is_none());
}

#[test]
fn what_a_player_that_was_behind_has_kept_goes_with_it() {
    let (source, publication) = live("");
    let slow = TestPlayer::with_room(&source, 0);
    send(&publication, &[key(0, 1), inter(40, 2)]);
    publication.unpublish();
    assert!(log_bytes(&source) > 0, "it is still to get that");
    drop(slow);
    assert_eq!(log_bytes(&source), 0, "and not when its stream is forgotten, with all others of that second");
}

#[test]
fn of_players_those_go_that_have_taken_nothing_for_longest() {
    let (source, publication) = live("");
    let mut players: Vec<_> = (0..3).map(|_| TestPlayer::with_room(&source, 0)).collect();
    let mut caught_up = TestPlayer::join(&source);
    caught_up.got();
    for player in players.iter_mut().rev() {
        player.run();
        std::thread::sleep(Duration::from_millis(2));
    }
    send(&publication, &[key(0, 1), inter(40, 2)]);
    caught_up.got();
    assert_eq!(source.evict_players(1, &CloseReason::Memory("short".to_owned())), 1);
    let closed = |player: &TestPlayer| player.socket.closed.lock().unwrap().is_some();
    assert_eq!(players.iter().map(closed).collect::<Vec<_>>(), [false, false, true], "the last ran first");
    assert_eq!(source.evict_players(9, &CloseReason::Memory("short".to_owned())), 2, "each once");
    assert!(!closed(&caught_up));
}
