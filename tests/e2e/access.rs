//! Access by address, and the address of clients behind a load balancer.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::align::Aligned;
use crate::common::amf::Amf;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Accepts PROXY headers from this machine, and players from 203.0.113.7 and 2001:db8::/32 only.
const BEHIND_PROXY: Settings<'_> = Settings {
    root: "proxy_protocol 127.0.0.1;",
    vhost: "security { enabled on; allow play 203.0.113.7; allow play 2001:db8::/32; }",
    vhosts: "",
};

/// Returns a PROXY header of version 2: command, address family, and the rest.
fn proxy_v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("small").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, rest].concat()
}

fn proxy_v2_tcp4(source: [u8; 4], more: &[u8]) -> Vec<u8> {
    proxy_v2(0x21, 0x11, &[source.as_slice(), &[127, 0, 0, 1], &[0xdc, 0x04], &[0x07, 0x8f], more].concat())
}

/// Sends the pieces of a header, plays, and returns the code of the answer.
fn play_as(port: u16, pieces: &[&[u8]]) -> String {
    let mut wire = Wire::connect_as(port, pieces);
    wire.connect_app("live");
    let id = wire.create_stream();
    wire.play(id, "livestream");
    let due = ["NetStream.Play.Start", "NetStream.Play.Failed"];
    wire.wait_command("an answer to play", |command| due.contains(&command.code())).code().to_owned()
}

