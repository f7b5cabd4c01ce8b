//! Load shedding at `max_memory` and `max_busy`: which clients are closed, that they are told the reason, and that others do
//! not notice.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::flv::{Tag, VIDEO};
#[cfg(all(feature = "hls", feature = "http"))]
use crate::common::http_client::Client;
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, write_configuration};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
#[cfg(all(feature = "hls", feature = "http"))]
use crate::http;

const MIB: usize = 1 << 20;

/// Returns the bytes that the server charges, from its status.
fn charged_bytes(server: &mut Server) -> usize {
    let lines = |server: &Server| server.log().lines().filter(|line| line.contains("status: ")).count();
    let before = lines(server);
    server.process().signal(Signal::SIGHUP);
    eventually("the server logs its status", ANSWER_TIMEOUT, || (lines(server) > before).then_some(()));
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("status: ")).unwrap();
    let number = line.split("held=").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no held= in {line}"))
}

fn frame(number: u32, first: u8, size: usize) -> Tag {
    Tag { kind: VIDEO, timestamp: number * 40, payload: [&[first, 1, 0, 0, 0][..], &vec![7; size]].concat() }
}

/// A stream that must not be disturbed.
struct HealthyStream {
    publisher: Wire,
    player: Wire,
    sent: u32,
}

impl HealthyStream {
    fn start(server: &Server) -> HealthyStream {
        let publisher = Wire::publisher(server.port, "healthy");
        let player = Wire::player(server.port, "healthy");
        HealthyStream { publisher, player, sent: 0 }
    }

    fn send(&mut self, count: u32) {
        for _ in 0..count {
            let first = if self.sent.is_multiple_of(25) { 0x17 } else { 0x27 };
            self.publisher.send_tag(&frame(self.sent, first, 1000));
            self.sent += 1;
        }
        self.player.wait_frames(self.sent as usize);
        let times: Vec<_> = self.player.frames().map(|tag| tag.timestamp).collect();
        assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 40), "frames are missing: {times:?}");
        assert!(!self.publisher.closed && !self.player.closed);
    }
}

#[test]
fn those_who_hold_most_are_closed_when_memory_is_short() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "max_memory 8m;", ..Settings::default() });
    let mut healthy = HealthyStream::start(&server);
    healthy.send(30);
    // 18 MB of incomplete messages.
    let mut hogs: Vec<_> = (0..6).map(|n| Wire::publisher(server.port, &format!("hog{n}"))).collect();
    let most = frame(0, 0x17, 3 * MIB).payload;
    for hog in &mut hogs {
        hog.send_most_of_video(&most);
        healthy.send(5);
    }
    server.wait_log(&["code=memory", "clients that hold most"], ANSWER_TIMEOUT);
    server.wait_log(&["memory limit reached: limit=8388608", "held="], ANSWER_TIMEOUT);
    eventually("charged memory is within the limit", 3 * ANSWER_TIMEOUT, || {
        (charged_bytes(&mut server) <= 8 * MIB).then_some(())
    });
    healthy.send(30);
    eventually("all but two of six clients, which fit, are told", ANSWER_TIMEOUT, || {
        hogs.iter_mut().for_each(|hog| hog.receive_for(Duration::from_millis(20)));
        let is_told = |hog: &&Wire| hog.commands.iter().any(|command| command.description().contains("memory limit"));
        (hogs.iter().filter(is_told).count() >= 3).then_some(())
    });
    // The first line may precede the first closed client.
    server.wait_log(&["connections closed since start:", "memory="], 3 * ANSWER_TIMEOUT);
    drop(hogs);
    healthy.send(5);
    let of_healthy = 64 * 1024;
    eventually("their memory is released", ANSWER_TIMEOUT, || (charged_bytes(&mut server) <= of_healthy).then_some(()));
    eventually("new clients are accepted", ANSWER_TIMEOUT, || {
        (Wire::connect(server.port).try_connect_app("live", &[]).name == "_result").then_some(())
    });
    server.assert_healthy();
}

#[test]
fn caches_go_before_clients_when_memory_is_short() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "max_memory 8m;", ..Settings::default() });
    let mut healthy = HealthyStream::start(&server);
    healthy.send(30);
    // 3 MB each, in one GOP.
    let mut hogs: Vec<_> = (0..6).map(|n| Wire::publisher(server.port, &format!("hog{n}"))).collect();
    for hog in &mut hogs {
        for n in 0..60 {
            hog.send_tag(&frame(n, if n == 0 { 0x17 } else { 0x27 }, 50 * 1024));
        }
        healthy.send(5);
    }
    server.wait_log(&["memory limit reached:", "publishers_closed=0 players_closed=0 others_closed=0"], ANSWER_TIMEOUT);
    eventually("charged memory is within the limit", ANSWER_TIMEOUT, || {
        (charged_bytes(&mut server) <= 8 * MIB).then_some(())
    });
    for (n, hog) in hogs.iter_mut().enumerate() {
        let mut player = Wire::player(server.port, &format!("hog{n}"));
        hog.send_tag(&frame(60, 0x17, 100));
        player.wait("the next keyframe", ANSWER_TIMEOUT, |player| {
            player.frames().any(|tag| tag.payload.len() == 105).then_some(())
        });
        assert!(!hog.closed);
    }
    healthy.send(30);
    assert!(server.log_line(&["code=memory"]).is_none(), "no client was closed");
    server.assert_healthy();
}

