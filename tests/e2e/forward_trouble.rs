//! Targets that are absent, killed, stalled or slow, or that refuse: players of the origin never notice, and after each new
//! connection the target can decode the stream from its first packet.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::align::Aligned;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::eventually;
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, write_configuration};
use crate::common::wire::Wire;
use crate::forward::origin;
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

#[test]
fn targets_that_are_not_there_do_not_answer_or_refuse_hold_nobody_up() {
    let ffmpeg = need!(ffmpeg);
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut refuses = Server::with(&other, Settings { vhost: "enabled off;", ..Settings::default() });
    // The kernel accepts connections, and no process ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("an address").port();
    let absent = free_port();
    let targets = format!(
        "no-such-host.invalid 127.0.0.1:{absent} 127.0.0.1:{silent} 127.0.0.1:{} rtmp://[::1]:{absent}/live",
        refuses.port
    );
    let mut master = origin(&scratch, &targets, "");
    let source = media::h264_aac(&ffmpeg);
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &master.url("livestream"), MediaKinds::Both);
    master.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    let within = Duration::from_secs(20);
    master.wait_log(&["no-such-host.invalid", "cannot resolve", "retry_seconds="], within);
    master.wait_log(&[&format!("127.0.0.1:{absent}"), "connection refused", "retry_seconds="], within);
    master.wait_log(&[&format!("[::1]:{absent}"), "retry_seconds="], within);
    master.wait_log(&["connect was refused: NetConnection.Connect.Rejected", "retry_seconds="], within);
    publisher.wait_success(CLIENT_TIMEOUT);
    Aligned::new(&source.tags, &player.finish(&source.tags)).assert_whole();
    eventually("all forwarders have ended", CLIENT_TIMEOUT, || {
        (master.log().matches("forward finished").count() == 5).then_some(())
    });
    master.assert_healthy();
    refuses.assert_healthy();
}

#[test]
fn a_target_that_is_absent_at_first_and_killed_later_gets_the_stream_from_a_keyframe_each_time() {
    let ffmpeg = need!(ffmpeg);
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let port = free_port();
    let mut master = origin(&scratch, &format!("127.0.0.1:{port}"), "");
    let configuration = write_configuration(&other, port, Settings::default());
    let start = || Server::run(&other, port, &configuration).expect("a port that was free just now");
    let source = media::long_h264_aac(&ffmpeg);

    let here = Player::ffmpeg(&scratch, "here", &ffmpeg, &master.url("livestream"), MediaKinds::Both);
    master.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &master.url("livestream"), &[]);
    master.wait_log(&["forward failed", "retry_seconds="], CLIENT_TIMEOUT);
    let mut slave = start();
    let first = Player::ffmpeg(&other, "first", &ffmpeg, &slave.url("livestream"), MediaKinds::Both);
    eventually("the first player has 1 s", CLIENT_TIMEOUT, || (first.frames() > 1000 / 40 + 1000 / 24).then_some(()));
    slave.process().kill();
    let first = first.finish(&source.tags);
    master.wait_log(&["forward failed", "closed", "retry_seconds="], CLIENT_TIMEOUT);
    let mut slave = start();
    let second = Player::ffmpeg(&other, "second", &ffmpeg, &slave.url("livestream"), MediaKinds::Both);
    publisher.wait_success(CLIENT_TIMEOUT);

    Aligned::new(&source.tags, &here.finish(&source.tags)).assert_whole();
    Aligned::new(&source.tags, &second.finish(&source.tags)).assert_tail().assert_starts_at_zero();
    let begins = first.iter().find(|tag| tag.kind == VIDEO && tag.is_frame());
    assert!(begins.is_some_and(Tag::is_keyframe), "the first player started with {begins:?}");
    Aligned::new(&source.tags, &first).assert_one_shift().assert_starts_at_zero();
    master.assert_healthy();
    slave.assert_healthy();
}

/// Returns a large, numbered H.264 frame; each 25th is a keyframe.
fn frame(number: u32) -> Tag {
    let first = if number.is_multiple_of(25) { 0x17 } else { 0x27 };
    let mut payload = vec![first, 1, 0, 0, 0];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.resize(40_000, 7);
    Tag { kind: VIDEO, timestamp: number * 40, payload }
}

