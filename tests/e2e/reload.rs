//! Reload by SIGHUP: the effect of each change, and that other clients do not notice.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::align::Aligned;
use crate::common::amf::Amf;
use crate::common::flv::{Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{self, Server, binary};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::media;
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player, publish};
use crate::tools::need;

const LIMIT: Duration = Duration::from_secs(60);

/// A server with a configuration that tests rewrite.
pub(crate) struct ReloadableServer {
    pub(crate) server: Server,
    path: PathBuf,
    done: usize,
}

impl ReloadableServer {
    /// Starts a server with these directives after `listen`.
    pub(crate) fn start(scratch: &Scratch, rest: &str) -> ReloadableServer {
        let path = scratch.file("srs.conf");
        for _ in 0..5 {
            let port = server::free_port();
            std::fs::write(&path, format!("listen 127.0.0.1:{port};\n{rest}\n")).expect("a file of ours");
            if let Some(server) = Server::run(scratch, port, &path) {
                return ReloadableServer { server, path, done: 0 };
            }
        }
        panic!("five ports in a row were taken");
    }

    /// Replaces the directives after `listen`, reloads, and waits until the reload is done.
    pub(crate) fn reload(&mut self, rest: &str) {
        let port = self.server.port;
        self.reload_whole(&format!("listen 127.0.0.1:{port};\n{rest}\n"));
    }

    fn reload_whole(&mut self, text: &str) {
        self.send(text);
        self.done += 1;
        let done = self.done;
        eventually("the reload is done", LIMIT, || (self.count("configuration reloaded") == done).then_some(()));
    }

    /// Reloads an invalid configuration, and waits until it is rejected.
    fn reload_fails(&mut self, text: &str, reason: &str) {
        let before = self.count("configuration unchanged");
        self.send(text);
        let is_said = |server: &ReloadableServer| server.count("configuration unchanged") > before;
        eventually("the reload is rejected", LIMIT, || is_said(self).then_some(()));
        assert!(
            self.server.log_line(&["error", "reload failed", reason]).is_some(),
            "{reason} in {}",
            self.server.log()
        );
    }

    fn send(&mut self, text: &str) {
        std::fs::write(&self.path, text).expect("a file of ours");
        self.server.process().signal(Signal::SIGHUP);
    }

    fn count(&self, words: &str) -> usize {
        self.server.log().lines().filter(|line| line.contains(words)).count()
    }
}

fn frame(number: u32) -> Tag {
    let first = if number.is_multiple_of(10) { 0x14 } else { 0x24 };
    let mut payload = vec![first, 0];
    payload.extend((0..900_u32).map(|at| (at.wrapping_mul(31) ^ number).to_le_bytes()[0]));
    Tag { kind: VIDEO, timestamp: number * 40, payload }
}

#[test]
fn players_of_an_untouched_vhost_lose_no_byte() {
    let ffmpeg = need!(ffmpeg);
    let scratch = Scratch::new();
    let vhost = "vhost __defaultVhost__ { }";
    let mut reloaded = ReloadableServer::start(&scratch, vhost);
    let (source, url) = (media::h264_aac(&ffmpeg), reloaded.server.url("livestream"));

    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &url, MediaKinds::Both);
    reloaded.server.wait_players(1);
    let mut publisher = publish(&scratch, "publisher", &ffmpeg, source, &url, &[]);
    let mut round = 0;
    while publisher.ended().is_none() {
        round += 1;
        let (port, other) = (reloaded.server.port, server::free_port());
        let level = if round % 2 == 0 { "info" } else { "trace" };
        let own = ["", "vhost other { chunk_size 128; }", "vhost other { enabled off; gop_cache off; }"][round % 3];
        let listen = if round % 2 == 0 { format!("127.0.0.1:{other}") } else { String::new() };
        let rest = format!(
            "{vhost} {own} srs_log_level {level}; max_connections {}; pithy_print {{ play {}; }}",
            900 + round,
            500 + round
        );
        reloaded.reload_whole(&format!("listen 127.0.0.1:{port} {listen};\n{rest}\n"));
        std::thread::sleep(Duration::from_millis(500));
        assert!(round < 60, "the publisher does not end");
    }
    assert!(round >= 4, "{round} reloads while it was published");
    publisher.wait_success(CLIENT_TIMEOUT);
    let received = player.finish(&source.tags);
    Aligned::new(&source.tags, &received).assert_whole().assert_starts_at_zero();
    reloaded.server.assert_healthy();
}

