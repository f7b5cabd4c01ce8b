//! The coroutine runtime, named for the state-threads library that the original server runs on.
//!
//! Every client is a stackful coroutine that reads and writes as if its calls blocked, and all coroutines run on **one**
//! worker thread, so that what happens between two blocking calls happens at once as far as any other coroutine can see.
//! This module and its children are the only place that names the `may` crate, because `may` by itself does not keep that
//! promise: its own timed waits resume a coroutine on its timer thread, next to the worker. Here:
//!
//! | what | how |
//! |---|---|
//! | [`spawn`], [`run`] | a coroutine of its own stack; a panic or a stack overflow ends that coroutine alone |
//! | [`spawn_low`], [`raise`] | coroutines that get what others leave of the worker's time |
//! | [`sleep`], [`timer`] | deadlines are kept by one coroutine that waits on a timerfd; sleepers park without a time-out |
//! | [`yield_now`] | goes once through the kernel's event queue, so that a busy coroutine starves no socket |
//! | [`Cond`], [`Shared`] | waiting for each other; sharing state between coroutines of the worker |
//! | [`offload`] | what must block a thread (names, disk) runs on a few threads beside the worker, and handshakes of TLS on two of them |
//! | [`drop_aside`] | freeing what is large happens there as well |
//! | [`trim_stack`] | gives back what deep calls have touched, before a long wait |
//! | [`bound_heap`], [`trim_heap`] | have the heap keep little of what was freed, and give back what nobody uses |
//! | [`prefetch`] | has the processor fetch what a loop comes to next |
//! | [`busy_share`] | how busy the worker is |
//! | [`watch`] | a thread that says when one coroutine holds the worker |
//! | [`net`] | sockets whose wait ends on readiness, a deadline, or a wake-up from inside the process |
//! | `tls` (with the feature `ssl`) | what such a socket is read and written through, for RTMPS |
//!
//! Two rules for code that runs in a coroutine: never block the thread (no `std::thread::sleep`, no blocking file or name
//! look-up), and never wait inside `Drop`, which may run while a panic unwinds.

mod cond;
mod heap;
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
pub use heap::{bound_heap, trim_heap};
pub use inbox::Inbox;
pub use load::busy_share;
pub use offload::{Overloaded, drop_aside, offload};
pub use prefetch::prefetch;
pub use priority::{Crowd, Raised, raise};
pub use shared::Shared;
pub use stack::{STACK_BYTES, trim as trim_stack};
pub use timer::{sleep, yield_now};
pub use watchdog::watch;

use std::cell::RefCell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use may::coroutine::{self, Coroutine};

/// What the runtime knows of one coroutine.
struct Task {
    /// The client's number, for the log; 0 for the server's own coroutines.
    id: u64,
    /// What the coroutine does, for the log.
    name: &'static str,
    /// The same, for the watchdog.
    mark: u64,
    /// Whose turn it runs in if it was spawned with low priority, and whether it has that now.
    crowd: Option<Crowd>,
    is_low: AtomicBool,
    /// An address near the top of the coroutine's stack, once it runs.
    stack_top: AtomicUsize,
    finished: AtomicBool,
    on_finish: Cond,
    /// What is to be done when the coroutine overflows its stack: its frames are then abandoned, nothing in them is dropped.
    on_overflow: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

thread_local! {
    /// The coroutine that runs on this thread now. Waits take it out and put it back, see [`block`].
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// Coroutines that were spawned and have not finished.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// A spawned coroutine. Dropping the handle leaves the coroutine running.
#[derive(Clone)]
pub struct Handle(Arc<Task>);

impl Handle {
    /// Waits until the coroutine has ended, in whatever way. Call it from a coroutine.
    pub fn join(&self) {
        while !self.0.finished.load(Ordering::Acquire) {
            self.0.on_finish.wait();
        }
    }

    /// Whether the coroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.0.finished.load(Ordering::Acquire)
    }
}

/// Why [`run`] has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system refused what the runtime needs (a stack, a timerfd).
    #[error("the coroutine runtime cannot start: {0}")]
    Start(#[from] io::Error),
    /// The main coroutine panicked or overflowed its stack.
    #[error("the main coroutine died")]
    Died,
}

/// Starts the runtime if it does not run yet, runs `main` as a coroutine, and blocks the calling thread until it returns.
/// Coroutines that `main` spawned and did not join go on for as long as the process lives.
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
        // Fails only when the thread below is gone, and then nobody asks for the result.
        let _ = sender.send(main());
    })?;
    drop(handle);
    receiver.recv().map_err(|_| RunError::Died)
}

