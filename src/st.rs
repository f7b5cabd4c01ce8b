//! The coroutine runtime, named for the state-threads library that the original server runs on.
//!
//! Every client is a stackful coroutine that reads and writes as if its calls blocked. All coroutines run on **one** worker
//! thread, so that what happens between two blocking calls is atomic for every other coroutine. Only this module and its
//! children name the `may` crate, because `may` alone does not keep that promise: its timed waits resume a coroutine on its
//! timer thread, next to the worker. Here:
//!
//! | item | function |
//! |---|---|
//! | [`spawn`], [`run`] | a coroutine with its own stack; a panic ends that coroutine alone; a stack overflow, which no input can cause, ends the process |
//! | [`spawn_low_priority`], [`raise_priority`] | coroutines that share what the others leave of the worker's time |
//! | [`sleep`], [`timer`], [`yield_now`] | deadlines kept by one coroutine on a timerfd; a yield lets sockets make progress |
//! | [`Cond`], [`Inbox`], [`Shared`] | condition variable, queue from threads to a coroutine, state shared by coroutines |
//! | [`offload`], [`drop_in_background`] | blocking work (names, disk), TLS handshakes and large frees on other threads |
//! | [`trim_stack`] | returns the unused pages of a stack to the system; the heap does that by itself, see `allocator` |
//! | [`busy_share`], [`start_watchdog`] | load of the worker; a thread that logs when one coroutine holds the worker |
//! | [`net`], `tls` (feature `ssl`) | sockets whose wait ends on readiness, a deadline or a wake-up; RTMPS |
//!
//! Two rules for code in a coroutine: never block the thread (no `std::thread::sleep`, no blocking file or name look-up), and
//! never wait inside `Drop`, which may run while a panic unwinds.

mod allocator;
mod cond;
mod inbox;
mod load;
pub mod net;
#[cfg(not(feature = "ssl"))]
mod no_tls;
mod offload;
mod prefetch;
mod priority;
mod shared;
mod stack;
pub mod timer;
#[cfg(feature = "ssl")]
pub mod tls;
mod watchdog;

pub use cond::Cond;
pub use inbox::Inbox;
pub use load::busy_share;
pub use offload::{Overloaded, drop_in_background, offload};
pub use prefetch::prefetch;
pub use priority::{LowClass, PriorityGuard, raise_priority};
pub use shared::Shared;
pub use stack::{STACK_BYTES, trim as trim_stack};
pub use timer::{sleep, yield_now};
pub use watchdog::start_watchdog;

use std::cell::RefCell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use may::coroutine::{self, Coroutine};

use crate::log::quoted;

/// Pause before [`supervised`] restarts a function.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The runtime's record of one coroutine.
struct Task {
    /// Client number for the log; 0 for the server's own coroutines.
    id: u64,
    name: &'static str,
    /// Id and name as the watchdog stores them.
    watchdog_tag: u64,
    /// Queue of a coroutine that was spawned with low priority, and whether it has low priority now.
    low_class: Option<LowClass>,
    is_low: AtomicBool,
    /// Address near the top of the coroutine's stack, once it runs.
    stack_top: AtomicUsize,
    finished: AtomicBool,
    on_finish: Cond,
}

thread_local! {
    /// The coroutine that runs on this thread now. Waits take it out and put it back, see [`block`].
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// Number of coroutines that were spawned and have not finished.
static COROUTINES: AtomicUsize = AtomicUsize::new(0);

/// A spawned coroutine. Dropping the handle leaves the coroutine running.
#[derive(Clone)]
pub struct Handle(Arc<Task>);

impl Handle {
    /// Waits until the coroutine has ended, also by a panic. Call it from a coroutine.
    pub fn join(&self) {
        while !self.0.finished.load(Ordering::Acquire) {
            self.0.on_finish.wait();
        }
    }

    /// Returns whether the coroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.0.finished.load(Ordering::Acquire)
    }
}

/// The reason why [`run`] has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system refused a resource (a stack, a timerfd).
    #[error("the coroutine runtime cannot start: {0}")]
    Start(#[from] io::Error),
    /// The main coroutine panicked.
    #[error("the main coroutine died")]
    Died,
}

