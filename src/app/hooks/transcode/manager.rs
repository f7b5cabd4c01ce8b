//! All programs of all streams: compares what is wanted with what runs, and starts and ends what differs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::hosts::Hosts;
use super::ladders::Ladders;
use super::progress::{Progress, ProgressReader};
use super::spec::{Spec, What};
use super::specs::{self, Key, Once};
use super::task::{Action, State, StopReason, Task};
use super::urls;
use super::watch::{Seen, StreamTime};
use crate::app::context::Context;
use crate::app::session::engines::{Engine, Token};
use crate::app::session::info::StreamInfo;
use crate::app::stream::{EndReason, Source};
use crate::log::{Throttle, quoted};
use crate::os::process::{OnOutput, ProcessEnd, ProcessEvent, Processes, Spawn, StopSignal};
use crate::st;

/// Commands that run once and wait for a place. Further ones are dropped.
const MAX_WAITING_COMMANDS: usize = 1000;

/// Interval of warnings of the same kind.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Lines of standard error in the log, and their longest text in characters.
const SHOWN_LINES: usize = 3;
const MAX_SHOWN: usize = 400;

/// The variable with the parameter for URLs of this server that a command makes by itself.
const TOKEN_VARIABLE: &str = "SRS_URL_PARAMETER";

/// A message to the manager.
pub(super) enum Message {
    Published {
        stream: Arc<StreamInfo>,
        source: Source,
        time: Arc<StreamTime>,
    },
    /// Findings of the watch of a publication, named by its time.
    Seen(String, Arc<StreamTime>, Seen),
    /// The stream has ended.
    Unpublished(String),
    Once(Once, Arc<StreamInfo>),
    Process(ProcessEvent),
    Reconfigured,
    /// A host is known.
    HostKnown,
}

struct LiveStream {
    info: Arc<StreamInfo>,
    source: Source,
    time: Arc<StreamTime>,
    /// The present publication has a keyframe.
    is_ready: bool,
}

/// State of a running program besides its task.
struct Process {
    task: u64,
    progress: Arc<Mutex<ProgressReader>>,
    /// Ends with the process.
    _token: Option<Token>,
}

/// A task, and where it belongs.
pub(super) struct Entry {
    pub(super) stream: String,
    pub(super) key: Key,
    pub(super) task: Task,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) starts: u64,
    pub(super) failures: u64,
    pub(super) killed: u64,
}

pub(super) struct Manager {
    ctx: Context,
    ladders: Ladders,
    processes: Arc<Processes>,
    hosts: Hosts,
    on_host: Arc<dyn Fn() + Send + Sync>,
    streams: HashMap<String, LiveStream>,
    /// Streams whose `on_publish` has run.
    announced: HashSet<String>,
    pub(super) tasks: BTreeMap<u64, Entry>,
    running: BTreeMap<u64, Process>,
    next_id: u64,
    pub(super) totals: Totals,
    queue_warning: Throttle,
    log_warning: Throttle,
}