/// Starts a coroutine that runs `f` after the current one has blocked. `id` is the client that it serves, 0 for none.
///
/// # Errors
/// When the operating system has no memory for another stack.
pub fn spawn(name: &'static str, id: u64, f: impl FnOnce() + Send + 'static) -> io::Result<Handle> {
    spawn_task(name, id, None, f)
}

/// The same, of low priority: however many there are of those, the others run when they can. For what strangers ask for.
///
/// # Errors
/// Those of [`spawn`].
pub fn spawn_low(crowd: Crowd, name: &'static str, id: u64, f: impl FnOnce() + Send + 'static) -> io::Result<Handle> {
    spawn_task(name, id, Some(crowd), f)
}

/// What runs `f`, and a second later again whenever that ends by a panic, which the log has. For what serves everybody: it is not to
/// be missing after one fault.
pub fn lasting(name: &'static str, f: impl Fn() + Send + 'static) -> impl FnOnce() + Send + 'static {
    const PAUSE: Duration = Duration::from_secs(1);
    move || {
        while panic::catch_unwind(AssertUnwindSafe(&f)).is_err() {
            sleep(PAUSE);
            log::error!("{name}: begins anew after its panic");
        }
    }
}

#[allow(unsafe_code)] // `may` has no safe way to spawn.
fn spawn_task(
    name: &'static str,
    id: u64,
    crowd: Option<Crowd>,
    f: impl FnOnce() + Send + 'static,
) -> io::Result<Handle> {
    let task = Arc::new(Task {
        id,
        name,
        mark: watchdog::mark(name, id),
        crowd,
        is_low: AtomicBool::new(crowd.is_some()),
        stack_top: AtomicUsize::new(0),
        finished: AtomicBool::new(false),
        on_finish: Cond::new(),
        on_overflow: Mutex::new(None),
    });
    let handle = Handle(task.clone());
    let builder = coroutine::Builder::new().stack_size(stack::stack_words());
    let body = move || {
        enter(task);
        // A panic is logged by the hook, where it happened.
        let _ = panic::catch_unwind(AssertUnwindSafe(f));
        leave();
        // A coroutine that another thread wakes while it is about to park goes on inside `may`'s parking, and if it ended there,
        // `may` would wait in its end for that parking to be over, for ever and with the worker. Once around the queue, and the
        // parking is over.
        #[allow(clippy::disallowed_methods, reason = "once, and nothing waits for a socket")]
        coroutine::yield_now();
    };
    ALIVE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: `may` asks for two things. Thread-local state must not be held over a wait: only this module keeps any, and it
    // does not (`block`). The stack must not be exceeded: a guard page is below each, see `stack`.
    let spawned = panic::catch_unwind(AssertUnwindSafe(|| unsafe { builder.spawn(body) }));
    match spawned {
        Ok(Ok(_)) => Ok(handle),
        Ok(Err(error)) => {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
            Err(error)
        }
        // The stack allocator panics when mmap fails.
        Err(_) => {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
            Err(io::Error::new(io::ErrorKind::OutOfMemory, "no memory for a coroutine stack"))
        }
    }
}

/// The number of coroutines that were spawned and have not ended, the caller included.
pub fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// The client that the current coroutine serves: what it was spawned with; 0 outside coroutines.
pub fn current_id() -> u64 {
    CURRENT
        .try_with(|current| current.try_borrow().map_or(0, |task| task.as_ref().map_or(0, |task| task.id)))
        .unwrap_or(0)
}

