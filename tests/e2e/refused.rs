//! Refused clients: they are told the reason, the log has it, and other clients do not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::align::Aligned;
use crate::common::amf::Amf;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings};
use crate::common::wire::{ANSWER_TIMEOUT, Command, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Waits for the refusal, which must have a reason, and for the end of the connection.
fn wait_refusal(wire: &mut Wire) -> Command {
    let refused = wire.wait_command("a refusal", |command| match command.arguments.get(1) {
        Some(information) => command.name == "_error" || information.get_text("level") == "error",
        None => false,
    });
    assert!(!refused.description().is_empty(), "no reason in {refused:?}");
    wire.wait_closed(ANSWER_TIMEOUT);
    refused
}

/// Sends `bytes` to the port and waits until the server closes the connection. Returns the time that this took.
fn time_until_closed(port: u16, bytes: &[u8], limit: Duration) -> Duration {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    socket.set_read_timeout(Some(limit)).expect("a socket option");
    let began = Instant::now();
    socket.write_all(bytes).expect("a few bytes are taken");
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return began.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return began.elapsed(),
            Err(error) => panic!("the server did not close the connection within {limit:?}: {error}"),
        }
    }
}

#[test]
fn what_a_client_said_is_forgotten_before_its_refusal_is_waited_for() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { vhost: "enabled off;", ..Settings::default() });
    let status = format!("/proc/{}/status", server.pid());
    let memory = || {
        let status = std::fs::read_to_string(&status).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of proc(5)");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u32>().ok()).expect("a number") / 1024
    };
    // 60,000 values of one byte each on the wire, and of some 40 bytes in memory.
    let more = [("junk", Amf::Array(vec![Amf::Null; 59_000]))];
    let before = memory();
    let refused: Vec<_> = (0..40)
        .map(|_| {
            let mut wire = Wire::connect(server.port);
            let answer = wire.try_connect_app("live", &more);
            assert_eq!(answer.code(), "NetConnection.Connect.Rejected");
            wire
        })
        .collect();
    // The server waits until each client has read the refusal and closed.
    let after = memory();
    drop(refused);
    assert!(after < before + 40, "memory grew from {before} MB to {after} MB");
    server.assert_healthy();
}

#[test]
fn what_is_not_rtmp_is_closed_at_once() {
    // Far below the time limit of a handshake.
    const SHORT: Duration = Duration::from_secs(20);
    let scratch = Scratch::new();
    let settings = Settings { root: "handshake_timeout 10m;", ..Settings::default() };
    let mut server = Server::with(&scratch, settings);
    // Input of a browser, and of an RTMPS client.
    time_until_closed(
        server.port,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        SHORT,
    );
    server.wait_log(&["http"], ANSWER_TIMEOUT);
    let hello = [[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03].as_slice(), &[7; 506]].concat();
    time_until_closed(server.port, &hello, SHORT);
    server.wait_log(&["tls"], ANSWER_TIMEOUT);
    // RTMPE, and an unknown version.
    time_until_closed(server.port, &[6; 1537], SHORT);
    time_until_closed(server.port, &[99; 1537], SHORT);
    server.wait_log(&["unknown protocol"], ANSWER_TIMEOUT);
    // The server keeps running.
    Wire::connect(server.port).connect_app("live");
    server.assert_healthy();
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    time_until_closed(server.port, &[], Duration::from_secs(60));
    server.assert_healthy();
}

#[test]
fn ffmpeg_is_told_that_the_stream_is_busy() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    server.wait_players(1);
    let mut first = publish(&scratch, "first", &ffmpeg, source, &url, &[]);
    eventually("the player has 1 s", CLIENT_TIMEOUT, || (player.frames() > 1000 / 40 + 1000 / 24).then_some(()));
    let mut second = publish(&scratch, "second", &ffmpeg, source, &url, &[]);
    let refused = second.wait(CLIENT_TIMEOUT);
    assert!(!refused.success(), "the second publisher ended with {refused}");
    assert!(first.ended().is_none(), "the first publisher ended");
    // ffmpeg shows the description of a refusal, not its code, which the next test checks.
    let said = second.log().to_lowercase();
    assert!(
        said.contains("server error") && said.contains("livestream"),
        "what ffmpeg says is not the reason:\n{said}"
    );
    first.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    server.assert_healthy();
}

