//! Signals, the pid file, daemon mode, and the service manager.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::flv::{Tag, VIDEO};
use crate::common::process::{Process, eventually};
use crate::common::scratch::Scratch;
use crate::common::server::{self, Server, Settings, binary, listens};
use crate::common::wire::{ANSWER_TIMEOUT, Wire};

const LIMIT: Duration = Duration::from_secs(60);

fn frame(number: u32) -> Tag {
    let first = if number == 0 { 0x14 } else { 0x24 };
    Tag { kind: VIDEO, timestamp: number * 40, payload: [&[first, 0][..], &number.to_be_bytes()].concat() }
}

/// Waits until the pid file has a process id.
fn wait_pid(scratch: &Scratch) -> i32 {
    let read = || std::fs::read_to_string(scratch.file("srs.pid")).ok();
    eventually("the process id", LIMIT, || read()?.strip_suffix('\n')?.parse().ok())
}

#[test]
fn term_and_int_end_it_with_status_0_and_the_pid_file_goes() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let scratch = Scratch::new();
        let mut server = Server::with(&scratch, Settings { root: "pid srs.pid;", ..Settings::default() });
        // The server listens a moment before it writes the file.
        assert_eq!(wait_pid(&scratch), i32::try_from(server.pid()).expect("a pid"));
        let mut player = Wire::player(server.port, "livestream");
        let mut publisher = Wire::publisher(server.port, "livestream");
        publisher.send_tag(&frame(0));
        player.wait_frames(1);
        server.process().signal(signal);
        assert_eq!(server.process().wait(LIMIT).code(), Some(0), "{signal}");
        // The end of the stream is sent before the process ends.
        player.wait_status("NetStream.Play.UnpublishNotify");
        assert!(!scratch.file("srs.pid").exists());
        assert!(server.log_line(&["server stopping: mode=immediate"]).is_some());
    }
}

#[test]
fn quit_tells_publishers_and_drains_players() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let mut player = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    for number in 0..50 {
        publisher.send_tag(&frame(number));
    }
    player.wait_frames(1);
    server.process().signal(Signal::SIGQUIT);
    let told = publisher.wait_status("NetStream.Publish.Denied");
    assert!(told.description().contains("shutting down"), "{told:?}");
    publisher.wait_closed(ANSWER_TIMEOUT);
    player.wait_status("NetStream.Play.UnpublishNotify");
    assert!(player.frames().count() > 0);
    player.wait_closed(ANSWER_TIMEOUT);
    assert_eq!(server.process().wait(LIMIT).code(), Some(0));
    assert!(server.log_line(&["server-stopped"]).is_some());
}

#[test]
fn a_second_signal_ends_it_now() {
    let scratch = Scratch::new();
    let mut server = Server::with(&scratch, Settings { root: "pid srs.pid;", ..Settings::default() });
    // This player never reads, so that its data can never be flushed.
    let _player = Wire::player(server.port, "livestream");
    let mut publisher = Wire::publisher(server.port, "livestream");
    for number in 0..4 {
        let payload = [&[0x14, 0][..], &[7; 4_000_000]].concat();
        publisher.send_tag(&Tag { kind: VIDEO, timestamp: number * 40, payload });
    }
    server.process().signal(Signal::SIGQUIT);
    server.wait_log(&["server stopping: mode=graceful"], LIMIT);
    eventually("new clients are refused", LIMIT, || (!listens(server.port)).then_some(()));
    assert!(server.process().ended().is_none(), "the server waits for the player");
    server.process().signal(Signal::SIGTERM);
    assert_eq!(server.process().wait(LIMIT).code(), Some(128 + Signal::SIGTERM as i32));
    assert!(!scratch.file("srs.pid").exists());
}

