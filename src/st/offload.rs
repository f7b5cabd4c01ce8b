//! Blocking work on threads beside the worker.
//!
//! | pool | threads | queue | work |
//! |---|---|---|---|
//! | `offload` | 4 | 1024 | disk, freeing of large memory |
//! | `names` | 4 | 1024 | look-ups of names |
//! | `compute` | 2, with a lower system priority | unbounded | TLS handshakes |
//!
//! Each pool has its own queue, so that neither handshakes nor name servers that do not answer delay access to files. Only `compute` has a lower system priority: an
//! `offload` thread may hold a lock that the worker needs, e.g. while it unmaps a hundred megabytes. With a lower priority it
//! would then keep the worker waiting behind all other processes of a busy machine.

use std::collections::BTreeMap;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use super::block::park;
use super::nice::set_nice;
use super::waker::Waker;
use super::{clock, timer};
use crate::log::quoted;

static BLOCKING: ThreadPool = ThreadPool::new("offload", 4, 1024, false);

/// A look-up takes up to half a minute while no name server answers.
static NAMES: ThreadPool = ThreadPool::new("names", 4, 1024, false);

/// Bounded by the number of coroutines: each waits for one computation at most.
static COMPUTE: ThreadPool = ThreadPool::new("compute", 2, usize::MAX, true);

/// Nice value of the threads of `compute`, so that they do not take the processor from the worker.
const COMPUTE_NICE: i32 = 10;

/// Interval at which [`compute`] checks whether a queued computation is still wanted.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// The queue of a thread pool is full, or the work panicked.
#[derive(Debug, thiserror::Error)]
#[error("the threads for blocking work are overloaded")]
pub struct Overloaded;

/// Runs `f` on another thread and blocks only the calling coroutine until it is done. Errors: [`Overloaded`] when the
/// queue is full, or when `f` panics.
pub fn offload<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Overloaded> {
    run_on(&BLOCKING, f)
}

/// Runs `f`, the look-up of a name, as [`offload`] does, but delays no other work. Errors: as [`offload`].
pub fn look_up<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Overloaded> {
    run_on(&NAMES, f)
}

fn run_on<T: Send + 'static>(
    pool: &'static ThreadPool,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Overloaded> {
    let (result, job) = make_job(f);
    pool.submit(job).map_err(|_| Overloaded)?;
    loop {
        if let Some(result) = result.take() {
            return result;
        }
        park();
    }
}

/// Runs a computation that clients may cause on another thread, without delaying [`offload`]. While it is queued,
/// `check_wanted` is called every [`CHECK_INTERVAL`]; its error removes the computation from the queue. Errors: those
/// of `check_wanted`, and [`Overloaded`] when `f` panics.
#[cfg_attr(not(feature = "ssl"), allow(dead_code, reason = "only TLS computes"))]
pub(super) fn compute<T: Send + 'static>(
    check_wanted: impl Fn() -> io::Result<()>,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (result, job) = make_job(f);
    let ticket = COMPUTE.submit(job).map_err(|_| io::Error::other(Overloaded))?;
    let mut next_check = clock::now() + CHECK_INTERVAL;
    loop {
        if let Some(result) = result.take() {
            return result.map_err(io::Error::other);
        }
        if clock::now() < next_check {
            let timer = timer::add(next_check, Waker::of_current());
            park();
            timer::remove(timer);
            continue;
        }
        next_check = clock::now() + CHECK_INTERVAL;
        if let Err(error) = check_wanted()
            && COMPUTE.cancel(ticket)
        {
            return Err(error);
        }
        // `check_wanted` may have waited, and the result may have arrived meanwhile.
    }
}

/// Drops `value` on another thread, or here if the queue is full: unmapping a hundred megabytes takes the system some
/// milliseconds. May be called on any thread.
pub fn drop_in_background<T: Send + 'static>(value: T) {
    // If the queue is full, the job is returned and dropped here.
    let _ = BLOCKING.submit(Box::new(move || drop(value)));
}

/// The place for the result of a job.
struct ResultSlot<T>(Arc<Mutex<Option<Result<T, Overloaded>>>>);

impl<T> ResultSlot<T> {
    fn take(&self) -> Option<Result<T, Overloaded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns a job that runs `f` and then wakes the current coroutine.
fn make_job<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> (ResultSlot<T>, Job) {
    let slot = Arc::new(Mutex::new(None));
    let result = ResultSlot(slot.clone());
    let waker = Waker::of_current();
    let job = move || {
        let result = panic::catch_unwind(AssertUnwindSafe(f)).map_err(|_| Overloaded);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        waker.wake();
    };
    (result, Box::new(job))
}

/// Threads with one queue of jobs.
struct ThreadPool {
    name: &'static str,
    size: usize,
    /// Longest queue. A job that does not fit is rejected at once.
    max_queued: usize,
    is_nice: bool,
    start: Once,
    /// Never locked while a job runs or is dropped.
    state: Mutex<State>,
    job_added: Condvar,
}

struct State {
    /// Number of threads that could be started.
    threads: usize,
    /// Jobs by ticket, and so in the order of submission.
    jobs: BTreeMap<u64, Job>,
    next_ticket: u64,
}

impl ThreadPool {
    const fn new(name: &'static str, size: usize, max_queued: usize, is_nice: bool) -> Self {
        let state = Mutex::new(State { threads: 0, jobs: BTreeMap::new(), next_ticket: 0 });
        Self { name, size, max_queued, is_nice, start: Once::new(), state, job_added: Condvar::new() }
    }