#[test]
fn a_second_publisher_is_told_bad_name() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    let mut first = Wire::publisher(server.port, "livestream");
    let frame =
        |number: u32| Tag { kind: VIDEO, timestamp: number * 40, payload: vec![0x14, 0, number.to_le_bytes()[0]] };
    first.send_tag(&frame(0));

    let mut second = Wire::connect(server.port);
    second.connect_app("live");
    let id = second.create_stream();
    second.publish(id, "livestream");
    assert_eq!(wait_refusal(&mut second).code(), "NetStream.Publish.BadName");

    first.send_tag(&frame(1));
    player.wait_frames(2);
    assert!(!first.closed, "the first publisher continues");
    server.assert_healthy();
}

#[test]
fn of_publishers_that_race_exactly_one_wins() {
    const PUBLISHERS: usize = 8;
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut racers: Vec<Wire> = (0..PUBLISHERS)
        .map(|_| {
            let mut wire = Wire::connect(server.port);
            wire.connect_app("live");
            assert_eq!(wire.create_stream(), 1, "the first message stream");
            wire
        })
        .collect();
    racers.iter_mut().for_each(|wire| wire.publish(1, "livestream"));
    let won = |wire: &mut Wire| {
        let answer = wire.wait_command("an onStatus", |command| command.name == "onStatus");
        answer.code() == "NetStream.Publish.Start"
    };
    let winners = racers.iter_mut().map(won).filter(|won| *won).count();
    assert_eq!(winners, 1, "one of {PUBLISHERS} publishers of the same name");
    server.assert_healthy();
}

#[test]
fn a_silent_publisher_loses_its_name_to_a_new_one() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { vhost: "publish { stall_timeout 1; }", ..Settings::default() });
    let mut player = Wire::player(server.port, "livestream");
    let mut stalled = Wire::publisher(server.port, "livestream");
    stalled.send_tag(&Tag { kind: VIDEO, timestamp: 0, payload: vec![0x14, 0, 1] });
    player.wait_frames(1);
    std::thread::sleep(Duration::from_millis(1500));
    let mut new = Wire::publisher(server.port, "livestream");
    new.send_tag(&Tag { kind: VIDEO, timestamp: 0, payload: vec![0x14, 0, 2] });
    player.wait_frames(2);
    stalled.wait_closed(ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn refer_lets_in_its_own_pages_only() {
    let (ffmpeg, rtmpdump) = (need!(ffmpeg), need!(rtmpdump));
    let scratch = Scratch::new();
    // Publishing is not restricted: ffmpeg sends no page URL.
    let mut server = Server::with(&scratch, Settings { vhost: "refer_play github.com;", ..Settings::default() });
    let (source, url) = (media::h264_aac(&ffmpeg), server.url("livestream"));
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    server.wait_publishers(1);
    for (name, page) in
        [("evil", Some("http://evilgithub.com/page")), ("path", Some("http://a.b/github.com")), ("none", None)]
    {
        let options: Vec<&str> = page.into_iter().flat_map(|page| ["--pageUrl", page]).collect();
        let mut player = Player::rtmpdump(&scratch, name, &rtmpdump, &url, &options);
        let status = player.process().wait(CLIENT_TIMEOUT);
        assert!(!status.success(), "rtmpdump with the page {page:?} ended with {status}");
        assert_eq!(player.frames(), 0, "frames that rtmpdump with the page {page:?} got");
    }
    server.wait_log(&["refused", "evilgithub.com"], ANSWER_TIMEOUT);
    let options = ["--pageUrl", "http://www.github.com/page"];
    let player = Player::rtmpdump(&scratch, "allowed", &rtmpdump, &url, &options);
    publisher.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_to_the_end().assert_one_shift();
    server.assert_healthy();
}

#[test]
fn refer_publish_and_refer_tell_why() {
    let scratch = Scratch::new();
    let settings = Settings {
        vhost: "refer_publish github.com;",
        vhosts: "vhost strict.example.com { refer github.com; }",
        ..Settings::default()
    };
    let mut server = Server::with(&scratch, settings);
    let mut publisher = Wire::connect(server.port);
    publisher.connect_app("live");
    let id = publisher.create_stream();
    publisher.publish(id, "livestream");
    wait_refusal(&mut publisher);

    let mut allowed = Wire::connect(server.port);
    let page = [("pageUrl", Amf::text("https://GitHub.com/page"))];
    assert_eq!(allowed.try_connect_app("live", &page).name, "_result");
    let id = allowed.create_stream();
    allowed.publish(id, "livestream");
    allowed.wait_status("NetStream.Publish.Start");

    let mut strict = Wire::connect(server.port);
    let page =
        [("pageUrl", Amf::text("http://evilgithub.com/")), ("tcUrl", Amf::text("rtmp://strict.example.com/live"))];
    let answer = strict.try_connect_app("live", &page);
    assert_eq!(answer.name, "_error", "{answer:?}");
    assert!(!answer.description().is_empty(), "no reason in {answer:?}");
    strict.wait_closed(ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn the_client_over_the_limit_is_told_why() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "max_connections 2;", ..Settings::default() });
    let first = Wire::player(server.port, "livestream");
    let second = Wire::player(server.port, "livestream");
    let mut third = Wire::connect(server.port);
    let answer = third.try_connect_app("live", &[]);
    assert_eq!(answer.name, "_error", "{answer:?}");
    assert!(!answer.description().is_empty(), "no reason in {answer:?}");
    third.wait_closed(ANSWER_TIMEOUT);
    server.wait_log(&["max_connections"], ANSWER_TIMEOUT);
    // When a client leaves, another is accepted.
    drop(second);
    eventually("another client is accepted", ANSWER_TIMEOUT, || {
        let mut next = Wire::connect(server.port);
        (next.try_connect_app("live", &[]).name == "_result").then_some(())
    });
    drop(first);
    server.assert_healthy();
}