#[test]
fn usr1_opens_the_log_file_again() {
    let scratch = Scratch::new();
    let root = "srs_log_tank file; srs_log_file srs.log;";
    let mut server = Server::with(&scratch, Settings { root, ..Settings::default() });
    let (file, rotated) = (scratch.file("srs.log"), scratch.file("srs.log.1"));
    std::fs::rename(&file, &rotated).expect("the log file is there");
    server.process().signal(Signal::SIGUSR1);
    let new = eventually("the new log has the status", LIMIT, || {
        std::fs::read_to_string(&file).ok().filter(|log| log.contains("status: clients=0"))
    });
    assert!(new.contains("log file reopened"), "{new}");
    Wire::connect(server.port);
    eventually("the new log file is used", LIMIT, || {
        std::fs::read_to_string(&file).ok().filter(|log| log.contains("connected"))
    });
    assert!(!std::fs::read_to_string(&rotated).expect("the old log file").contains("connected"));
}

#[test]
fn a_daemon_says_what_is_wrong_first_and_runs_once() {
    let scratch = Scratch::new();
    let port = server::free_port();
    let text = format!(
        "listen 127.0.0.1:{port}; daemon on; pid srs.pid; srs_log_tank file; srs_log_file srs.log;\n\
         vhost __defaultVhost__ {{ }}\n"
    );
    let path = scratch.file("srs.conf");
    std::fs::write(&path, &text).expect("a file of ours");
    let run = || {
        let mut process = Process::start(&scratch, "daemon", binary(), ["-c".as_ref(), path.as_os_str()]);
        (process.wait(LIMIT).code(), process.log())
    };
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let (status, said) = run();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("in use"), "{said}");
    drop(taken);

    assert_eq!(run(), (Some(0), String::new()));
    // An init script reads the file at once.
    let pid = std::fs::read_to_string(scratch.file("srs.pid")).expect("the pid file of a server that serves");
    let pid = pid.trim().parse().expect("a process id");
    struct KillOnDrop(Pid);
    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            // The process may have ended.
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
    let end = KillOnDrop(Pid::from_raw(pid));
    Wire::player(port, "livestream");
    // A fork does not keep them, and without them an idle server keeps the memory of a busy hour.
    eventually("the allocator's threads run", LIMIT, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        names.into_iter().any(|name| name.starts_with("jemalloc_bg_thd")).then_some(())
    });
    let (status, said) = run();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("(pid {pid})")) && said.contains("srs.pid"), "{said}");
    kill(end.0, Signal::SIGTERM).expect("it runs");
    eventually("the daemon has ended", LIMIT, || (!scratch.file("srs.pid").exists()).then_some(()));
    eventually("the port is free", LIMIT, || (!listens(port)).then_some(()));
}

#[test]
fn a_daemon_that_cannot_serve_says_so_and_fails() {
    let scratch = Scratch::new();
    let port = server::free_port();
    let path = scratch.file("srs.conf");
    let text = format!("listen 127.0.0.1:{port}; daemon on; pid srs.pid; vhost __defaultVhost__ {{ }}\n");
    std::fs::write(&path, text).expect("a file of ours");
    // Enough files for what comes before the process leaves the terminal, and too few for what follows.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 12 && exec \"$@\"", "sh", binary(), "-c"]).arg(&path).stdin(Stdio::null());
    let mut process = Process::spawn(&scratch, "daemon", command);
    let status = process.wait(LIMIT).code();
    let said = process.log();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("Too many open files") && !said.contains("cannot leave the terminal"), "{said}");
    eventually("the copy has ended", LIMIT, || (!listens(port)).then_some(()));
}

