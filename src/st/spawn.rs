//! The start and the end of coroutines.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use may::coroutine;

use super::cond::Cond;
use super::panics::log_panics;
use super::task::{CURRENT, LowClass, Task};
use super::{net, priority, stack, timer, watchdog};

/// Pause before [`supervised`] restarts a function.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Number of coroutines that were spawned and have not finished.
static COROUTINES: AtomicUsize = AtomicUsize::new(0);

/// A spawned coroutine. Dropping the handle leaves the coroutine running.
#[derive(Clone)]
pub struct Handle(Arc<End>);

/// The end of a coroutine, to wait for.
#[derive(Default)]
struct End {
    reached: AtomicBool,
    on_reached: Cond,
}

impl Handle {
    /// Waits until the coroutine has ended, also by a panic. Call it from a coroutine.
    pub fn join(&self) {
        while !self.is_finished() {
            self.0.on_reached.wait();
        }
    }

    /// Returns whether the coroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.0.reached.load(Ordering::Acquire)
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

/// Starts the runtime if it does not run yet, runs `main` as a coroutine, and blocks the calling thread until it
/// returns. Coroutines that `main` spawned and did not join continue until the process ends. Errors: [`RunError`] when
/// the runtime cannot start or `main` dies.
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
/// Errors: `OutOfMemory` when the operating system has no memory for another stack.
pub fn spawn(name: &'static str, id: u64, f: impl FnOnce() + Send + 'static) -> io::Result<Handle> {
    spawn_task(name, id, None, f)
}

/// Starts a coroutine of low priority: any number of them leaves the others their time, see the module `priority`. For
/// work that unauthenticated or new clients cause. Errors: those of [`spawn`].
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
            timer::sleep(RESTART_DELAY);
            log::error!("coroutine restarted after a panic: coroutine={name}");
        }
    }
}

/// Spawns a coroutine of the server that runs as long as the process, and is restarted when it panics. Errors: those of
/// [`spawn`].
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
        stack_mark: AtomicUsize::new(0),
    });
    let end = Arc::new(End::default());
    let handle = Handle(end.clone());
    let builder = coroutine::Builder::new().stack_size(stack::stack_words());
    let body = move || {
        start_task(task);
        // The panic hook logs a panic where it happens.
        let _ = panic::catch_unwind(AssertUnwindSafe(f));
        end_task(&end);
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
    start_runtime();
}

/// Starts the timers and the event loop, the first time that a coroutine runs.
fn start_runtime() {
    let started = timer::prepare().and_then(|is_first| {
        if is_first {
            spawn("timer", 0, timer::drive)?;
            net::prepare_event_loop()?;
            spawn("events", 0, net::drive_event_loop)?;
        }
        Ok(())
    });
    if let Err(error) = started {
        eprintln!("the coroutine runtime cannot start: {error}");
        std::process::exit(1);
    }
}

fn end_task(end: &End) {
    if let Some(task) = CURRENT.take() {
        if task.low_class.is_some() {
            priority::stop_running();
        }
        stack::restore_mark(&task);
        COROUTINES.fetch_sub(1, Ordering::Relaxed);
        end.reached.store(true, Ordering::Release);
        end.on_reached.broadcast();
    }
    watchdog::set_idle();
}
