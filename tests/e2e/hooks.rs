//! HTTP callbacks: questions before clients publish and play, events after, and backends that are slow, wrong or not there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::backend::{SampleBackend, all_hooks, answer_to, server};
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port};
#[cfg(feature = "ssl")]
use crate::common::server::{listens, write_configuration};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::players::CLIENT_TIMEOUT;
use crate::tools::need;

fn fields(event: &Value) -> String {
    let text = event.to_string();
    let mut keys: Vec<_> = event.as_object().expect("an object").keys().collect();
    keys.sort_by_key(|key| text.find(&format!("\"{key}\":")));
    keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_question_that_passed_is_followed_by_its_end() {
    let scratch = Scratch::new();
    let backend = SampleBackend::start(&scratch, &[]);
    let mut server = server(&scratch, &all_hooks(backend.port, ""));
    let publisher = Wire::publisher(server.port, "cam?token=abc");
    let player = Wire::player(server.port, "cam?user=u1");
    drop(player);
    let actions = backend.wait_actions(6);
    assert_eq!(actions, ["on_connect 1", "on_publish 1", "on_connect 2", "on_play 2", "on_stop 2", "on_close 2"]);
    drop(publisher);
    assert_eq!(backend.wait_actions(8)[6..], ["on_unpublish 1", "on_close 1"]);
    let events = backend.events();
    for (event, expected) in events.iter().zip(1..) {
        assert_eq!((event["seq"].as_i64(), event["ip"].as_str()), (Some(expected), Some("127.0.0.1")), "{event}");
        assert_eq!(event["vhost"], "__defaultVhost__");
        assert!(fields(event).contains("client_id"), "{event}");
    }
    let params: Vec<_> = events.iter().map(|event| event["param"].as_str().unwrap_or("-")).collect();
    assert_eq!(params[..6], ["?token=abc", "?token=abc", "?user=u1", "?user=u1", "?user=u1", "-"]);
    assert!(events[7]["recv_bytes"].as_u64() > Some(3000), "{}", events[7]);
    assert_eq!(events[1]["stream_url"], "/live/cam");
    server.assert_healthy();
}

#[test]
fn a_refused_client_is_told_the_message_of_the_backend_and_ffmpeg_stops() {
    let scratch = Scratch::new();
    let rules = ["--deny-publish", "secret", "--deny-play", "secret", "--message", "no entry today"];
    let backend = SampleBackend::start(&scratch, &rules);
    let mut server = server(&scratch, &all_hooks(backend.port, ""));
    for (verb, code) in [("publish", "NetStream.Publish.Denied"), ("play", "NetStream.Play.Failed")] {
        let (mut wire, answer) = answer_to(server.port, verb, "secret");
        assert_eq!((answer.code(), answer.description()), (code, "no entry today"));
        wire.wait_closed(ANSWER_TIMEOUT);
    }
    // No question about `publish` was followed by an end: it had not passed.
    let actions = backend.wait_actions(6);
    assert_eq!(actions, ["on_connect 1", "on_publish 1", "on_close 1", "on_connect 2", "on_play 2", "on_close 2"]);
    assert_eq!(answer_to(server.port, "publish", "other").1.code(), "NetStream.Publish.Start");
    let ffmpeg = need!(ffmpeg);
    let url = server.url("secret");
    let input = ["-nostdin", "-hide_banner", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=10"];
    let output = ["-t", "20", "-c:v", "flv", "-f", "flv", &url];
    let mut publisher = Process::start(&scratch, "publisher", ffmpeg, input.iter().chain(&output));
    assert!(!publisher.wait(CLIENT_TIMEOUT).success());
    assert!(publisher.log().contains("no entry today"), "{}", publisher.log());
    server.wait_log(&["code=hook", "no entry today"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

/// Serves `answers` in a thread, one connection and one request each; in the end it serves no more.
fn scripted(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut socket, _)) = listener.accept() else { return };
            read_request(&mut socket);
            // Byte by byte for short ones: the server must put the pieces together.
            for piece in answer.chunks(if answer.len() < 200 { 1 } else { 4096 }) {
                if socket.write_all(piece).is_err() {
                    break;
                }
            }
        }
    });
    port
}

