//! OBS Studio without a screen (`tests/obs/run-obs.sh`): publishes, stops, reconnects, and stops for good when it is refused.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::backend::{self, SampleBackend, all_hooks};
use crate::common::flv::VIDEO;
use crate::common::process::{POLL, Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{Server, Settings, free_port, write_configuration};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};
use crate::players::{CLIENT_TIMEOUT, MediaKinds, Player};
use crate::tools::need;

/// Time for the start of OBS, with software rendering, beside other tests.
const OBS_TIMEOUT: Duration = Duration::from_secs(120);

/// A running OBS that streams. Dropping it ends OBS and its display.
struct Obs {
    process: Process,
    _home: Scratch,
}

impl Obs {
    fn start(scratch: &Scratch, url: &str) -> Obs {
        Obs::start_under(scratch, url, &[])
    }

    /// Starts OBS through another program with arguments.
    fn start_under(scratch: &Scratch, url: &str, under: &[&str]) -> Obs {
        let home = Scratch::new();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/obs/run-obs.sh");
        let mut command: Vec<_> = under.iter().map(std::ffi::OsStr::new).collect();
        command.extend([script.as_os_str(), home.folder().as_os_str(), url.as_ref(), "obs".as_ref()]);
        let process = Process::start(scratch, "obs", command[0], &command[1..]);
        Obs { process, _home: home }
    }

    /// Waits for a line of OBS's log.
    fn wait_log(&self, text: &str) {
        eventually(&format!("OBS logs {text:?}"), OBS_TIMEOUT, || self.process.log().contains(text).then_some(()));
    }

    /// Waits until OBS has given up, and returns the number of its attempts.
    fn wait_stopped(&self) -> usize {
        self.wait_log("==== Streaming Stop ====");
        self.process.log().matches("Connecting to RTMP URL").count()
    }
}

impl Drop for Obs {
    fn drop(&mut self) {
        // The script ends OBS and its display, also when the test has failed.
        self.process.signal(Signal::SIGTERM);
        let deadline = Instant::now() + CLIENT_TIMEOUT;
        while self.process.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }
}

fn live(port: u16) -> String {
    format!("rtmp://127.0.0.1:{port}/live")
}

fn wait_publishers(server: &Server, count: usize) {
    let started = || server.log().matches("publish started: ").count();
    eventually(&format!("{count} publications"), OBS_TIMEOUT, || (started() >= count).then_some(()));
}

#[test]
fn obs_publishes_and_stops() {
    let ffmpeg = need!(ffmpeg);
    need!(obs);
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let obs = Obs::start(&scratch, &live(server.port));
    wait_publishers(&server, 1);
    let player = Player::ffmpeg(&scratch, "player", &ffmpeg, &server.url("obs"), MediaKinds::Both);
    eventually("ten frames", CLIENT_TIMEOUT, || (player.frames() > 10).then_some(()));
    drop(obs);
    server.wait_log(&["publish stopped", "live/obs"], ANSWER_TIMEOUT);
    server.wait_log(&["connection closed: code=by-peer"], ANSWER_TIMEOUT);
    server.assert_healthy();
}

#[test]
fn obs_stops_when_its_name_is_taken() {
    let ffmpeg = need!(ffmpeg);
    need!(obs);
    let scratch = Scratch::new();
    let server = Server::start(&scratch);
    let source = &crate::media::h264_aac(&ffmpeg).path;
    let url = server.url("obs");
    let endless = ["-v", "error", "-re", "-stream_loop", "-1", "-i"].map(std::ffi::OsStr::new);
    let output = ["-c", "copy", "-f", "flv", &url].map(std::ffi::OsStr::new);
    let first =
        Process::start(&scratch, "first", &ffmpeg, endless.into_iter().chain([source.as_os_str()]).chain(output));
    wait_publishers(&server, 1);
    let obs = Obs::start(&scratch, &live(server.port));
    assert_eq!(obs.wait_stopped(), 1, "it does not try again");
    obs.wait_log("NetStream.Publish.BadName (the stream is being published by client 1)");
    server.wait_log(&["connection closed: code=busy"], ANSWER_TIMEOUT);
    drop(first);
}

#[test]
fn obs_stops_when_a_backend_refuses_it_or_is_dead() {
    need!(obs);
    let scratch = Scratch::new();
    let backend = SampleBackend::start(&scratch, &["--deny-publish", "obs", "--message", "pay your bill first"]);
    for (port, message) in
        [(backend.port, "pay your bill first"), (free_port(), "the callback backend is not available")]
    {
        let server = backend::server(&scratch, &all_hooks(port, "hooks_retry 0;"));
        let obs = Obs::start(&scratch, &live(server.port));
        assert_eq!(obs.wait_stopped(), 1, "it does not try again");
        obs.wait_log(&format!("NetStream.Publish.Denied ({message})"));
        // The number of the dialog, see docs/interop.md.
        obs.wait_log("failed: -3");
        server.wait_log(&["connection closed: code=hook"], ANSWER_TIMEOUT);
    }
}

