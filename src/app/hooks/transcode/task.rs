//! The life of one program: when it is started, ended, and started again. Pure: [`Task::step`] gets the time and returns what to
//! do.
//!
//! ```text
//! Idle ── wanted, pause over ──> Running ── ended by itself ──> Idle, for the pause
//!                                   │ not wanted, changed, stalled, too far behind
//!                                   └──> SIGINT, SIGTERM, SIGKILL ──> Idle, or gone
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::BackOff;
use super::progress::Progress;
use super::spec::Spec;
use crate::os::process::{ProcessEnd, StopSignal};

/// Time for a program to follow SIGINT, and SIGTERM, and time after which SIGKILL is repeated.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(3);
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);
const KILL_INTERVAL: Duration = Duration::from_secs(5);

/// Delay of the output from which a program counts as late.
const MIN_LATE_DELAY: Duration = Duration::from_secs(2);

pub(super) struct Task {
    /// The program that is to run; `None` if none is any more.
    pub(super) wanted: Option<Arc<Spec>>,
    pub(super) has_input: bool,
    pub(super) once: bool,
    pub(super) state: State,
    back_off: BackOff,
    pub(super) starts: u64,
    pub(super) last_error: Option<String>,
    pub(super) last_end: Option<LastEnd>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastEnd {
    pub(super) end: ProcessEnd,
    pub(super) lines: Vec<String>,
}

pub(super) enum State {
    Idle { not_before: Instant },
    Running(Run),
}

pub(super) struct Run {
    pub(super) process: u64,
    pub(super) pid: Option<u32>,
    pub(super) spec: Arc<Spec>,
    pub(super) started: Instant,
    pub(super) progress: Progress,
    progressed: Instant,
    /// Time of the output and of the stream at the first report, in milliseconds.
    origin: Option<(u64, u64)>,
    pub(super) lag: Duration,
    stop: Option<Stop>,
}

struct Stop {
    reason: StopReason,
    signal: StopSignal,
    next: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    NotWanted,
    Changed,
    Stalled,
    Lagging,
    TimedOut,
}

impl StopReason {
    pub(super) fn is_failure(self) -> bool {
        matches!(self, Self::Stalled | Self::Lagging | Self::TimedOut)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NotWanted => "the stream has ended, or the configuration does not name it any more",
            Self::Changed => "the stream or the configuration has changed",
            Self::Stalled => "no output for stall_timeout",
            Self::Lagging => "the output is max_lag behind the stream",
            Self::TimedOut => "the command did not end in time",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Once there is a place for it.
    Start,
    /// The reason, to be logged, is that of the first signal.
    Signal(StopSignal, Option<StopReason>),
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunEnd {
    pub(super) stopped: Option<StopReason>,
    pub(super) ran: Duration,
    pub(super) pause: Duration,
}

impl Task {
    pub(super) fn new(wanted: Arc<Spec>, once: bool, now: Instant) -> Self {
        Self {
            wanted: Some(wanted),
            has_input: true,
            once,
            state: State::Idle { not_before: now },
            back_off: BackOff::default(),
            starts: 0,
            last_error: None,
            last_end: None,
        }
    }

    pub(super) fn run(&self) -> Option<&Run> {
        match &self.state {
            State::Running(run) => Some(run),
            State::Idle { .. } => None,
        }
    }

    pub(super) fn state_name(&self, now: Instant) -> &'static str {
        match &self.state {
            State::Running(Run { stop: Some(_), .. }) => "stopping",
            State::Running(_) => "running",
            State::Idle { .. } if !self.has_input => "no_input",
            State::Idle { not_before } if now < *not_before => "pause",
            State::Idle { .. } => "queued",
        }
    }

    /// Returns the time since the program could be started.
    pub(super) fn queue_time(&self, now: Instant) -> Duration {
        match &self.state {
            State::Idle { not_before } if self.has_input => now.saturating_duration_since(*not_before),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.run().is_some_and(|run| run.lag > MIN_LATE_DELAY)
    }

    pub(super) fn on_start(&mut self, process: u64, spec: Arc<Spec>, now: Instant) {
        self.starts += 1;
        self.state = State::Running(Run {
            process,
            pid: None,
            spec,
            started: now,
            progress: Progress::default(),
            progressed: now,
            origin: None,
            lag: Duration::ZERO,
            stop: None,
        });
    }

    pub(super) fn set_pid(&mut self, pid: u32) {
        if let State::Running(run) = &mut self.state {
            run.pid = Some(pid);
        }
    }

    /// Records that the program has ended, with these last lines. `random` is any number.
    pub(super) fn on_exit(&mut self, end: &ProcessEnd, lines: Vec<String>, random: u64, now: Instant) -> RunEnd {
        let State::Running(run) = &self.state else {
            return RunEnd { stopped: None, ran: Duration::ZERO, pause: Duration::ZERO };
        };
        let stopped = run.stop.as_ref().map(|stop| stop.reason);
        let ran = now.saturating_duration_since(run.started);
        let is_failure = stopped.is_none_or(StopReason::is_failure);
        if is_failure && *end != ProcessEnd::Status(0) {
            let reason = stopped.filter(|reason| reason.is_failure()).map(StopReason::text);
            self.last_error = Some(match (reason, lines.last()) {
                (Some(reason), _) => reason.to_owned(),
                // The last lines before a signal are not the reason.
                (None, Some(line)) if matches!(end, ProcessEnd::Status(_)) => format!("{end}: {line}"),
                (None, _) => end.to_string(),
            });
        }
        self.last_end = Some(LastEnd { end: end.clone(), lines });
        let pause = if is_failure { self.back_off.next(ran, random) } else { Duration::ZERO };
        self.state = State::Idle { not_before: now + pause };
        if self.once {
            self.wanted = None;
        }
        RunEnd { stopped, ran, pause }
    }

    /// Returns what is to be done now. `progress` is the last report of a program that runs, `stream_ms` the time of its stream.
    pub(super) fn step(&mut self, now: Instant, progress: Progress, stream_ms: u64) -> Action {
        let (wanted, has_input) = (&self.wanted, self.has_input);
        let run = match &mut self.state {
            State::Idle { .. } if wanted.is_none() => return Action::Remove,
            State::Idle { not_before } => {
                return if has_input && now >= *not_before { Action::Start } else { Action::Nothing };
            }
            State::Running(run) => run,
        };
        run.observe(now, progress, stream_ms, has_input);
        let is_served = wanted.as_ref().is_some_and(|wanted| run.spec.serves(wanted));
        if let Some(stop) = &mut run.stop {
            // A stream that is back does not wait for the politeness of its last program.
            let is_urgent = stop.reason == StopReason::NotWanted && wanted.is_some() && stop.signal != StopSignal::Kill;
            if !is_urgent && now < stop.next {
                return Action::Nothing;
            }
            let (signal, time) = match stop.signal {
                StopSignal::Interrupt if !is_urgent => (StopSignal::Terminate, TERMINATE_TIMEOUT),
                _ => (StopSignal::Kill, KILL_INTERVAL),
            };
            (stop.signal, stop.next) = (signal, now + time);
            return Action::Signal(signal, None);
        }
        let supervision = run.spec.supervision;
        let is_over = |limit: Duration, time: Duration| !limit.is_zero() && time >= limit;
        let silence = now.saturating_duration_since(run.progressed);
        let ran = now.saturating_duration_since(run.started);
        let reason = if !is_served {
            if wanted.is_none() { StopReason::NotWanted } else { StopReason::Changed }
        } else if run.spec.timeout.is_some_and(|timeout| is_over(timeout, ran)) {
            StopReason::TimedOut
        } else if run.spec.reports_progress() && is_over(supervision.stall_timeout, silence) {
            StopReason::Stalled
        } else if is_over(supervision.max_lag, run.lag) {
            StopReason::Lagging
        } else {
            return Action::Nothing;
        };
        // A program that is stuck does not finish its work.
        let (signal, time) = match reason.is_failure() {
            true => (StopSignal::Terminate, TERMINATE_TIMEOUT),
            false => (StopSignal::Interrupt, INTERRUPT_TIMEOUT),
        };
        run.stop = Some(Stop { reason, signal, next: now + time });
        Action::Signal(signal, Some(reason))
    }
}

impl Run {
    fn observe(&mut self, now: Instant, progress: Progress, stream_ms: u64, has_input: bool) {
        let old = self.progress;
        let has_output = (progress.frames, progress.out_ms, progress.bytes) != (old.frames, old.out_ms, old.bytes);
        let is_alive = has_output || self.spec.is_slow() && progress.reports != old.reports;
        // Without a publisher there is nothing to do.
        if is_alive || !has_input {
            self.progressed = now;
        }
        if has_output && progress.out_ms > 0 {
            let (out, stream) = *self.origin.get_or_insert((progress.out_ms, stream_ms));
            let lag = (stream_ms.saturating_sub(stream)).saturating_sub(progress.out_ms.saturating_sub(out));
            self.lag = if self.spec.is_slow() { Duration::ZERO } else { Duration::from_millis(lag) };
        }
        self.progress = progress;
    }
}

#[cfg(test)]
mod tests;