impl Manager {
    pub(super) fn new(
        ctx: Context,
        ladders: Ladders,
        processes: Arc<Processes>,
        on_host: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            ctx,
            ladders,
            processes,
            hosts: Hosts::default(),
            on_host,
            streams: HashMap::new(),
            announced: HashSet::new(),
            tasks: BTreeMap::new(),
            running: BTreeMap::new(),
            next_id: 0,
            totals: Totals::default(),
            queue_warning: Throttle::new(LOG_INTERVAL),
            log_warning: Throttle::new(LOG_INTERVAL),
        }
    }

    /// Handles a message, and what follows from it.
    pub(super) fn handle(&mut self, message: Message) {
        match message {
            Message::Published { stream, source, time } => {
                let live = LiveStream { info: stream.clone(), source, time, is_ready: false };
                self.streams.insert(stream.name.clone(), live);
                self.set_input(&stream.name, false);
            }
            Message::Seen(name, time, seen) => self.on_seen(&name, &time, seen),
            Message::Unpublished(name) => {
                if let Some(live) = self.streams.get(&name).filter(|live| !live.source.is_live()) {
                    let info = live.info.clone();
                    self.streams.remove(&name);
                    self.reconcile(&info, Vec::new());
                }
            }
            Message::Once(event, stream) => self.run_once(event, &stream),
            Message::Process(event) => self.on_process(event),
            Message::Reconfigured => {
                let names: Vec<_> = self.streams.keys().cloned().collect();
                names.iter().for_each(|name| self.update(name));
            }
            Message::HostKnown => {}
        }
        self.tick(st::now());
    }

    fn on_seen(&mut self, name: &str, time: &Arc<StreamTime>, seen: Seen) {
        // Another publication may have begun since.
        let Some(live) = self.streams.get_mut(name).filter(|live| Arc::ptr_eq(&live.time, time)) else { return };
        match seen {
            Seen::Ready => {
                live.is_ready = true;
                self.set_input(name, true);
                self.update(name);
            }
            Seen::Changed => self.update(name),
            Seen::Ended(EndReason::Reconfigured) => {
                let info = live.info.clone();
                self.streams.remove(name);
                self.reconcile(&info, Vec::new());
            }
            // The publisher may come back, and programs wait for it.
            Seen::Ended(_) => {
                live.is_ready = false;
                self.set_input(name, false);
            }
        }
    }

    fn set_input(&mut self, stream: &str, has_input: bool) {
        let tasks = self.tasks.values_mut().filter(|entry| entry.stream == stream && !entry.task.once);
        tasks.for_each(|entry| entry.task.has_input = has_input);
    }

    /// Applies the configuration to a stream that has a keyframe.
    fn update(&mut self, name: &str) {
        let Some(live) = self.streams.get(name).filter(|live| live.is_ready) else { return };
        let config = self.ctx.config.get();
        let (wanted, refused) = specs::of_stream(&config, &live.info, &live.source, st::system_time());
        for (key, error) in refused {
            log::warn!("process not started: stream={name} process={} error={}", quoted(key), quoted(error));
        }
        let info = live.info.clone();
        self.reconcile(&info, wanted);
    }

    /// Sets what is to run for a stream.
    fn reconcile(&mut self, stream: &StreamInfo, wanted: Vec<(Key, Spec)>) {
        let heights = wanted.iter().find_map(|(_, spec)| match &spec.what {
            What::Ladder { heights, .. } => Some(heights.clone()),
            _ => None,
        });
        self.ladders.set(stream, heights.as_deref().unwrap_or_default());
        let mut wanted: BTreeMap<Key, Spec> = wanted.into_iter().collect();
        let tasks = self.tasks.values_mut().filter(|entry| entry.stream == stream.name && !entry.task.once);
        for entry in tasks {
            entry.task.wanted = wanted.remove(&entry.key).map(Arc::new);
        }
        let now = st::now();
        for (key, spec) in wanted {
            let task = Task::new(Arc::new(spec), false, now);
            self.add_task(stream, key, task);
        }
    }

    fn add_task(&mut self, stream: &StreamInfo, key: Key, task: Task) {
        self.next_id += 1;
        self.tasks.insert(self.next_id, Entry { stream: stream.name.clone(), key, task });
    }

    fn run_once(&mut self, event: Once, stream: &Arc<StreamInfo>) {
        match event {
            Once::Publish if !self.announced.insert(stream.name.clone()) => return,
            Once::Unpublish if !self.announced.remove(&stream.name) => return,
            _ => {}
        }
        let now = st::now();
        for (key, spec) in specs::once(&self.ctx.config.get(), stream, event, st::system_time()) {
            let waiting = self.tasks.values().filter(|entry| entry.task.once).count();
            match spec {
                Ok(_) if waiting >= MAX_WAITING_COMMANDS => {
                    if self.queue_warning.pass(now) {
                        log::warn!(
                            "commands dropped, too many wait: waiting={waiting} last_stream={} process={}",
                            stream.name,
                            quoted(key)
                        );
                    }
                }
                Ok(spec) => self.add_task(stream, key, Task::new(Arc::new(spec), true, now)),
                Err(error) => {
                    let (stream, key) = (&stream.name, quoted(key));
                    log::warn!("process not started: stream={stream} process={key} error={}", quoted(error));
                }
            }
        }
    }

    fn on_process(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Started { id, pid } => {
                let task = self.running.get(&id).map(|process| process.task);
                if let Some(entry) = task.and_then(|task| self.tasks.get_mut(&task)) {
                    entry.task.set_pid(pid);
                    log::info!("process started: stream={} process={} pid={pid}", entry.stream, quoted(&entry.key));
                }
            }
            ProcessEvent::Exited { id, end, last_lines } => {
                let Some(process) = self.running.remove(&id) else { return };
                if let Some(entry) = self.tasks.get_mut(&process.task) {
                    on_exit(entry, &end, &last_lines, &mut self.totals);
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

    /// Starts and ends what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let ids: Vec<u64> = self.tasks.keys().copied().collect();
        for id in ids {
            let Some(entry) = self.tasks.get_mut(&id) else { continue };
            let progress = entry.task.run().and_then(|run| self.running.get(&run.process)).map(Process::progress);
            let stream_ms = self.streams.get(&entry.stream).map_or(0, |live| live.time.get());
            match entry.task.step(now, progress.unwrap_or_default(), stream_ms) {
                Action::Nothing => {}
                Action::Remove => drop(self.tasks.remove(&id)),
                Action::Start if self.running.len() < self.ctx.config.get().max_processes => self.start(id, now),
                Action::Start => {}
                Action::Signal(signal, reason) => self.signal(id, signal, reason),
            }
        }
    }

    fn start(&mut self, id: u64, now: Instant) {
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let Some(spec) = entry.task.wanted.clone() else { return };
        // It was checked when it was made; only the time differs.
        let Ok(command) = spec.command(st::system_time()) else { return };
        let mut own_hosts = HashSet::new();
        for host in urls::hosts(&command.args) {
            match self.hosts.is_own(&host, now, &self.on_host) {
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
        self.next_id += 1;
        let process = self.next_id;
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
                hidden: Some(parameter.clone()),
            },
        );
        self.totals.starts += 1;
        entry.task.on_start(process, spec, now);
        self.running.insert(process, Process { task: id, progress, _token: Some(token) });
    }

    fn signal(&mut self, id: u64, signal: StopSignal, reason: Option<StopReason>) {
        let Some(entry) = self.tasks.get(&id) else { return };
        let Some(run) = entry.task.run() else { return };
        self.processes.signal(run.process, signal);
        if signal == StopSignal::Kill {
            self.totals.killed += 1;
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

    /// Returns the number of programs that run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Returns whether there is nothing to do until the next message.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Ends all programs for good: with SIGINT, or with SIGKILL.
    pub(super) fn end_all(&mut self, signal: StopSignal) {
        for entry in self.tasks.values_mut() {
            entry.task.wanted = None;
            if let State::Running(run) = &entry.task.state
                && signal == StopSignal::Kill
            {
                self.processes.signal(run.process, signal);
            }
        }
        self.tick(st::now());
    }
}

impl Process {
    fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).last()
    }
}

fn on_exit(entry: &mut Entry, end: &ProcessEnd, last_lines: &[String], totals: &mut Totals) {
    let pid = entry.task.run().and_then(|run| run.pid).unwrap_or(0);
    // Varies with the process and the time, which is all that is asked of it.
    let random = u64::from(pid)
        ^ u64::from(st::system_time().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos()));
    let once = entry.task.once;
    let run = entry.task.on_exit(end, last_lines.last().map(String::as_str), random, st::now());
    let (stream, key, seconds) = (&entry.stream, quoted(&entry.key), run.ran.as_secs_f32());
    let is_failure = run.stopped.is_none_or(StopReason::is_failure);
    let is_good = once && *end == ProcessEnd::Status(0);
    if !is_failure || is_good {
        log::info!("process ended: stream={stream} process={key} pid={pid} end={} seconds={seconds:.1}", quoted(end));
        return;
    }
    totals.failures += 1;
    let last = &last_lines[last_lines.len().saturating_sub(SHOWN_LINES)..];
    let shown: String = last.join(" | ").chars().rev().take(MAX_SHOWN).collect::<Vec<_>>().into_iter().rev().collect();
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
}
