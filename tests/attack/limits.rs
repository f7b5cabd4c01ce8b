//! Attacks on what there is only so much of: descriptors, memory, the worker's time.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Target};
use crate::common::process::eventually;
use crate::rig::{Rig, Stop, times};
use crate::rtmp::{
    SET_CHUNK_SIZE, VIDEO, chunked, connected, create_stream, frame, handshake, header, keyframe, message, playing,
    publishing, video_header,
};

/// How long the server may take until it has room again.
const RELIEF: Duration = Duration::from_secs(20);

pub(crate) const MAX_MEMORY: usize = 32 << 20;

/// What a client takes beside, in bytes, as conf/full.conf has it.
const CLIENT: usize = 20 * 1024;

#[test]
fn descriptors() {
    let mut rig = Rig::plain("", "");
    rig.attack("no descriptor is left", no_descriptors);
    rig.attack("the same by HTTP", |rig| exhaust(rig, rig.http, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", RELIEF));
    // The disk needs them too: who watched went on from memory.
    #[cfg(feature = "hls")]
    rig.server.wait_log(&["HLS: segments are written to disk again"], RELIEF);
    rig.finish();
}

#[test]
fn memory() {
    memory_of(Rig::plain(&format!("max_memory {MAX_MEMORY};"), ""));
}

#[cfg(feature = "ssl")]
#[test]
fn memory_through_tls() {
    memory_of(Rig::encrypted(&format!("max_memory {MAX_MEMORY};"), ""));
}

fn memory_of(mut rig: Rig) {
    rig.attack("publishers that hold more than there may be", hold_messages);
    rig.attack("players that hold more than there may be", hold_backlogs);
    rig.attack("publishers whose next segment is to be as large as the last one", hold_buffers);
    // It is said at most every five seconds.
    let count = most_held(&rig).len();
    rig.attack("the same again", hold_backlogs);
    eventually("the most that was held is said", RELIEF, || (most_held(&rig).len() > count).then_some(()));
    let most = most_held(&rig).into_iter().max().expect("it was said");
    println!("    {most} bytes held at most");
    // An eighth more than there may be; half, since that is small, that waits for the disk; and what comes of some hundred connections
    // in one turn, in the stream and in its segment.
    let bound = MAX_MEMORY / 8 * 9 + MAX_MEMORY / 2 + 2 * 100 * 32 * 1024;
    assert!(most <= bound, "{most} bytes were held, and max_memory is {MAX_MEMORY}");
    rig.finish();
}

/// Who neither publishes nor plays takes nothing from those who do.
#[test]
fn memory_of_strangers() {
    let mut rig = Rig::plain(&format!("max_memory {MAX_MEMORY};"), "");
    rig.attack("strangers who each hold less than the publisher, and together more than there may be", hold_little);
    rig.attack("two who hold as much as there may be, and stay", hold_on);
    rig.finish();
}

/// What HTTP holds for those who do not take it is not paid for by those who publish and play.
#[cfg(feature = "hls")]
#[test]
fn memory_over_http() {
    let mut rig = Rig::plain(&format!("max_memory {MAX_MEMORY};"), "");
    let file = std::fs::File::create(rig.scratch.folder().join("html/large.bin")).expect("HLS has made the folder");
    file.set_len(1 << 30).expect("a sparse file");
    rig.attack("a file that a thousand ask for and do not read", hold_file);
    rig.attack("segments that are asked for and not read, each by another", hold_segments);
    for line in rig.server.log().lines().filter(|line| line.contains("memory limit reached: ")) {
        assert!(line.contains("publishers_closed=0 players_closed=0 others_closed=0"), "{line}");
    }
    rig.finish();
}

/// All places taken, by one address and by many: who is there stays there, others are told, and there is room again.
#[test]
fn places() {
    let mut rig = Rig::plain("max_connections 300; max_connections_per_address 200;", "");
    rig.attack("all places of one address", |rig| {
        let all: Vec<_> = (0..400).filter_map(|_| come(rig, 7)).collect();
        rig.server
            .wait_log(&["code=full", "too many clients from 127.0.0.7: max_connections_per_address is 200"], RELIEF);
        rig.assert_newcomers_play();
        drop(all);
    });
    rig.attack("all places there are", |rig| {
        let all: Vec<_> = (0..600_u16).filter_map(|n| come(rig, 10 + n.to_le_bytes()[0] % 20)).collect();
        rig.server.wait_log(&["code=full", "the server is full: max_connections is 300"], RELIEF);
        drop(all);
    });
    rig.finish();
}

/// One that plays, from an address of its own.
fn come(rig: &Rig, last: u8) -> Option<Attacker> {
    let mut attacker = Attacker::connect_from(last, rig.target)?;
    attacker.send(&playing("healthy"));
    Some(attacker)
}

/// Each time has its end: of those who do not begin, who do not go on, and who stop in the middle.
#[test]
fn time_limits() {
    let mut rig = Rig::plain(
        "handshake_timeout 1; command_timeout 2; send_timeout 1;",
        "publish { timeout 3; max_bitrate 20000; }",
    );
    rig.attack("nothing, half a handshake, and no command", |rig| {
        let half = handshake()[..1000].to_vec();
        let created = [connected(), create_stream()].concat();
        for said in [Vec::new(), half, handshake(), connected(), created] {
            let mut all: Vec<_> = (0..20).filter_map(|_| Attacker::connect(rig.target)).collect();
            for attacker in &mut all {
                attacker.send(&said);
            }
            let is_over = all.iter_mut().all(|attacker| attacker.is_closed_within(RELIEF));
            assert!(is_over && all.len() == 20, "{} bytes, and they stay", said.len());
        }
        rig.server.wait_log(&["code=slow-start"], RELIEF);
    });
    rig.attack("publishers that stop: before anything, and in the middle of a message", |rig| {
        let half = [header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 100]].concat();
        let mut all = Vec::new();
        for (n, rest) in [Vec::new(), half].into_iter().cycle().take(20).enumerate() {
            let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
            attacker.send(&[publishing(format!("stops{n}")), rest].concat());
            all.push(attacker);
        }
        assert!(all.iter_mut().all(|attacker| attacker.is_closed_within(RELIEF)), "a silent publisher stays");
        rig.server.wait_log(&["code=silent-publisher"], RELIEF);
    });
    rig.attack("players that read nothing", |rig| {
        let mut publisher = Attacker::connect(rig.target).expect("a connection");
        publisher.send(&[publishing("much"), message(6, 0, VIDEO, 1, &video_header())].concat());
        let mut all: Vec<_> = (0..20).filter_map(|_| Attacker::connect(rig.target)).collect();
        for player in &mut all {
            player.shrink_receive_buffer();
            player.send(&playing("much"));
        }
        for _ in 0..40 {
            publisher.send(&message(6, 0, VIDEO, 1, &keyframe(200_000)));
        }
        rig.server.wait_log(&["code=not-reading"], RELIEF);
    });
    rig.attack("a publisher of more than max_bitrate", |rig| {
        let mut attacker = Attacker::connect(rig.target).expect("a connection");
        attacker.send(&[publishing("fast"), message(6, 0, VIDEO, 1, &video_header())].concat());
        let burst = message(6, 0, VIDEO, 1, &keyframe(100_000));
        // It is listened to for a second when it has been told.
        let deadline = Instant::now() + RELIEF;
        while attacker.send(&burst) {
            assert!(Instant::now() < deadline, "it goes on");
        }
        rig.server.wait_log(&["code=too-fast"], RELIEF);
    });
    rig.finish();
}

#[test]
fn overload() {
    // No merging: a player is to cost as much as it can.
    let mut rig = Rig::plain("max_busy 20;", "min_latency on;");
    rig.attack("more players than the worker can serve", crowd);
    rig.finish();
}

/// What those hear who are let in: over RTMP, and over HTTP.
const WELCOME: [&[u8]; 2] = [b"NetConnection.Connect.Success", b"HTTP/1.1 200"];

/// Whether a newcomer is let in.
fn is_let_in(target: Target, says: &[u8]) -> bool {
    Attacker::connect(target).is_some_and(|mut attacker| {
        attacker.send(says);
        let heard = attacker.hear(Duration::from_millis(500));
        WELCOME.iter().any(|welcome| heard.windows(welcome.len()).any(|part| part == *welcome))
    })
}

/// Takes all descriptors that the server may have, and gives them back.
fn exhaust(rig: &Rig, target: Target, says: &[u8], limit: Duration) {
    let spare = 100;
    let few = rig.count_descriptors() + spare;
    let before = limit_descriptors(rig, few);
    let mut all: Vec<_> = (0..times(400, 3000)).filter_map(|_| Attacker::connect(target)).collect();
    for attacker in &mut all {
        attacker.send(says);
    }
    thread::sleep(Duration::from_secs(times(3, 20) as u64));
    rig.server.wait_log(&["cannot accept clients"], limit);
    #[cfg(feature = "hls")]
    rig.server.wait_log(&["HLS: ", "segments were not written to disk lately", "Too many open files"], limit);
    drop(all);
    eventually("newcomers are let in", limit, || is_let_in(target, says).then_some(()));
    limit_descriptors(rig, before);
}

fn no_descriptors(rig: &Rig) {
    exhaust(rig, rig.target, &connected(), RELIEF);
    rig.server.wait_log(&["accepting clients again"], RELIEF);
}

/// Sets how many descriptors the server may have. How many it was before.
fn limit_descriptors(rig: &Rig, limit: usize) -> usize {
    let pid = rig.server.pid().to_string();
    let prlimit = |arguments: &[&str]| {
        let output =
            Command::new("prlimit").args(["--pid", &pid]).args(arguments).output().expect("util-linux is here");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let before = prlimit(&["--nofile", "--output", "SOFT", "--noheadings"]);
    prlimit(&[&format!("--nofile={limit}:")]);
    before.trim().parse().expect("a number")
}

/// Messages that do not end: 6 times what may be held.
fn hold_messages(rig: &Rig) {
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let mut all = Vec::new();
    for n in 0..times(64, 1000) {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        attacker.send(&[publishing(format!("hold{n}")), large.clone(), header(6, 0, 0xff_ffff, VIDEO, 1)].concat());
        attacker.send(&vec![0; 3 << 20]);
        all.push(attacker);
    }
    rig.server.wait_log(&["code=memory", "clients that hold most"], RELIEF);
    assert_within_limit(rig, 2 * all.len());
    drop(all);
    eventually("newcomers are let in", RELIEF, || is_let_in(rig.target, &connected()).then_some(()));
}

/// The healthy publisher holds a tenth of a megabyte, with its caches.
fn hold_little(rig: &Rig) {
    let mut all = Vec::new();
    for _ in 0..800 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
        attacker.send(&[connected(), large, header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 60_000]].concat());
        all.push(attacker);
    }
    rig.server.wait_log(&["code=memory", "clients that hold most"], RELIEF);
    assert_within_limit(rig, all.len());
}