fn read_request(socket: &mut TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"}") {
        match socket.read(&mut buffer) {
            Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
}

#[test]
fn answers_of_all_kinds() {
    let scratch = Scratch::new();
    let with_length = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
    };
    let raw = |text: &str| text.as_bytes().to_vec();
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; 1 << 20]].concat();
    let cases = [
        (with_length("200 OK", "0"), None),
        (with_length("201 Created", " {\"code\": 0}\r\n"), None),
        (with_length("200 OK", "\u{feff}0"), None),
        (with_length("200 OK", "\"0\""), None),
        (raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cod\r\n5\r\ne\":0}\r\n0\r\n\r\n"), None),
        (raw("HTTP/1.0 200 OK\r\n\r\n0"), None),
        (with_length("200 OK", "1"), Some("code 1")),
        (with_length("403 Forbidden", "{\"code\":9,\"message\":\"pay first\"}"), Some("pay first")),
        (with_length("302 Found", "0"), Some("refused by the callback backend")),
        (with_length("200 OK", "<html>"), Some("refused by the callback backend")),
        (with_length("200 OK", ""), Some("refused by the callback backend")),
        (with_length("500 Oops", "0"), Some("not available")),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0"), Some("not available")),
        (raw("SSH-2.0-OpenSSH\r\n\r\n"), Some("not available")),
        (raw(""), Some("not available")),
        (endless, Some("not available")),
    ];
    for (answer, refusal) in cases {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        let port = scripted(vec![answer]);
        let url = format!("http_hooks {{ enabled on; on_play http://127.0.0.1:{port}/x; hooks_retry 0; }}");
        let mut server = server(&scratch, &url);
        let (_, answer) = answer_to(server.port, "play", "cam");
        match refusal {
            None => assert_eq!(answer.code(), "NetStream.Play.Start", "{shown}: {answer:?}"),
            Some(text) => {
                assert_eq!(answer.code(), "NetStream.Play.Failed", "{shown}");
                assert!(answer.description().contains(text), "{shown}: {answer:?}");
            }
        }
        if shown.ends_with("<html>") {
            server.wait_log(&["callback answer not understood", "status=200", "<html>"], ANSWER_TIMEOUT);
        }
        server.assert_healthy();
    }
}

#[test]
fn a_secret_key_gets_a_public_name_and_is_not_seen_again() {
    let scratch = Scratch::new();
    let backend = SampleBackend::start(&scratch, &["--rename", "k3y-7f=cam", "--rename", "bad=../x"]);
    let mut server = server(&scratch, &all_hooks(backend.port, ""));
    let mut player = Wire::player(server.port, "cam");
    let mut publisher = Wire::publisher(server.port, "k3y-7f");
    publisher.send_tag(&Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65] });
    player.wait_frames(1);
    // Also a player may have a key, and the name of another publisher is not free.
    let mut second = Wire::player(server.port, "k3y-7f");
    second.wait_frames(1);
    let mut other = Wire::connect(server.port);
    other.connect_app("live");
    let id = other.create_stream();
    other.publish(id, "k3y-7f");
    other.wait_status("NetStream.Publish.BadName");
    let (_, answer) = answer_to(server.port, "publish", "bad");
    assert_eq!(answer.code(), "NetStream.Publish.Denied", "{answer:?}");
    server.wait_log(&["publish started: stream=__defaultVhost__/live/cam"], ANSWER_TIMEOUT);
    drop((publisher, second));
    let told = eventually("the end of the publication", ANSWER_TIMEOUT, || {
        backend.events().into_iter().find(|event| event["action"] == "on_unpublish" && event["client_id"] == "2")
    });
    assert_eq!((told["stream"].as_str(), told["stream_url"].as_str()), (Some("cam"), Some("/live/cam")));
    assert!(!server.log().contains("k3y-7f"), "the key is in the log");
    server.assert_healthy();
}