/// Starts the runtime if it does not run yet, runs `main` as a coroutine, and blocks the calling thread until it returns.
/// Coroutines that `main` spawned and did not join continue until the process ends.
///
/// # Errors
/// [`RunError`] when the runtime cannot start or `main` dies.
pub fn run<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    static SETUP: Once = Once::new();
    SETUP.call_once(|| {
        may::config().set_workers(1).set_stack_size(stack::stack_words()).set_pool_capacity(1);
        may::config().set_worker_pin(false);
        log_panics();
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    let handle = spawn("main", 0, move || {
        // Fails only when the thread below is gone; then nobody waits for the result.
        let _ = sender.send(main());
    })?;
    drop(handle);
    receiver.recv().map_err(|_| RunError::Died)
}

/// Starts a coroutine that runs `f` after the current one has blocked. `id` is the client that it serves, 0 for none.
///
/// # Errors
/// `OutOfMemory` when the operating system has no memory for another stack.
pub fn spawn(name: &'static str, id: u64, f: impl FnOnce() + Send + 'static) -> io::Result<Handle> {
    spawn_task(name, id, None, f)
}

/// Starts a coroutine of low priority: any number of them leaves the others their time, see the module `priority`. For work
/// that unauthenticated or new clients cause.
///
/// # Errors
/// Those of [`spawn`].
pub fn spawn_low_priority(
    class: LowClass,
    name: &'static str,
    id: u64,
    f: impl FnOnce() + Send + 'static,
) -> io::Result<Handle> {
    spawn_task(name, id, Some(class), f)
}

/// Returns a function that runs `f` and, if `f` panics, runs it again after `RESTART_DELAY`. For coroutines that serve all
/// clients.
pub fn supervised(name: &'static str, f: impl Fn() + Send + 'static) -> impl FnOnce() + Send + 'static {
    move || {
        while panic::catch_unwind(AssertUnwindSafe(&f)).is_err() {
            sleep(RESTART_DELAY);
            log::error!("coroutine restarted after a panic: coroutine={name}");
        }
    }
}

/// Spawns a coroutine of the server that runs as long as the process, and is restarted when it panics.
///
/// # Errors
/// Those of [`spawn`].
pub fn spawn_supervised(name: &'static str, f: impl Fn() + Send + 'static) -> io::Result<()> {
    spawn(name, 0, supervised(name, f)).map(drop)
}

#[allow(unsafe_code)] // `may` has no safe way to spawn.
fn spawn_task(
    name: &'static str,
    id: u64,
    low_class: Option<LowClass>,
    f: impl FnOnce() + Send + 'static,
) -> io::Result<Handle> {
    let task = Arc::new(Task {
        id,
        name,
        watchdog_tag: watchdog::tag(name, id),
        low_class,
        is_low: AtomicBool::new(low_class.is_some()),
        stack_top: AtomicUsize::new(0),
        finished: AtomicBool::new(false),
        on_finish: Cond::new(),
    });
    let handle = Handle(task.clone());
    let builder = coroutine::Builder::new().stack_size(stack::stack_words());
    let body = move || {
        start_task(task);
        // The panic hook logs a panic where it happens.
        let _ = panic::catch_unwind(AssertUnwindSafe(f));
        end_task();
        // A coroutine that another thread wakes while it is about to park continues inside `may`'s parking. If it ended
        // there, `may` would wait for that parking to be over for ever, and block the worker. One turn of the queue later
        // the parking is over.
        #[allow(clippy::disallowed_methods, reason = "once, and nothing waits for a socket")]
        coroutine::yield_now();
    };
    COROUTINES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: `may` asks for two things. Thread-local state must not be held over a wait: only this module keeps any, and it
    // does not (`block`). The stack must not be exceeded: a guard page is below each, see `stack`.
    let spawned = panic::catch_unwind(AssertUnwindSafe(|| unsafe { builder.spawn(body) }));
    match spawned {
        Ok(Ok(_)) => Ok(handle),
        Ok(Err(error)) => {
            COROUTINES.fetch_sub(1, Ordering::Relaxed);
            Err(error)
        }
        // The stack allocator panics when mmap fails.
        Err(_) => {
            COROUTINES.fetch_sub(1, Ordering::Relaxed);
            Err(io::Error::new(io::ErrorKind::OutOfMemory, "no memory for a coroutine stack"))
        }
    }
}

