//! Attacks on `max_memory` by what the server charges to clients: incomplete messages, packet logs, HLS segments, downloads.

use std::thread;
use std::time::Duration;

use crate::attacker::Attacker;
use crate::common::process::eventually;
use crate::limits::{TIME_LIMIT, accepts};
use crate::rig::{Port, Rig, Setup};
use crate::rtmp::{
    VIDEO, connect_session, frame, header, keyframe, message, play_session, publish_session, set_max_chunk_size,
    single_chunk, video_header,
};

/// `max_memory` of the servers under attack, in bytes.
pub(crate) const MAX_MEMORY: usize = 32 << 20;

/// Memory of a client that is not charged, in bytes, as conf/full.conf documents it.
const BYTES_PER_CLIENT: usize = 20 * 1024;

#[test]
fn memory_of_publishers_and_players() {
    publishers_and_players(Port::Plain);
}

#[cfg(feature = "ssl")]
#[test]
fn memory_of_publishers_and_players_through_tls() {
    publishers_and_players(Port::Tls);
}

fn start(port: Port) -> Rig {
    Rig::start(Setup { root: &format!("max_memory {MAX_MEMORY};"), port, side_by_side: true, ..Setup::default() })
}

fn publishers_and_players(port: Port) {
    let mut rig = start(port);
    rig.attack_from_rest("publishers with incomplete messages", hold_messages);
    rig.attack_from_rest("players that fall behind", hold_packet_logs);
    rig.attack_from_rest("publishers with large segments", hold_segment_buffers);
    // The line is logged at most every five seconds.
    let count = reported_peaks(&rig).len();
    if rig.attack_from_rest("players that fall behind, again", hold_packet_logs) {
        eventually("the peak of charged memory is logged", TIME_LIMIT, || {
            (reported_peaks(&rig).len() > count).then_some(())
        });
        let peak = reported_peaks(&rig).into_iter().max().expect("waited for above");
        println!("    peak of charged memory: {peak} bytes");
        // An eighth above the limit, half of it for segments that wait for the disk, and what a hundred connections send at
        // once, in the stream and in its segment.
        let bound = MAX_MEMORY / 8 * 9 + MAX_MEMORY / 2 + 2 * 100 * 32 * 1024;
        assert!(peak <= bound, "{peak} bytes were charged, max_memory is {MAX_MEMORY}");
    }
    rig.finish();
}

/// Clients that neither publish nor play must not make the server disconnect those that do.
#[test]
fn memory_of_idle_clients() {
    let mut rig = start(Port::Plain);
    rig.attack_from_rest("idle clients that each hold less than the publisher", hold_little);
    rig.attack_from_rest("two clients that hold almost max_memory, and stay", hold_almost_all);
    rig.finish();
}

/// HTTP clients that do not read must not make the server disconnect publishers and players.
#[cfg(all(feature = "hls", feature = "http"))]
#[test]
fn memory_over_http() {
    let mut rig = start(Port::Plain);
    let file = std::fs::File::create(rig.scratch.folder().join("html/large.bin")).expect("HLS has created the folder");
    file.set_len(1 << 30).expect("a sparse file");
    rig.attack_from_rest("a thousand unread downloads of one file", hold_file);
    rig.attack_from_rest("unread downloads of many segments", hold_segments);
    for line in rig.server.log().lines().filter(|line| line.contains("memory limit reached: ")) {
        assert!(line.contains("publishers_closed=0 players_closed=0 others_closed=0"), "{line}");
    }
    rig.finish();
}

/// Sends incomplete messages of six times the limit.
fn hold_messages(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..rig.count(64, 1000, "publishers") {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.send(
            &[publish_session(format!("hold{n}")), set_max_chunk_size(), header(6, 0, 0xff_ffff, VIDEO, 1)].concat(),
        );
        attacker.send(&vec![0; 3 << 20]);
        all.push(attacker);
    }
    rig.server.wait_log(&["code=memory", "clients that hold most"], TIME_LIMIT);
    assert_within_limit(rig, 2 * all.len());
    drop(all);
    eventually("the server accepts clients again", TIME_LIMIT, || accepts(rig.rtmp, &connect_session()).then_some(()));
}

/// Holds 60 KB with each client; the healthy publisher holds 100 KB with its caches.
fn hold_little(rig: &Rig) {
    let mut all = Vec::new();
    for _ in 0..800 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        attacker.send(
            &[connect_session(), set_max_chunk_size(), header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 60_000]].concat(),
        );
        all.push(attacker);
    }
    rig.server.wait_log(&["code=memory", "clients that hold most"], TIME_LIMIT);
    assert_within_limit(rig, all.len());
}

/// Stays below the limit with two clients, but above the low watermark that new clients wait for; a third one exceeds it.
fn hold_almost_all(rig: &Rig) {
    let hold = |name: &str, size: usize| {
        let mut attacker = Attacker::connect(rig.rtmp)?;
        attacker.send(&[publish_session(name), set_max_chunk_size(), header(6, 0, 0xff_ffff, VIDEO, 1)].concat());
        attacker.send(&vec![0; size]);
        Some(attacker)
    };
    let two: Vec<_> = ["one", "two"].into_iter().filter_map(|name| hold(name, MAX_MEMORY / 32 * 15)).collect();
    let third = hold("three", MAX_MEMORY / 8);
    thread::sleep(Duration::from_millis(100));
    drop(third);
    rig.assert_new_players_served();
    drop(two);
}

