//! Attacks on limited resources other than memory: descriptors, connections, time, and the worker's processor time.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Endpoint};
use crate::common::process::eventually;
use crate::rig::{Rig, Setup, StopOnDrop};
use crate::rtmp::{
    VIDEO, connect_session, create_stream, frame, handshake, header, keyframe, message, play_session, publish_session,
    video_header,
};

/// Time limit for the server to react.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn descriptors() {
    let mut rig = Rig::start(Setup { side_by_side: true, ..Setup::default() });
    rig.attack("RTMP clients take all descriptors", use_up_descriptors_by_rtmp);
    #[cfg(all(feature = "hls", feature = "http"))]
    if rig.attack_from_rest("HTTP clients take all descriptors", use_up_descriptors_by_http) {
        // HLS files need descriptors, too: viewers were served from memory meanwhile.
        rig.server.wait_log(&["HLS segments written to disk again"], TIME_LIMIT);
    }
    rig.finish();
}

/// Fills the server up to its connection limits: connected clients stay, others are refused with a reason, and later clients are accepted
/// again.
#[test]
fn connection_limits() {
    let mut rig = Rig::start(Setup {
        root: "max_connections 300; max_connections_per_address 200;",
        side_by_side: true,
        ..Setup::default()
    });
    rig.attack("all connections of one address", |rig| {
        let players: Vec<_> = (0..400).filter_map(|_| play_from(rig, 7)).collect();
        rig.server.wait_log(
            &["code=full", "too many clients from 127.0.0.7: max_connections_per_address is 200"],
            TIME_LIMIT,
        );
        rig.assert_new_players_served();
        drop(players);
    });
    rig.attack("all connections of the server", |rig| {
        let players: Vec<_> = (0..600_u16).filter_map(|n| play_from(rig, 10 + n.to_le_bytes()[0] % 20)).collect();
        rig.server.wait_log(&["code=full", "the server is full: max_connections is 300"], TIME_LIMIT);
        drop(players);
    });
    rig.finish();
}

/// Plays from the address 127.0.0.`last`.
fn play_from(rig: &Rig, last: u8) -> Option<Attacker> {
    let mut attacker = Attacker::connect_from(last, rig.rtmp)?;
    attacker.send(&play_session("healthy"));
    Some(attacker)
}

/// Checks each time limit: of clients that do not start, that stop in the middle, and that do not read.
#[test]
fn time_limits() {
    let mut rig = Rig::start(Setup {
        root: "handshake_timeout 1; command_timeout 2; send_timeout 1;",
        vhost: "publish { timeout 3; max_bitrate 20000; }",
        side_by_side: true,
        ..Setup::default()
    });
    rig.attack("clients that send nothing, half a handshake, or no command", |rig| {
        let half = handshake()[..1000].to_vec();
        let created = [connect_session(), create_stream()].concat();
        let mut groups = [Vec::new(), half, handshake(), connect_session(), created].map(|input| {
            let mut clients = Attacker::connect_many(20, rig.rtmp);
            for client in &mut clients {
                client.send(&input);
            }
            (input.len(), clients)
        });
        for (bytes, clients) in &mut groups {
            let are_closed = clients.iter_mut().all(|client| client.is_closed_within(TIME_LIMIT));
            assert!(are_closed && clients.len() == 20, "the server keeps clients that sent {bytes} bytes");
        }
        rig.server.wait_log(&["code=slow-start"], TIME_LIMIT);
    });
    rig.attack("publishers that send nothing, or stop in the middle of a message", |rig| {
        let half = [header(6, 0, 0xff_ffff, VIDEO, 1), vec![0; 100]].concat();
        let mut publishers = Vec::new();
        for (n, rest) in [Vec::new(), half].into_iter().cycle().take(20).enumerate() {
            let Some(mut publisher) = Attacker::connect(rig.rtmp) else { continue };
            publisher.send(&[publish_session(format!("stops{n}")), rest].concat());
            publishers.push(publisher);
        }
        let are_closed = publishers.iter_mut().all(|publisher| publisher.is_closed_within(TIME_LIMIT));
        assert!(are_closed, "the server keeps a silent publisher");
        rig.server.wait_log(&["code=silent-publisher"], TIME_LIMIT);
    });
    rig.attack("players that do not read", |rig| {
        let mut publisher = Attacker::connect(rig.rtmp).expect("a connection");
        publisher.send(&[publish_session("much"), message(6, 0, VIDEO, 1, &video_header())].concat());
        let mut players = Attacker::connect_many(20, rig.rtmp);
        for player in &mut players {
            player.shrink_receive_buffer();
            player.send(&play_session("much"));
        }
        for _ in 0..40 {
            publisher.send(&message(6, 0, VIDEO, 1, &keyframe(200_000)));
        }
        rig.server.wait_log(&["code=not-reading"], TIME_LIMIT);
    });
    rig.attack("a publisher that exceeds max_bitrate", |rig| {
        let mut attacker = Attacker::connect(rig.rtmp).expect("a connection");
        attacker.send(&[publish_session("fast"), message(6, 0, VIDEO, 1, &video_header())].concat());
        let burst = message(6, 0, VIDEO, 1, &keyframe(100_000));
        // The server sends the reason, and closes the connection a second later.
        let deadline = Instant::now() + TIME_LIMIT;
        while attacker.send(&burst) {
            assert!(Instant::now() < deadline, "the server keeps the publisher");
        }
        rig.server.wait_log(&["code=too-fast"], TIME_LIMIT);
    });
    rig.finish();
}

