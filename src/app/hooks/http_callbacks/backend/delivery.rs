//! The delivery of the events that wait for a backend: in lanes, in order, again and again until the backend takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::answer::{self, Answer};
use super::super::exchange::Reply;
use super::super::queue::{Job, MAX_QUEUED, lane_of};
use super::{Backend, RequestError, State};
use crate::config::HookFormat;
use crate::log::quoted;
use crate::st::{self, LowClass};

/// Delay before an event is told again: the first, and the longest. It doubles in between.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Attempts until an event is given up that the backend answers with 500 or more: others wait behind it.
const MAX_REJECTIONS: u32 = 8;

impl Backend {
    /// Adds an event. Never blocks; may be called while a panic unwinds.
    pub(crate) fn push(self: &Arc<Self>, job: Job) {
        let index = lane_of(&job.key);
        let must_start = self.state.try_with(|state| {
            let dropped = state.queue.push(job);
            state.count_dropped(dropped, &self.origin);
            !state.queue.set_running(index, true)
        });
        if must_start == Some(true) {
            let guard = LaneGuard { backend: self.clone(), index };
            // If there is no memory, the guard is dropped, and the next event tries again.
            if let Err(error) =
                st::spawn_low_priority(LowClass::Requests, "callbacks", 0, move || guard.backend.run_lane(guard.index))
            {
                log::error!(
                    "callbacks delayed, no memory for a coroutine: backend={} error={}",
                    self.origin,
                    quoted(error)
                );
            }
        }
    }

    fn run_lane(self: &Arc<Self>, index: usize) {
        let (mut delay, mut rejections) = (MIN_RETRY_DELAY, 0);
        while let Some(job) = self.state.with(|state| state.queue.front(index)) {
            let pause = match self.request(&job.url, &job.message, job.timeout) {
                Ok(reply) => {
                    let is_strange = |reply: &Reply| {
                        answer::read(reply.status, &reply.body) == Answer::NotUnderstood
                            && !(200..300).contains(&reply.status)
                    };
                    if job.format == HookFormat::Json && is_strange(&reply) {
                        self.log_invalid_answer(job.hook, &job.url, &reply);
                    }
                    None
                }
                // Events in a spool file stay there.
                Err(_) if self.flushing.load(Ordering::Relaxed) && job.receipt.is_some() => return,
                Err(_) if self.flushing.load(Ordering::Relaxed) => {
                    self.state.with(|state| state.count_lost(1));
                    None
                }
                Err(RequestError::Down(until)) => Some(until.saturating_duration_since(st::now())),
                Err(RequestError::Status(status)) if rejections >= MAX_REJECTIONS => {
                    let url = job.url.redacted();
                    self.state.with(|state| state.totals.lost += 1);
                    log::warn!(
                        "callback lost, the backend fails on it: hook={} url={url} status={status}",
                        job.hook.name()
                    );
                    None
                }
                Err(error) => {
                    rejections += u32::from(matches!(error, RequestError::Status(_)));
                    log::debug!("callback not delivered, retrying: url={} error={}", job.url.redacted(), quoted(error));
                    let pause = delay;
                    delay = (delay * 2).min(MAX_RETRY_DELAY);
                    Some(pause)
                }
            };
            match pause {
                Some(pause) => {
                    self.on_flush.wait_timeout(pause);
                }
                None => {
                    (delay, rejections) = (MIN_RETRY_DELAY, 0);
                    self.state.with(|state| state.queue.pop(index, &job));
                    self.on_delivered.broadcast();
                }
            }
        }
    }

    /// Waits up to `timeout` until no event with this key is queued. Fails if the backend is down: a question would overtake
    /// them.
    pub(crate) fn wait_delivered(&self, key: &str, timeout: Duration) -> Result<(), RequestError> {
        let deadline = st::now() + timeout;
        while self.state.with(|state| state.queue.has_key(key)) {
            if let Some(until) = self.state.with(|state| state.breaker.next_probe()) {
                return Err(RequestError::Down(until));
            }
            if !self.on_delivered.wait_timeout(deadline.saturating_duration_since(st::now())) {
                break;
            }
        }
        Ok(())
    }

    /// Starts the end of the server: from now on, an event that fails once is lost.
    pub(crate) fn start_flush(&self) {
        self.flushing.store(true, Ordering::Relaxed);
        self.on_flush.broadcast();
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.state.with(|state| state.queue.is_running())
    }

    /// Drops all events that are not delivered; those in a spool file stay there if `is_kept`. Returns the numbers of those that
    /// are lost, with those dropped before and not logged, and of those that are kept.
    pub(crate) fn clear(&self, is_kept: bool) -> (u64, u64) {
        self.state.with(|state| {
            let (lost, kept) = state.queue.clear(is_kept);
            state.totals.lost += lost;
            (lost + std::mem::take(&mut state.lost), kept)
        })
    }
}

impl State {
    fn count_lost(&mut self, count: u64) {
        self.lost += count;
        self.totals.lost += count;
    }

    fn count_dropped(&mut self, count: u64, origin: &str) {
        self.count_lost(count);
        if self.lost > 0 && self.lost_log.pass(st::now()) {
            let count = std::mem::take(&mut self.lost);
            log::warn!(
                "callbacks lost, too many wait for the backend: backend={origin} count={count} limit={MAX_QUEUED}"
            );
        }
    }
}

/// Guard that marks a lane as not running when its coroutine ends, also by a panic.
struct LaneGuard {
    backend: Arc<Backend>,
    index: usize,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.backend.state.try_with(|state| state.queue.set_running(self.index, false));
    }
}