#[test]
fn a_disabled_or_unknown_vhost_is_refused() {
    let scratch = Scratch::new();
    let mut server = Server::with(
        &scratch,
        Settings {
            vhost: "enabled off;",
            vhosts: "vhost on.example.com { } vhost off.example.com { enabled off; }",
            root: "",
        },
    );
    for (host, due) in [("on.example.com", "_result"), ("off.example.com", "_error"), ("other.example.com", "_error")] {
        let mut wire = Wire::connect(server.port);
        let url = Amf::String(format!("rtmp://{host}/live"));
        let answer = wire.try_connect_app("live", &[("tcUrl", url)]);
        assert_eq!(answer.name, due, "{host}: {answer:?}");
        if due == "_error" {
            assert!(!answer.description().is_empty(), "no reason in {answer:?}");
            wire.wait_closed(ANSWER_TIMEOUT);
        }
    }
    server.assert_healthy();
}

#[test]
fn names_that_could_leave_their_folder_are_refused() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    for stream in ["..", "../etc/passwd", "a/../b", "a\u{7}b", "a\u{0}b", "", &"x".repeat(256)] {
        for verb in [Wire::publish, Wire::play] {
            let mut wire = Wire::connect(server.port);
            wire.connect_app("live");
            let id = wire.create_stream();
            verb(&mut wire, id, stream);
            wait_refusal(&mut wire);
        }
    }
    for app in ["..", "live/..", "a\u{1}b"] {
        let mut wire = Wire::connect(server.port);
        let answer = wire.try_connect_app(app, &[]);
        assert_eq!(answer.name, "_error", "{app:?}: {answer:?}");
        wire.wait_closed(ANSWER_TIMEOUT);
    }
    server.assert_healthy();
}

#[test]
fn an_address_has_only_so_many_clients_and_the_next_is_told() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "max_connections_per_address 2;", ..Settings::default() });
    let mut first = Wire::connect(server.port);
    first.connect_app("live");
    let second = Wire::connect(server.port);
    let mut third = Wire::connect(server.port);
    let refused = third.try_connect_app("live", &[]);
    assert!(refused.description().contains("max_connections_per_address is 2"), "{refused:?}");
    third.wait_closed(ANSWER_TIMEOUT);
    // When a client leaves, another is accepted.
    drop((second, third));
    eventually("another client is accepted", ANSWER_TIMEOUT, || {
        (Wire::connect(server.port).try_connect_app("live", &[]).name == "_result").then_some(())
    });
    server.assert_healthy();
}

#[test]
fn a_publisher_that_sends_too_much_is_told_and_closed() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { vhost: "publish { max_bitrate 800; }", ..Settings::default() });
    let mut publisher = Wire::publisher(server.port, "livestream");
    // Five seconds at the limit are 500,000 bytes.
    let frame = |n: u32| Tag { kind: VIDEO, timestamp: n * 40, payload: [vec![0x14, 0], vec![7; 50_000]].concat() };
    (0..5).for_each(|n| publisher.send_tag(&frame(n)));
    publisher.receive_for(Duration::from_millis(300));
    assert!(!publisher.closed, "half of the limit is accepted");
    // More than the limit, however slow this machine is.
    for n in 5..200 {
        publisher.send_tag(&frame(n));
        publisher.receive_for(Duration::from_millis(5));
        if publisher.closed || publisher.commands.iter().any(|command| command.code() == "NetStream.Publish.Denied") {
            break;
        }
    }
    let told = publisher.wait_status("NetStream.Publish.Denied");
    assert!(told.description().contains("max_bitrate of 800 kbit/s"), "{told:?}");
    server.wait_log(&["code=too-fast"], ANSWER_TIMEOUT);
    server.assert_healthy();
}
