//! The thread that starts, reads and reaps all children.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::launcher;
use super::lines::LastLines;
use super::log_budget::LogBudget;
use super::log_files::{LogFile, Piece};
use super::redact::Redactor;
use super::types::{OnOutput, ProcessEnd, ProcessEvent, Spawn, StopSignal};

/// Bytes that one read takes.
const READ_BYTES: usize = 16 * 1024;

/// Reads of what a child that has ended has left in its pipes: a pipe holds 64 KiB, and those that it has started may write on.
const MAX_LAST_READS: usize = 16;

/// An order to the thread.
pub(super) enum Order {
    Spawn(u64, Box<Spawn>),
    Signal(u64, StopSignal),
}

type OnEvent = Arc<dyn Fn(ProcessEvent) + Send + Sync>;

/// The receivers of what a child says.
pub(super) struct Sinks {
    pub(super) logs: mpsc::SyncSender<Piece>,
    pub(super) clock: fn() -> Instant,
}

pub(super) struct Children {
    launcher: Vec<OsString>,
    wake: UnixStream,
    orders: mpsc::Receiver<Order>,
    sinks: Sinks,
    on_event: OnEvent,
    running: BTreeMap<u64, RunningChild>,
}

/// A child that runs.
struct RunningChild {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    on_stdout: Option<Box<OnOutput>>,
    last_lines: LastLines,
    log: Option<LogFile>,
    budget: LogBudget,
    /// For standard output and standard error.
    redactors: [Redactor; 2],
    log_failed: Arc<AtomicBool>,
}

impl Children {
    pub(super) fn new(
        launcher: Vec<OsString>,
        wake: UnixStream,
        orders: mpsc::Receiver<Order>,
        sinks: Sinks,
        on_event: Box<dyn Fn(ProcessEvent) + Send>,
    ) -> Self {
        // One function for two threads.
        let on_event = Mutex::new(on_event);
        let on_event: OnEvent = Arc::new(move |event| on_event.lock().unwrap_or_else(PoisonError::into_inner)(event));
        Self { launcher, wake, orders, sinks, on_event, running: BTreeMap::new() }
    }

    /// Serves the children, for ever: the end of this thread would end them all.
    pub(super) fn run(&mut self) {
        loop {
            // The hook logs a panic where it happens.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| self.run_once()));
        }
    }

    fn run_once(&mut self) {
        let ready = self.wait();
        let mut bytes = [0; READ_BYTES];
        while matches!(self.wake.read(&mut bytes), Ok(read) if read == bytes.len()) {}
        for id in ready {
            if let Some(running) = self.running.get_mut(&id) {
                running.read(&self.sinks, &self.on_event, true, true);
            }
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Spawn(id, spawn) => self.spawn(id, *spawn),
                Order::Signal(id, signal) => {
                    if let Some(running) = self.running.get(&id) {
                        running.signal(signal);
                    }
                }
            }
        }
        self.reap();
    }

    /// Waits for an order, the end of a child, or output. Returns the children with output.
    fn wait(&self) -> Vec<u64> {
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let mut owners = vec![None];
        for (id, running) in &self.running {
            let stdout = running.stdout.as_ref().map(AsFd::as_fd);
            for fd in stdout.into_iter().chain(running.stderr.as_ref().map(AsFd::as_fd)) {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
                owners.push(Some(*id));
            }
        }
        // An interrupted wait has nothing to tell.
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            return Vec::new();
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let ready = fds.iter().zip(owners).filter(|(fd, _)| is_ready(fd));
        let mut ready: Vec<u64> = ready.filter_map(|(_, owner)| owner).collect();
        ready.dedup();
        ready
    }

    fn spawn(&mut self, id: u64, spawn: Spawn) {
        match RunningChild::start(&self.launcher, spawn, (self.sinks.clock)()) {
            Ok(running) => {
                let pid = running.child.id();
                self.running.insert(id, running);
                (self.on_event)(ProcessEvent::Started { id, pid });
            }
            Err(error) => {
                let end = ProcessEnd::NotStarted(error.to_string());
                (self.on_event)(ProcessEvent::Exited { id, end, last_lines: Vec::new() });
            }
        }
    }

    /// Reaps the children that have ended.
    fn reap(&mut self) {
        let ended: Vec<(u64, ExitStatus)> = self
            .running
            .iter_mut()
            .filter_map(|(id, running)| Some((*id, running.child.try_wait().ok().flatten()?)))
            .collect();
        for (id, status) in ended {
            let Some(mut running) = self.running.remove(&id) else { continue };
            // Its own children go with it.
            running.signal(StopSignal::Kill);
            for _ in 0..MAX_LAST_READS {
                let (stdout, stderr) = running.readable();
                if !running.read(&self.sinks, &self.on_event, stdout, stderr) {
                    break;
                }
            }
            running.finish(&self.sinks, &self.on_event);
            let end = match (status.code(), status.signal()) {
                (Some(code), _) => ProcessEnd::Status(code),
                (None, signal) => ProcessEnd::Signal(signal.unwrap_or_default()),
            };
            (self.on_event)(ProcessEvent::Exited { id, end, last_lines: running.last_lines.finish() });
        }
    }
}

