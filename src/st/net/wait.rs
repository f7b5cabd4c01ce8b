//! Waits for a socket: until it is ready, until a deadline, or until it is woken.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::event_loop::Handler;
use super::stream::{Inner, TcpStream};
use super::watched::WOKEN;
use crate::st::block::block;
use crate::st::clock;
use crate::st::prefetch::prefetch_all;
use crate::st::timer::yield_now;
use crate::st::waker::{TimerTarget, Waker};

/// Number of reads and writes without a wait after which a coroutine yields.
const MAX_OPS: u32 = 16;

/// Bytes of one write that count as a further operation.
const BYTES_PER_OP: usize = 64 * 1024;

/// Coroutines yield after each operation.
static EAGER_YIELD: AtomicBool = AtomicBool::new(false);

/// Event bits of a wait, beside [`WOKEN`]: those of epoll(7).
const EVENTS_OF_END: usize = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as usize;
const EVENTS_OF_READ: usize = libc::EPOLLIN as usize | EVENTS_OF_END;

/// The result of a wait. Several fields may be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitResult {
    /// Bytes, or the end of the stream, may have arrived.
    pub readable: bool,
    /// [`TcpStream::wake`] or [`TcpStream::interrupt`] was called.
    pub woken: bool,
    /// The deadline has passed.
    pub timed_out: bool,
    /// The time at the end of the wait.
    pub now: Instant,
}

/// Makes busy coroutines yield after each read and write, instead of after `MAX_OPS`, until it is called with false: so that a
/// coroutine that must react to their input runs in time.
pub fn set_eager_yield(enabled: bool) {
    EAGER_YIELD.store(enabled, Ordering::Relaxed);
}

/// A handler of the events of a connection, on the stack of the event loop. It must not block.
pub trait EventHandler {
    /// Handles an event or a passed deadline. Returns the next deadline, or `None` to resume the coroutine that waits.
    fn handle(&mut self, event: WaitResult) -> Option<Option<Instant>>;

    /// Prefetches what the next event accesses at `depth` pointers from this value. Before an event come the depths 1 to 4, in this
    /// order, one with each of the four events before, so that the fetches of one depth are over when the next begins.
    fn prefetch(&self, _depth: usize) {}
}

impl<F: FnMut(WaitResult) -> Option<Option<Instant>>> EventHandler for F {
    fn handle(&mut self, event: WaitResult) -> Option<Option<Instant>> {
        self(event)
    }
}

/// The state of a wait with a handler.
struct EventsOfWait<H> {
    stream: TcpStream,
    deadline: Option<Instant>,
    /// Deadline for which the timer is set. One that goes off too early costs less than one that is set for each event.
    armed: Option<Instant>,
    handler: H,
}

impl<H: EventHandler> Handler for EventsOfWait<H> {
    fn handle(&mut self, flags: usize) -> bool {
        self.stream.record_events(flags);
        let result = self.stream.result(flags, self.deadline);
        let is_early = flags == 0 && !result.timed_out;
        if !is_early {
            let Some(deadline) = self.handler.handle(result) else { return false };
            self.deadline = deadline;
        }
        if flags == 0 {
            self.armed = None;
        }
        if self.deadline.is_some_and(|next| self.armed.is_none_or(|armed| next < armed)) {
            self.stream.0.wait_timer().set(self.deadline, || self.stream.0.timer_waker());
            self.armed = self.deadline;
        }
        true
    }

    fn prefetch(&self, depth: usize) {
        if depth == 1 {
            prefetch_all(&*self.stream.0);
        }
        self.handler.prefetch(depth);
    }
}

impl TcpStream {
    /// Blocks until the socket has an event, until `deadline`, or until woken. May return early: check the condition again.
    pub fn wait(&self, deadline: Option<Instant>) -> WaitResult {
        if self.0.session.get().is_some_and(|session| session.take_read_pending()) {
            yield_now();
            return WaitResult { readable: true, ..self.result(0, deadline) };
        }
        self.0.wait_timer().set(deadline, || self.0.timer_waker());
        let events = block(|| self.socket().io.wait_io());
        if let Some(session) = self.0.session.get() {
            // The rest of a write, or the answer to a change of keys. The next read or write reports an error again.
            let _ = session.flush(&mut self.socket());
        }
        self.result(self.record_events(events), deadline)
    }

