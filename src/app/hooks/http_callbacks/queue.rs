//! The events that wait for a backend, in lanes: those with the same key are in the same lane and told in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::body::fnv;
use super::hook::Hook;
use super::message::Message;
use super::spool::Receipt;
use crate::config::{HookFormat, HookUrl};

pub(super) const LANES: usize = 16;

/// Events that may wait for one backend, and the bytes of their bodies.
pub(super) const MAX_QUEUED: usize = 10_000;
const MAX_QUEUED_BYTES: usize = 16 << 20;

pub(super) struct Job {
    pub(super) hook: Hook,
    pub(super) key: String,
    pub(super) url: HookUrl,
    pub(super) message: Message,
    pub(super) format: HookFormat,
    pub(super) timeout: Duration,
    pub(super) receipt: Option<Receipt>,
}

impl Job {
    fn size(&self) -> usize {
        self.message.text().len()
    }

    /// Records that the event need not be told any more.
    fn settle(&self) {
        if let Some(receipt) = &self.receipt {
            receipt.settle();
        }
    }
}

pub(super) struct Queue {
    lanes: [Lane; LANES],
    count: usize,
    bytes: usize,
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Arc<Job>>,
    running: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { lanes: std::array::from_fn(|_| Lane::default()), count: 0, bytes: 0 }
    }
}

pub(super) fn lane_of(key: &str) -> usize {
    (fnv(key) % LANES as u64) as usize
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Appends an event, and drops the oldest ones of its lane while there are too many: first those of no consequence, such as a
    /// segment, then any. Returns the number of dropped ones.
    pub(super) fn push(&mut self, job: Job) -> u64 {
        let lane = lane_of(&job.key);
        self.count += 1;
        self.bytes += job.size();
        self.lanes[lane].jobs.push_back(Arc::new(job));
        let mut dropped = 0;
        while self.count > MAX_QUEUED || self.bytes > MAX_QUEUED_BYTES {
            let jobs = &mut self.lanes[lane].jobs;
            let of_no_consequence = jobs.iter().position(|job| job.hook.is_informational()).unwrap_or(0);
            let Some(job) = jobs.remove(of_no_consequence) else { break };
            self.settle(&job);
            dropped += 1;
        }
        dropped
    }

    pub(super) fn front(&self, lane: usize) -> Option<Arc<Job>> {
        self.lanes[lane].jobs.front().cloned()
    }

    /// Removes the first event of a lane, unless that is another one by now.
    pub(super) fn pop(&mut self, lane: usize, job: &Arc<Job>) {
        if self.lanes[lane].jobs.pop_front_if(|first| Arc::ptr_eq(first, job)).is_some() {
            self.settle(job);
        }
    }

    /// Removes all events, except those in a spool file if `is_kept`. Returns the numbers of lost and of kept ones.
    pub(super) fn clear(&mut self, is_kept: bool) -> (u64, u64) {
        let (mut lost, mut kept) = (0, 0);
        for job in self.lanes.iter_mut().flat_map(|lane| lane.jobs.drain(..)) {
            if is_kept && job.receipt.is_some() {
                kept += 1;
            } else {
                job.settle();
                lost += 1;
            }
        }
        (self.count, self.bytes) = (0, 0);
        (lost, kept)
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.lanes[lane_of(key)].jobs.iter().any(|job| job.key == key)
    }

    pub(super) fn set_running(&mut self, lane: usize, running: bool) -> bool {
        std::mem::replace(&mut self.lanes[lane].running, running)
    }

    pub(super) fn is_running(&self) -> bool {
        self.lanes.iter().any(|lane| lane.running)
    }

    fn settle(&mut self, job: &Job) {
        self.count -= 1;
        self.bytes -= job.size();
        job.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(hook: Hook, key: &str, text: String) -> Job {
        let url = HookUrl::parse("http://h/").unwrap();
        let message = Message::post(text, HookFormat::Json, None);
        let (key, timeout) = (key.to_owned(), Duration::from_secs(1));
        Job { hook, key, url, message, format: HookFormat::Json, timeout, receipt: None }
    }

    #[test]
    fn events_of_a_key_are_in_order_and_the_oldest_are_dropped() {
        let mut queue = Queue::default();
        for n in 0..MAX_QUEUED {
            assert_eq!(queue.push(job(Hook::Stop, "a", n.to_string())), 0);
        }
        assert_eq!(queue.push(job(Hook::Stop, "a", "last".into())), 1);
        assert_eq!((queue.len(), queue.front(lane_of("a")).unwrap().message.text()), (MAX_QUEUED, "1"));
        let first = queue.front(lane_of("a")).unwrap();
        queue.pop(lane_of("a"), &first);
        queue.pop(lane_of("a"), &first);
        assert_eq!(queue.len(), MAX_QUEUED - 1, "once");
        assert!(queue.has_key("a") && !queue.has_key("b"));
        assert_eq!((queue.clear(true), queue.len()), ((MAX_QUEUED as u64 - 1, 0), 0));
    }

    #[test]
    fn segments_are_dropped_before_the_ends_of_publications() {
        let mut queue = Queue::default();
        queue.push(job(Hook::Unpublish, "a", "end".into()));
        queue.push(job(Hook::Hls, "a", "s".repeat(MAX_QUEUED_BYTES - 10)));
        assert_eq!(queue.push(job(Hook::Unpublish, "a", "another end".into())), 1);
        assert_eq!((queue.len(), queue.front(lane_of("a")).unwrap().message.text()), (2, "end"));
    }
}