/// Names what is to be done should the current coroutine overflow its stack. Its frames are lost then, without any `drop`,
/// so this is the place to shut its socket down. It runs on the worker, after the fact; it must not block.
pub fn on_overflow(f: impl FnOnce() + Send + 'static) {
    CURRENT.with_borrow(|current| {
        if let Some(task) = current {
            *task.on_overflow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(f));
        }
    });
}

/// Runs `wait`, which switches to other coroutines, and restores what belongs to this one afterwards. Each wait of this
/// module goes through here.
fn block<R>(wait: impl FnOnce() -> R) -> R {
    let me = CURRENT.take();
    let low = me.as_ref().filter(|task| task.is_low.load(Ordering::Relaxed)).and_then(|task| task.crowd);
    if low.is_some() {
        priority::pause();
    }
    watchdog::idle();
    let result = wait();
    if let (Some(task), Some(crowd)) = (&me, low) {
        // To be admitted takes some stack, too.
        stack::set_current(task.stack_top.load(Ordering::Relaxed));
        priority::admit(crowd);
    }
    if let Some(task) = &me {
        watchdog::enter(task.mark);
        stack::set_current(task.stack_top.load(Ordering::Relaxed));
    }
    bury(CURRENT.replace(me));
    result
}

fn enter(task: Arc<Task>) {
    if let Some(crowd) = task.crowd {
        priority::admit(crowd);
    }
    let marker = 0u8;
    task.stack_top.store(std::ptr::from_ref(&marker).addr(), Ordering::Relaxed);
    stack::set_current(task.stack_top.load(Ordering::Relaxed));
    stack::install_overflow_handler();
    watchdog::enter(task.mark);
    bury(CURRENT.replace(Some(task)));
    timer::start();
}

fn leave() {
    if let Some(task) = CURRENT.take() {
        if task.crowd.is_some() {
            priority::pause();
        }
        finish(&task);
    }
    watchdog::idle();
}

fn finish(task: &Task) {
    ALIVE.fetch_sub(1, Ordering::Relaxed);
    task.finished.store(true, Ordering::Release);
    task.on_finish.broadcast();
}

/// A coroutine takes itself out of [`CURRENT`] whenever it waits or ends. One that is found there by another did neither: it
/// overflowed its stack and was abandoned by the signal handler.
fn bury(dead: Option<Arc<Task>>) {
    let Some(task) = dead else { return };
    // It has not said itself that it stopped, and others may wait for that. Whoever has found it does not count until its next turn.
    if task.is_low.load(Ordering::Relaxed) {
        priority::pause();
    }
    log::error!(
        "client {}: coroutine \"{}\" overflowed its stack of {STACK_BYTES} bytes and is ended",
        task.id,
        task.name
    );
    let on_overflow = task.on_overflow.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(f) = on_overflow {
        f();
    }
    finish(&task);
}

/// Panics go to the log, with the client they belong to, and never print a backtrace: symbolizing one takes more stack than a
/// coroutine has.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("(no message)");
        let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let name = CURRENT
            .try_with(|current| current.try_borrow().ok().and_then(|task| task.as_ref().map(|task| task.name)))
            .ok()
            .flatten();
        match name {
            Some(name) => log::error!("panic in coroutine \"{name}\"{place}: {message}; only this coroutine ends"),
            None => {
                // No coroutine: the log may not be running, and a thread's panic must not be lost.
                eprintln!("panic{place}: {message}");
                log::error!("panic{place}: {message}");
            }
        }
    }));
}

/// Wakes one coroutine, from any thread. A wake-up that finds nobody waiting is kept for the next wait: every wait must
/// look again at what it waits for.
#[derive(Clone)]
pub(crate) enum Waker {
    /// A coroutine that waits in [`park`].
    Parked(Coroutine),
    /// A coroutine that waits on a socket; nothing if the socket is gone.
    Socket(net::WeakStream),
}

impl Waker {
    /// A waker for the calling coroutine's [`park`].
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
