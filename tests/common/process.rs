//! Child processes that end with their test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::scratch::Scratch;

/// Pause between two looks at a condition.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// Time for the kernel to end a process that holds much memory, on a busy machine.
const KILL_TIME: Duration = Duration::from_secs(30);
/// Bytes of a log that are printed when a test fails.
const PRINTED_LOG: usize = 6000;
/// Bytes at the end of a log that a message of a failed wait shows.
pub(crate) const SHOWN_LOG: usize = 1500;

/// Calls `ready` until it returns a value. Panics with `what` after `limit`.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// A child process that writes its output to a file. Dropping it kills the process and, if the test has failed, prints the
/// output.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments`. Its log is `<name>.log` in the scratch folder.
    pub(crate) fn start<A: AsRef<OsStr>>(
        scratch: &Scratch,
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut command = Command::new(program.as_ref());
        command.args(arguments).stdin(Stdio::null());
        Process::spawn(scratch, name, command)
    }

    /// Starts `command` in the scratch folder, with its output in the log.
    pub(crate) fn spawn(scratch: &Scratch, name: &str, mut command: Command) -> Process {
        let log = scratch.file(&format!("{name}.log"));
        let output = File::create(&log).expect("a log file in the scratch folder");
        // Variables of the test's own environment must not configure the server.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SRS_")) {
            command.env_remove(name);
        }
        let child = command
            .current_dir(scratch.folder())
            .stdout(output.try_clone().expect("a second handle of a log file"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Process { name: name.to_owned(), child, log }
    }

    /// Returns the standard output and error so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns at most this many bytes from the end of the output.
    pub(crate) fn end_of_log(&self, bytes: usize) -> String {
        let log = self.log();
        log[log.ceil_char_boundary(log.len().saturating_sub(bytes))..].to_owned()
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status; `None` while the process runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Waits for the end of the process. Panics after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            if Instant::now() >= deadline {
                panic!(
                    "not within {limit:?}: the end of {}; its output ends with\n{}",
                    self.name,
                    self.end_of_log(SHOWN_LOG)
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for the end of the process. Panics after `limit`, or if the exit status is not 0.
    pub(crate) fn wait_success(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(
            status.success(),
            "{} ended with {status}; its output ends with\n{}",
            self.name,
            self.end_of_log(SHOWN_LOG)
        );
    }

    /// Sends SIGINT.
    pub(crate) fn interrupt(&mut self) {
        self.signal(Signal::SIGINT);
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait(KILL_TIME);
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits 31 bits"));
            kill(pid, signal).expect("a signal to a child of ours");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended.
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ({status:?})\n{}\n---", self.name, self.end_of_log(PRINTED_LOG));
        }
    }
}
