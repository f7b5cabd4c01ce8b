//! Forwarding to other servers: this server, nginx-rtmp, a listening ffmpeg, and over TLS. Players of the origin and of the
//! target get every packet.

#[cfg(feature = "ssl")]
use std::path::PathBuf;

use crate::align::Aligned;
use crate::common::amf::{Amf, amf_payload, amf_values};
use crate::common::flv::{DATA, Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, listens, write_configuration};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::nginx;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

/// Starts a server that forwards to `targets`, with more directives of the vhost.
pub(crate) fn origin(scratch: &Scratch, targets: &str, vhost: &str) -> Server {
    let vhost = format!("forward {targets}; {vhost}");
    Server::with(scratch, Settings { root: "pithy_print { forwarder 500; }", vhost: &vhost, ..Settings::default() })
}

fn target(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Returns true if metadata with the size of the picture was received.
fn has_metadata(tags: &[Tag]) -> bool {
    let is_metadata = |tag: &Tag| {
        tag.kind == DATA
            && tag.payload.windows(10).any(|word| word == b"onMetaData")
            && tag.payload.windows(5).any(|word| word == b"width")
    };
    tags.iter().any(is_metadata)
}

#[test]
fn a_slave_of_our_own_gets_each_packet() {
    let (ffmpeg, rtmpdump) = (need!(ffmpeg), need!(rtmpdump));
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut master = origin(&scratch, &target(slave.port), "");
    let source = media::h264_aac(&ffmpeg);

    let here = Player::ffmpeg(&scratch, "here", &ffmpeg, &master.url("livestream"), MediaKinds::Both);
    let there = Player::rtmpdump(&other, "there", &rtmpdump, &slave.url("livestream"), &[]);
    master.wait_players(1);
    slave.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    let line = master.wait_log(&["->", "state=sending", &target(slave.port)], CLIENT_TIMEOUT);
    assert!(line.contains("attempts=1,") && line.contains("drops=0,"), "{line}");
    // The format of the other stages: the forwarder with its rates over three intervals, then the sums.
    assert!(line.contains("; forwarders=1, msgs=") && line.contains("time="), "{line}");
    publisher.wait_success(CLIENT_TIMEOUT);

    Aligned::new(&source.tags, &here.finish(&source.tags)).assert_whole();
    let there = there.finish(&source.tags);
    Aligned::new(&source.tags, &there).assert_whole().assert_starts_at_zero();
    assert!(has_metadata(&there), "metadata is forwarded");
    // The target is told of the end at once, by a command.
    slave.wait_log(&["publish stopped"], ANSWER_TIMEOUT);
    master.wait_log(&["forward finished"], ANSWER_TIMEOUT);
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn nginx_gets_each_packet() {
    let (ffmpeg, rtmpdump, nginx) = (need!(ffmpeg), need!(rtmpdump), need!(nginx));
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let (_nginx, port) = nginx::start(&other, nginx, "");
    let mut master = origin(&scratch, &format!("rtmp://{}/live/copy-of-[stream]", target(port)), "");
    let source = media::h264_aac(&ffmpeg);

    let here = Player::ffmpeg(&scratch, "here", &ffmpeg, &master.url("livestream"), MediaKinds::Both);
    master.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    master.wait_log(&["state=sending"], CLIENT_TIMEOUT);
    let url = format!("rtmp://{}/live/copy-of-livestream", target(port));
    let there = Player::rtmpdump(&other, "there", &rtmpdump, &url, &[]);
    publisher.wait_success(CLIENT_TIMEOUT);

    Aligned::new(&source.tags, &here.finish(&source.tags)).assert_whole();
    let there = there.finish(&source.tags);
    // nginx chooses the frame at which its player starts; from there on nothing may be missing.
    Aligned::new(&source.tags, &there).assert_to_the_end().assert_one_shift();
    assert!(has_metadata(&there), "nginx keeps the metadata");
    master.assert_healthy();
}

#[test]
fn ffmpeg_that_listens_gets_each_packet() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let port = free_port();
    let url = format!("rtmp://{}/live/livestream", target(port));
    // Like Player::ffmpeg, but ffmpeg listens.
    let file = scratch.file("there.flv");
    let arguments =
        ["-nostdin", "-hide_banner", "-y", "-copyts", "-listen", "1", "-i", &url, "-c", "copy", "-f", "flv"];
    let arguments = arguments.map(str::to_owned).into_iter().chain([file.to_str().expect("a path of ours").to_owned()]);
    let mut listener = Process::start(&scratch, "listener", &ffmpeg, arguments);
    eventually("ffmpeg listens", CLIENT_TIMEOUT, || listens(port).then_some(()));
    let mut master = origin(&scratch, &target(port), "");
    let source = media::h264_aac(&ffmpeg);

    let here = Player::ffmpeg(&scratch, "here", &ffmpeg, &master.url("livestream"), MediaKinds::Both);
    master.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);
    // ffmpeg ends when it is told of the end of the stream.
    listener.wait_success(CLIENT_TIMEOUT);

    Aligned::new(&source.tags, &here.finish(&source.tags)).assert_whole();
    Aligned::new(&source.tags, &crate::common::flv::read(&file)).assert_whole();
    master.assert_healthy();
}

