//! What waits for a socket: until it is ready, until a deadline, or until somebody inside the process says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use may::io::WaitIo;

use super::{Inner, TcpStream};
use crate::st::{Waker, block, timer, yield_now};

/// Successful reads or writes in a row after which a coroutine lets others run.
const TURNS: u32 = 16;

/// So many bytes written are as good as one more.
const TURN_BYTES: usize = 64 * 1024;

/// Somebody is not to wait for all those turns.
static HURRY: AtomicBool = AtomicBool::new(false);

/// What a wait reports, besides readiness: `may`'s mark for a wake-up, and the events of epoll(7).
const WOKEN: usize = 0x8000_0000;
const EVENTS_OF_END: usize = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as usize;
const EVENTS_OF_READ: usize = libc::EPOLLIN as usize | EVENTS_OF_END;

/// Why a wait ended. Several may be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake {
    /// Bytes, or the end of the stream, may have arrived.
    pub readable: bool,
    /// Somebody called [`TcpStream::wake`] or [`TcpStream::interrupt`].
    pub woken: bool,
    /// The deadline has passed.
    pub timed_out: bool,
}

/// What a timer keeps of a connection.
#[derive(Clone)]
pub(crate) struct WeakStream(Weak<Inner>);

/// The deadline of the current wait. Most waits end long before theirs, so the timer is not taken back then but left to
/// find, when it fires, that the deadline has moved.
#[derive(Default)]
pub(super) struct Alarm {
    deadline: Option<Instant>,
    timer: Option<timer::Key>,
}

/// Has coroutines that their peers keep busy let others run after each read and write, until they need not any more: what somebody
/// else has to do is about what is read.
pub fn hurry(needed: bool) {
    HURRY.store(needed, Ordering::Relaxed);
}

impl TcpStream {
    /// Blocks until the socket has an event, until `deadline`, or until woken. May end early: look again at what was waited
    /// for.
    pub fn wait(&self, deadline: Option<Instant>) -> Wake {
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if self.0.session.get().is_some_and(|session| session.take_more()) {
            yield_now();
            return Wake { readable: true, woken: false, timed_out: is_late() };
        }
        self.set_deadline(deadline);
        let events = block(|| self.0.io.wait_io());
        self.0.turns.store(0, Ordering::Relaxed);
        if let Some(session) = self.0.session.get() {
            // What a write has left, or the answer to a change of keys. An error shows again with the next read or write.
            let _ = session.flush(&mut self.wire());
        }
        if events & EVENTS_OF_END != 0 {
            self.0.ended.store(true, Ordering::Relaxed);
        }
        if events & EVENTS_OF_READ != 0 {
            self.0.readable.store(true, Ordering::Relaxed);
        }
        Wake { readable: self.0.readable.load(Ordering::Relaxed), woken: events & WOKEN != 0, timed_out: is_late() }
    }

    /// Ends the wait of the coroutine that blocks on this socket, or its next one.
    pub fn wake(&self) {
        self.0.io.waker().wakeup();
    }

    /// Makes blocking reads and writes end with `ConnectionAborted`, now and until [`TcpStream::resume`]: so that a coroutine
    /// which waits for its client can be told something and still use the socket to say it.
    pub fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Ends what [`TcpStream::interrupt`] began. Returns whether there was an interruption.
    pub fn resume(&self) -> bool {
        self.0.interrupted.swap(false, Ordering::Relaxed)
    }

    /// Lets others run when this coroutine has not waited for long: its peer keeps it busy. Blocking reads and writes do it;
    /// a loop over [`TcpStream::try_read`] has to.
    pub fn take_turns(&self) {
        self.take_turns_of(0);
    }

    /// The same after a read or a write of so many bytes.
    pub(super) fn take_turns_of(&self, bytes: usize) {
        let turns = 1 + u32::try_from(bytes / TURN_BYTES).unwrap_or(TURNS);
        if self.0.turns.fetch_add(turns, Ordering::Relaxed).saturating_add(turns) > TURNS
            || HURRY.load(Ordering::Relaxed)
        {
            self.0.turns.store(0, Ordering::Relaxed);
            yield_now();
        }
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        let mut alarm = self.0.alarm();
        alarm.deadline = deadline;
        if let Some(deadline) = deadline
            && alarm.timer.is_none_or(|timer| timer.0 > deadline)
        {
            if let Some(timer) = alarm.timer.take() {
                timer::remove(timer);
            }
            alarm.timer = Some(timer::add(deadline, Waker::Socket(WeakStream(Arc::downgrade(&self.0)))));
        }
    }
}

impl Inner {
    fn alarm(&self) -> MutexGuard<'_, Alarm> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer::remove(timer);
        }
    }
}

impl WeakStream {
    /// The timer fired: wakes the coroutine, or sets the timer for a deadline that has moved.
    pub(in crate::st) fn on_timer(&self) {
        let Some(inner) = self.0.upgrade() else { return };
        let mut alarm = inner.alarm();
        alarm.timer = None;
        match alarm.deadline {
            None => {}
            Some(deadline) if deadline <= Instant::now() => {
                drop(alarm);
                inner.io.waker().wakeup();
            }
            Some(deadline) => alarm.timer = Some(timer::add(deadline, Waker::Socket(self.clone()))),
        }
    }
}
