//! Work that must block a thread, done beside the worker.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::{Waker, park};

/// Threads that run offloaded work. A few: names and disk wait, they do not compute.
const THREADS: usize = 4;

/// Jobs that may wait for a thread. Beyond that whoever asks is told at once.
const QUEUE: usize = 1024;

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
    let answer = Arc::new(Mutex::new(None));
    let slot = answer.clone();
    let waker = Waker::of_current();
    let job = move || {
        let result = panic::catch_unwind(AssertUnwindSafe(f)).map_err(|_| Overloaded);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        waker.wake();
    };
    match jobs().try_send(Box::new(job)) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return Err(Overloaded),
    }
    loop {
        if let Some(result) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return result;
        }
        park();
    }
}

/// Drops `value` on another thread, or here if those have too much to do: the system takes some milliseconds to take back what was
/// mapped for a hundred megabytes. From any thread.
pub fn drop_aside<T: Send + 'static>(value: T) {
    // A job that has no room comes back, and is dropped with what is in it.
    let _ = jobs().try_send(Box::new(move || drop(value)));
}

fn jobs() -> &'static Sender<Job> {
    static JOBS: OnceLock<Sender<Job>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let (sender, receiver) = bounded::<Job>(QUEUE);
        for _ in 0..THREADS {
            let receiver = receiver.clone();
            // A thread that cannot be started is missed only when all are: the channel then closes, and callers are told.
            let work = move || {
                be_nice();
                receiver.iter().for_each(|job| job());
            };
            if let Err(error) = thread::Builder::new().name("offload".into()).spawn(work) {
                log::error!("cannot start a thread for blocking work: {error}");
            }
        }
        sender
    })
}

/// What a stranger can have computed here (handshakes of TLS) is not to take the processor from the worker.
#[allow(unsafe_code)] // No crate at hand has this call.
fn be_nice() {
    const NICE: libc::c_int = 10;
    // SAFETY: plain numbers; on Linux, 0 is the calling thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}