#[test]
fn settings_of_a_running_stream_change_under_its_players() {
    let scratch = Scratch::new();
    let mut reloaded = ReloadableServer::start(&scratch, "chunk_size 4096; vhost __defaultVhost__ { }");
    let port = reloaded.server.port;
    let mut player = Wire::player(port, "livestream");
    let mut publisher = Wire::publisher(port, "livestream");
    let mut next = 0;
    let mut send = |publisher: &mut Wire, count: u32| {
        (0..count).for_each(|_| {
            publisher.send_tag(&frame(next));
            next += 1;
        });
    };
    send(&mut publisher, 15);
    player.wait_frames(15);
    // The player parses chunks with the announced size, so an unannounced change breaks its stream.
    reloaded.reload("chunk_size 200; vhost __defaultVhost__ { }");
    send(&mut publisher, 10);
    player.wait_frames(25);
    // A new player starts at the last keyframe, which is before the change.
    let mut joiner = Wire::player(port, "livestream");
    joiner.wait_frames(5);
    reloaded.reload("vhost __defaultVhost__ { chunk_size 60000; gop_cache off; }");
    send(&mut publisher, 10);
    for (player, count) in [(&mut player, 35), (&mut joiner, 15)] {
        player.wait_frames(count);
        let frames: Vec<_> = player.frames().map(|tag| tag.payload.clone()).collect();
        let first = 35 - u32::try_from(count).expect("small");
        let sent: Vec<_> = (first..35).map(|number| frame(number).payload).collect();
        assert!(frames == sent, "{} frames, which differ from those sent", frames.len());
    }
    // Commands to players still arrive, in chunks of the new size.
    player.command(1, "pause", 0.0, &[Amf::Null, Amf::Boolean(true), Amf::Number(0.0)]);
    player.wait_status("NetStream.Pause.Notify");
    // Without the GOP cache a new player gets no frames at first.
    let mut live = Wire::player(port, "livestream");
    live.receive_for(Duration::from_millis(300));
    assert_eq!(live.frames().count(), 0);
    reloaded.server.assert_healthy();
}

#[test]
fn clients_of_a_lost_vhost_are_told_and_closed_and_nobody_else() {
    let scratch = Scratch::new();
    let both = "vhost __defaultVhost__ { } vhost a.example { }";
    let mut reloaded = ReloadableServer::start(&scratch, both);
    let port = reloaded.server.port;
    for (vhost, code, why) in [("", "vhost-removed", "removed"), ("enabled off;", "vhost-disabled", "disabled")] {
        let mut other = Wire::player(port, "livestream");
        let mut other_publisher = Wire::next_publisher(port, "livestream");
        let name = "livestream?vhost=a.example";
        let mut player = Wire::player(port, name);
        let mut publisher = Wire::publisher(port, name);
        let mut idle = Wire::connect(port);
        idle.connect_app("live?vhost=a.example");
        publisher.send_tag(&frame(0));
        player.wait_frames(1);

        let own = if vhost.is_empty() { String::new() } else { format!("vhost a.example {{ {vhost} }}") };
        reloaded.reload(&format!("vhost __defaultVhost__ {{ }} {own}"));
        for (client, status) in [
            (&mut player, "NetStream.Play.Failed"),
            (&mut publisher, "NetStream.Publish.Denied"),
            (&mut idle, "NetConnection.Connect.Closed"),
        ] {
            let told = client.wait_status(status);
            assert!(told.description().contains(why), "{told:?}");
            client.wait_closed(ANSWER_TIMEOUT);
        }
        reloaded.server.wait_log(&[code, "closed"], LIMIT);
        other_publisher.send_tag(&frame(0));
        other.wait_frames(1);
        drop((other, other_publisher));
        reloaded.reload(both);
    }
    reloaded.server.assert_healthy();
}

