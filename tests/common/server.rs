//! The server under test.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::common::process::{POLL, Process, SHOWN_LOG};
use crate::common::scratch::Scratch;

/// Returns the path of the server under test.
pub(crate) fn binary() -> &'static str {
    crate::binary::path()
}

/// Time for a program to start beside many others.
const START: Duration = Duration::from_secs(60);

/// Returns a free port of 127.0.0.1. It is below the kernel's range for outgoing connections, so that no client of another test
/// can take it before the server does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..10_000 {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 61;
        let port = 12_000 + u16::try_from(offset % 20_000).expect("below 20,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1");
}

/// Returns true if a process listens on this port. Reads the kernel's tables: a connection would count as a client of the server.
pub(crate) fn listens(port: u16) -> bool {
    /// State of a socket that listens, as in /proc/net/tcp.
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some(LISTEN)
    })
}

/// Configuration of the server under test, apart from its port.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// Directives outside of vhosts.
    pub(crate) root: &'a str,
    /// Directives of `__defaultVhost__`.
    pub(crate) vhost: &'a str,
    /// Further vhosts.
    pub(crate) vhosts: &'a str,
}

/// Writes a configuration for `port` to the scratch folder. Publishers of tests often send nothing while something else is
/// looked at, which on a busy machine takes longer than the half minute that a silent publisher has by default.
pub(crate) fn write_configuration(scratch: &Scratch, port: u16, settings: Settings<'_>) -> PathBuf {
    const PATIENT: &str = "publish { timeout 600;";
    let mut text = String::new();
    let Settings { root, vhost, vhosts } = settings;
    let patient = if vhost.contains("publish {") { String::new() } else { format!("{PATIENT} }}") };
    let has_own = vhost.contains("publish { timeout");
    let vhost = if has_own { vhost.to_owned() } else { vhost.replace("publish {", PATIENT) };
    writeln!(text, "listen 127.0.0.1:{port};\n{root}\nvhost __defaultVhost__ {{\n{vhost}\n{patient}\n}}\n{vhosts}")
        .expect("memory");
    let path = scratch.file("srs.conf");
    std::fs::write(&path, text).expect("a file in the scratch folder");
    path
}

/// A running server. Dropping it kills the process and, if the test has failed, prints the log.
pub(crate) struct Server {
    /// RTMP port of 127.0.0.1.
    pub(crate) port: u16,
    process: Process,
}

impl Server {
    /// Starts a server with the default settings and waits until it listens.
    pub(crate) fn start(scratch: &Scratch) -> Server {
        Server::with(scratch, Settings::default())
    }

    /// Starts a server and waits until it listens. Tries another port if the chosen one was taken meanwhile.
    pub(crate) fn with(scratch: &Scratch, settings: Settings<'_>) -> Server {
        for _ in 0..5 {
            let port = free_port();
            let configuration = write_configuration(scratch, port, settings);
            if let Some(server) = Server::run(scratch, port, &configuration) {
                return server;
            }
        }
        panic!("five ports in a row were taken");
    }

    /// Starts a server with this configuration on this port; `None` if the port is taken.
    pub(crate) fn run(scratch: &Scratch, port: u16, configuration: &Path) -> Option<Server> {
        Server::run_under(scratch, port, configuration, &[])
    }

    /// Starts a server like `run`, through another program with arguments, such as `prlimit`.
    pub(crate) fn run_under(scratch: &Scratch, port: u16, configuration: &Path, under: &[&str]) -> Option<Server> {
        let mut command: Vec<&OsStr> = under.iter().map(OsStr::new).collect();
        command.extend([OsStr::new(binary()), OsStr::new("-c"), configuration.as_os_str()]);
        let mut process = Process::start(scratch, "server", command[0], &command[1..]);
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = process.ended() {
                let log = process.log();
                assert!(log.to_lowercase().contains("in use"), "the server ended at once with {status}:\n{log}");
                return None;
            }
            if listens(port) {
                return Some(Server { port, process });
            }
            assert!(
                Instant::now() < deadline,
                "the server does not listen on port {port} after {START:?}:\n{}",
                process.end_of_log(SHOWN_LOG)
            );
            std::thread::sleep(POLL);
        }
    }

    /// Returns the URL of a stream of the application `live`.
    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.port)
    }

    /// Waits until `count` clients have begun to play, or to wait for a publisher, since the server started.
    pub(crate) fn wait_players(&self, count: usize) {
        let begun = || self.log().matches("play started: ").count();
        self.wait(&format!("{count} players"), START, || (begun() >= count).then_some(()));
    }

    /// Waits until `count` publications have begun since the server started.
    pub(crate) fn wait_publishers(&self, count: usize) {
        let begun = || self.log().matches("] publish started: ").count();
        self.wait(&format!("{count} publications"), START, || (begun() >= count).then_some(()));
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for a log line that contains each of `words`, ignoring case, and returns it.
    pub(crate) fn wait_log(&self, words: &[&str], limit: Duration) -> String {
        self.wait(&format!("a line of the server's log with {words:?}"), limit, || self.log_line(words))
    }

    /// Calls `ready` until it returns a value. Panics with `what` and the end of the log after `limit`.
    fn wait<T>(&self, what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = ready() {
                return value;
            }
            if Instant::now() >= deadline {
                let end = self.process.end_of_log(SHOWN_LOG);
                panic!("not within {limit:?}: {what}; the log ends with\n{end}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Returns the first log line that contains each of `words`, ignoring case.
    pub(crate) fn log_line(&self, words: &[&str]) -> Option<String> {
        let log = self.log();
        let holds = |line: &&str| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        log.lines().find(holds).map(str::to_owned)
    }

    /// Fails if the server has ended or has logged a panic.
    pub(crate) fn assert_healthy(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the server has ended with {status}");
        }
        let panicked = self.log_line(&["panicked"]);
        assert!(panicked.is_none(), "{panicked:?}");
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the process, for signals and its exit status.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