#[test]
fn overload() {
    // Without merged writes a player costs most.
    let mut rig = Rig::start(Setup { root: "max_busy 20;", vhost: "min_latency on;", ..Setup::default() });
    rig.attack("more players than the worker can serve", overload_by_players);
    rig.finish();
}

/// Start of an answer to an accepted client, over RTMP and over HTTP.
const ACCEPTED: [&[u8]; 2] = [b"NetConnection.Connect.Success", b"HTTP/1.1 200"];

/// Returns true if the server accepts a client that sends `request`.
pub(crate) fn accepts(endpoint: Endpoint, request: &[u8]) -> bool {
    Attacker::connect(endpoint).is_some_and(|mut attacker| {
        attacker.send(request);
        let answer = attacker.receive_for(Duration::from_millis(500));
        ACCEPTED.iter().any(|start| answer.windows(start.len()).any(|part| part == *start))
    })
}

/// Takes all descriptors that the server may have, and frees them.
fn use_up_descriptors(rig: &Rig, endpoint: Endpoint, request: &[u8], limit: Duration) {
    const SPARE: usize = 100;
    let before = limit_descriptors(rig, rig.count_descriptors() + SPARE);
    let mut clients = Attacker::connect_many(rig.count(400, 3000, "clients"), endpoint);
    for client in &mut clients {
        client.send(request);
    }
    thread::sleep(rig.seconds(3, 20));
    rig.server.wait_log(&["cannot accept clients"], limit);
    #[cfg(all(feature = "hls", feature = "http"))]
    rig.server.wait_log(&["HLS segments not written to disk", "Too many open files"], limit);
    drop(clients);
    eventually("the server accepts clients again", limit, || accepts(endpoint, request).then_some(()));
    limit_descriptors(rig, before);
}

fn use_up_descriptors_by_rtmp(rig: &Rig) {
    use_up_descriptors(rig, rig.rtmp, &connect_session(), TIME_LIMIT);
    rig.server.wait_log(&["accepting clients again"], TIME_LIMIT);
}

#[cfg(all(feature = "hls", feature = "http"))]
fn use_up_descriptors_by_http(rig: &Rig) {
    use_up_descriptors(rig, rig.http, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", TIME_LIMIT);
}

/// Limits the server's descriptors. Returns the previous limit.
fn limit_descriptors(rig: &Rig, limit: usize) -> usize {
    let pid = rig.server.pid().to_string();
    let prlimit = |arguments: &[&str]| {
        let output =
            Command::new("prlimit").args(["--pid", &pid]).args(arguments).output().expect("util-linux is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let before = prlimit(&["--nofile", "--output", "SOFT", "--noheadings"]);
    prlimit(&[&format!("--nofile={limit}:")]);
    before.trim().parse().expect("a number")
}

/// Adds players of a busy stream until the server disconnects the newest ones.
fn overload_by_players(rig: &Rig) {
    /// 600 take between 12 % and 25 % of the worker, depending on the machine and on what else it does.
    const MAX_PLAYERS: usize = 2000;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut publisher = Attacker::connect(rig.rtmp).expect("a connection");
            publisher.send(&publish_session("busy"));
            for n in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Small and frequent: writes cost the most.
                let frame = if n % 500 == 0 { keyframe(100) } else { frame(100) };
                let one = message(6, n * 2, VIDEO, 1, &frame);
                assert!(publisher.send(&one), "the publisher stays connected");
                thread::sleep(Duration::from_millis(2));
            }
        });
        let mut players: Vec<Attacker> = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(90);
        let mut log_read = Instant::now();
        loop {
            // With thousands of clients the log is long.
            if log_read.elapsed() > Duration::from_secs(1) {
                log_read = Instant::now();
                if rig.server.log_line(&["code=overload", "newest players are disconnected first"]).is_some() {
                    break;
                }
            }
            assert!(Instant::now() < deadline, "no overload with {} players", players.len());
            if players.len() < MAX_PLAYERS {
                players.extend((0..10).filter_map(|_| {
                    let mut player = Attacker::connect(rig.rtmp)?;
                    player.send(&play_session("busy"));
                    Some(player)
                }));
            }
            for player in &mut players {
                player.drain();
            }
        }
        println!("    {} players", players.len());
        rig.server.wait_log(&["server overloaded, new clients rejected:", "max_busy=20"], TIME_LIMIT);
    });
    rig.assert_new_players_served();
}