    /// Queues a job and returns a ticket to cancel it. Returns the job if the queue is full or there is no thread.
    fn submit(&'static self, job: Job) -> Result<u64, Job> {
        self.start.call_once(|| self.start());
        let mut state = self.state();
        if state.jobs.len() >= self.max_queued || state.threads == 0 {
            return Err(job);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.jobs.insert(ticket, job);
        drop(state);
        self.job_added.notify_one();
        Ok(ticket)
    }

    /// Removes a job from the queue. Returns false if it has started.
    fn cancel(&self, ticket: u64) -> bool {
        let job = self.state().jobs.remove(&ticket);
        job.is_some()
    }

    fn start(&'static self) {
        for _ in 0..self.size {
            match thread::Builder::new().name(self.name.into()).spawn(|| self.run_jobs()) {
                Ok(_) => self.state().threads += 1,
                // Callers get an error only if no thread could be started.
                Err(error) => log::error!("thread not started: thread={} error={}", self.name, quoted(error)),
            }
        }
    }

    /// Runs jobs for ever: the body of each thread.
    fn run_jobs(&self) {
        if self.is_nice {
            set_nice(COMPUTE_NICE);
        }
        loop {
            // A value that is dropped in the background may panic. The hook logs it, and the thread continues.
            let _ = panic::catch_unwind(AssertUnwindSafe(self.next_job()));
        }
    }

    /// Blocks the thread until there is a job.
    fn next_job(&self) -> Job {
        let mut state = self.state();
        loop {
            if let Some((_, job)) = state.jobs.pop_first() {
                return job;
            }
            state = self.job_added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::super::{Handle, run, sleep, spawn};
    use super::*;

    /// Occupies all `compute` threads until the sender is dropped.
    fn occupy() -> (mpsc::Sender<()>, Vec<Handle>) {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        let started = Arc::new(AtomicUsize::new(0));
        let handles = (0..COMPUTE.size)
            .map(|_| {
                let (receiver, started) = (receiver.clone(), started.clone());
                let wait = move || {
                    started.fetch_add(1, Ordering::Relaxed);
                    receiver.lock().unwrap().recv().unwrap_err();
                };
                spawn("computes", 0, move || compute(|| Ok(()), wait).unwrap()).unwrap()
            })
            .collect();
        while started.load(Ordering::Relaxed) < COMPUTE.size {
            sleep(Duration::from_millis(1));
        }
        (sender, handles)
    }

    #[test]
    fn who_gives_up_leaves_no_computation_behind_and_delays_no_job() {
        run(|| {
            let (release, occupants) = occupy();
            let ran = Arc::new(AtomicBool::new(false));
            let runs = ran.clone();
            let impatient = spawn("impatient", 0, move || {
                let asked = Instant::now();
                let check_wanted = || Err(io::ErrorKind::TimedOut.into());
                let result = compute(check_wanted, move || runs.store(true, Ordering::Relaxed));
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
                assert!(asked.elapsed() >= CHECK_INTERVAL);
            })
            .unwrap();
            // Jobs end although the computations do not.
            for n in 0..100 {
                assert_eq!(offload(move || n).unwrap(), n);
            }
            impatient.join();
            drop(release);
            occupants.iter().for_each(Handle::join);
            assert_eq!(compute(|| Ok(()), || 42).unwrap(), 42);
            assert!(!ran.load(Ordering::Relaxed));
        })
        .unwrap();
    }

    #[test]
    fn names_that_nobody_resolves_delay_no_files() {
        run(|| {
            let (release, waits) = mpsc::channel::<()>();
            let waits = Arc::new(Mutex::new(waits));
            let unresolved: Vec<_> = (0..2 * NAMES.size)
                .map(|_| {
                    let waits = waits.clone();
                    let wait = move || waits.lock().unwrap().recv().unwrap_err();
                    spawn("looks up", 0, move || assert!(look_up(wait).is_ok())).unwrap()
                })
                .collect();
            for n in 0..100 {
                assert_eq!(offload(move || n).unwrap(), n);
            }
            drop(release);
            unresolved.iter().for_each(Handle::join);
        })
        .unwrap();
    }

    #[test]
    fn more_compute_than_there_are_places_for_jobs() {
        let many = BLOCKING.max_queued + 100;
        run(move || {
            let (release, occupants) = occupy();
            let done = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..many)
                .map(|_| {
                    let done = done.clone();
                    spawn("computes", 0, move || {
                        compute(|| Ok(()), move || done.fetch_add(1, Ordering::Relaxed)).unwrap();
                    })
                    .unwrap()
                })
                .collect();
            sleep(Duration::from_millis(5));
            assert_eq!(done.load(Ordering::Relaxed), 0);
            assert_eq!(offload(|| 42).unwrap(), 42);
            drop(release);
            occupants.iter().chain(&handles).for_each(Handle::join);
            assert_eq!(done.load(Ordering::Relaxed), many);
        })
        .unwrap();
    }

    #[test]
    fn a_computation_or_a_drop_that_panics_costs_no_thread() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        run(|| {
            for _ in 0..2 * BLOCKING.size {
                assert!(compute(|| Ok(()), || panic!("on purpose")).is_err());
                drop_in_background(Bad);
            }
            assert_eq!(compute(|| Ok(()), || 41).unwrap(), 41);
            assert_eq!(offload(|| 42).unwrap(), 42);
        })
        .unwrap();
    }
}
