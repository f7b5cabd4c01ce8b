//! The processes of tasks: their start with a token, signals to them, and their ends.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::hosts::Hosts;
use super::progress::{Progress, ProgressReader};
use super::task::StopReason;
use super::urls;
use crate::app::context::Context;
use crate::app::session::engines::{Engine, Token};
use crate::log::{Throttle, quoted};
use crate::os::process::{OnOutput, ProcessEnd, ProcessEvent, Processes, Spawn, StopSignal};
use crate::st;

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Lines of standard error in the log, and their longest text in characters.
const MAX_ERROR_LINES: usize = 3;
const MAX_ERROR_TEXT: usize = 400;

/// The variable with the parameter for URLs of this server that a command makes by itself.
const TOKEN_VARIABLE: &str = "SRS_URL_PARAMETER";

struct Process {
    task: u64,
    progress: Arc<Mutex<ProgressReader>>,
    _token: Token,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) starts: u64,
    pub(super) failures: u64,
    pub(super) killed: u64,
    pub(super) frames: u64,
    pub(super) duplicated: u64,
    pub(super) dropped: u64,
}

impl Totals {
    fn add(&mut self, progress: Progress) {
        self.frames += progress.frames;
        self.duplicated += progress.duplicated;
        self.dropped += progress.dropped;
    }
}

pub(super) struct Runs {
    ctx: Context,
    processes: Arc<Processes>,
    hosts: Hosts,
    on_host: Arc<dyn Fn() + Send + Sync>,
    running: BTreeMap<u64, Process>,
    last_id: u64,
    /// Without the frames of those that run.
    ended: Totals,
    log_warning: Throttle,
}

impl Runs {
    pub(super) fn new(ctx: Context, processes: Arc<Processes>, on_host: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self {
            ctx,
            processes,
            hosts: Hosts::default(),
            on_host,
            running: BTreeMap::new(),
            last_id: 0,
            ended: Totals::default(),
            log_warning: Throttle::new(LOG_INTERVAL),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.ended;
        self.running.values().for_each(|process| totals.add(process.progress()));
        totals
    }

    pub(super) fn progress(&self, process: u64) -> Progress {
        self.running.get(&process).map(Process::progress).unwrap_or_default()
    }

    pub(super) fn start(&mut self, task: u64, entry: &mut Entry, now: Instant) {
        let Some(spec) = entry.task.wanted.clone() else { return };
        // It was checked when it was made; only the time differs.
        let Ok(command) = spec.command(st::system_time()) else { return };
        let mut own_hosts = HashSet::new();
        for host in urls::hosts(&command.args) {
            match self.hosts.is_local_host(&host, now, &self.on_host) {
                Some(true) => drop(own_hosts.insert(host)),
                Some(false) => {}
                // Tried again when it is known.
                None => return,
            }
        }
        let engine = Arc::new(Engine { stream: entry.stream.clone(), name: entry.key.clone() });
        let token = match self.ctx.engines.issue(engine) {
            Ok(token) => token,
            Err(error) => {
                log::error!("no token for a process: stream={} error={}", entry.stream, quoted(error));
                return;
            }
        };
        let parameter = token.parameter();
        let with_token = |arg: &String| urls::with_parameter(arg, &parameter, |host| own_hosts.contains(host));
        let args = command.args.iter().map(with_token).collect();
        self.last_id += 1;
        let process = self.last_id;
        let progress = Arc::new(Mutex::new(ProgressReader::default()));
        let reader = progress.clone();
        let read = move |bytes: &[u8]| reader.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        log::debug!("process starting: stream={} program={} args={}", entry.stream, spec.program, command.args.len());
        self.processes.spawn(
            process,
            Spawn {
                program: spec.program.clone(),
                args,
                env: vec![(TOKEN_VARIABLE, parameter.clone())],
                limits: spec.limits(),
                directories: command.directories,
                stdout: spec.reports_progress().then(|| Box::new(read) as Box<OnOutput>),
                log: spec.log.clone(),
                hidden: Some(parameter),
            },
        );
        self.ended.starts += 1;
        entry.task.on_start(process, spec, now);
        self.running.insert(process, Process { task, progress, _token: token });
    }

    /// Sends a signal to the process of a task, for a reason if it is the first one.
    pub(super) fn signal(&mut self, entry: &Entry, signal: StopSignal, reason: Option<StopReason>) {
        let Some(run) = entry.task.run() else { return };
        self.processes.signal(run.process, signal);
        if signal == StopSignal::Kill {
            self.ended.killed += 1;
        }
        let (stream, key, pid) = (&entry.stream, quoted(&entry.key), run.pid.unwrap_or(0));
        match reason.filter(|reason| reason.is_failure()) {
            Some(reason) => {
                let lag = run.lag.as_millis();
                let reason = quoted(reason.text());
                log::warn!(
                    "process ended by the server: stream={stream} process={key} pid={pid} lag_ms={lag} reason={reason}"
                );
            }
            None => log::debug!("process signalled: stream={stream} process={key} pid={pid} signal={signal:?}"),
        }
    }

    pub(super) fn on_event(&mut self, event: ProcessEvent, tasks: &mut BTreeMap<u64, Entry>) {
        match event {
            ProcessEvent::Started { id, pid } => {
                let task = self.running.get(&id).map(|process| process.task);
                if let Some(entry) = task.and_then(|task| tasks.get_mut(&task)) {
                    entry.task.set_pid(pid);
                    log::info!("process started: stream={} process={} pid={pid}", entry.stream, quoted(&entry.key));
                }
            }
            ProcessEvent::Exited { id, end, last_lines } => {
                let Some(process) = self.running.remove(&id) else { return };
                self.ended.add(process.progress());
                if let Some(entry) = tasks.get_mut(&process.task)
                    && is_failure(entry, &end, last_lines)
                {
                    self.ended.failures += 1;
                }
            }
            ProcessEvent::LogFailed { path, error } => {
                if self.log_warning.pass(st::now()) {
                    let path = quoted(path.display());
                    log::warn!("log of a process not written: path={path} error={}", quoted(error));
                }
            }
        }
    }
}

impl Process {
    fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).last()
    }
}

