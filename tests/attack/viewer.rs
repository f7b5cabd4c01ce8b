//! An HLS viewer: reads the playlist again and again, and each segment once, in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::http_client::{Answer, Client};

/// Time between two requests for the playlist.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time without a new segment after which the stream counts as stopped. Segments last a second.
const STALLED_AFTER: Duration = Duration::from_secs(15);

const TS_PACKET: usize = 188;

/// Time of the last received segment; `None` before the first.
#[derive(Default)]
pub(crate) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Returns true if a segment has been received.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    /// Fails if the last segment is too long ago.
    pub(crate) fn assert_recent(&self) {
        let last = *self.0.lock().unwrap();
        let is_recent = last.is_none_or(|last| last.elapsed() < STALLED_AFTER);
        assert!(is_recent, "the healthy viewer has received no segment for {STALLED_AFTER:?}");
    }
}

/// Watches a stream over one persistent connection until `stop` is set. Panics if anything is missing or wrong.
pub(crate) fn watch(port: u16, stream: &str, progress: &Progress, stop: &AtomicBool) {
    let mut client = Client::new(port);
    let mut next: Option<u64> = None;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(POLL_INTERVAL);
        let playlist = get(&mut client, &format!("/live/{stream}.m3u8"));
        if playlist.status == 404 && next.is_none() {
            continue;
        }
        assert_eq!(playlist.status, 200, "{}", playlist.head);
        for number in segment_numbers(&playlist, stream) {
            if next.is_some_and(|next| number < next) {
                continue;
            }
            assert_eq!(number, next.unwrap_or(number), "the next segment");
            let segment = get(&mut client, &format!("/live/{stream}-{number}.ts"));
            assert_eq!(segment.status, 200, "{}", segment.head);
            let is_whole = segment.body.len() > TS_PACKET && segment.body.len().is_multiple_of(TS_PACKET);
            let is_ts = is_whole && segment.body.chunks(TS_PACKET).all(|packet| packet[0] == 0x47);
            assert!(is_ts, "segment {number} does not consist of TS packets");
            next = Some(number + 1);
            *progress.0.lock().unwrap() = Some(Instant::now());
        }
    }
}

fn get(client: &mut Client, path: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: healthy\r\n\r\n").as_bytes());
    client.answer(true).unwrap_or_else(|| panic!("{path}: the server closed the connection"))
}

/// Returns the segment numbers in a playlist.
fn segment_numbers(playlist: &Answer, stream: &str) -> Vec<u64> {
    let text = String::from_utf8(playlist.body.clone()).expect("a playlist is UTF-8");
    let number = |line: &str| line.strip_prefix(stream)?.strip_prefix('-')?.strip_suffix(".ts")?.parse().ok();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| number(line).expect(line)).collect()
}