#[test]
fn an_overload_sheds_the_newest_players_and_nobody_new_is_let_in() {
    let scratch = Scratch::new();
    // At such a low limit, one or two streams are too much.
    let settings = Settings { root: "max_busy 1;", ..Settings::default() };
    let mut server = Server::with(&scratch, settings);
    let mut publisher = Wire::publisher(server.port, "livestream");
    let mut players: Vec<_> = (0..3).map(|_| Wire::player(server.port, "livestream")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let sending = std::thread::spawn(move || {
        let mut number = 0_u32;
        while !stopped.load(Ordering::Relaxed) && !publisher.closed {
            // Small and frequent messages: a client with much data at once would be slowed down.
            publisher.send_tag(&frame(number, if number.is_multiple_of(25) { 0x17 } else { 0x27 }, 100));
            number += 1;
            std::thread::sleep(Duration::from_micros(500));
        }
        publisher
    });
    // Clients 2, 3 and 4 are told the reason.
    for player in players.iter_mut().rev() {
        let told = player.wait("what it is told", 3 * ANSWER_TIMEOUT, |player| {
            player.commands.iter().find(|command| command.code() == "NetStream.Play.Failed").cloned()
        });
        assert!(told.description().contains("overloaded"), "{told:?}");
    }
    server.wait_log(&["[2]", "code=overload"], ANSWER_TIMEOUT);
    let log = server.log();
    let order: Vec<_> = ["[4]", "[3]", "[2]"]
        .iter()
        .map(|client| log.lines().position(|line| line.contains(client) && line.contains("code=overload")))
        .collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "the newest players are closed first: {order:?}");
    let mut late = Wire::connect(server.port);
    let refused = late.try_connect_app("live", &[]);
    assert!(refused.name == "_error" && refused.description().contains("overloaded"), "{refused:?}");
    server.wait_log(&["server overloaded", "max_busy=1 "], ANSWER_TIMEOUT);
    // A reload removes the limit and ends its effect.
    let _: PathBuf = write_configuration(&scratch, server.port, Settings { root: "max_busy 0;", ..settings });
    server.process().signal(Signal::SIGHUP);
    eventually("new clients are accepted", ANSWER_TIMEOUT, || {
        (Wire::connect(server.port).try_connect_app("live", &[]).name == "_result").then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let publisher = sending.join().unwrap();
    assert!(!publisher.closed, "the publisher stays connected");
    server.assert_healthy();
}

#[cfg(all(feature = "hls", feature = "http"))]
#[test]
fn who_watches_over_http_goes_on_and_who_comes_is_told_to_wait_when_there_is_too_much_to_do() {
    let scratch = Scratch::new();
    let hls = "hls { enabled on; hls_path html; hls_fragment 1; }";
    let (mut server, port) = http::start(&scratch, "", Settings { vhost: hls, ..Settings::default() });
    let mut publisher = Wire::publisher(server.port, "livestream");
    publisher.send_tag(&Tag {
        kind: VIDEO,
        timestamp: 0,
        payload: vec![0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe0, 0],
    });
    // Frames of one NAL unit.
    let nalu = |number: u32, size: u32| {
        let first = if number.is_multiple_of(25) { 0x17 } else { 0x27 };
        let payload = [&[first, 1, 0, 0, 0][..], &size.to_be_bytes(), &vec![7; size as usize]].concat();
        Tag { kind: VIDEO, timestamp: number * 40, payload }
    };
    for number in 0..100 {
        publisher.send_tag(&nalu(number, 100));
    }
    const PLAYLIST: &str = "/live/livestream.m3u8";
    let mut viewer = Client::new(port);
    eventually("the stream is there", ANSWER_TIMEOUT, || (viewer.get(PLAYLIST, "").status == 200).then_some(()));
    // A viewer that got the playlist from disk, while it was being written, does not count as a viewer.
    assert_eq!(viewer.get(PLAYLIST, "").status, 200);
    // At such a low limit, one stream is too much. Requests over HTTP do not count.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let sending = std::thread::spawn(move || {
        let mut number = 100;
        while !stopped.load(Ordering::Relaxed) && !publisher.closed {
            publisher.send_tag(&nalu(number, 20 * 1024));
            number += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        publisher
    });
    let reconfigure = |server: &mut Server, max_busy: u32| {
        let path = scratch.file("srs.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        let text: String =
            text.lines().filter(|line| !line.starts_with("max_busy")).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, format!("max_busy {max_busy};\n{text}")).unwrap();
        server.process().signal(Signal::SIGHUP);
    };
    reconfigure(&mut server, 1);
    // Without requests: on a machine that runs others instead of the server, their time would hide what the stream takes.
    server.wait_log(&["server overloaded, new clients rejected"], 3 * ANSWER_TIMEOUT);
    let refused = eventually("new viewers get 503", 3 * ANSWER_TIMEOUT, || {
        let answer = Client::new(port).get(PLAYLIST, "");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.body).contains("overloaded"), "{refused:?}");
    assert_eq!(viewer.get(PLAYLIST, "").status, 200, "a known viewer is served");
    assert_eq!(Client::new(port).get("/none", "").status, 404, "other files are served during an overload");
    reconfigure(&mut server, 0);
    eventually("new clients are accepted", ANSWER_TIMEOUT, || {
        (Client::new(port).get(PLAYLIST, "").status == 200).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let publisher = sending.join().unwrap();
    assert!(!publisher.closed, "the publisher stays connected");
    server.assert_healthy();
}
