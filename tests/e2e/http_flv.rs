//! HTTP-FLV and WebSocket-FLV: ffmpeg, GStreamer, curl and a client of the tests play, directly and through nginx.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::align::{Aligned, assert_monotone};
use crate::codecs::play_twice;
use crate::common::flv::{self, AUDIO, Tag, VIDEO};
use crate::common::http_client::Client;
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::common::wire::Wire;
use crate::http;
use crate::media::{self, Source};
use crate::nginx;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::session::send;
use crate::tools::need;
use crate::websocket::WebSocket;

const LIMIT: Duration = Duration::from_secs(30);

const FLV: Settings<'_> = Settings { root: "", vhost: "http_remux { enabled on; wait 60; }", vhosts: "" };

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/live/livestream.flv")
}

/// Waits until the server has `count` viewers.
fn wait_viewers(server: &Server, count: usize) {
    let viewers = || server.log().lines().filter(|line| line.contains("play started:")).count();
    eventually("the viewers have joined", LIMIT, || (viewers() >= count).then_some(()));
}

/// Checks that the first of two viewers gets everything, and the second one the tail.
fn pass_through(ffmpeg: &Path, source: &Source, kinds: MediaKinds) {
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", FLV);
    let urls = (server.url("livestream"), url(port));
    let (first, second) =
        play_twice(&scratch, ffmpeg, (source, kinds), (&urls.0, &urls.1), |n| wait_viewers(&server, n));
    first.assert_whole().assert_starts_at_zero();
    if kinds == MediaKinds::Audio {
        second.assert_one_shift();
    } else {
        second.assert_tail();
    }
    server.wait_log(&["connection closed", "code=stream-ended"], LIMIT);
    server.assert_healthy();
}

#[test]
fn ffmpeg_gets_each_packet() {
    let ffmpeg = need!(ffmpeg);
    pass_through(&ffmpeg, media::h264_aac(&ffmpeg), MediaKinds::Both);
}

#[test]
fn audio_only() {
    let ffmpeg = need!(ffmpeg);
    pass_through(&ffmpeg, media::audio_only(&ffmpeg), MediaKinds::Audio);
}

#[test]
fn video_only() {
    let ffmpeg = need!(ffmpeg);
    pass_through(&ffmpeg, media::video_only(&ffmpeg), MediaKinds::Video);
}

#[test]
fn codecs_of_enhanced_rtmp() {
    let ffmpeg = need!(new_ffmpeg);
    pass_through(&ffmpeg, media::hevc_aac(&ffmpeg), MediaKinds::Both);
    pass_through(&ffmpeg, media::av1_opus(&ffmpeg), MediaKinds::Both);
}

#[test]
fn the_oldest_codecs() {
    let ffmpeg = need!(ffmpeg);
    pass_through(&ffmpeg, media::vp6_mp3(&ffmpeg), MediaKinds::Both);
}

#[test]
fn ffmpeg_goes_on_when_a_killed_publisher_comes_back() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", FLV);
    let source = media::h264_aac(&ffmpeg);
    let viewer = Player::ffmpeg(&scratch, "viewer", &ffmpeg, &url(port), MediaKinds::Both);
    wait_viewers(&server, 1);
    let mut killed = publish(&scratch, "killed", &ffmpeg, source, &server.url("livestream"), &[]);
    eventually("the viewer has 2 s", CLIENT_TIMEOUT, || (viewer.frames() > 2000 / 40 + 2000 / 24).then_some(()));
    killed.kill();
    server.wait_log(&["connection closed", "code=by-peer"], LIMIT);
    let mut back = publish(&scratch, "back", &ffmpeg, source, &server.url("livestream"), &[]);
    let publications = || server.log().matches("publish started").count();
    eventually("the second publication", CLIENT_TIMEOUT, || (publications() == 2).then_some(()));
    assert!(!server.log().contains("code=stream-ended"), "{}", server.log());
    back.wait_success(CLIENT_TIMEOUT);
    let received = viewer.finish(&source.tags);
    assert_monotone(&received);
    // A part before the kill, then all of the file again.
    let frames = |tags: &[Tag], kind| tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).count();
    for kind in [VIDEO, AUDIO] {
        assert!(frames(&received, kind) > frames(&source.tags, kind) + 20, "type {kind}");
    }
    server.assert_healthy();
}