/// Runs openssl in the scratch folder.
#[cfg(feature = "ssl")]
fn run_openssl(scratch: &Scratch, openssl: &PathBuf, arguments: &str) {
    Process::start(scratch, "openssl", openssl, arguments.split(' ')).wait_success(CLIENT_TIMEOUT);
}

/// Creates the certificate of an authority, ca.pem, and a certificate for localhost signed by it, cert.pem with key.pem.
#[cfg(feature = "ssl")]
fn make_certificates(scratch: &Scratch, openssl: &PathBuf) {
    const NEW: &str = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";
    let run = |arguments: &str| run_openssl(scratch, openssl, arguments);
    run(&format!("{NEW} ca-key.pem -x509 -days 2 -subj /CN=authority -out ca.pem"));
    run(&format!("{NEW} key.pem -subj /CN=localhost -out request.pem"));
    std::fs::write(scratch.file("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .expect("a file in the scratch folder");
    run("x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names -out cert.pem");
}

/// Starts nginx as TLS terminator in front of a server, with a certificate of an authority that the system does not know.
#[cfg(feature = "ssl")]
fn start_tls_terminator(
    scratch: &Scratch,
    openssl: &PathBuf,
    (nginx, module): (PathBuf, PathBuf),
    behind: u16,
) -> (Process, u16) {
    make_certificates(scratch, openssl);
    let (key, cert) = (scratch.file("key.pem"), scratch.file("cert.pem"));
    let folder = scratch.folder().display();
    let load = format!("load_module {};", module.display());
    let port = free_port();
    let text = format!(
        "{load}\ndaemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr info;\n\
         events {{ worker_connections 64; }}\n\
         stream {{ server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; \
         proxy_pass 127.0.0.1:{behind}; }} }}\n",
        cert.display(),
        key.display()
    );
    let configuration = scratch.file("nginx.conf");
    std::fs::write(&configuration, text).expect("a file in the scratch folder");
    let arguments = ["-e".as_ref(), "stderr".as_ref(), "-c".as_ref(), configuration.as_os_str()];
    let process = Process::start(scratch, "nginx", &nginx, arguments);
    eventually("nginx listens", CLIENT_TIMEOUT, || listens(port).then_some(()));
    (process, port)
}

#[cfg(feature = "ssl")]
#[test]
fn over_tls_each_packet_arrives_and_certificates_count() {
    let (ffmpeg, openssl, nginx) = (need!(ffmpeg), need!(openssl), need!(nginx_stream));
    let (scratch, strict, other) = (Scratch::new(), Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let (_front, port) = start_tls_terminator(&other, &openssl, nginx, slave.port);
    let target = format!("rtmps://127.0.0.1:{port}/live");
    let mut master = origin(&scratch, &target, "forward_tls_verify off;");
    let mut strict_master = origin(&strict, &target, "");
    let source = media::h264_aac(&ffmpeg);

    let here = Player::ffmpeg(&scratch, "here", &ffmpeg, &master.url("livestream"), MediaKinds::Both);
    let there = Player::ffmpeg(&other, "there", &ffmpeg, &slave.url("livestream"), MediaKinds::Both);
    master.wait_players(1);
    slave.wait_players(1);
    let mut strict_publisher = Wire::publisher(strict_master.port, "other");
    strict_publisher.send_tag(&header());
    strict_master.wait_log(&["forward failed", "target=rtmps://", "invalid peer certificate"], CLIENT_TIMEOUT);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    publisher.wait_success(CLIENT_TIMEOUT);

    Aligned::new(&source.tags, &here.finish(&source.tags)).assert_whole();
    Aligned::new(&source.tags, &there.finish(&source.tags)).assert_whole();
    assert!(slave.log_line(&["live/other"]).is_none(), "a stream was published in spite of the certificate");
    master.assert_healthy();
    strict_master.assert_healthy();
    slave.assert_healthy();
}

#[cfg(feature = "ssl")]
#[test]
fn a_certificate_of_an_authority_in_ssl_cert_file_is_trusted_for_its_name_only() {
    let (ffmpeg, openssl, nginx) = (need!(ffmpeg), need!(openssl), need!(nginx_stream));
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let (_front, port) = start_tls_terminator(&other, &openssl, nginx, slave.port);
    let trusted = format!("SSL_CERT_FILE={}", other.file("ca.pem").display());
    let vhost = format!("forward rtmps://localhost:{port}/live rtmps://127.0.0.1:{port}/live/by-address;");
    let configured = free_port();
    let configuration = write_configuration(&scratch, configured, Settings { vhost: &vhost, ..Settings::default() });
    let mut master = Server::run_under(&scratch, configured, &configuration, &["env", &trusted])
        .expect("a port that was free just now");
    let source = media::h264_aac(&ffmpeg);

    let there = Player::ffmpeg(&other, "there", &ffmpeg, &slave.url("livestream"), MediaKinds::Both);
    slave.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    master.wait_log(&["forward failed", "target=rtmps://127.0.0.1", "invalid peer certificate"], CLIENT_TIMEOUT);
    publisher.wait_success(CLIENT_TIMEOUT);

    Aligned::new(&source.tags, &there.finish(&source.tags)).assert_whole();
    assert!(slave.log_line(&["live/by-address"]).is_none(), "the certificate is not for this name");
    master.assert_healthy();
    slave.assert_healthy();
}

/// Returns a numbered H.264 frame; each tenth is a keyframe.
fn frame(number: u8) -> Tag {
    let first = if number.is_multiple_of(10) { 0x17 } else { 0x27 };
    Tag { kind: VIDEO, timestamp: u32::from(number) * 40, payload: vec![first, 1, 0, 0, 0, number] }
}

fn header() -> Tag {
    Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 0, 0, 0, 0, 1] }
}

fn numbers(wire: &Wire) -> Vec<u8> {
    wire.frames().map(|tag| tag.payload[5]).collect()
}

#[test]
fn the_vhost_and_the_parameters_travel() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let vhosts = "vhost demo.com { }";
    let mut slave = Server::with(&other, Settings { vhosts, ..Settings::default() });
    let vhosts = format!(
        "vhost demo.com {{ forward {{ destination 127.0.0.1:{0} rtmp://localhost:{0}/[app]/of-[vhost]-[stream]?key=1&[param]; }} }}",
        slave.port
    );
    let mut master = Server::with(&scratch, Settings { vhosts: &vhosts, ..Settings::default() });
    let mut publisher = Wire::publisher(master.port, "s?vhost=demo.com&token=abc");
    publisher.send_tag(&header());
    publisher.send_tag(&frame(0));
    slave.wait_log(&["publish started: stream=demo.com/live/s "], CLIENT_TIMEOUT);
    // "key=1&vhost=demo.com&token=abc", and its vhost finds the vhost.
    slave.wait_log(&["publish started: stream=demo.com/live/of-demo.com-s params_bytes=30"], CLIENT_TIMEOUT);
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn a_publisher_that_stops_and_starts_again_is_forwarded_again_from_its_first_frame() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut master = origin(&scratch, &target(slave.port), "");
    let mut player = Wire::player(slave.port, "s");
    for session in 0..2_u8 {
        let mut publisher = Wire::next_publisher(master.port, "s");
        publisher.send_tag(&header());
        publisher.send_tag(&frame(session * 100));
        player.wait_frames(usize::from(session) * 30 + 1);
        for number in 1..30 {
            publisher.send_tag(&frame(session * 100 + number));
        }
        publisher.command(0, "FCUnpublish", 0.0, &[Amf::Null, Amf::text("s")]);
        // The last frames are still in transit, and the next session starts while the forwarder closes.
        publisher.wait_status("NetStream.Unpublish.Success");
    }
    player.wait_frames(60);
    let expected: Vec<u8> = (0..30).chain(100..130).collect();
    assert_eq!(numbers(&player), expected);
    player.wait_status("NetStream.Play.UnpublishNotify");
    player.wait_status("NetStream.Play.UnpublishNotify");
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn a_lost_publisher_that_comes_back_goes_on_in_the_same_connection() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut master = origin(&scratch, &target(slave.port), "publish { reconnect_grace 20; }");
    let mut player = Wire::player(slave.port, "s");
    for session in 0..2_u8 {
        let mut publisher = Wire::next_publisher(master.port, "s");
        publisher.send_tag(&header());
        for number in 0..20 {
            publisher.send_tag(&frame(session * 100 + number));
        }
        player.wait_frames(20 * (usize::from(session) + 1));
        // Dropping it closes the connection without any command.
    }
    assert_eq!(numbers(&player), (0..20).chain(100..120).collect::<Vec<u8>>());
    assert!(!player.commands.iter().any(|command| command.code() == "NetStream.Play.UnpublishNotify"));
    assert_eq!(slave.log().matches("] publish started: ").count(), 1, "one publication:\n{}", slave.log());
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn data_travel_and_what_the_server_tells_players_does_not() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut master = origin(&scratch, &target(slave.port), "");
    let mut here = Wire::player(master.port, "s");
    let mut there = Wire::player(slave.port, "s");
    let mut publisher = Wire::publisher(master.port, "s");
    let data = |values: &[Amf]| Tag { kind: DATA, timestamp: 0, payload: amf_payload(values) };
    let cue = [Amf::text("onCuePoint"), Amf::Number(7.0)];
    publisher.send_tag(&data(&[Amf::text("@setDataFrame"), Amf::text("onMetaData"), Amf::Number(1.0)]));
    publisher.send_tag(&header());
    publisher.send_tag(&frame(0));
    publisher.send_tag(&data(&cue));
    publisher.send_tag(&data(&[Amf::text("@setDataFrame"), Amf::text("onMetaData"), Amf::Number(2.0)]));
    for number in 1..5 {
        publisher.send_tag(&frame(number));
    }
    for player in [&mut here, &mut there] {
        player.wait_frames(5);
        let all: Vec<_> =
            player.tags.iter().filter(|tag| tag.kind == DATA).map(|tag| amf_values(&tag.payload)).collect();
        let metadata = |number: f64| vec![Amf::text("onMetaData"), Amf::Number(number)];
        assert_eq!(all, [metadata(1.0), cue.to_vec(), metadata(2.0)]);
    }
    // A player that joins at the target gets the latest metadata.
    let mut late = Wire::player(slave.port, "s");
    late.wait_frames(5);
    let last = amf_payload(&[Amf::text("onMetaData"), Amf::Number(2.0)]);
    assert!(late.tags.iter().any(|tag| tag.kind == DATA && tag.payload == last), "{:?}", late.tags);
    master.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn three_servers_in_a_ring_end_in_a_cut_loop() {
    let ffmpeg = need!(ffmpeg);
    let scratches = [Scratch::new(), Scratch::new(), Scratch::new()];
    let ports = [free_port(), free_port(), free_port()];
    let mut ring: Vec<Server> = (0..3)
        .map(|number| {
            let vhost = format!("forward {};", target(ports[(number + 1) % 3]));
            let settings = Settings { vhost: &vhost, ..Settings::default() };
            let configuration = write_configuration(&scratches[number], ports[number], settings);
            Server::run(&scratches[number], ports[number], &configuration).expect("a port that was free just now")
        })
        .collect();
    let source = media::h264_aac(&ffmpeg);
    let players: Vec<_> = ring
        .iter()
        .zip(&scratches)
        .map(|(server, scratch)| {
            Player::ffmpeg(scratch, "player", &ffmpeg, &server.url("livestream"), MediaKinds::Both)
        })
        .collect();
    ring.iter().for_each(|server| server.wait_players(1));
    let mut publisher = publish(&scratches[0], "publisher", &ffmpeg, source, &ring[0].url("livestream"), &[]);
    ring[0].wait_log(&["refused", "forwarding loop"], CLIENT_TIMEOUT);
    ring[2].wait_log(&["forward failed", "forwarding loop"], CLIENT_TIMEOUT);
    publisher.wait_success(CLIENT_TIMEOUT);
    for player in players {
        Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    }
    // The target refuses again after 2 and 4 seconds; after the end of the stream there are no more attempts.
    let refusals = ring[0].log().matches("forwarding loop").count();
    assert!((1..=8).contains(&refusals), "{refusals} lines of refusals");
    ring.iter_mut().for_each(Server::assert_healthy);
}

#[test]
fn a_target_that_is_this_server_and_stream_is_refused_at_once() {
    let scratch = Scratch::new();
    let port = free_port();
    let vhost = format!("forward localhost:{port} rtmp://127.0.0.1:{port}/live/other;");
    let configuration = write_configuration(&scratch, port, Settings { vhost: &vhost, ..Settings::default() });
    let mut server = Server::run(&scratch, port, &configuration).expect("a port that was free just now");
    let mut publisher = Wire::publisher(port, "s");
    publisher.send_tag(&header());
    server.wait_log(&["forward disabled", "is this server itself"], CLIENT_TIMEOUT);
    // Forwarding to another stream of the same server is no loop, and ends where it would become one.
    let mut other = Wire::player(port, "other");
    for number in 0..20 {
        publisher.send_tag(&frame(number));
    }
    other.wait_frames(20);
    let refused = |log: &str| log.matches("is this server itself").count();
    eventually("both streams are refused as loops", CLIENT_TIMEOUT, || (refused(&server.log()) >= 3).then_some(()));
    assert_eq!(refused(&server.log()), 3, "once for s, twice for other: its name, and live/other again");
    server.assert_healthy();
}
