//! Work that must block a thread, done beside the worker.
//!
//! Two crews of threads, each with a line of its own: one for jobs (names, disk), one for what strangers can have computed
//! (handshakes of TLS). However many shake hands, a file is read at once.
//!
//! Only who computes is nice to the worker. A job may free what the worker allocated or unmap a hundred megabytes, with a lock that
//! the worker comes to want; were its thread nice, every other process of a busy machine would run before the worker did.

use std::collections::BTreeMap;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Waker, park, timer};

/// Names and disk wait, they do not compute: a few threads do.
static JOBS: Crew = Crew::new("offload", 4, 1024, false);

/// So many handshakes of TLS are computed at a time. As many wait as there are coroutines.
static COMPUTATIONS: Crew = Crew::new("compute", 2, usize::MAX, true);

/// How often one who waits for a computation to begin looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// The offload threads have more to do than they can, or the work panicked.
#[derive(Debug, thiserror::Error)]
#[error("the threads for blocking work are overloaded")]
pub struct Overloaded;

/// Runs `f` on another thread and blocks only the calling coroutine until it is done.
///
/// # Errors
/// [`Overloaded`] when 1024 jobs are waiting already, or when `f` panics.
pub fn offload<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Overloaded> {
    let (answer, job) = prepare(f);
    JOBS.add(job).map_err(|_| Overloaded)?;
    loop {
        if let Some(result) = answer.take() {
            return result;
        }
        park();
    }
}

/// The same for what computes and waits for nothing: for strangers, since it delays no [`offload`]. It waits for its turn for as long
/// as `is_wanted` has no error, which is asked each second until `f` begins. So no more wait than there are coroutines, and who gives
/// up leaves nothing behind.
///
/// # Errors
/// What `is_wanted` said, and [`Overloaded`] when `f` panics.
#[cfg_attr(not(feature = "ssl"), allow(dead_code, reason = "only TLS computes"))]
pub(super) fn compute<T: Send + 'static>(
    is_wanted: impl Fn() -> io::Result<()>,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (answer, job) = prepare(f);
    let ticket = COMPUTATIONS.add(job).map_err(|_| io::Error::other(Overloaded))?;
    let mut look = Instant::now() + LOOK;
    loop {
        if let Some(result) = answer.take() {
            return result.map_err(io::Error::other);
        }
        if Instant::now() < look {
            let timer = timer::add(look, Waker::of_current());
            park();
            timer::remove(timer);
            continue;
        }
        look = Instant::now() + LOOK;
        if let Err(error) = is_wanted()
            && COMPUTATIONS.take_back(ticket)
        {
            return Err(error);
        }
        // The question may have waited, and the answer have come meanwhile: so that is looked at before anything else.
    }
}

/// Drops `value` on another thread, or here if those have too much to do: the system takes some milliseconds to take back what was
/// mapped for a hundred megabytes. From any thread.
pub fn drop_aside<T: Send + 'static>(value: T) {
    // A job that has no room comes back, and is dropped with what is in it.
    let _ = JOBS.add(Box::new(move || drop(value)));
}

/// Where a job leaves its result.
struct Answer<T>(Arc<Mutex<Option<Result<T, Overloaded>>>>);

impl<T> Answer<T> {
    fn take(&self) -> Option<Result<T, Overloaded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The job that runs `f` and then wakes the current coroutine.
fn prepare<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> (Answer<T>, Job) {
    let slot = Arc::new(Mutex::new(None));
    let answer = Answer(slot.clone());
    let waker = Waker::of_current();
    let job = move || {
        let result = panic::catch_unwind(AssertUnwindSafe(f)).map_err(|_| Overloaded);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        waker.wake();
    };
    (answer, Box::new(job))
}

/// Threads and the line of what they have to do.
struct Crew {
    name: &'static str,
    size: usize,
    /// How many jobs may wait. Beyond that whoever asks is told at once.
    room: usize,
    is_nice: bool,
    start: Once,
    /// Locked for a moment at a time and never while a job runs or is dropped.
    state: Mutex<State>,
    /// Something has been put into the line.
    has_work: Condvar,
}

struct State {
    /// Threads that could be started.
    threads: usize,
    /// By ticket, so in the order in which they came.
    jobs: BTreeMap<u64, Job>,
    next_ticket: u64,
}

impl Crew {
    const fn new(name: &'static str, size: usize, room: usize, is_nice: bool) -> Self {
        let state = Mutex::new(State { threads: 0, jobs: BTreeMap::new(), next_ticket: 0 });
        Self { name, size, room, is_nice, start: Once::new(), state, has_work: Condvar::new() }
    }