/// Returns the number of coroutines that were spawned and have not ended, the caller included.
pub fn coroutine_count() -> usize {
    COROUTINES.load(Ordering::Relaxed)
}

/// Returns the number of the client that the current coroutine serves; 0 for none and outside coroutines.
pub fn current_client() -> u64 {
    CURRENT
        .try_with(|current| current.try_borrow().map_or(0, |task| task.as_ref().map_or(0, |task| task.id)))
        .unwrap_or(0)
}

/// Runs `wait`, which switches to other coroutines, and restores the state of the current one afterwards. Each wait of this
/// module goes through here.
fn block<R>(wait: impl FnOnce() -> R) -> R {
    let me = CURRENT.take();
    let low_class = me.as_ref().filter(|task| task.is_low.load(Ordering::Relaxed)).and_then(|task| task.low_class);
    if low_class.is_some() {
        priority::stop_running();
    }
    watchdog::set_idle();
    let result = wait();
    if let (Some(task), Some(class)) = (&me, low_class) {
        // Waiting for admission uses some stack, too.
        stack::set_current_top(task.stack_top.load(Ordering::Relaxed));
        priority::admit(class);
    }
    if let Some(task) = &me {
        watchdog::set_running(task.watchdog_tag);
        stack::set_current_top(task.stack_top.load(Ordering::Relaxed));
    }
    CURRENT.set(me);
    result
}

fn start_task(task: Arc<Task>) {
    if let Some(class) = task.low_class {
        priority::admit(class);
    }
    let marker = 0u8;
    task.stack_top.store(std::ptr::from_ref(&marker).addr(), Ordering::Relaxed);
    stack::set_current_top(task.stack_top.load(Ordering::Relaxed));
    stack::install_overflow_handler();
    watchdog::set_running(task.watchdog_tag);
    CURRENT.set(Some(task));
    timer::start();
}

fn end_task() {
    if let Some(task) = CURRENT.take() {
        if task.low_class.is_some() {
            priority::stop_running();
        }
        set_finished(&task);
    }
    watchdog::set_idle();
}

fn set_finished(task: &Task) {
    COROUTINES.fetch_sub(1, Ordering::Relaxed);
    task.finished.store(true, Ordering::Release);
    task.on_finish.broadcast();
}

/// Sends panics to the log, with the client they belong to. They never print a backtrace: its symbols take more stack than a
/// coroutine has.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = quoted(info.payload_as_str().unwrap_or("(no message)"));
        let place = info.location().map_or_else(|| "?".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
        let name = CURRENT
            .try_with(|current| current.try_borrow().ok().and_then(|task| task.as_ref().map(|task| task.name)))
            .ok()
            .flatten();
        match name {
            Some(name) => {
                log::error!("coroutine panicked and was ended: coroutine={name} at={place} message={message}");
            }
            None => {
                // Outside coroutines the log may not be running, and a thread's panic must not be lost.
                eprintln!("thread panicked: at={place} message={message}");
                log::error!("thread panicked: at={place} message={message}");
            }
        }
    }));
}

/// Wakes one coroutine, from any thread. A wake-up that finds nobody waiting is kept for the next wait: every wait must check
/// its condition again.
#[derive(Clone)]
pub(crate) enum Waker {
    /// A coroutine that waits in [`park`].
    Parked(Coroutine),
    /// A coroutine that waits on a socket; does nothing if the socket is gone.
    Socket(net::WeakStream),
}

impl Waker {
    /// Returns a waker for the calling coroutine's [`park`].
    fn of_current() -> Self {
        Self::Parked(coroutine::current())
    }

    fn wake(&self) {
        match self {
            Self::Parked(coroutine) => coroutine.unpark(),
            Self::Socket(socket) => socket.on_timer(),
        }
    }
}

/// Blocks the current coroutine until its waker is used. May return early.
fn park() {
    block(coroutine::park);
}

#[cfg(test)]
mod tests;
