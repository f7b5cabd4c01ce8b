//! Close reasons, traffic and summaries in the log, and connections that wait for free descriptors.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::flv::{Tag, VIDEO};
use crate::common::scratch::Scratch;
use crate::common::server::{self, Server, Settings};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::tools::need;

fn frame(number: u32) -> Tag {
    let first = if number == 0 { 0x17 } else { 0x27 };
    Tag { kind: VIDEO, timestamp: number * 40, payload: vec![first, 1, 0, 0, 0, number.to_le_bytes()[0]] }
}

#[test]
fn each_close_says_why_and_what_passed() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut publisher = Wire::publisher(server.port, "livestream");
    let mut player = Wire::player(server.port, "livestream");
    (0..5).for_each(|number| publisher.send_tag(&frame(number)));
    player.wait_frames(5);
    let mut late = Wire::connect(server.port);
    late.connect_app("live");
    let id = late.create_stream();
    late.publish(id, "livestream");
    late.wait_closed(ANSWER_TIMEOUT);
    server.wait_log(&["[3]", "code=busy", "published by client 1", " messages=0 "], ANSWER_TIMEOUT);
    drop(publisher);
    server.wait_log(&["[1]", "code=by-peer", " messages=5 dropped=0"], ANSWER_TIMEOUT);
    drop(player);
    // Five frames, and possibly a stream status.
    let line = server.wait_log(&["[2]", "code=by-peer", " dropped=0"], ANSWER_TIMEOUT);
    let value = |key: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(key));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {key} in {line}"))
    };
    assert!(value("messages=") >= 5 && value("bytes_in=") > 3073 && value("bytes_out=") > 3073, "{line}");
    let totals = server.wait_log(&["connections closed since start: by-peer=2 busy=1"], 3 * ANSWER_TIMEOUT);
    assert!(totals.contains("[0]"), "{totals}");
    server.assert_healthy();
}

#[test]
fn the_summary_lines_show_client_and_stage() {
    let scratch = Scratch::new();
    let settings = Settings { root: "pithy_print { publish 300; play 100; }", ..Settings::default() };
    let mut server = Server::with(&scratch, settings);
    let mut publisher = Wire::publisher(server.port, "livestream");
    let mut players: Vec<_> = (0..2).map(|_| Wire::player(server.port, "livestream")).collect();
    (0..3).for_each(|number| publisher.send_tag(&frame(number)));
    players.iter_mut().for_each(|player| player.wait_frames(3));
    let line = server.wait_log(&["[1]", "<- clock=", "msgs=3,", "; clients=1, msgs=3,"], ANSWER_TIMEOUT);
    for rate in ["okbps=", "ikbps="] {
        let counts: Vec<_> =
            line.split(rate).skip(1).map(|rest| rest.split(", ").next().map(|all| all.split(',').count())).collect();
        assert_eq!(counts, [Some(3), Some(2)], "{line}");
    }
    for client in ["[2]", "[3]"] {
        server.wait_log(&[client, "-> clock=", "drops=0; clients=2, msgs="], ANSWER_TIMEOUT);
    }
    // Clients that have left stay in the sums.
    drop(players.pop());
    server.wait_log(&["[2]", "-> clock=", "msgs=3,", "clients=1, msgs=6,"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn without_descriptors_clients_wait_and_then_come_in() {
    /// More descriptors than the server needs for itself, fewer than its clients need.
    const LIMIT: &str = "--nofile=40:40";
    let prlimit = need!(prlimit);
    let scratch = Scratch::new();
    let started = (0..5).find_map(|_| {
        let port = server::free_port();
        let configuration = server::write_configuration(&scratch, port, Settings::default());
        let prlimit = prlimit.to_str().expect("a path in ASCII");
        Server::run_under(&scratch, port, &configuration, &[prlimit, LIMIT])
    });
    let mut server = started.expect("one of five ports is free");
    let player = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    // The kernel accepts the connections, the server cannot.
    let crowd: Vec<_> =
        (0..60).map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("the kernel takes it in")).collect();
    server.wait_log(&["cannot accept clients"], ANSWER_TIMEOUT);
    let began = Instant::now();
    // Connected clients are served meanwhile, and the log gets one line in five seconds.
    let mut player = player;
    (0..25).for_each(|number| {
        publisher.send_tag(&frame(number));
        std::thread::sleep(Duration::from_millis(40));
    });
    player.wait_frames(25);
    let said = server.log().matches("cannot accept clients").count();
    let most = 2 + began.elapsed().as_secs() / 5;
    assert!(said as u64 <= most, "logged {said} times:\n{}", server.log());
    drop(crowd);
    server.wait_log(&["accepting clients again"], ANSWER_TIMEOUT);
    let mut late = Wire::player(server.port, "livestream");
    publisher.send_tag(&frame(25));
    late.wait_frames(1);
    server.assert_healthy();
}
