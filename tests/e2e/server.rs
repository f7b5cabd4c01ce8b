//! The server under test.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::process::{Process, eventually};
use crate::scratch::Scratch;

/// The binary that cargo built for this test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_simple_rtmp_server");

const START: Duration = Duration::from_secs(10);

/// A port that nobody listens on. Ports below the range that the kernel takes for outgoing connections, so that no client of
/// another test takes it before the server does.
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

/// Whether someone listens on this port. It looks instead of connecting, since a connection would be a client to the server
/// under test.
pub(crate) fn listens(port: u16) -> bool {
    sockets(port, "0A") > 0
}

/// How many sockets have this local port and this state, as the kernel writes it.
fn sockets(port: u16, state: &str) -> usize {
    let port = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some(state)
        })
        .count()
}

/// What a test puts into the configuration beside the port.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// Directives of the root.
    pub(crate) root: &'a str,
    /// Directives of `__defaultVhost__`.
    pub(crate) vhost: &'a str,
    /// More vhosts.
    pub(crate) vhosts: &'a str,
}

/// Writes a configuration for `port` to the scratch folder.
pub(crate) fn write_configuration(scratch: &Scratch, port: u16, settings: Settings<'_>) -> PathBuf {
    let mut text = String::new();
    let Settings { root, vhost, vhosts } = settings;
    writeln!(text, "listen 127.0.0.1:{port};\n{root}\nvhost __defaultVhost__ {{\n{vhost}\n}}\n{vhosts}")
        .expect("memory");
    let path = scratch.file("srs.conf");
    std::fs::write(&path, text).expect("a file in the scratch folder");
    path
}

/// A running server. It is killed when dropped, and its log is shown when the test failed.
pub(crate) struct Server {
    /// The port of 127.0.0.1 where it listens.
    pub(crate) port: u16,
    process: Process,
}

impl Server {
    /// Starts a server with the default settings and waits until it listens.
    pub(crate) fn start(scratch: &Scratch) -> Server {
        Server::with(scratch, Settings::default())
    }

    /// Starts a server and waits until it listens. A port that someone else took in between is tried again with another.
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

    /// Starts a server with this configuration on this port; `None` when the port was taken by another.
    pub(crate) fn run(scratch: &Scratch, port: u16, configuration: &Path) -> Option<Server> {
        Server::run_under(scratch, port, configuration, &[])
    }

    /// The same, by another program with its arguments, such as `env`.
    pub(crate) fn run_under(scratch: &Scratch, port: u16, configuration: &Path, under: &[&str]) -> Option<Server> {
        let mut command: Vec<&OsStr> = under.iter().map(OsStr::new).collect();
        command.extend([OsStr::new(BINARY), OsStr::new("-c"), configuration.as_os_str()]);
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
            assert!(Instant::now() < deadline, "the server does not listen on port {port} after {START:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address of a stream of the app `live`.
    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.port)
    }

    /// Waits until `count` clients are connected, and a little longer, for what they say first.
    pub(crate) fn wait_clients(&self, count: usize) {
        const ESTABLISHED: &str = "01";
        let what = format!("{count} clients are connected");
        eventually(&what, START, || (sockets(self.port, ESTABLISHED) >= count).then_some(()));
        std::thread::sleep(Duration::from_millis(500));
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until a line of the log holds each of `words`, in any case of letters.
    pub(crate) fn wait_log(&self, words: &[&str], limit: Duration) -> String {
        eventually(&format!("{words:?} in a line of the server's log"), limit, || self.log_line(words))
    }

    /// The first line of the log that holds each of `words`, in any case of letters.
    pub(crate) fn log_line(&self, words: &[&str]) -> Option<String> {
        let log = self.log();
        let holds = |line: &&str| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        log.lines().find(holds).map(str::to_owned)
    }

    /// Fails when the server has ended or has logged a panic.
    pub(crate) fn assert_healthy(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the server has ended with {status}");
        }
        let panicked = self.log_line(&["panicked"]);
        assert!(panicked.is_none(), "{panicked:?}");
    }

    /// The id of the process.
    #[allow(dead_code, reason = "for the attack kit, which shares this")]
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process, for its signals and its end.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