#[test]
fn a_failed_question_is_asked_again() {
    let scratch = Scratch::new();
    let answers =
        ["HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0"];
    let port = scripted(answers.map(|answer| answer.as_bytes().to_vec()).to_vec());
    let mut server =
        server(&scratch, &format!("http_hooks {{ enabled on; on_publish http://127.0.0.1:{port}/x; hooks_retry 2; }}"));
    assert_eq!(answer_to(server.port, "publish", "cam").1.code(), "NetStream.Publish.Start");
    server.assert_healthy();
}

#[test]
fn events_wait_for_a_backend_that_is_down_and_keep_their_order() {
    let scratch = Scratch::new();
    let port = free_port();
    let denying = all_hooks(port, "");
    let mut denied = server(&scratch, &denying);
    let (_, answer) = answer_to(denied.port, "publish", "cam");
    assert_eq!(answer.code(), "NetStream.Publish.Denied");
    assert!(answer.description().contains("not available"), "{answer:?}");
    denied.wait_log(&["callback failed: hook=on_connect", "on_hook_failure=deny"], ANSWER_TIMEOUT);
    denied.assert_healthy();

    let mut server = server(&scratch, &all_hooks(port, "on_hook_failure allow;"));
    for _ in 0..2 {
        drop(Wire::next_publisher(server.port, "cam"));
    }
    server.wait_log(&["callback backend down: backend=http://127.0.0.1:"], ANSWER_TIMEOUT);
    let backend = SampleBackend::on(&scratch, port, &[]);
    server.wait_log(&["callback backend back: backend=http://127.0.0.1:"], CLIENT_TIMEOUT);
    // Also of the clients that passed unseen.
    let told = backend.wait_actions(8);
    let due =
        |client: u32| ["on_connect", "on_publish", "on_unpublish", "on_close"].map(|hook| format!("{hook} {client}"));
    assert_eq!(told[..8], [due(1), due(2)].concat());
    let unanswered: Vec<_> = backend.events().iter().map(|event| event["unanswered"] == true).collect();
    assert_eq!(unanswered[..8], [true, true, false, false].repeat(2));
    server.assert_healthy();
}

#[test]
fn a_slow_backend_delays_only_those_who_ask_it() {
    let scratch = Scratch::new();
    let backend = SampleBackend::start(&scratch, &["--delay", "1000"]);
    let more = format!("vhost free.example.com {{ }} vhost asked.example.com {{ {} }}", all_hooks(backend.port, ""));
    let mut server = Server::with(&scratch, Settings { vhosts: &more, ..Settings::default() });
    let asking: Vec<_> = (0..30)
        .map(|n| {
            let mut wire = Wire::connect(server.port);
            wire.connect_app("live");
            let id = wire.create_stream();
            wire.play(id, &format!("cam{n}?vhost=asked.example.com"));
            wire
        })
        .collect();
    let began = Instant::now();
    let mut free = Wire::connect(server.port);
    free.connect_app("live");
    let id = free.create_stream();
    free.play(id, "cam?vhost=free.example.com");
    free.wait_status("NetStream.Play.Start");
    let alone = began.elapsed();
    for mut wire in asking {
        wire.wait_status("NetStream.Play.Start");
    }
    // on_connect and on_play, one after the other; those of 30 clients at the same time.
    let all = began.elapsed();
    assert!(alone < all && all < Duration::from_secs(30), "{alone:?} and {all:?}; one by one it were 60 s");
    server.assert_healthy();
}

