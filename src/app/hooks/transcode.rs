//! Programs that run for streams: engines of `transcode`, the `ladder`, and the commands of `exec`.
//!
//! ```text
//! Published ──> Watch (an output of the stream) ── keyframe, changes, end ──┐
//! Unpublished, Played, Stopped, Recorded, reload ──────────────────────────┼──> Inbox ──> Manager ──> Task::step
//! os::process (a thread) ── started, ended ────────────────────────────────┘                │
//!      ▲                                                                                     │
//!      └────────────── Spawn, signals: arguments from Spec, command, names, urls <───────────┘
//! ```
//!
//! A program reads its stream from this server and publishes to it, as any client; by the token in its URLs it is known, see
//! [`engines`](crate::app::session::engines). What it publishes is input to no program, so that no configuration makes a loop.

mod backoff;
mod check;
mod command;
mod entry;
mod hosts;
pub(crate) mod ladders;
mod manager;
mod names;
mod progress;
mod report;
mod runs;
mod spec;
mod specs;
mod task;
mod urls;
mod watch;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use self::check::check_programs;
use self::ladders::Ladders;
use self::manager::{Manager, Message};
use self::report::{outputs, report};
use self::runs::Runs;
use self::specs::{ExecEvent, event_commands, has_programs};
use self::watch::{StreamTime, Watch};
use crate::app::context::{Context, Feature};
use crate::app::events::{Event, Gate, GateAction, GateAnswer, GateRequest, Listener};
use crate::app::limits::fairness::TimeSlice;
use crate::app::outputs::forward::route::Route;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stats::snapshot::Section;
use crate::app::stream::{Output, Source, StreamEvent};
use crate::config::{Config, Vhost};
use crate::os::process::{Processes, StopSignal, launcher};
use crate::st::{self, Cond, Inbox, Shared};

const TICK: Duration = Duration::from_millis(250);

/// Interval at which the end of the server looks for programs that still run, and the time that is left to reap the last ones.
const FLUSH_POLL: Duration = Duration::from_millis(10);
const REAP_TIME: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub(crate) struct Transcoder(Arc<Inner>);

struct Inner {
    ctx: Context,
    ladders: Ladders,
    inbox: Arc<Inbox<Message>>,
    manager: OnceLock<Shared<Manager>>,
    has_tasks: Cond,
    /// Some stream has had a program: its end is of interest.
    is_used: AtomicBool,
}

impl Transcoder {
    /// Creates the feature. `ladders` tells others of the ladders.
    pub(crate) fn new(ctx: Context, ladders: Ladders) -> Self {
        Self(Arc::new(Inner {
            ctx,
            ladders,
            inbox: Arc::default(),
            manager: OnceLock::new(),
            has_tasks: Cond::new(),
            is_used: AtomicBool::new(false),
        }))
    }

    /// Watches a published stream, or stops to, as the configuration of its vhost says.
    fn attach(&self, source: &Source, vhost: &Vhost) {
        source.attach_output("transcode", vhost, has_programs(vhost), |publishing| {
            self.start_watch(source, publishing.stream, publishing.client)
        });
    }

    fn start_watch(&self, source: &Source, stream: &Arc<StreamInfo>, client: &ClientInfo) -> Option<Box<dyn Output>> {
        if is_transcoded(client) {
            return None;
        }
        self.0.is_used.store(true, Ordering::Relaxed);
        let time = Arc::new(StreamTime::default());
        let published = Message::Published { stream: stream.clone(), source: source.clone(), time: time.clone() };
        self.post(published);
        let (name, of_watch, inbox) = (stream.name.clone(), time.clone(), self.0.inbox.clone());
        let report = move |event| inbox.post(Message::Watch(name.clone(), of_watch.clone(), event));
        Some(Box::new(Watch::new(time, report)))
    }

    fn queue_commands(&self, event: ExecEvent, stream: &Arc<StreamInfo>) {
        let config = self.0.ctx.config.get();
        // The pair of an event matters too: a reload may have added its commands since.
        let pair = match &event {
            ExecEvent::Publish => Some(ExecEvent::Unpublish),
            ExecEvent::Unpublish => Some(ExecEvent::Publish),
            ExecEvent::Play | ExecEvent::Stop | ExecEvent::Recorded { .. } => None,
        };
        let has = |vhost: &Arc<Vhost>| {
            [Some(&event), pair.as_ref()].into_iter().flatten().any(|event| !event_commands(vhost, event).1.is_empty())
        };
        if config.vhosts.get(&stream.vhost).is_some_and(has) {
            self.post(Message::Exec(event, stream.clone()));
        }
    }

    fn post(&self, message: Message) {
        self.0.inbox.post(message);
    }

    fn run(&self, manager: &Shared<Manager>) {
        loop {
            let message = self.0.inbox.receive();
            let is_idle = manager.with(|manager| {
                manager.handle(message);
                manager.is_idle()
            });
            if !is_idle {
                self.0.has_tasks.broadcast();
            }
        }
    }

    fn tick(&self, manager: &Shared<Manager>) {
        loop {
            while manager.with(|manager| manager.is_idle()) {
                self.0.has_tasks.wait();
            }
            st::sleep(TICK);
            manager.with(|manager| manager.tick(st::now()));
        }
    }
}

/// Returns whether what a client publishes was made by a program of this server, or of another one that has forwarded it.
fn is_transcoded(client: &ClientInfo) -> bool {
    client.engine.is_some() || Route::parse(&client.forward_route).is_transcoded()
}