#[test]
fn what_is_wrong_changes_nothing() {
    let scratch = Scratch::new();
    let rest = "vhost __defaultVhost__ { }";
    let mut reloaded = ReloadableServer::start(&scratch, rest);
    let port = reloaded.server.port;
    let mut player = Wire::player(port, "livestream");
    reloaded.reload_fails(&format!("listen 127.0.0.1:{port};\nvhost a {{ gop_cach on; }}"), "srs.conf:2: unknown");
    // A port in use makes the whole reload fail, including the addresses before and after it.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (taken_port, free) = (taken.local_addr().expect("an address").port(), server::free_port());
    let text = format!("listen 127.0.0.1:{free} 127.0.0.1:{taken_port};\nmax_connections 1;");
    reloaded.reload_fails(&text, &format!("127.0.0.1:{taken_port}"));
    assert!(!server::listens(free) && server::listens(port));
    let text =
        format!("listen 127.0.0.1:{port} 127.0.0.1:{free}; srs_log_tank file; srs_log_file /proc/no/such;\n{rest}");
    reloaded.reload_fails(&text, "/proc/no/such");
    assert!(!server::listens(free));
    let mut publisher = Wire::publisher(port, "livestream");
    publisher.send_tag(&frame(0));
    player.wait_frames(1);
    reloaded.server.assert_healthy();
}

#[test]
fn ports_come_and_go_and_their_clients_stay() {
    let scratch = Scratch::new();
    let rest = "vhost __defaultVhost__ { }";
    let mut reloaded = ReloadableServer::start(&scratch, rest);
    let (old, new) = (reloaded.server.port, server::free_port());
    let mut player = Wire::player(old, "livestream");
    reloaded.reload_whole(&format!("listen 127.0.0.1:{new};\n{rest}"));
    eventually("the old port is closed", LIMIT, || (!server::listens(old)).then_some(()));
    let mut publisher = Wire::publisher(new, "livestream");
    publisher.send_tag(&frame(0));
    player.wait_frames(1);
    // From one address to all addresses, and back: for a moment both sockets are open.
    for listen in [format!("{new}"), format!("127.0.0.1:{new} [::1]:{new}")] {
        reloaded.reload_whole(&format!("listen {listen};\n{rest}"));
        Wire::player(new, "livestream");
    }
    publisher.send_tag(&frame(1));
    player.wait_frames(2);
    std::net::TcpStream::connect(("::1", new)).expect("IPv6 too");
    reloaded.server.assert_healthy();
}

#[test]
fn a_plan_says_what_a_reload_would_do_and_does_nothing() {
    let scratch = Scratch::new();
    let (present, new) = (scratch.file("present.conf"), scratch.file("new.conf"));
    let plan = |text: &str| {
        std::fs::write(&new, text).expect("a file of ours");
        let arguments = ["-c".as_ref(), present.as_os_str(), "--reload-plan".as_ref(), new.as_os_str()];
        let mut process = Process::start(&scratch, "plan", binary(), arguments);
        (process.wait(LIMIT).code(), process.log())
    };
    std::fs::write(&present, "listen 1935; vhost a { }").expect("a file of ours");
    let (status, said) = plan("listen 1935; vhost a { gop_cache off; } vhost b { }");
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(
        said.contains("gop_cache in vhost a: on -> off; takes effect at once ") && said.contains("vhost b: added"),
        "{said}"
    );
    assert_eq!(plan("listen 0.0.0.0:1935; vhost a { gop_cache on; }"), (Some(0), "nothing would change\n".to_owned()));
    let (status, said) = plan("listen 1935; foo;");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("new.conf:1: unknown directive \"foo\"") && said.contains("would fail"), "{said}");
}