/// Less than the limit, and more than what is to be free before anybody new is let in.
fn hold_on(rig: &Rig) {
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let hold = |name: &str, size: usize| {
        let mut attacker = Attacker::connect(rig.target)?;
        attacker.send(&[publishing(name), large.clone(), header(6, 0, 0xff_ffff, VIDEO, 1)].concat());
        attacker.send(&vec![0; size]);
        Some(attacker)
    };
    let two: Vec<_> = ["one", "two"].into_iter().filter_map(|name| hold(name, MAX_MEMORY / 32 * 15)).collect();
    let third = hold("three", MAX_MEMORY / 8);
    thread::sleep(Duration::from_millis(100));
    drop(third);
    rig.assert_newcomers_play();
    drop(two);
}

/// Streams in GOPs of 8 MB each, with players that do not read.
fn hold_backlogs(rig: &Rig) {
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let mut all = Vec::new();
    for n in 0..times(8, 50) {
        let name = format!("backlog{n}");
        let Some(mut publisher) = Attacker::connect(rig.target) else { continue };
        publisher.send(&[publishing(&name), large.clone(), message(6, 0, VIDEO, 1, &video_header())].concat());
        for _ in 0..3 {
            let Some(mut player) = Attacker::connect(rig.target) else { continue };
            player.shrink_receive_buffer();
            player.send(&playing(&name));
            all.push(player);
        }
        for n in 0..400 {
            let payload = if n == 0 { keyframe(20_000) } else { frame(20_000) };
            publisher.send(&chunked(6, n * 40, VIDEO, 1, &payload, 0xff_ffff));
        }
        all.push(publisher);
    }
    rig.server.wait_log(&["memory limit reached: limit=", "held="], RELIEF);
    assert_within_limit(rig, 2 * all.len());
}