/// Publishes GOPs of 8 MB to players that do not read.
fn hold_packet_logs(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..rig.count(8, 50, "streams") {
        let name = format!("log{n}");
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        publisher
            .send(&[publish_session(&name), set_max_chunk_size(), message(6, 0, VIDEO, 1, &video_header())].concat());
        for _ in 0..3 {
            let Some(mut player) = Attacker::connect(rig.rtmp) else { continue };
            player.shrink_receive_buffer();
            player.send(&play_session(&name));
            all.push(player);
        }
        for n in 0..400 {
            let payload = if n == 0 { keyframe(20_000) } else { frame(20_000) };
            publisher.send(&single_chunk(6, n * 40, VIDEO, &payload));
        }
        all.push(publisher);
    }
    rig.server.wait_log(&["memory limit reached: limit=", "held="], TIME_LIMIT);
    assert_within_limit(rig, 2 * all.len());
}

/// Publishes one segment of 6 MB a stream, and then next to nothing: the buffer of the next segment must not be as large.
fn hold_segment_buffers(rig: &Rig) {
    let mut all = Vec::new();
    for n in 0..rig.count(20, 100, "publishers") {
        let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
        publisher.send(&[publish_session(format!("buffer{n}")), set_max_chunk_size()].concat());
        publisher.send(&message(6, 0, VIDEO, 1, &video_header()));
        for n in 0..6 {
            let payload = if n == 0 { keyframe(1_000_000) } else { frame(1_000_000) };
            publisher.send(&single_chunk(6, n * 100, VIDEO, &payload));
        }
        publisher.send(&single_chunk(6, 1200, VIDEO, &keyframe(1000)));
        all.push(publisher);
        thread::sleep(Duration::from_millis(50));
    }
    assert_within_limit(rig, 2 * all.len());
}

/// Requests a file and reads nothing of it.
#[cfg(all(feature = "hls", feature = "http"))]
fn request_unread(rig: &Rig, path: &str) -> Option<Attacker> {
    let mut attacker = Attacker::connect(rig.http)?;
    attacker.shrink_receive_buffer();
    attacker.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    Some(attacker)
}

/// Makes the server read 128 KiB for each client: four times the limit.
#[cfg(all(feature = "hls", feature = "http"))]
fn hold_file(rig: &Rig) {
    let count = rig.count(1000, 4000, "downloads");
    let all: Vec<_> = (0..count).filter_map(|_| request_unread(rig, "/large.bin")).collect();
    eventually("the log reports closed downloads", TIME_LIMIT, || (responses_aborted(rig) > 0).then_some(()));
    assert_within_limit(rig, all.len());
    drop(all);
}

/// Returns the number of downloads closed for `max_memory`, according to the log.
#[cfg(all(feature = "hls", feature = "http"))]
fn responses_aborted(rig: &Rig) -> usize {
    memory_warnings(rig, "responses_aborted=").into_iter().sum()
}

/// Requests segments of 1 MB, five times the limit, that leave the playlist.
#[cfg(all(feature = "hls", feature = "http"))]
fn hold_segments(rig: &Rig) {
    let name = rig.unique_name("pinned");
    let mut publisher = Attacker::connect(rig.rtmp).expect("a connection");
    publisher.send(&[publish_session(&name), set_max_chunk_size(), message(6, 0, VIDEO, 1, &video_header())].concat());
    let before = responses_aborted(rig);
    let mut all = Vec::new();
    for n in 0..160_u32 {
        publisher.send(&single_chunk(6, n * 1100, VIDEO, &keyframe(1_000_000)));
        thread::sleep(Duration::from_millis(50));
        if let Some(last) = n.checked_sub(2) {
            all.extend(request_unread(rig, &format!("/live/{name}-{last}.ts")));
        }
    }
    let mut unread = 0;
    for attacker in &mut all {
        unread += usize::from(attacker.receive_some(Duration::from_millis(1)).starts_with(b"HTTP/1.1 200"));
    }
    println!("    {unread} segments requested");
    assert!(unread > 50, "too few segments: {unread}");
    eventually("the log reports closed downloads", TIME_LIMIT, || (responses_aborted(rig) > before).then_some(()));
    assert_within_limit(rig, all.len());
}

/// Returns the peaks of charged memory, in bytes, that the log reports.
fn reported_peaks(rig: &Rig) -> Vec<usize> {
    memory_warnings(rig, "peak=")
}

/// Returns the values of one key in all warnings of the memory limiter.
fn memory_warnings(rig: &Rig, key: &str) -> Vec<usize> {
    let log = rig.server.log();
    let lines = log.lines().filter(|line| line.contains("memory limit reached: "));
    let values = lines.filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix(key)));
    values.map(|value| value.parse().expect("a number")).collect()
}

/// Fails if more than `MAX_MEMORY` is charged, or if the peak of resident memory is too far above the level before the first
/// attack. `clients` is the highest number of clients, where a publisher counts twice.
pub(crate) fn assert_within_limit(rig: &Rig, clients: usize) {
    rig.wait_status("charged memory is within max_memory", |status| status.held <= MAX_MEMORY);
    let peak = usize::try_from(rig.process_kib("VmHWM")).expect("fits the address space") << 10;
    let growth = peak.saturating_sub(rig.memory_before());
    // Growing buffers have spare capacity, and the allocator keeps what was freed within the last second: incomplete messages
    // that grow and are cut off took 40 to 110 MB in 12 runs.
    let bound = 4 * MAX_MEMORY + clients * BYTES_PER_CLIENT;
    println!("    resident memory grew by {} MB at most, {} MB allowed", growth >> 20, bound >> 20);
    assert!(growth < bound, "resident memory grew by {} MB, {} MB allowed", growth >> 20, bound >> 20);
}
