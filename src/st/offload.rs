//! Work that must block a thread, done beside the worker.
//!
//! Two lines wait for the same few threads. Jobs (names, disk) go first. What strangers can have computed (handshakes of TLS) gets a
//! thread when no job wants it, and never more than [`COMPUTING`] of them: however many shake hands, a file is read at once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Waker, park, timer};

/// Threads that run offloaded work. A few: names and disk wait, they do not compute.
const THREADS: usize = 4;

/// How many of them may compute at a time. The others are for jobs alone.
const COMPUTING: usize = 2;

/// Jobs that may wait for a thread. Beyond that whoever asks is told at once.
const QUEUE: usize = 1024;

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
    lines().add(job).map_err(|_| Overloaded)?;
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
    let ticket = lines().line_up(job).map_err(io::Error::other)?;
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
            && lines().take_back(ticket)
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
    let _ = lines().add(Box::new(move || drop(value)));
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

/// What waits for the threads.
struct Lines {
    /// Locked for a moment at a time and never while a job runs or is dropped.
    state: Mutex<State>,
    /// Something has been put into a line.
    has_work: Condvar,
}

struct State {
    /// Threads that could be started.
    threads: usize,
    jobs: VecDeque<Job>,
    /// By ticket, so in the order in which they came.
    computations: BTreeMap<u64, Job>,
    next_ticket: u64,
    /// Threads that compute now.
    computing: usize,
}

/// What a thread is to run.
enum Work {
    Job(Job),
    Computation(Job),
}

fn lines() -> &'static Lines {
    static LINES: Lines = Lines { state: Mutex::new(State::new()), has_work: Condvar::new() };
    static START: Once = Once::new();
    START.call_once(|| {
        for _ in 0..THREADS {
            match thread::Builder::new().name("offload".into()).spawn(|| LINES.serve()) {
                Ok(_) => LINES.state().threads += 1,
                // It is missed only when all are: callers are told then.
                Err(error) => log::error!("cannot start a thread for blocking work: {error}"),
            }
        }
    });
    &LINES
}

impl Lines {
    /// Puts a job into the line. It comes back if there is no room, or no thread.
    fn add(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state();
        if state.jobs.len() >= QUEUE || state.threads == 0 {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.has_work.notify_one();
        Ok(())
    }

    /// Puts a computation into the line, and gives the ticket to take it back with.
    fn line_up(&self, job: Job) -> Result<u64, Overloaded> {
        let mut state = self.state();
        if state.threads == 0 {
            return Err(Overloaded);
        }
        let ticket = state.line_up(job);
        drop(state);
        self.has_work.notify_one();
        Ok(ticket)
    }

    /// Takes a computation out of the line again, unless it has begun.
    fn take_back(&self, ticket: u64) -> bool {
        let job = self.state().computations.remove(&ticket);
        job.is_some()
    }

    /// What each thread does, for ever.
    fn serve(&self) {
        be_nice();
        loop {
            // What is dropped aside may panic as it goes. The thread is to stay, and the hook has logged it.
            match self.next() {
                Work::Job(job) => drop(panic::catch_unwind(AssertUnwindSafe(job))),
                Work::Computation(job) => {
                    let _ = panic::catch_unwind(AssertUnwindSafe(job));
                    // This thread looks at the lines itself, next: nobody need be woken.
                    self.state().computing -= 1;
                }
            }
        }
    }

    /// Blocks the thread until there is something for it.
    fn next(&self) -> Work {
        let mut state = self.state();
        loop {
            if let Some(work) = state.take() {
                return work;
            }
            state = self.has_work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn new() -> Self {
        Self { threads: 0, jobs: VecDeque::new(), computations: BTreeMap::new(), next_ticket: 0, computing: 0 }
    }

    fn line_up(&mut self, job: Job) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.computations.insert(ticket, job);
        ticket
    }

    /// What a thread that is free has to do now. Of a computation it has to say when it is done.
    fn take(&mut self) -> Option<Work> {
        // One thread computes whatever else there is to do: a flood of jobs is not to be the end of all handshakes.
        if (self.computing > 0 || self.computations.is_empty())
            && let Some(job) = self.jobs.pop_front()
        {
            return Some(Work::Job(job));
        }
        if self.computing >= COMPUTING {
            return None;
        }
        let (_, job) = self.computations.pop_first()?;
        self.computing += 1;
        Some(Work::Computation(job))
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

    #[test]
    fn one_thread_computes_then_jobs_go_first_and_two_at_most_compute() {
        let mut state = State::new();
        for _ in 0..4 {
            state.line_up(Box::new(|| ()));
        }
        state.jobs.push_back(Box::new(|| ()));
        assert!(matches!(state.take(), Some(Work::Computation(_))));
        assert!(matches!(state.take(), Some(Work::Job(_))));
        assert!(matches!(state.take(), Some(Work::Computation(_))));
        assert!(state.take().is_none(), "two threads compute, the others wait for jobs");
        state.jobs.push_back(Box::new(|| ()));
        assert!(matches!(state.take(), Some(Work::Job(_))));
        state.computing -= 1;
        assert!(matches!(state.take(), Some(Work::Computation(_))));
        state.computing -= 1;
        assert!(matches!(state.take(), Some(Work::Computation(_))));
        state.computing = 0;
        assert!(state.take().is_none(), "nothing is left");
    }

    /// Computations that go on until the sender is dropped: as many as may.
    fn occupy() -> (mpsc::Sender<()>, Vec<Handle>) {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        let begun = Arc::new(AtomicUsize::new(0));
        let handles = (0..COMPUTING)
            .map(|_| {
                let (receiver, begun) = (receiver.clone(), begun.clone());
                let wait = move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    receiver.lock().unwrap().recv().unwrap_err();
                };
                spawn("computes", 0, move || compute(|| Ok(()), wait).unwrap()).unwrap()
            })
            .collect();
        while begun.load(Ordering::Relaxed) < COMPUTING {
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
        const MANY: usize = QUEUE + 100;
        run(|| {
            let (release, occupants) = occupy();
            let done = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..MANY)
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
            assert_eq!(done.load(Ordering::Relaxed), MANY);
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
            for _ in 0..2 * THREADS {
                assert!(compute(|| Ok(()), || panic!("on purpose")).is_err());
                drop_aside(Bad);
            }
            assert_eq!(compute(|| Ok(()), || 41).unwrap(), 41);
            assert_eq!(offload(|| 42).unwrap(), 42);
        })
        .unwrap();
    }
}