#[test]
fn who_leaves_while_the_backend_is_asked_is_told_off() {
    let scratch = Scratch::new();
    let backend = SampleBackend::start(&scratch, &["--delay", "400"]);
    let mut server = server(&scratch, &all_hooks(backend.port, ""));
    let mut wire = Wire::connect(server.port);
    wire.connect_app("live");
    let id = wire.create_stream();
    wire.publish(id, "cam");
    backend.wait_actions(2);
    drop(wire);
    let actions = backend.wait_actions(4);
    assert_eq!(actions, ["on_connect 1", "on_publish 1", "on_unpublish 1", "on_close 1"]);
    server.wait_log(&["[1]", "code=by-peer"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn the_end_of_the_server_is_told() {
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let scratch = Scratch::new();
        let backend = SampleBackend::start(&scratch, &["--delay", "100"]);
        let mut server = server(&scratch, &all_hooks(backend.port, ""));
        let _publisher = Wire::publisher(server.port, "cam");
        let _player = Wire::player(server.port, "cam");
        server.process().signal(signal);
        server.process().wait(CLIENT_TIMEOUT);
        let mut told = backend.wait_actions(8).split_off(4);
        let position = |wanted: &str| told.iter().position(|action| action == wanted).expect("told");
        assert!(position("on_unpublish 1") < position("on_close 1"), "{signal}: {told:?}");
        assert!(position("on_stop 2") < position("on_close 2"), "{signal}: {told:?}");
        told.sort();
        assert_eq!(told, ["on_close 1", "on_close 2", "on_stop 2", "on_unpublish 1"], "{signal}");
    }
}

#[cfg(feature = "ssl")]
#[test]
fn a_backend_over_tls_needs_a_trusted_certificate() {
    let scratch = Scratch::new();
    let (cert, key) = (scratch.file("cert.pem"), scratch.file("key.pem"));
    let options = "req -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                   -addext basicConstraints=critical,CA:FALSE";
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(options.split_whitespace()).arg("-keyout").arg(&key).arg("-out").arg(&cert);
    assert!(openssl.output().expect("openssl is here: test.sh installs it").status.success());
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    for (trusted, host, code, error) in [
        (true, "localhost", "NetStream.Play.Start", ""),
        (false, "localhost", "NetStream.Play.Failed", "invalid peer certificate"),
        // The certificate is for another name.
        (true, "127.0.0.1", "NetStream.Play.Failed", "not valid for name"),
    ] {
        let port = free_port();
        let script = format!(
            "exec openssl s_server -quiet -accept 127.0.0.1:{port} -cert {cert} -key {key} \
             < <(printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n0'; sleep 20)"
        );
        let _backend = Process::start(&scratch, "tls", "bash", ["-c", &script]);
        eventually("openssl listens", CLIENT_TIMEOUT, || listens(port).then_some(()));
        let url = format!("http_hooks {{ enabled on; on_play https://{host}:{port}/x; hooks_retry 0; }}");
        let rtmp = free_port();
        let settings = Settings { vhost: &url, ..Settings::default() };
        let configuration = write_configuration(&scratch, rtmp, settings);
        let roots = format!("SSL_CERT_FILE={cert}");
        let under: &[&str] = if trusted { &["env", &roots] } else { &[] };
        let mut server = Server::run_under(&scratch, rtmp, &configuration, under).expect("the port was free");
        let (_, answer) = answer_to(server.port, "play", "cam");
        assert_eq!(answer.code(), code, "{answer:?}");
        if !error.is_empty() {
            server.wait_log(&["callback failed: hook=on_play", error], ANSWER_TIMEOUT);
        }
        server.assert_healthy();
    }
}

#[test]
fn a_name_that_cannot_be_resolved_is_a_failure() {
    let scratch = Scratch::new();
    let mut server =
        server(&scratch, "http_hooks { enabled on; on_play http://no-such-host.invalid/x; hooks_retry 0; }");
    let (_, answer) = answer_to(server.port, "play", "cam");
    assert_eq!(answer.code(), "NetStream.Play.Failed");
    server.wait_log(&["callback failed: hook=on_play", "cannot resolve no-such-host.invalid"], ANSWER_TIMEOUT);
    server.assert_healthy();
}
