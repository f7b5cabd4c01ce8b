//! All programs of all streams: compares what is wanted with what runs, and starts and ends what differs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::ladders::Ladders;
use super::runs::Runs;
use super::spec::{ProgramKind, Spec};
use super::specs::{self, ExecEvent, Key};
use super::task::{Action, State, Task};
use super::watch::{StreamTime, WatchEvent};
use crate::app::context::Context;
use crate::app::session::info::StreamInfo;
use crate::app::stream::{EndReason, Source};
use crate::log::{Throttle, quoted};
use crate::os::process::{ProcessEvent, StopSignal};
use crate::st;

/// Commands that run once and wait for a place. Further ones are dropped.
const MAX_WAITING_COMMANDS: usize = 1000;

const DROPPED_INTERVAL: Duration = Duration::from_secs(5);

/// Time that a program waits for a place before that is logged, and the interval of these lines.
const LONG_WAIT: Duration = Duration::from_secs(5);
const WAIT_INTERVAL: Duration = Duration::from_secs(60);

pub(super) enum Message {
    Published {
        stream: Arc<StreamInfo>,
        source: Source,
        time: Arc<StreamTime>,
    },
    /// An event of the watch of a publication, which its time identifies.
    Watch(String, Arc<StreamTime>, WatchEvent),
    Unpublished(String),
    Exec(ExecEvent, Arc<StreamInfo>),
    Process(ProcessEvent),
    Reconfigured,
    HostKnown,
}

struct LiveStream {
    info: Arc<StreamInfo>,
    source: Source,
    time: Arc<StreamTime>,
    is_ready: bool,
}

pub(super) struct Manager {
    ctx: Context,
    ladders: Ladders,
    streams: HashMap<String, LiveStream>,
    /// Streams whose `on_publish` has run.
    announced: HashSet<String>,
    pub(super) tasks: BTreeMap<u64, Entry>,
    last_id: u64,
    pub(super) runs: Runs,
    dropped_warning: Throttle,
    wait_warning: Throttle,
}

impl Manager {
    pub(super) fn new(ctx: Context, ladders: Ladders, runs: Runs) -> Self {
        Self {
            ctx,
            ladders,
            streams: HashMap::new(),
            announced: HashSet::new(),
            tasks: BTreeMap::new(),
            last_id: 0,
            runs,
            dropped_warning: Throttle::new(DROPPED_INTERVAL),
            wait_warning: Throttle::new(WAIT_INTERVAL),
        }
    }

    pub(super) fn handle(&mut self, message: Message) {
        match message {
            Message::Published { stream, source, time } => {
                let live = LiveStream { info: stream.clone(), source, time, is_ready: false };
                self.streams.insert(stream.name.clone(), live);
                self.set_input(&stream.name, false);
            }
            Message::Watch(name, time, event) => self.on_watch_event(&name, &time, event),
            Message::Unpublished(name) => {
                if let Some(live) = self.streams.get(&name).filter(|live| !live.source.is_live()) {
                    let info = live.info.clone();
                    self.streams.remove(&name);
                    self.reconcile(&info, Vec::new());
                }
            }
            Message::Exec(event, stream) => self.start_commands(event, &stream),
            Message::Process(event) => self.runs.on_event(event, &mut self.tasks),
            Message::Reconfigured => {
                let names: Vec<_> = self.streams.keys().cloned().collect();
                names.iter().for_each(|name| self.update(name));
            }
            Message::HostKnown => {}
        }
        self.tick(st::now());
    }

    fn on_watch_event(&mut self, name: &str, time: &Arc<StreamTime>, event: WatchEvent) {
        // Another publication may have begun since.
        let Some(live) = self.streams.get_mut(name).filter(|live| Arc::ptr_eq(&live.time, time)) else { return };
        match event {
            WatchEvent::Ready => {
                live.is_ready = true;
                self.set_input(name, true);
                self.update(name);
            }
            WatchEvent::Changed => self.update(name),
            WatchEvent::Ended(EndReason::Reconfigured) => {
                let info = live.info.clone();
                self.streams.remove(name);
                self.reconcile(&info, Vec::new());
            }
            // The publisher may come back, and programs wait for it.
            WatchEvent::Ended(_) => {
                live.is_ready = false;
                self.set_input(name, false);
            }
        }
    }

    fn set_input(&mut self, stream: &str, has_input: bool) {
        let tasks = self.tasks.values_mut().filter(|entry| entry.stream == stream && !entry.task.once);
        tasks.for_each(|entry| entry.task.has_input = has_input);
    }

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

    fn reconcile(&mut self, stream: &StreamInfo, wanted: Vec<(Key, Spec)>) {
        let heights = wanted.iter().find_map(|(_, spec)| match &spec.kind {
            ProgramKind::Ladder { heights, .. } => Some(heights.clone()),
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
        self.last_id += 1;
        self.tasks.insert(self.last_id, Entry { stream: stream.name.clone(), key, task });
    }

    fn start_commands(&mut self, event: ExecEvent, stream: &Arc<StreamInfo>) {
        match event {
            ExecEvent::Publish if !self.announced.insert(stream.name.clone()) => return,
            ExecEvent::Unpublish if !self.announced.remove(&stream.name) => return,
            _ => {}
        }
        let now = st::now();
        for (key, spec) in specs::of_event(&self.ctx.config.get(), stream, &event, st::system_time()) {
            let waiting = self.tasks.values().filter(|entry| entry.task.once).count();
            match spec {
                Ok(_) if waiting >= MAX_WAITING_COMMANDS => {
                    if self.dropped_warning.pass(now) {
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

    pub(super) fn tick(&mut self, now: Instant) {
        let max_processes = self.ctx.config.get().max_processes;
        let ids: Vec<u64> = self.tasks.keys().copied().collect();
        let mut waiting = 0;
        for id in ids {
            let Some(entry) = self.tasks.get_mut(&id) else { continue };
            let progress = entry.task.run().map(|run| self.runs.progress(run.process)).unwrap_or_default();
            let stream_ms = self.streams.get(&entry.stream).map_or(0, |live| live.time.get());
            match entry.task.step(now, progress, stream_ms) {
                Action::Nothing => {}
                Action::Remove => drop(self.tasks.remove(&id)),
                Action::Start if self.runs.count() < max_processes => self.runs.start(id, entry, now),
                Action::Start => waiting += usize::from(entry.task.queue_time(now) >= LONG_WAIT),
                Action::Signal(signal, reason) => self.runs.signal(entry, signal, reason),
            }
        }
        if waiting > 0 && self.wait_warning.pass(now) {
            log::warn!("processes wait for a place: waiting={waiting} max_processes={max_processes}");
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Ends all programs for good: with SIGINT, or with SIGKILL.
    pub(super) fn end_all(&mut self, signal: StopSignal) {
        for entry in self.tasks.values_mut() {
            entry.task.wanted = None;
            if signal == StopSignal::Kill && matches!(entry.task.state, State::Running(_)) {
                self.runs.signal(entry, signal, None);
            }
        }
        self.tick(st::now());
    }
}