impl RunningChild {
    fn start(launcher: &[OsString], spawn: Spawn, now: Instant) -> io::Result<Self> {
        let mut words = launcher.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).args(launcher::arguments(spawn.limits, &spawn.directories)).arg(&spawn.program);
                command
            }
            None => Command::new(&spawn.program),
        };
        command.args(&spawn.args).envs(spawn.env).process_group(0);
        // Rust opens descriptors so that no child inherits them; those of the service manager are set so too.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        Ok(Self {
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            on_stdout: spawn.stdout,
            last_lines: LastLines::default(),
            log: spawn.log,
            budget: LogBudget::new(now),
            redactors: [(); 2].map(|()| Redactor::new(spawn.hidden.as_deref())),
            log_failed: Arc::default(),
        })
    }

    /// Sends a signal to the process and its group. The process is not reaped yet, or was just now: its id is its own.
    fn signal(&self, signal: StopSignal) {
        let signal = match signal {
            StopSignal::Interrupt => Signal::SIGINT,
            StopSignal::Terminate => Signal::SIGTERM,
            StopSignal::Kill => Signal::SIGKILL,
        };
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Fails if nobody is left.
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Returns which pipes have output, without waiting.
    fn readable(&self) -> (bool, bool) {
        let is_ready = |fd: Option<BorrowedFd<'_>>| {
            fd.is_some_and(|fd| {
                let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
            })
        };
        (is_ready(self.stdout.as_ref().map(AsFd::as_fd)), is_ready(self.stderr.as_ref().map(AsFd::as_fd)))
    }

    /// Reads once from each of these pipes that has output. Returns whether there was any.
    fn read(&mut self, sinks: &Sinks, on_event: &OnEvent, stdout: bool, stderr: bool) -> bool {
        let (has_stdout, has_stderr) = self.readable();
        let mut bytes = [0; READ_BYTES];
        let mut any = false;
        if stdout && has_stdout {
            let read = self.stdout.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut bytes));
            match (read, &mut self.on_stdout) {
                (Ok(0) | Err(_), _) => self.stdout = None,
                (Ok(read), Some(on_stdout)) => {
                    any = true;
                    on_stdout(&bytes[..read]);
                }
                (Ok(read), None) => {
                    any = true;
                    let shown = self.redactors[0].push(&bytes[..read]);
                    self.log(sinks, on_event, shown);
                }
            }
        }
        if stderr && has_stderr {
            match self.stderr.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut bytes)) {
                Ok(0) | Err(_) => self.stderr = None,
                Ok(read) => {
                    any = true;
                    let shown = self.redactors[1].push(&bytes[..read]);
                    self.last_lines.push(&shown);
                    self.log(sinks, on_event, shown);
                }
            }
        }
        any
    }

    /// Shows what was held back.
    fn finish(&mut self, sinks: &Sinks, on_event: &OnEvent) {
        let [stdout, stderr] = [0, 1].map(|at| self.redactors[at].finish());
        self.log(sinks, on_event, stdout);
        self.last_lines.push(&stderr);
        self.log(sinks, on_event, stderr);
    }

    fn log(&mut self, sinks: &Sinks, on_event: &OnEvent, mut bytes: Vec<u8>) {
        let Some(file) = self.log.as_ref().filter(|_| !bytes.is_empty()) else { return };
        let Some(left_out) = self.budget.take(bytes.len(), (sinks.clock)()) else { return };
        if left_out > 0 {
            bytes.splice(..0, format!("… {left_out} bytes are left out …\n").into_bytes());
        }
        let (on_event, path, failed) = (on_event.clone(), file.path.clone(), self.log_failed.clone());
        let on_error = move |error: io::Error| {
            if !failed.swap(true, Ordering::Relaxed) {
                on_event(ProcessEvent::LogFailed { path, error: error.to_string() });
            }
        };
        // If the disk is slow, output is lost.
        let _ = sinks.logs.try_send(Piece { file: file.clone(), bytes, on_error: Box::new(on_error) });
    }
}