#[test]
fn obs_stops_when_the_server_is_full() {
    need!(obs);
    let scratch = Scratch::new();
    let server = Server::with(&scratch, Settings { root: "max_connections 1;", ..Settings::default() });
    // A player waits as long as OBS takes to start.
    let _client = Wire::player(server.port, "other");
    let obs = Obs::start(&scratch, &live(server.port));
    assert_eq!(obs.wait_stopped(), 1, "it does not try again");
    server.wait_log(&["connection closed: code=full"], ANSWER_TIMEOUT);
}

#[test]
fn obs_stops_when_the_vhost_is_unknown() {
    need!(obs);
    let scratch = Scratch::new();
    let vhost = "enabled off;";
    let server =
        Server::with(&scratch, Settings { vhost, vhosts: "vhost other.example.com { }", ..Settings::default() });
    let obs = Obs::start(&scratch, &live(server.port));
    assert_eq!(obs.wait_stopped(), 1, "it does not try again");
    server.wait_log(&["connection closed: code=refused"], ANSWER_TIMEOUT);
}

#[test]
fn obs_reconnects_when_the_server_was_killed_and_is_back() {
    need!(obs);
    let scratch = Scratch::new();
    let server = Server::start(&scratch);
    let port = server.port;
    let obs = Obs::start(&scratch, &live(port));
    wait_publishers(&server, 1);
    obs.wait_log("==== Streaming Start ====");
    // Its end is SIGKILL.
    drop(server);
    obs.wait_log("Connecting to RTMP URL");
    let second = Scratch::new();
    let configuration = write_configuration(&second, port, Settings::default());
    let server = Server::run(&second, port, &configuration).expect("the port is free again");
    wait_publishers(&server, 1);
    assert!(!obs.process.log().contains("==== Streaming Stop ===="), "it did not give up");
}

/// A relay of TCP connections to a port, whose line can be cut: connections are closed, and new ones are closed at once.
struct Line {
    port: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(target: u16) -> Line {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let line = Line { port, is_cut: Arc::default(), open: Arc::default() };
        let (is_cut, open) = (line.is_cut.clone(), line.open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    std::thread::spawn(move || relay(from, to));
                }
                open.lock().expect("no panic").extend([near, far]);
            }
        });
        line
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for socket in self.open.lock().expect("no panic").drain(..) {
            // A connection that its peer has closed is closed.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_player_plays_on_when_the_line_of_obs_was_cut_for_three_seconds() {
    let ffmpeg = need!(ffmpeg);
    need!(obs);
    let scratch = Scratch::new();
    let mut server =
        Server::with(&scratch, Settings { vhost: "publish { reconnect_grace 30; }", ..Settings::default() });
    let line = Line::to(server.port);
    let obs = Obs::start(&scratch, &live(line.port));
    wait_publishers(&server, 1);
    let mut player = Player::ffmpeg(&scratch, "player", &ffmpeg, &server.url("obs"), MediaKinds::Both);
    eventually("ten frames", CLIENT_TIMEOUT, || (player.frames() > 10).then_some(()));
    line.cut();
    std::thread::sleep(Duration::from_secs(3));
    line.mend();
    wait_publishers(&server, 2);
    let frames = player.frames();
    eventually("the same player goes on", CLIENT_TIMEOUT, || (player.frames() > frames + 30).then_some(()));
    assert!(player.process().ended().is_none());
    let video = player.tags().into_iter().filter(|tag| tag.kind == VIDEO).map(|tag| tag.timestamp).collect::<Vec<_>>();
    assert!(video.is_sorted(), "times go on: {video:?}");
    drop(obs);
    server.assert_healthy();
}

#[test]
fn obs_publishes_over_tls() {
    need!(obs);
    // OBS trusts the certificates of one file of the system only: the test gives it another one in a mount namespace of its own.
    const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
    let namespace = ["--mount", "--map-root-user"];
    let can_mount = Command::new("unshare").args(namespace).args(["mount", "--bind", "/dev/null", TRUSTED]).output();
    if !can_mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine does not allow mount namespaces");
        return;
    }
    let scratch = Scratch::new();
    let (server, port) = crate::rtmps::server(&scratch, "");
    let script = format!("mount --bind {} {TRUSTED} && exec \"$@\"", scratch.file("cert.pem").display());
    let under = ["unshare", namespace[0], namespace[1], "bash", "-c", &script, "bash"];
    let obs = Obs::start_under(&scratch, &format!("rtmps://localhost:{port}/live"), &under);
    wait_publishers(&server, 1);
    obs.wait_log("==== Streaming Start ====");
}