#[test]
fn security_decides_by_address_and_says_so() {
    let scratch = Scratch::new();
    let settings = Settings {
        vhost: "security { enabled on; allow publish 127.0.0.0/8; allow play all; deny play 127.0.0.1; }",
        vhosts: "vhost closed.example.com { security { enabled on; } }
                 vhost off.example.com { security { deny play all; deny publish all; } }
                 vhost mapped.example.com { security { enabled on; allow publish ::ffff:127.0.0.1; } }",
        root: "",
    };
    let mut server = Server::with(&scratch, settings);
    for (host, publishes, plays) in [
        ("127.0.0.1", true, false),
        ("closed.example.com", false, false),
        ("off.example.com", true, true),
        ("mapped.example.com", true, false),
    ] {
        for (verb, may) in [("publish", publishes), ("play", plays)] {
            let mut wire = Wire::connect(server.port);
            let url = Amf::String(format!("rtmp://{host}/live"));
            assert_eq!(wire.try_connect_app("live", &[("tcUrl", url)]).name, "_result");
            let id = wire.create_stream();
            let due = if verb == "publish" {
                wire.publish(id, "livestream");
                if may { "NetStream.Publish.Start" } else { "NetStream.Publish.Denied" }
            } else {
                wire.play(id, "livestream");
                if may { "NetStream.Play.Start" } else { "NetStream.Play.Failed" }
            };
            let answer = wire.wait_status(due);
            if !may {
                assert!(answer.description().contains(&format!("allow 127.0.0.1 to {verb}")), "{answer:?}");
                wire.wait_closed(ANSWER_TIMEOUT);
            }
        }
    }
    server.wait_log(&["code=denied", "security", "127.0.0.1 to publish"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn a_proxy_header_names_the_client_however_it_is_cut() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, BEHIND_PROXY);
    let v6 = [&[0x20, 0x01, 0x0d, 0xb8][..], &[7; 12], &[0; 15], &[1], &[0xdc, 0x04], &[0x07, 0x8f]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 203, 0, 113, 7], &[0; 15], &[1], &[0xdc, 0x04], &[0x07, 0x8f]].concat();
    for header in [
        b"PROXY TCP4 203.0.113.7 127.0.0.1 56324 1935\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 56324 1935\r\n".to_vec(),
        proxy_v2_tcp4([203, 0, 113, 7], &[]),
        proxy_v2_tcp4([203, 0, 113, 7], &[2, 0, 3, b'a', b'.', b'b', 4, 0, 1, 0]),
        proxy_v2(0x21, 0x21, &v6),
        proxy_v2(0x21, 0x21, &mapped),
    ] {
        for cut in 0..=header.len() {
            let (first, rest) = header.split_at(cut);
            assert_eq!(play_as(server.port, &[first, rest]), "NetStream.Play.Start", "{header:x?} cut at {cut}");
        }
        let bytes: Vec<&[u8]> = header.chunks(1).collect();
        assert_eq!(play_as(server.port, &bytes), "NetStream.Play.Start", "{header:x?} byte by byte");
    }
    server.wait_log(&[r"client connected: address=203.0.113.7:56324 proxy=127.0.0.1:"], ANSWER_TIMEOUT);
    // The own address counts for a LOCAL header, and for clients that are no load balancers.
    for header in [
        b"PROXY TCP4 203.0.113.8 127.0.0.1 56324 1935\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 203.0.113.7 127.0.0.1 56324 1935\r\n".to_vec(),
        proxy_v2_tcp4([203, 0, 113, 8], &[]),
        proxy_v2(0x20, 0x11, &[203, 0, 113, 7, 127, 0, 0, 1, 0xdc, 0x04, 0x07, 0x8f]),
        proxy_v2(0x21, 0, &[]),
        proxy_v2(0x21, 0x31, &[7; 216]),
    ] {
        assert_eq!(play_as(server.port, &[&header]), "NetStream.Play.Failed", "{header:x?}");
    }
    server.wait_log(&["code=denied", "203.0.113.8 to play"], ANSWER_TIMEOUT);
    server.wait_log(&["code=denied", "127.0.0.1 to play"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

/// Sends `bytes` and waits until the server closes the connection. Returns true if the server has sent anything.
fn is_answered(port: u16, bytes: &[u8]) -> bool {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a socket option");
    socket.write_all(bytes).expect("a few bytes are taken");
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("not closed: {error}"),
        _ => !answer.is_empty(),
    }
}

#[test]
fn who_is_no_balancer_is_not_believed_and_who_is_must_say() {
    let scratch = Scratch::new();
    let spoofed = Settings { root: "proxy_protocol 192.0.2.1 2001:db8::/32;", ..BEHIND_PROXY };
    let mut server = Server::with(&scratch, spoofed);
    let header = b"PROXY TCP4 203.0.113.7 127.0.0.1 56324 1935\r\n";
    assert!(!is_answered(server.port, &[header.as_slice(), &[3], &[0; 1536]].concat()));
    assert!(!is_answered(server.port, &proxy_v2_tcp4([203, 0, 113, 7], &[0; 1600])));
    assert_eq!(play_as(server.port, &[]), "NetStream.Play.Failed");
    server.assert_healthy();

    let mut server = Server::with(&scratch, BEHIND_PROXY);
    assert!(!is_answered(server.port, &[[3].as_slice(), &[0; 1536]].concat()));
    server.wait_log(&["code=proxy", "no PROXY header"], ANSWER_TIMEOUT);
    assert!(!is_answered(server.port, b"PROXY TCP4 a b c d\r\n"));
    assert!(!is_answered(server.port, &[b"PROXY ".as_slice(), &[b'x'; 4096]].concat()));
    assert!(!is_answered(server.port, &proxy_v2_tcp4([203, 0, 113, 7], &[0; 60_000])));
    server.wait_log(&["code=proxy", "too long"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

/// Publishes and plays with ffmpeg through a load balancer on `port`, whose own address is not allowed to play.
fn publish_and_play_through(scratch: &Scratch, server: &mut Server, port: u16) {
    let Some(ffmpeg) = crate::tools::ffmpeg() else { panic!("ffmpeg was here a moment ago") };
    let source = media::h264_aac(&ffmpeg);
    let url = format!("rtmp://127.0.0.1:{port}/live/livestream");
    let player = Player::ffmpeg(scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    server.wait_log(&["proxy=127.0.0.1:"], ANSWER_TIMEOUT);
    server.wait_log(&["play started: stream=__defaultVhost__/live/livestream"], ANSWER_TIMEOUT);
    let mut publisher = publish(scratch, "publisher", &ffmpeg, source, &url, &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_to_the_end().assert_one_shift();
    server.assert_healthy();
}

/// Starts a load balancer on a free port, with a configuration for that port, and waits until it listens.
fn start_balancer(scratch: &Scratch, name: &str, start: impl Fn(u16) -> Process) -> (Process, u16) {
    for _ in 0..5 {
        let port = free_port();
        let mut process = start(port);
        let is_up = eventually(&format!("{name} listens"), CLIENT_TIMEOUT, || {
            if process.ended().is_some() { Some(false) } else { listens(port).then_some(true) }
        });
        if is_up {
            return (process, port);
        }
        assert!(
            process.log().contains("in use"),
            "{name} ended at once, see {}:\n{}",
            scratch.folder().display(),
            process.log()
        );
    }
    panic!("five ports in a row were taken");
}

#[test]
fn nginx_in_front_names_its_clients() {
    let _ffmpeg = need!(ffmpeg);
    let (nginx, module) = need!(nginx_stream);
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "proxy_protocol 127.0.0.0/8;", ..Settings::default() });
    let (folder, to) = (scratch.folder().display().to_string(), server.port);
    let (_nginx, port) = start_balancer(&scratch, "nginx", |port| {
        let text = format!(
            "load_module {};\ndaemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr info;\n\
             events {{ worker_connections 64; }}\n\
             stream {{ server {{ listen 127.0.0.1:{port}; proxy_protocol on; proxy_pass 127.0.0.1:{to}; }} }}\n",
            module.display()
        );
        let configuration = scratch.file("nginx.conf");
        std::fs::write(&configuration, text).expect("a file in the scratch folder");
        Process::start(
            &scratch,
            "nginx",
            &nginx,
            ["-e".as_ref(), "stderr".as_ref(), "-c".as_ref(), configuration.as_os_str()],
        )
    });
    publish_and_play_through(&scratch, &mut server, port);
}

#[test]
fn haproxy_in_front_names_its_clients_and_checks_without_harm() {
    let _ffmpeg = need!(ffmpeg);
    let haproxy = need!(haproxy);
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "proxy_protocol all;", ..Settings::default() });
    let to = server.port;
    let (_haproxy, port) = start_balancer(&scratch, "haproxy", |port| {
        // HAProxy's health check sends a LOCAL header and closes.
        let text = format!(
            "global\n  log stderr format raw local0\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\nlisten rtmp\n  bind 127.0.0.1:{port}\n  \
             server srs 127.0.0.1:{to} send-proxy-v2 check check-send-proxy inter 200ms\n"
        );
        let configuration = scratch.file("haproxy.cfg");
        std::fs::write(&configuration, text).expect("a file in the scratch folder");
        Process::start(&scratch, "haproxy", &haproxy, ["-db".as_ref(), "-f".as_ref(), configuration.as_os_str()])
    });
    server.wait_log(&["proxy=local"], ANSWER_TIMEOUT);
    publish_and_play_through(&scratch, &mut server, port);
}