/// A large segment from each, and then next to nothing: the buffer for the next one is as large.
fn hold_buffers(rig: &Rig) {
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let mut all = Vec::new();
    for n in 0..times(20, 100) {
        let Some(mut publisher) = Attacker::connect(rig.target) else { continue };
        publisher.send(&[publishing(format!("buffer{n}")), large.clone()].concat());
        publisher.send(&message(6, 0, VIDEO, 1, &video_header()));
        for n in 0..6 {
            let payload = if n == 0 { keyframe(1_000_000) } else { frame(1_000_000) };
            publisher.send(&chunked(6, n * 100, VIDEO, 1, &payload, 0xff_ffff));
        }
        publisher.send(&chunked(6, 1200, VIDEO, 1, &keyframe(1000), 0xff_ffff));
        all.push(publisher);
        thread::sleep(Duration::from_millis(50));
    }
    assert_within_limit(rig, 2 * all.len());
}

/// Asks for a file and reads nothing of it.
#[cfg(feature = "hls")]
fn ask_for(rig: &Rig, path: &str) -> Option<Attacker> {
    let mut attacker = Attacker::connect(rig.http)?;
    attacker.shrink_receive_buffer();
    attacker.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    Some(attacker)
}

/// Pieces of 128 KiB: 4 times what may be held.
#[cfg(feature = "hls")]
fn hold_file(rig: &Rig) {
    let all: Vec<_> = (0..times(1000, 4000)).filter_map(|_| ask_for(rig, "/large.bin")).collect();
    eventually("it is said that downloads were ended", RELIEF, || (downloads_ended(rig) > 0).then_some(()));
    assert_within_limit(rig, all.len());
    drop(all);
}

