//! Sees that the worker is stuck: a coroutine that computes for long or blocks the thread holds up every client.
//!
//! Each switch between coroutines leaves a mark of who runs now, one relaxed store. A thread looks at it four times a second; the
//! worker does nothing for that, and is not woken. A worker that waits in epoll is idle and not stuck.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a coroutine may run before that is said.
const LIMIT: Duration = Duration::from_millis(500);

/// How often the thread looks: what it says of times is right to so much.
const LOOK: Duration = Duration::from_millis(250);

/// The thread itself did not run for so long: the process or the machine was stopped, and the worker with it.
const STOPPED: Duration = Duration::from_secs(1);

/// Who runs now: in the upper 40 bits the coroutine's id, then 8 bits for its name, zero when the worker is idle, then 16 bits
/// that count switches, so that two runs of one coroutine differ.
static RUNNING: AtomicU64 = AtomicU64::new(0);

const TURNS: u64 = 0xffff;
const NAME_SHIFT: u32 = 16;
const ID_SHIFT: u32 = 24;

/// The names of coroutines, by their number in the mark less one.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// The mark of a coroutine, made once.
pub(super) fn mark(name: &'static str, id: u64) -> u64 {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
        // There are a dozen; should they ever be too many, the last ones share a number.
        names.truncate(0xfe - 1);
        names.push(name);
        names.len() - 1
    });
    id << ID_SHIFT | (at as u64 + 1) << NAME_SHIFT
}

/// The coroutine of this mark runs from now on.
pub(super) fn enter(mark: u64) {
    let turn = RUNNING.load(Ordering::Relaxed).wrapping_add(1) & TURNS;
    RUNNING.store(mark | turn, Ordering::Relaxed);
}

/// No coroutine runs. Async-signal-safe.
pub(super) fn idle() {
    RUNNING.store(RUNNING.load(Ordering::Relaxed) & TURNS, Ordering::Relaxed);
}

/// Starts the thread that logs when a coroutine holds the worker for more than half a second, and when the worker goes on.
///
/// # Errors
/// When the thread cannot be started; the worker can do without.
pub fn watch() -> std::io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        let watch = || {
            let mut watch = Watch::new(LIMIT, Instant::now());
            loop {
                thread::sleep(LOOK);
                watch.look(RUNNING.load(Ordering::Relaxed), Instant::now()).into_iter().for_each(log);
            }
        };
        result = thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop);
    });
    result
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    name: &'static str,
    id: u64,
    held: Duration,
    /// It is over.
    went_on: bool,
}

fn log(report: Report) {
    let Report { name, id, held, went_on } = report;
    let held = held.as_millis();
    if went_on {
        log::warn!("the worker goes on: coroutine \"{name}\" of client {id} held it for {held} ms");
    } else {
        log::error!(
            "the worker is stuck: coroutine \"{name}\" of client {id} has held it for {held} ms, and all clients wait"
        );
    }
}

/// What was seen so far.
struct Watch {
    limit: Duration,
    mark: u64,
    /// When the mark was first seen.
    since: Instant,
    looked: Instant,
    is_reported: bool,
}

impl Watch {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, mark: 0, since: now, looked: now, is_reported: false }
    }

    fn look(&mut self, mark: u64, now: Instant) -> Option<Report> {
        let was_stopped = now.saturating_duration_since(self.looked) >= STOPPED;
        self.looked = now;
        let held = now.saturating_duration_since(self.since);
        if mark != self.mark {
            let report = self.is_reported.then(|| Report::new(self.mark, held, true));
            (self.mark, self.since, self.is_reported) = (mark, now, false);
            return report;
        }
        let is_idle = mark >> NAME_SHIFT & 0xff == 0;
        if self.is_reported {
            return None;
        }
        if is_idle || was_stopped {
            self.since = now;
            return None;
        }
        self.is_reported = held >= self.limit;
        self.is_reported.then(|| Report::new(mark, held, false))
    }
}

impl Report {
    fn new(mark: u64, held: Duration, went_on: bool) -> Self {
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (mark >> NAME_SHIFT & 0xff) as usize;
        let name = at.checked_sub(1).and_then(|at| names.get(at)).copied().unwrap_or("?");
        Self { name, id: mark >> ID_SHIFT, held, went_on }
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
        let mut watch = Watch::new(LIMIT, start);
        let (mine, other) = (mark("one", 1 << 33), mark("other", 2));
        assert_eq!(watch.look(mine | 7, start), None);
        assert_eq!(watch.look(mine | 7, start + 250 * MS), None);
        let report = |held, went_on| Some(Report { name: "one", id: 1 << 33, held, went_on });
        assert_eq!(watch.look(mine | 7, start + 500 * MS), report(500 * MS, false));
        assert_eq!(watch.look(mine | 7, start + 750 * MS), None);
        assert_eq!(watch.look(other | 8, start + 1000 * MS), report(1000 * MS, true));
        assert_eq!(watch.look(other | 9, start + 1250 * MS), None);
        assert_eq!(watch.look(other | 10, start + 2000 * MS), None, "it runs, but not for long at a time");
    }

    #[test]
    fn neither_idling_nor_a_stopped_process_is_reported() {
        let start = Instant::now();
        let mut watch = Watch::new(LIMIT, start);
        for look in 0..100 {
            assert_eq!(watch.look(5, start + 250 * MS * look), None, "idle");
        }
        let mine = mark("one", 1);
        let start = start + 60_000 * MS;
        assert_eq!(watch.look(mine, start), None);
        assert_eq!(watch.look(mine, start + 60_000 * MS), None, "stopped in the middle of a run");
        assert_eq!(watch.look(mine, start + 60_250 * MS), None);
        assert!(watch.look(mine, start + 60_500 * MS).is_some());
    }

    #[test]
    fn a_coroutine_that_holds_the_worker_is_named() {
        crate::st::run(|| ()).unwrap();
        let is_free = Arc::new(AtomicBool::new(false));
        let hog = is_free.clone();
        let watching = thread::spawn(move || {
            let mut watch = Watch::new(50 * MS, Instant::now());
            let bound = Instant::now() + Duration::from_secs(20);
            let mut next = |went_on: bool| loop {
                assert!(Instant::now() < bound, "nothing was reported");
                thread::sleep(5 * MS);
                let report = watch.look(RUNNING.load(Ordering::Relaxed), Instant::now());
                // Other tests share the worker.
                if let Some(report) = report
                    && (report.name, report.id, report.went_on) == ("hog", 77, went_on)
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