#[test]
fn the_service_manager_is_told_and_its_sockets_are_used() {
    let scratch = Scratch::new();
    let manager = UnixDatagram::bind(scratch.file("notify")).expect("a socket in the scratch folder");
    manager.set_read_timeout(Some(LIMIT)).expect("a socket option");
    let said = || {
        let mut buffer = [0; 4096];
        let count = manager.recv(&mut buffer).expect("it says something in time");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    // Another process has opened the address of the configuration, so the server cannot open it itself.
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let path = server::write_configuration(&scratch, port, Settings::default());
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh", binary(), "-c"])
        .arg(&path);
    command.env("NOTIFY_SOCKET", scratch.file("notify"));
    command.stdin(Stdio::from(OwnedFd::from(socket)));
    let mut server = Process::spawn(&scratch, "server", command);
    assert!(said().starts_with("READY=1"));
    let mut player = Wire::player(port, "livestream");

    server.signal(Signal::SIGHUP);
    let reloading = said();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.parse::<u64>().ok());
    assert!(micros.is_some_and(|micros| micros > 0), "{reloading}");
    assert!(said().starts_with("READY=1\n"));
    std::fs::write(&path, "foo;").expect("a file of ours");
    server.signal(Signal::SIGHUP);
    assert!(said().starts_with("RELOADING=1"));
    let failed = said();
    assert!(failed.starts_with("READY=1\n") && failed.contains("failed") && failed.contains("foo"), "{failed}");
    player.receive_for(Duration::from_millis(50));
    assert!(!player.closed);

    server.signal(Signal::SIGTERM);
    assert!(said().starts_with("STOPPING=1"));
    assert_eq!(server.wait(LIMIT).code(), Some(0));
}

#[test]
fn the_init_script_starts_tells_and_stops() {
    let scratch = Scratch::new();
    let port = server::free_port();
    let conf = scratch.file("srs.conf");
    let write = |more: &str| {
        let text = format!(
            "listen 127.0.0.1:{port};\ndaemon on;\npid ./srs.pid;\nsrs_log_tank file;\nsrs_log_file srs.log;\n\
             vhost __defaultVhost__ {{ }}\n{more}"
        );
        std::fs::write(&conf, text).expect("a file of ours");
    };
    write("");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("trunk-scripts/srs.init");
    let run = |action: &str| {
        let mut command = Command::new("sh");
        command.arg(&script).arg(action).stdin(Stdio::null());
        command.env("ROOT", scratch.folder()).env("SERVER", binary()).env("CONF", &conf);
        let mut process = Process::spawn(&scratch, action, command);
        (process.wait(LIMIT).code().expect("an exit status"), process.log())
    };
    struct StopOnDrop<F: Fn(&str) -> (i32, String)>(F);
    impl<F: Fn(&str) -> (i32, String)> Drop for StopOnDrop<F> {
        fn drop(&mut self) {
            (self.0)("stop");
        }
    }
    let stop = StopOnDrop(run);
    assert_eq!(run("status").0, 3);
    assert_eq!(run("reload").0, 7);
    let (status, said) = run("start");
    assert_eq!(status, 0, "{said}");
    Wire::player(port, "livestream");
    assert_eq!(run("start").0, 0, "a second start reports the running server");
    assert_eq!(run("status").0, 0);
    let log = || std::fs::read_to_string(scratch.file("srs.log")).unwrap_or_default();
    write("max_connections 7;");
    assert_eq!(run("reload").0, 0);
    eventually("the reload", LIMIT, || log().contains("max_connections: 1000 -> 7").then_some(()));
    assert_eq!(run("reopen").0, 0);
    eventually("the log is open again", LIMIT, || log().contains("log file reopened").then_some(()));
    // The script reports the error and does nothing.
    let pid = std::fs::read_to_string(scratch.file("srs.pid")).expect("a pid file");
    write("foo;");
    for action in ["reload", "restart"] {
        let (status, said) = run(action);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("foo"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(scratch.file("srs.pid")).expect("a pid file"), pid);
    write("");
    assert_eq!(run("restart").0, 0);
    assert_ne!(std::fs::read_to_string(scratch.file("srs.pid")).expect("a pid file"), pid);
    Wire::player(port, "livestream");
    assert_eq!(run("stop").0, 0);
    assert_eq!(run("status").0, 3);
    drop(stop);
}