/// Ends the run of a task, logs its end, and returns whether it was a failure.
fn is_failure(entry: &mut Entry, end: &ProcessEnd, last_lines: Vec<String>) -> bool {
    let pid = entry.task.run().and_then(|run| run.pid).unwrap_or(0);
    // Varies with the process and the time, which is all that is asked of it.
    let random = u64::from(pid)
        ^ u64::from(st::system_time().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos()));
    let once = entry.task.once;
    let last = &last_lines[last_lines.len().saturating_sub(MAX_ERROR_LINES)..];
    let shown: String =
        last.join(" | ").chars().rev().take(MAX_ERROR_TEXT).collect::<Vec<_>>().into_iter().rev().collect();
    let run = entry.task.on_exit(end, last_lines, random, st::now());
    let (stream, key, seconds) = (&entry.stream, quoted(&entry.key), run.ran.as_secs_f32());
    let is_failure = run.stopped.is_none_or(StopReason::is_failure);
    let is_good = once && *end == ProcessEnd::Status(0);
    if !is_failure || is_good {
        log::info!("process ended: stream={stream} process={key} pid={pid} end={} seconds={seconds:.1}", quoted(end));
        return false;
    }
    let (end, shown, retry) = (quoted(end), quoted(shown), run.pause.as_millis());
    if once {
        log::warn!(
            "command failed: stream={stream} process={key} pid={pid} end={end} seconds={seconds:.1} stderr={shown}"
        );
    } else {
        log::warn!(
            "process failed, started again: stream={stream} process={key} pid={pid} end={end} seconds={seconds:.1} \
             retry_ms={retry} stderr={shown}"
        );
    }
    true
}