    /// Blocks as [`TcpStream::wait`] does, but has events and deadlines handled by `handler`, on another stack, until that returns
    /// `None`. Returns at once if the socket has had an event. Not for TLS, where bytes can be left to read without an event. Fails
    /// when the system cannot watch the socket, which is then shut down.
    pub fn wait_with_handler(&self, deadline: Option<Instant>, handler: impl EventHandler) -> io::Result<WaitResult> {
        self.0.wait_timer().set(deadline, || self.0.timer_waker());
        // On the heap, where it is close to those of other connections. A page of the stack for each costs a walk of the page table.
        let mut events = Box::new(EventsOfWait { stream: self.clone(), deadline, armed: deadline, handler });
        let flags = self.socket().io.wait_with_handler(&mut *events);
        if flags.is_err() {
            self.shutdown();
        }
        Ok(self.result(self.record_events(flags?), events.deadline))
    }

    fn record_events(&self, events: usize) -> usize {
        self.socket().ops_since_wait.store(0, Ordering::Relaxed);
        if events & EVENTS_OF_END != 0 {
            self.socket().end_seen.store(true, Ordering::Relaxed);
        }
        if events & EVENTS_OF_READ != 0 {
            self.socket().readable.store(true, Ordering::Relaxed);
        }
        events
    }

    fn result(&self, events: usize, deadline: Option<Instant>) -> WaitResult {
        let now = clock::now();
        WaitResult {
            readable: self.socket().readable.load(Ordering::Relaxed),
            woken: events & WOKEN != 0,
            timed_out: deadline.is_some_and(|deadline| now >= deadline),
            now,
        }
    }

    /// Ends the current or next wait of the coroutine that blocks on this socket.
    pub fn wake(&self) {
        self.socket().io.wake();
    }

    /// Makes blocking reads and writes fail with `ConnectionAborted` until [`TcpStream::resume`]: so that a coroutine that waits
    /// for its client can be stopped and still use the socket to send a last message.
    pub fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Ends an interruption. Returns whether there was one.
    pub fn resume(&self) -> bool {
        self.0.interrupted.swap(false, Ordering::Relaxed)
    }

    /// Yields if the peer has kept this coroutine busy for `MAX_OPS` operations without a wait. Blocking reads and writes do
    /// it; a loop over [`TcpStream::try_read`] must call it.
    pub fn yield_if_busy(&self) {
        self.yield_if_busy_after(0);
    }

    /// Counts an operation on `bytes` bytes, and yields if it is due.
    pub(super) fn yield_if_busy_after(&self, bytes: usize) {
        let ops = 1 + u32::try_from(bytes / BYTES_PER_OP).unwrap_or(MAX_OPS);
        let ops_since_wait = &self.socket().ops_since_wait;
        // Only the coroutine that waits for the socket counts.
        let ops = ops_since_wait.load(Ordering::Relaxed).saturating_add(ops);
        ops_since_wait.store(ops, Ordering::Relaxed);
        if ops > MAX_OPS || EAGER_YIELD.load(Ordering::Relaxed) {
            ops_since_wait.store(0, Ordering::Relaxed);
            yield_now();
        }
    }
}

impl Inner {
    fn timer_waker(self: &Arc<Self>) -> Waker {
        let this: Weak<Self> = Arc::downgrade(self);
        Waker::Target(this)
    }
}

impl TimerTarget for Inner {
    /// Wakes the coroutine if the deadline of its wait has passed.
    fn on_timer(self: Arc<Self>) {
        let is_over = self.wait_timer().on_fired(clock::now(), || self.timer_waker());
        if is_over {
            self.socket.io.expire();
        }
    }
}