#[test]
fn gstreamer_plays() {
    let (ffmpeg, gst_launch) = (need!(ffmpeg), need!(gstreamer_http));
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", FLV);
    let source = media::h264_aac(&ffmpeg);
    let (file, demuxed) = (scratch.file("received.flv"), scratch.file("demuxed.flv"));
    let arguments = [
        "-e".to_owned(),
        "souphttpsrc".to_owned(),
        format!("location={}", url(port)),
        "is-live=true".to_owned(),
        "!".to_owned(),
        "tee".to_owned(),
        "name=out".to_owned(),
    ];
    let pipes = format!(
        "out. ! queue ! filesink buffer-mode=unbuffered location={} out. ! queue ! flvdemux name=in in.video ! queue ! \
         mux.video in.audio ! queue ! mux.audio flvmux name=mux streamable=true ! filesink async=false location={}",
        file.display(),
        demuxed.display()
    );
    let arguments = arguments.into_iter().chain(pipes.split(' ').map(str::to_owned));
    let mut viewer = Process::start(&scratch, "gstreamer", &gst_launch, arguments);
    wait_viewers(&server, 1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    // The response ends with the stream, and the pipeline with it.
    viewer.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &flv::read(&file)).assert_whole().assert_starts_at_zero();
    let frames = |tags: &[Tag], kind| tags.iter().filter(|tag| tag.kind == kind && tag.is_frame()).count();
    for kind in [VIDEO, AUDIO] {
        assert_eq!(
            frames(&flv::read(&demuxed), kind),
            frames(&source.tags, kind),
            "its demuxer found all of type {kind}"
        );
    }
    server.assert_healthy();
}

#[test]
fn nginx_passes_it_on() {
    let (ffmpeg, nginx_program) = (need!(ffmpeg), need!(plain_nginx));
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", FLV);
    let (_nginx, through) = nginx::start_shipped(&scratch, &nginx_program, "nginx-http-flv.conf", |text| {
        assert!(text.contains("http://127.0.0.1:8080;"));
        text.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
    });
    let source = media::h264_aac(&ffmpeg);
    let first = Player::ffmpeg(&scratch, "first", &ffmpeg, &url(through), MediaKinds::Both);
    let mut socket = WebSocket::open(through, "/live/livestream.flv");
    wait_viewers(&server, 2);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &server.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &first.finish(&source.tags)).assert_whole().assert_starts_at_zero();
    let received = socket.read_to_end(&scratch);
    Aligned::new(&source.tags, &received).assert_whole().assert_starts_at_zero();
    server.assert_healthy();
}

#[test]
fn websocket_carries_the_same_and_answers() {
    let scratch = Scratch::new();
    let (mut server, port) = http::start(&scratch, "", FLV);
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..12);
    let mut socket = WebSocket::open(port, "/live/livestream.flv");
    assert!(socket.head().contains("\r\nConnection: upgrade\r\n"));
    let (first, content) = socket.frame().expect("a frame");
    assert_eq!((first, &content[..3]), (0x82, &b"FLV"[..]));
    // A line of text that some players send, then a ping, then the end.
    socket.send(0x81, b"hello");
    socket.send(0x89, b"are you there");
    let pong = std::iter::from_fn(|| socket.frame()).find(|(first, _)| *first != 0x82);
    assert_eq!(pong, Some((0x8a, b"are you there".to_vec())));
    socket.send(0x88, &[3, 0xe9]);
    let close = std::iter::from_fn(|| socket.frame()).find(|(first, _)| *first != 0x82);
    assert_eq!(close, Some((0x88, vec![3, 0xe9])));
    assert_eq!(socket.frame(), None);
    server.wait_log(&["connection closed", "code=by-peer", "messages="], LIMIT);
    server.assert_healthy();
}

#[test]
fn nobody_publishes() {
    let scratch = Scratch::new();
    let settings = Settings { vhost: "http_remux { enabled on; wait 0; }", ..FLV };
    let (mut server, port) = http::start(&scratch, "", settings);
    for (method, with_body) in [("GET", true), ("HEAD", false)] {
        let mut client = Client::new(port);
        client.send(format!("{method} /live/none.flv HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let answer = client.answer(with_body).expect("an answer");
        assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (404, Some("*")), "{}", answer.head);
    }
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..2);
    let mut client = Client::new(port);
    client.send(b"HEAD /live/livestream.flv?a=b HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.answer(false).expect("an answer");
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("Content-Type", "video/x-flv"),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{}", answer.head);
    }
    let mut client = Client::new(port);
    client.send(b"POST /live/livestream.flv HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer(true).expect("an answer").status, 405);
    // Files with such names are served as before where no stream is.
    std::fs::write(scratch.file("html/record.flv"), b"FLV").expect("a file in the scratch folder");
    assert_eq!(Client::new(port).get("/record.flv", "").body, b"FLV");
    server.assert_healthy();
}

#[test]
fn gates_apply_to_viewers() {
    let scratch = Scratch::new();
    let settings = Settings {
        root: "",
        vhost: "http_remux { enabled on; } refer_play allowed.com;",
        vhosts: "vhost closed.com { http_remux { enabled on; } security { enabled on; allow publish all; } }
                 vhost plain.com { }",
    };
    let (mut server, port) = http::start(&scratch, "", settings);
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..2);
    for (path, fields, status) in [
        ("/live/livestream.flv", "", 403),
        ("/live/livestream.flv", "Referer: http://evil.com/\r\n", 403),
        ("/live/livestream.flv?vhost=closed.com", "Referer: http://allowed.com/\r\n", 403),
        ("/live/livestream.flv?vhost=plain.com", "Referer: http://allowed.com/\r\n", 404),
        ("/live/livestream.flv?vhost=__defaultVhost__&vhost=plain.com", "", 403),
    ] {
        let mut client = Client::new(port);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        assert_eq!(client.answer(true).expect("an answer").status, status, "{path} {fields}");
    }
    let mut client = Client::new(port);
    client.send(b"GET /live/livestream.flv HTTP/1.1\r\nHost: h\r\nReferer: http://allowed.com/x\r\n\r\n");
    let mut start = [0; 15];
    client.stream.read_exact(&mut start).expect("a response");
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    server.wait_log(&["connection closed", "code=denied"], LIMIT);
    server.assert_healthy();
}