    /// Puts a job into the line, and gives the ticket to take it back with. The job comes back if there is no room, or no thread.
    fn add(&'static self, job: Job) -> Result<u64, Job> {
        self.start.call_once(|| self.start());
        let mut state = self.state();
        if state.jobs.len() >= self.room || state.threads == 0 {
            return Err(job);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.jobs.insert(ticket, job);
        drop(state);
        self.has_work.notify_one();
        Ok(ticket)
    }

    /// Takes a job out of the line again, unless it has begun.
    fn take_back(&self, ticket: u64) -> bool {
        let job = self.state().jobs.remove(&ticket);
        job.is_some()
    }

    fn start(&'static self) {
        for _ in 0..self.size {
            match thread::Builder::new().name(self.name.into()).spawn(|| self.serve()) {
                Ok(_) => self.state().threads += 1,
                // It is missed only when all are: callers are told then.
                Err(error) => log::error!("cannot start a thread for blocking work: {error}"),
            }
        }
    }

    /// What each thread does, for ever.
    fn serve(&self) {
        if self.is_nice {
            be_nice();
        }
        loop {
            // What is dropped aside may panic as it goes. The thread is to stay, and the hook has logged it.
            let _ = panic::catch_unwind(AssertUnwindSafe(self.next()));
        }
    }

    /// Blocks the thread until there is something for it.
    fn next(&self) -> Job {
        let mut state = self.state();
        loop {
            if let Some((_, job)) = state.jobs.pop_first() {
                return job;
            }
            state = self.has_work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stranger can have computed here (handshakes of TLS) is not to take the processor from the worker.
#[allow(unsafe_code)] // No crate at hand has this call.
fn be_nice() {
    const NICE: libc::c_int = 10;
    // SAFETY: plain numbers; on Linux, 0 is the calling thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::super::{Handle, run, sleep, spawn};
    use super::*;

    /// Computations that go on until the sender is dropped: as many as may.
    fn occupy() -> (mpsc::Sender<()>, Vec<Handle>) {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        let begun = Arc::new(AtomicUsize::new(0));
        let handles = (0..COMPUTATIONS.size)
            .map(|_| {
                let (receiver, begun) = (receiver.clone(), begun.clone());
                let wait = move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    receiver.lock().unwrap().recv().unwrap_err();
                };
                spawn("computes", 0, move || compute(|| Ok(()), wait).unwrap()).unwrap()
            })
            .collect();
        while begun.load(Ordering::Relaxed) < COMPUTATIONS.size {
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
                let is_wanted = || Err(io::ErrorKind::TimedOut.into());
                let result = compute(is_wanted, move || runs.store(true, Ordering::Relaxed));
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
                assert!(asked.elapsed() >= LOOK);
            })
            .unwrap();
            // They end although whoever computes does not.
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
    fn more_compute_than_there_are_places_for_jobs() {
        let many = JOBS.room + 100;
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
            for _ in 0..2 * JOBS.size {
                assert!(compute(|| Ok(()), || panic!("on purpose")).is_err());
                drop_aside(Bad);
            }
            assert_eq!(compute(|| Ok(()), || 41).unwrap(), 41);
            assert_eq!(offload(|| 42).unwrap(), 42);
        })
        .unwrap();
    }
}