/// Returns the number of downloads closed for `max_memory`, according to the log.
#[cfg(feature = "hls")]
fn downloads_ended(rig: &Rig) -> usize {
    memory_warnings(rig, "downloads_closed=").into_iter().sum()
}

/// Segments of 1 MB that leave the playlist, 5 times what may be held.
#[cfg(feature = "hls")]
fn hold_segments(rig: &Rig) {
    let large = message(2, 0, SET_CHUNK_SIZE, 0, &0xff_ffff_u32.to_be_bytes());
    let mut publisher = Attacker::connect(rig.target).expect("a connection");
    publisher.send(&[publishing("pin"), large, message(6, 0, VIDEO, 1, &video_header())].concat());
    let before = downloads_ended(rig);
    let mut all = Vec::new();
    for n in 0..160_u32 {
        publisher.send(&chunked(6, n * 1100, VIDEO, 1, &keyframe(1_000_000), 0xff_ffff));
        thread::sleep(Duration::from_millis(50));
        if let Some(last) = n.checked_sub(2) {
            all.extend(ask_for(rig, &format!("/live/pin-{last}.ts")));
        }
    }
    let mut unread = 0;
    for attacker in &mut all {
        unread += usize::from(attacker.hear_some(Duration::from_millis(1)).starts_with(b"HTTP/1.1 200"));
    }
    println!("    {unread} segments were asked for");
    assert!(unread > 50, "those were no segments");
    eventually("it is said that downloads were ended", RELIEF, || (downloads_ended(rig) > before).then_some(()));
    assert_within_limit(rig, all.len());
}

/// Returns the peaks of charged memory, in bytes, that the log reports.
fn most_held(rig: &Rig) -> Vec<usize> {
    memory_warnings(rig, "peak=")
}

/// Returns the values of one key in all warnings of the memory limiter.
fn memory_warnings(rig: &Rig, key: &str) -> Vec<usize> {
    let log = rig.server.log();
    let lines = log.lines().filter(|line| line.contains("memory limit reached: "));
    let values = lines.filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix(key)));
    values.map(|value| value.parse().expect("a number")).collect()
}

/// `clients`: how many there were at most, where one that publishes is two.
pub(crate) fn assert_within_limit(rig: &Rig, clients: usize) {
    rig.wait_status("no more is held than may be", |status| status.held <= MAX_MEMORY);
    let most = usize::try_from(rig.process("VmHWM")).expect("kilobytes") << 10;
    let more = most.saturating_sub(rig.memory());
    println!("    {} MB more than before, at most", more >> 20);
    // Buffers that grow have room for more than is in them, and what is freed is not given back at once.
    let bound = 3 * MAX_MEMORY + clients * CLIENT;
    assert!(more < bound, "{} MB, and it may be {}", more >> 20, bound >> 20);
}

/// Players of a busy stream, more and more of them, until those are shed that came last.
fn crowd(rig: &Rig) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut publisher = Attacker::connect(rig.target).expect("a connection");
            publisher.send(&publishing("busy"));
            for n in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Often and little: it is writes that cost.
                let frame = if n % 500 == 0 { keyframe(100) } else { frame(100) };
                let one = message(6, n * 2, VIDEO, 1, &frame);
                assert!(publisher.send(&one), "its publisher stays");
                thread::sleep(Duration::from_millis(2));
            }
        });
        let mut all: Vec<Attacker> = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(90);
        let mut looked = Instant::now();
        loop {
            // A log of thousands of clients is long.
            if looked.elapsed() > Duration::from_secs(1) {
                looked = Instant::now();
                if rig.server.log_line(&["code=overload", "newest players are disconnected first"]).is_some() {
                    break;
                }
            }
            assert!(Instant::now() < deadline, "{} players and no overload", all.len());
            if all.len() < 600 {
                all.extend((0..10).filter_map(|_| {
                    let mut player = Attacker::connect(rig.target)?;
                    player.send(&playing("busy"));
                    Some(player)
                }));
            }
            for player in &mut all {
                player.take_what_is_there();
            }
        }
        println!("    {} players", all.len());
        rig.server.wait_log(&["server overloaded, new clients rejected:", "max_busy=20"], RELIEF);
    });
    rig.assert_newcomers_play();
}