#[test]
fn viewers_are_listed_counted_and_kicked() {
    need!(curl);
    need!(jq);
    let scratch = Scratch::new();
    let api_port = free_port();
    let root = format!("http_api {{ enabled on; listen 127.0.0.1:{api_port}; }}");
    let (mut server, port) = http::start(&scratch, "", Settings { root: &root, ..FLV });
    eventually("the API listens", LIMIT, || listens(api_port).then_some(()));
    let get = |path: &str| crate::api::curl(api_port, path, &[]).1;
    let mut publisher = Wire::publisher(server.port, "livestream");
    send(&mut publisher, 1, 0..12);
    let mut socket = WebSocket::open(port, "/live/livestream.flv");
    let mut client = Client::new(port);
    client.send(b"GET /live/livestream.flv HTTP/1.1\r\nHost: h\r\nReferer: http://page/\r\n\r\n");
    wait_viewers(&server, 2);
    let listed = eventually("both are listed", LIMIT, || {
        let body = get("/api/v1/clients?type=flv-play");
        (crate::api::jq(&body, ".total") == "2").then_some(body)
    });
    let filter = ".clients | map(.pageUrl) | sort | join(\",\")";
    assert_eq!(crate::api::jq(&listed, filter), ",http://page/");
    assert_eq!(crate::api::jq(&get("/api/v1/streams"), ".streams[0] | .clients, .players"), "3\n2");
    let kicked = crate::api::curl(api_port, "/api/v1/clients/kick?ip=127.0.0.1", &["-X", "POST"]).1;
    assert_eq!(crate::api::jq(&kicked, ".kicked"), "3");
    while socket.read() {}
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("the server closes");
    server.wait_log(&["connection closed", "code=kicked"], LIMIT);
    eventually("nobody is listed", LIMIT, || (crate::api::jq(&get("/api/v1/clients"), ".total") == "0").then_some(()));
    server.assert_healthy();
}

#[test]
fn a_stopping_server_and_a_reload_end_viewers_in_order() {
    let scratch = Scratch::new();
    let vhosts = "vhost gone.com { http_remux { enabled on; } }";
    let (mut server, port) = http::start(&scratch, "", Settings { vhosts, ..FLV });
    let mut publisher = Wire::publisher(server.port, "livestream");
    let sent = send(&mut publisher, 1, 0..12);
    let mut on_gone = Client::new(port);
    on_gone.send(b"GET /live/livestream.flv HTTP/1.1\r\nHost: gone.com\r\n\r\n");
    let mut client = Client::new(port);
    client.send(b"GET /live/livestream.flv HTTP/1.0\r\nHost: h\r\n\r\n");
    wait_viewers(&server, 2);
    // Nobody gets the bytes of a publisher that a stopping server has not read.
    let (last, mut received) = (&sent.last().expect("frames").payload, Vec::new());
    while !received.windows(last.len()).any(|bytes| bytes == last) {
        let mut buffer = [0; 4096];
        let count = client.stream.read(&mut buffer).expect("the stream");
        assert!(count > 0, "the stream goes on");
        received.extend(&buffer[..count]);
    }
    let root = format!("http_server {{ enabled on; listen 127.0.0.1:{port}; dir html; }}");
    write_configuration(&scratch, server.port, Settings { root: &root, ..FLV });
    server.process().signal(nix::sys::signal::Signal::SIGHUP);
    let mut rest = Vec::new();
    on_gone.stream.read_to_end(&mut rest).expect("the server closes");
    server.wait_log(&["connection closed", "code=vhost-removed"], LIMIT);
    server.process().signal(nix::sys::signal::Signal::SIGTERM);
    client.stream.read_to_end(&mut received).expect("the server closes");
    let body = received.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let file: PathBuf = scratch.file("last.flv");
    std::fs::write(&file, &received[body..]).expect("a file in the scratch folder");
    let tags = flv::read(&file);
    // A viewer begins with the last keyframe, number 10, or before.
    let frames: Vec<_> = tags.iter().filter(|tag| tag.is_frame()).collect();
    assert!(frames.len() >= 4 && frames.last().is_some_and(|tag| tag.payload == *last), "to the end: {tags:?}");
    server.process().wait_success(LIMIT);
}