impl Listener for Transcoder {
    fn on_event(&self, event: &Event) {
        let event = match event {
            Event::Stream(event) => event,
            Event::Recorded { stream, client, path, .. } if !is_transcoded(client) => {
                return self.queue_commands(ExecEvent::Recorded { file: path.clone() }, stream);
            }
            _ => return,
        };
        match event {
            StreamEvent::Published { stream, client, source, resumed } => {
                if let Some(vhost) = self.0.ctx.config.get().vhosts.get(&stream.vhost) {
                    self.attach(source, vhost);
                }
                if !resumed && !is_transcoded(client) {
                    self.queue_commands(ExecEvent::Publish, stream);
                }
            }
            StreamEvent::Unpublished { stream } => {
                if self.0.is_used.load(Ordering::Relaxed) {
                    self.post(Message::Unpublished(stream.name.clone()));
                }
                self.queue_commands(ExecEvent::Unpublish, stream);
            }
            StreamEvent::Played { stream, .. } => self.queue_commands(ExecEvent::Play, stream),
            StreamEvent::Stopped { stream, .. } => self.queue_commands(ExecEvent::Stop, stream),
            StreamEvent::PublisherLost { .. } | StreamEvent::CodecsKnown { .. } => {}
        }
    }
}

impl Gate for Transcoder {
    fn name(&self) -> &'static str {
        "transcode"
    }

    fn asks_engines(&self) -> bool {
        true
    }

    /// Refuses a program that would publish the stream which it reads.
    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let GateRequest { action: GateAction::Publish, stream: Some(stream), client, .. } = request else {
            return Ok(GateAnswer::default());
        };
        match &client.engine {
            Some(engine) if engine.stream == stream.name => Err(CloseReason::Refused(format!(
                "transcoding loop: {} would publish its own input; add [engine] to its output",
                engine.name
            ))),
            _ => Ok(GateAnswer::default()),
        }
    }
}

impl Feature for Transcoder {
    fn name(&self) -> &'static str {
        "transcode"
    }

    fn start(&self) -> io::Result<()> {
        let inbox = self.0.inbox.clone();
        let processes =
            Processes::start(launcher::command(), st::now, move |event| inbox.post(Message::Process(event)))?;
        let inbox = self.0.inbox.clone();
        let on_host = Arc::new(move || inbox.post(Message::HostKnown));
        let ctx = self.0.ctx.clone();
        let runs = Runs::new(ctx.clone(), Arc::new(processes), on_host);
        let manager = Shared::new(Manager::new(ctx, self.0.ladders.clone(), runs));
        let _ = self.0.manager.set(manager.clone());
        let (this, of_run) = (self.clone(), manager.clone());
        st::spawn_supervised("transcode", move || this.run(&of_run))?;
        let this = self.clone();
        st::spawn_supervised("transcode tick", move || this.tick(&manager))
    }

    /// Applies a new configuration: starts, changes and ends single programs; the others go on.
    fn reconfigure(&self, _: &Config, new: &Config) {
        for source in self.0.ctx.streams.all() {
            if let Some(vhost) = new.vhosts.get(&source.vhost_name()) {
                self.attach(&source, vhost);
            }
        }
        self.post(Message::Reconfigured);
    }

    fn flush(&self, deadline: Instant) {
        let Some(manager) = self.0.manager.get() else { return };
        manager.with(|manager| manager.end_all(StopSignal::Interrupt));
        let wait_until = |deadline: Instant| {
            while manager.with(|manager| manager.runs.count()) > 0 && st::now() < deadline {
                st::sleep(FLUSH_POLL);
            }
        };
        wait_until(deadline.checked_sub(REAP_TIME).unwrap_or(deadline));
        manager.with(|manager| manager.end_all(StopSignal::Kill));
        // Whatever is left ends with this process.
        wait_until(deadline);
    }

    fn snapshot(&self) -> Option<Section> {
        let (manager, now) = (self.0.manager.get()?, st::now());
        let (mut section, tasks) = manager.with(|manager| {
            let (running, tasks, totals) = (manager.runs.count(), manager.tasks.len(), manager.runs.totals());
            let late = manager.tasks.values().filter(|entry| entry.task.is_late()).count();
            let section = Section::new("transcode")
                .with("processes", "Programs that run for streams.", running as u64)
                .with(
                    "waiting",
                    "Programs that wait for a place, a publisher or the end of a pause.",
                    (tasks.saturating_sub(running)) as u64,
                )
                .with("starts_total", "Programs that were started.", totals.starts)
                .with("failures_total", "Programs that ended without being asked to, or were stuck.", totals.failures)
                .with("killed_total", "Programs that followed neither SIGINT nor SIGTERM in time.", totals.killed)
                .with("late", "Programs whose output is more than 2 s behind their stream.", late as u64)
                .with("frames_total", "Frames of video that programs have encoded.", totals.frames)
                .with("dropped_frames_total", "Frames that programs have left out.", totals.dropped)
                .with("duplicated_frames_total", "Frames that programs have repeated.", totals.duplicated);
            (section, manager.tasks.keys().copied().collect::<Vec<_>>())
        });
        if !tasks.is_empty() {
            let (outputs, mut slice) = (outputs(&self.0.ctx), TimeSlice::for_report());
            let report = |task: u64| {
                slice.yield_if_used_up();
                manager.with(|manager| manager.tasks.get(&task).map(|entry| report(entry, &outputs, now)))
            };
            section.items = tasks.into_iter().filter_map(report).collect();
        }
        Some(section)
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        Some(self)
    }
}