fn header() -> Tag {
    Tag { kind: VIDEO, timestamp: 0, payload: vec![0x17, 0, 0, 0, 0, 1] }
}

fn numbers(wire: &Wire) -> Vec<u32> {
    wire.frames().map(|tag| u32::from_be_bytes(tag.payload[5..9].try_into().expect("four bytes"))).collect()
}

/// Publishes frames at 25 a second, 1 MB/s, and calls `each` before each frame.
fn publish_live(publisher: &mut Wire, here: &mut Wire, there: &mut Wire, frames: u32, mut each: impl FnMut(u32)) {
    let begin = Instant::now();
    publisher.send_tag(&header());
    for number in 0..frames {
        each(number);
        publisher.send_tag(&frame(number));
        while Instant::now() < begin + Duration::from_millis(40) * number {
            here.receive_for(Duration::from_millis(4));
            there.receive_for(Duration::from_millis(4));
        }
    }
}

/// Fails unless frames are missing, and the missing ones are whole GOPs.
fn assert_whole_gops_missing(received: &[u32], published: u32) {
    assert_eq!(received.first(), Some(&0));
    for pair in received.windows(2) {
        assert!(pair[1] == pair[0] + 1 || pair[1] > pair[0] && pair[1].is_multiple_of(25), "{pair:?}");
    }
    assert!(received.len() < published as usize, "no frames were dropped: the target was not slow enough");
}

#[test]
fn a_target_that_is_stopped_for_a_while_misses_whole_gops() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut master = origin(&scratch, &format!("127.0.0.1:{}", slave.port), "queue_length 1;");
    let (mut here, mut there) = (Wire::player(master.port, "s"), Wire::player(slave.port, "s"));
    let mut publisher = Wire::publisher(master.port, "s");
    publisher.send_tag(&header());
    master.wait_log(&["forward connected"], CLIENT_TIMEOUT);
    let frames = 250;
    publish_live(&mut publisher, &mut here, &mut there, frames, |number| match number {
        40 => slave.process().signal(Signal::SIGSTOP),
        200 => slave.process().signal(Signal::SIGCONT),
        _ => {}
    });
    here.wait_frames(frames as usize);
    assert_eq!(numbers(&here), (0..frames).collect::<Vec<_>>());
    there.wait("the last frame", CLIENT_TIMEOUT, |there| (numbers(there).last() == Some(&(frames - 1))).then_some(()));
    assert_whole_gops_missing(&numbers(&there), frames);
    let line = master.wait_log(&["state=sending", "forwarders=1"], CLIENT_TIMEOUT);
    assert!(line.contains("target=rtmp://127.0.0.1"), "{line}");
    assert!(
        master.log_line(&["retry_seconds="]).is_none(),
        "the connection to the target was not replaced:\n{}",
        master.log()
    );
    master.assert_healthy();
    slave.assert_healthy();
}

/// Starts a relay to the port `to` with a limited rate and small buffers.
fn start_slow_relay(to: u16, rate: usize, ends: Arc<AtomicBool>) -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // Accepted sockets inherit the buffer size; it is small, so that the sender notices the congestion soon.
    socket.set_recv_buffer_size(16 * 1024).expect("a socket option");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(8).expect("a listener");
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let Ok((mut from, _)) = listener.accept() else { return };
        let mut to = TcpStream::connect(("127.0.0.1", to)).expect("the target listens");
        let (mut back_from, mut back_to) = (to.try_clone().expect("a handle"), from.try_clone().expect("a handle"));
        std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
        let mut buffer = vec![0; rate / 50];
        while !ends.load(Ordering::Relaxed) {
            match from.read(&mut buffer) {
                Ok(n) if n > 0 && to.write_all(&buffer[..n]).is_ok() => {}
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    port
}

#[test]
fn a_target_behind_a_slow_line_misses_whole_gops() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let ends = Arc::new(AtomicBool::new(false));
    // A third of the stream's rate.
    let line = start_slow_relay(slave.port, 330_000, ends.clone());
    let mut master = origin(&scratch, &format!("127.0.0.1:{line}"), "queue_length 1;");
    let (mut here, mut there) = (Wire::player(master.port, "s"), Wire::player(slave.port, "s"));
    let mut publisher = Wire::publisher(master.port, "s");
    publisher.send_tag(&header());
    master.wait_log(&["forward connected"], CLIENT_TIMEOUT);
    let frames = 250;
    publish_live(&mut publisher, &mut here, &mut there, frames, |_| {});
    here.wait_frames(frames as usize);
    assert_eq!(numbers(&here), (0..frames).collect::<Vec<_>>());
    assert_whole_gops_missing(&numbers(&there), frames);
    let line = master.wait_log(&["->", "state="], CLIENT_TIMEOUT);
    assert!(line.contains("delay="), "{line}");
    eventually("the log shows the drops", CLIENT_TIMEOUT, || {
        let log = master.log();
        let shown = |line: &str| line.contains("forwarders=1") && !line.contains("drops=0,");
        log.lines().any(shown).then_some(())
    });
    ends.store(true, Ordering::Relaxed);
    master.assert_healthy();
    slave.assert_healthy();
}

