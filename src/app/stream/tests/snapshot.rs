//! Tests of the numbers of a stream.

use super::super::ingest::IngestMeter;
use super::*;

#[test]
fn a_stream_that_is_not_published_has_its_name_and_its_players() {
    let source = source("");
    let player = TestPlayer::join(&source);
    let snapshot = source.snapshot();
    assert_eq!((snapshot.name.as_str(), snapshot.players, snapshot.forwarders), ("v/live/s", 1, 0));
    assert_eq!((snapshot.publisher, snapshot.ingest, snapshot.dropped), (None, None, 0));
    drop(player);
    assert_eq!(source.snapshot().players, 0);
}

#[test]
fn a_published_stream_tells_what_it_gets_and_what_it_drops() {
    let source = source("queue_length 1;");
    let start = Instant::now();
    let publication = acquire(&source, 7, Socket::new(0)).unwrap();
    source.with(|state| *state.publisher.as_mut().unwrap().ingest = IngestMeter::new(start));
    let send_at = |at: u64, message: Message| {
        let now = start + Duration::from_millis(at);
        publication.record_activity(now);
        publication.on_message(&message, now);
        publication.finish_round(now, |_| 0.0);
    };
    for header in [metadata(1), video_header(2), audio_header(3)] {
        send_at(0, header);
    }
    let slow = TestPlayer::with_room(&source, 0);
    let _forwarder = source.join_forwarder(Socket::new(0));
    // Keyframes of 305 bytes and audio of 3 bytes, 25 times a second.
    for n in 0..250u32 {
        send_at(u64::from(n) * 40, key(n * 40, 1));
        send_at(u64::from(n) * 40, audio(n * 40 + 10, 2));
    }
    let mut out = Vec::new();
    slow.consumer.fill(&mut out);
    let snapshot = source.snapshot_at(start + Duration::from_secs(10));
    let ingest = snapshot.ingest.unwrap();
    assert_eq!((snapshot.app.as_str(), snapshot.stream.as_str(), snapshot.publisher), ("live", "s", Some(7)));
    assert_eq!((snapshot.players, snapshot.forwarders), (1, 1));
    assert_eq!((ingest.messages, ingest.gop_ms, ingest.av_distance_ms, ingest.stalls), (503, Some(40), Some(-10), 0));
    // 305 bytes, 25 times a second, are 61 kbit/s; 75 bytes a second are less than one.
    assert_eq!((ingest.video_kbps, ingest.audio_kbps, ingest.frame_rate), (61, 0, 25.0));
    assert!(ingest.jitter_ms < 1.0 && snapshot.bytes_held > 0, "{ingest:?}");
    assert_eq!(snapshot.codecs.video.unwrap().to_string(), "H.264");
    let dropped = slow.consumer.stats().dropped;
    assert!(dropped > 400);
    assert_eq!(snapshot.dropped, dropped);
    drop(slow);
    assert_eq!(source.snapshot().dropped, dropped, "of those that have left too");
}
