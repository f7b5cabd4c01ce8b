//! One who watches over HTTP, as players of HLS do: the playlist again and again, and each segment once, in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http_client::{Answer, Client};

/// How often it looks for a new segment.
const LOOK: Duration = Duration::from_millis(500);

/// Segments have a second: after so long without one the stream has stopped.
const STALLED: Duration = Duration::from_secs(15);

const PACKET: usize = 188;

/// When the viewer had its last segment; `None` before the first.
#[derive(Default)]
pub(crate) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Fails when a viewer that has begun does not get on.
    pub(crate) fn assert_recent(&self) {
        let last = *self.0.lock().unwrap();
        assert!(last.is_none_or(|last| last.elapsed() < STALLED), "the healthy viewer has no segment for {STALLED:?}");
    }
}

/// Watches a stream until `stop`, on a connection that stays. Whatever is missing or wrong is a panic.
pub(crate) fn watch(port: u16, stream: &str, progress: &Progress, stop: &AtomicBool) {
    let mut client = Client::new(port);
    let mut next: Option<u64> = None;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let playlist = get(&mut client, &format!("/live/{stream}.m3u8"));
        if playlist.status == 404 && next.is_none() {
            continue;
        }
        assert_eq!(playlist.status, 200, "{}", playlist.head);
        for number in numbers(&playlist, stream) {
            if next.is_some_and(|next| number < next) {
                continue;
            }
            assert_eq!(number, next.unwrap_or(number), "the next segment");
            let segment = get(&mut client, &format!("/live/{stream}-{number}.ts"));
            assert_eq!(segment.status, 200, "{}", segment.head);
            let is_whole = segment.body.len() > PACKET && segment.body.len().is_multiple_of(PACKET);
            assert!(is_whole && segment.body.chunks(PACKET).all(|packet| packet[0] == 0x47), "segment {number}");
            next = Some(number + 1);
            *progress.0.lock().unwrap() = Some(Instant::now());
        }
    }
}

fn get(client: &mut Client, path: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: healthy\r\n\r\n").as_bytes());
    client.answer(true).unwrap_or_else(|| panic!("{path}: the server closes the connection"))
}

/// The numbers of the segments that a playlist names.
fn numbers(playlist: &Answer, stream: &str) -> Vec<u64> {
    let text = String::from_utf8(playlist.body.clone()).expect("a playlist is text");
    let number = |line: &str| line.strip_prefix(stream)?.strip_prefix('-')?.strip_suffix(".ts")?.parse().ok();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| number(line).expect(line)).collect()
}