/// Forwards a stream from two masters to one slave: the first one gets the name, and the other takes over when the first ends.
#[test]
fn a_target_whose_stream_is_taken_is_tried_again_until_it_is_free() {
    let (scratch, second, other) = (Scratch::new(), Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let target = format!("127.0.0.1:{}", slave.port);
    let (mut master, mut stand_by) = (origin(&scratch, &target, ""), origin(&second, &target, ""));
    let mut player = Wire::player(slave.port, "s");
    let mut publisher = Wire::publisher(master.port, "s");
    publisher.send_tag(&header());
    publisher.send_tag(&frame(0));
    player.wait_frames(1);
    let mut publisher = Wire::publisher(stand_by.port, "s");
    publisher.send_tag(&header());
    (25..30).for_each(|number| publisher.send_tag(&frame(number)));
    stand_by.wait_log(
        &["was refused: NetStream.Publish.BadName: the stream is being published", "retry_seconds="],
        CLIENT_TIMEOUT,
    );
    master.process().kill();
    player.wait("the frames of the other", CLIENT_TIMEOUT, |player| (numbers(player).len() == 6).then_some(()));
    assert_eq!(numbers(&player), [0, 25, 26, 27, 28, 29], "from its last keyframe on");
    stand_by.assert_healthy();
    slave.assert_healthy();
}

#[test]
fn a_reload_adds_and_removes_targets_of_running_streams() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let mut slave = Server::start(&other);
    let mut master = Server::start(&scratch);
    let reload = |master: &mut Server, vhost: &str, line: &[&str]| {
        write_configuration(&scratch, master.port, Settings { vhost, ..Settings::default() });
        master.process().signal(Signal::SIGHUP);
        master.wait_log(line, CLIENT_TIMEOUT);
    };
    let (mut here, mut there) = (Wire::player(master.port, "s"), Wire::player(slave.port, "s"));
    let mut publisher = Wire::publisher(master.port, "s");
    publisher.send_tag(&header());
    (0..30).for_each(|number| publisher.send_tag(&frame(number)));
    here.wait_frames(30);
    let forward = format!("forward 127.0.0.1:{};", slave.port);
    reload(&mut master, &forward, &["forward connected"]);
    there.wait_frames(5);
    publisher.send_tag(&frame(30));
    there.wait_frames(6);
    assert_eq!(numbers(&there), (25..31).collect::<Vec<_>>(), "from the last keyframe on");
    // The second master does not disturb the first.
    let both = format!("forward {{ destination 127.0.0.1:{0} rtmp://127.0.0.1:{0}/live/more; }}", slave.port);
    reload(&mut master, &both, &["forward started", "/live/…"]);
    slave.wait_log(&["publish started", "live/more"], CLIENT_TIMEOUT);
    assert_eq!(slave.log().matches("] publish started: ").count(), 2);
    reload(&mut master, "", &["forward stopped"]);
    there.wait_status("NetStream.Play.UnpublishNotify");
    slave.wait_log(&["publish stopped", "live/more"], CLIENT_TIMEOUT);
    publisher.send_tag(&frame(31));
    here.wait_frames(32);
    assert_eq!(numbers(&there).len(), 6);
    master.assert_healthy();
    slave.assert_healthy();
}
