//! Detection of a stuck worker: a coroutine that computes for long or blocks the thread delays every client.
//!
//! Each switch between coroutines stores a tag of the running one, with one relaxed store. A thread reads it every
//! `CHECK_INTERVAL`; the worker is not woken for that. A worker that waits in epoll is idle and not stuck.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::clock;

/// Longest time that a coroutine may run without being reported.
const MAX_RUN: Duration = Duration::from_millis(500);

/// Interval of the checks, and so the precision of the reported times.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Gap between two checks from which the process or the machine, and with it the worker, counts as suspended.
const SUSPENDED_AFTER: Duration = Duration::from_secs(1);

/// The running coroutine: in the upper 40 bits its id, then 8 bits for its name (0 when the worker is idle), then 16 bits that
/// count switches, so that two runs of one coroutine differ.
static RUNNING: AtomicU64 = AtomicU64::new(0);

const SWITCH_MASK: u64 = 0xffff;
const NAME_SHIFT: u32 = 16;
const ID_SHIFT: u32 = 24;

/// Names of coroutines, by their number in the tag less one.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

pub(super) fn tag(name: &'static str, id: u64) -> u64 {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
        // There are a dozen names. Should there be too many, the last ones share a number.
        names.truncate(0xfe - 1);
        names.push(name);
        names.len() - 1
    });
    id << ID_SHIFT | (at as u64 + 1) << NAME_SHIFT
}

/// Records that the coroutine with this tag runs from now on.
pub(super) fn set_running(tag: u64) {
    let switch = RUNNING.load(Ordering::Relaxed).wrapping_add(1) & SWITCH_MASK;
    RUNNING.store(tag | switch, Ordering::Relaxed);
}

/// Records that no coroutine runs. Async-signal-safe.
pub(super) fn set_idle() {
    RUNNING.store(RUNNING.load(Ordering::Relaxed) & SWITCH_MASK, Ordering::Relaxed);
}

/// Starts the thread that logs when a coroutine holds the worker for more than `MAX_RUN`, and when the worker
/// continues. Fails when the thread cannot be started. The server can run without it.
pub fn start_watchdog() -> std::io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        let watch = || {
            let mut watchdog = Watchdog::new(MAX_RUN, clock::now());
            loop {
                thread::sleep(CHECK_INTERVAL);
                watchdog.check(RUNNING.load(Ordering::Relaxed), clock::now()).into_iter().for_each(log);
            }
        };
        result = thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop);
    });
    result
}

/// A long run of one coroutine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    name: &'static str,
    id: u64,
    held: Duration,
    is_over: bool,
}

fn log(report: Report) {
    let Report { name, id, held, is_over } = report;
    let held = held.as_millis();
    if is_over {
        log::warn!("worker running again: coroutine={name} client={id} held_ms={held}");
    } else {
        log::error!("worker stuck, all clients wait: coroutine={name} client={id} held_ms={held}");
    }
}

/// State between two checks.
struct Watchdog {
    max_run: Duration,
    tag: u64,
    /// Time at which the tag was first seen.
    since: Instant,
    last_check: Instant,
    is_reported: bool,
}

impl Watchdog {
    fn new(max_run: Duration, now: Instant) -> Self {
        Self { max_run, tag: 0, since: now, last_check: now, is_reported: false }
    }

    fn check(&mut self, tag: u64, now: Instant) -> Option<Report> {
        let was_suspended = now.saturating_duration_since(self.last_check) >= SUSPENDED_AFTER;
        self.last_check = now;
        let held = now.saturating_duration_since(self.since);
        if tag != self.tag {
            let report = self.is_reported.then(|| Report::new(self.tag, held, true));
            (self.tag, self.since, self.is_reported) = (tag, now, false);
            return report;
        }
        let is_idle = tag >> NAME_SHIFT & 0xff == 0;
        if self.is_reported {
            return None;
        }
        if is_idle || was_suspended {
            self.since = now;
            return None;
        }
        self.is_reported = held >= self.max_run;
        self.is_reported.then(|| Report::new(tag, held, false))
    }
}

impl Report {
    fn new(tag: u64, held: Duration, is_over: bool) -> Self {
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (tag >> NAME_SHIFT & 0xff) as usize;
        let name = at.checked_sub(1).and_then(|at| names.get(at)).copied().unwrap_or("?");
        Self { name, id: tag >> ID_SHIFT, held, is_over }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_run_that_lasts_is_reported_once_and_when_it_ends() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(MAX_RUN, start);
        let (mine, other) = (tag("one", 1 << 33), tag("other", 2));
        assert_eq!(watchdog.check(mine | 7, start), None);
        assert_eq!(watchdog.check(mine | 7, start + 250 * MS), None);
        let report = |held, is_over| Some(Report { name: "one", id: 1 << 33, held, is_over });
        assert_eq!(watchdog.check(mine | 7, start + 500 * MS), report(500 * MS, false));
        assert_eq!(watchdog.check(mine | 7, start + 750 * MS), None);
        assert_eq!(watchdog.check(other | 8, start + 1000 * MS), report(1000 * MS, true));
        assert_eq!(watchdog.check(other | 9, start + 1250 * MS), None);
        assert_eq!(watchdog.check(other | 10, start + 2000 * MS), None, "it runs, but not for long at a time");
    }

    #[test]
    fn neither_idling_nor_a_stopped_process_is_reported() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(MAX_RUN, start);
        for n in 0..100 {
            assert_eq!(watchdog.check(5, start + 250 * MS * n), None, "idle");
        }
        let mine = tag("one", 1);
        let start = start + 60_000 * MS;
        assert_eq!(watchdog.check(mine, start), None);
        assert_eq!(watchdog.check(mine, start + 60_000 * MS), None, "suspended in the middle of a run");
        assert_eq!(watchdog.check(mine, start + 60_250 * MS), None);
        assert!(watchdog.check(mine, start + 60_500 * MS).is_some());
    }

    #[test]
    fn a_coroutine_that_holds_the_worker_is_named() {
        crate::st::run(|| ()).unwrap();
        let is_free = Arc::new(AtomicBool::new(false));
        let hog = is_free.clone();
        let watching = thread::spawn(move || {
            let mut watchdog = Watchdog::new(50 * MS, Instant::now());
            let bound = Instant::now() + Duration::from_secs(20);
            let mut next = |is_over: bool| loop {
                assert!(Instant::now() < bound, "nothing was reported");
                thread::sleep(5 * MS);
                let report = watchdog.check(RUNNING.load(Ordering::Relaxed), Instant::now());
                // Other tests share the worker.
                if let Some(report) = report
                    && (report.name, report.id, report.is_over) == ("hog", 77, is_over)
                {
                    assert!(report.held >= 50 * MS);
                    return;
                }
            };
            next(false);
            is_free.store(true, Ordering::Relaxed);
            next(true);
        });
        let held = crate::st::run(move || {
            let held = crate::st::spawn("hog", 77, move || {
                while !hog.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            held.unwrap().join();
        });
        held.unwrap();
        watching.join().unwrap();
    }
}
