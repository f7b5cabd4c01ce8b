//! Event handlers: the events of waiting sockets, handled on the stack of one coroutine.
//!
//! ```text
//! socket of a waiting coroutine ── event ──> event loop ──> its handler ──> waits on
//!                                                                     └──> the coroutine resumes
//! ```
//!
//! With hundreds of publishers, a coroutine's own stack has left the processor's cache before its next message arrives. The stack
//! of the event loop has not, and there is no switch from one stack to another.

use std::any::Any;
use std::cell::{RefCell, RefMut};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use may::coroutine::{self, Coroutine};
use may::io::{CoIo, WaitIo};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::log::quoted;
use crate::st::block::block;
use crate::st::prefetch::prefetch_all;
use crate::st::task::{CURRENT, Task};
use crate::st::{timer, watchdog};

/// Events handled before other coroutines have their turn.
const MAX_EVENTS: usize = 128;

thread_local! {
    static EVENT_LOOP: RefCell<Option<Rc<EventLoop>>> = const { RefCell::new(None) };
}

/// Events ahead of the one that is handled at which the memory of an event's handler begins to be prefetched: one for each pointer
/// that has to be followed, since a fetch takes about as long as an event.
const PREFETCH_DISTANCE: usize = 6;

/// The handler of a socket.
pub(super) trait Handler {
    /// Gets the flags of an event, 0 at a deadline, and returns false to resume the coroutine.
    fn handle(&mut self, flags: usize) -> bool;

    /// Prefetches what the next event accesses at `depth` pointers from the handler. The depths 1 to 4 follow each other, with the
    /// time of an event between two of them.
    fn prefetch(&self, depth: usize);
}

struct EventLoop {
    queue: CoIo<Queue>,
    slots: RefCell<Vec<Slot>>,
    unused: RefCell<Vec<usize>>,
    /// Keys of the waits whose deadline has passed.
    expired: RefCell<Vec<u64>>,
}

struct Queue(Epoll);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// A place for one waiting coroutine.
#[derive(Default)]
struct Slot {
    /// Number of earlier waits in this place, by which their events are recognised.
    generation: u32,
    waiter: Option<Waiter>,
    end: Option<End>,
}

struct Waiter {
    handler: NonNull<dyn Handler>,
    coroutine: Coroutine,
    task: Option<Arc<Task>>,
}

enum End {
    Resumed,
    Panicked(Box<dyn Any + Send>),
}

/// Registers the handler of a socket for the current coroutine. Fails when the system cannot watch the socket.
pub(super) fn add<'a>(socket: BorrowedFd<'a>, handler: &'a mut (dyn Handler + '_)) -> io::Result<Place<'a>> {
    EVENT_LOOP.with_borrow(Clone::clone).ok_or(io::ErrorKind::Unsupported)?.add(socket, handler)
}

/// Makes the event loop call the handler of a wait whose deadline has passed.
pub(super) fn expire(key: u64) {
    EVENT_LOOP.with_borrow(|event_loop| {
        let Some(event_loop) = event_loop else { return };
        let mut expired = event_loop.expired.borrow_mut();
        if expired.is_empty() {
            event_loop.queue.waker().wakeup();
        }
        expired.push(key);
    });
}

/// Creates the event loop of the worker, which calls this once, before [`drive`] is spawned. Errors: those of epoll_create1(2).
pub(in crate::st) fn prepare() -> io::Result<()> {
    let event_loop = EventLoop {
        queue: CoIo::new(Queue(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))?,
        slots: RefCell::default(),
        unused: RefCell::default(),
        expired: RefCell::default(),
    };
    EVENT_LOOP.set(Some(Rc::new(event_loop)));
    Ok(())
}

impl EventLoop {
    #[allow(unsafe_code)]
    fn add<'a>(self: Rc<Self>, socket: BorrowedFd<'a>, handler: &'a mut (dyn Handler + '_)) -> io::Result<Place<'a>> {
        let index = self.unused.borrow_mut().pop().unwrap_or_else(|| {
            self.slots.borrow_mut().push(Slot::default());
            self.slots.borrow().len() - 1
        });
        // SAFETY: changes the lifetime only. `handle` and `prefetch` alone use it, and find it in the slot, from which `Place` takes it
        // when it is dropped; it borrows the handler until then.
        let handler =
            unsafe { std::mem::transmute::<NonNull<dyn Handler + '_>, NonNull<dyn Handler>>(NonNull::from(handler)) };
        let waiter = Waiter { handler, coroutine: coroutine::current(), task: CURRENT.with_borrow(Clone::clone) };
        let generation = {
            let slot = &mut self.slots.borrow_mut()[index];
            slot.waiter = Some(waiter);
            slot.generation
        };
        let key = (u64::from(generation) << 32) | index as u64;
        let place = Place { event_loop: self.clone(), key, socket };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.queue.inner().0.add(socket, EpollEvent::new(flags, key))?;
        Ok(place)
    }

    /// Handles what has happened. Returns whether there may be more.
    fn handle_events(&self, events: &mut [EpollEvent; MAX_EVENTS]) -> bool {
        let count = match self.queue.inner().0.wait(events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => return true,
            Err(error) => {
                log::error!("events not read: error={}", quoted(error));
                0
            }
        };
        let events = &events[..count];
        for depth in 0..PREFETCH_DISTANCE {
            for event in &events[..events.len().min(PREFETCH_DISTANCE - depth)] {
                self.prefetch(event.data(), depth);
            }
        }
        for (index, event) in events.iter().enumerate() {
            // The wait for the memory of the next sockets overlaps with the work for this one.
            for depth in 0..PREFETCH_DISTANCE {
                if let Some(later) = events.get(index + PREFETCH_DISTANCE - depth) {
                    self.prefetch(later.data(), depth);
                }
            }
            self.handle(event.data(), event.events().bits() as usize);
        }
        for key in self.expired.take() {
            self.handle(key, 0);
        }
        count == MAX_EVENTS
    }

    /// Prefetches what an event accesses at `depth` pointers from the list of handlers.
    #[allow(unsafe_code)]
    fn prefetch(&self, key: u64, depth: usize) {
        let slots = self.slots.borrow();
        let Some(slot) = slots.get(index_of(key)) else { return };
        if depth == 0 {
            return prefetch_all(slot);
        }
        let Some(waiter) = &slot.waiter else { return };
        // SAFETY: as in `handle`. The handler of another event that has come late is as good as any: nothing is changed.
        let handler = unsafe { waiter.handler.as_ref() };
        match depth {
            1 => prefetch_all(handler),
            depth => handler.prefetch(depth - 1),
        }
    }

    /// Calls the handler of an event.
    #[allow(unsafe_code)]
    fn handle(&self, key: u64, flags: usize) {
        let index = index_of(key);
        let waiter = {
            let slot = &mut self.slots.borrow_mut()[index];
            if u64::from(slot.generation) == key >> 32 { slot.waiter.take() } else { None }
        };
        let Some(mut waiter) = waiter else { return };
        if let Some(task) = &waiter.task {
            watchdog::set_running(task.watchdog_tag);
        }
        let me = CURRENT.replace(waiter.task.take());
        // SAFETY: the coroutine is in `wait` and does not run now, because all run on this thread. So `Place` still borrows the
        // handler, and nobody else uses it.
        let handler = || unsafe { (*waiter.handler.as_ptr()).handle(flags) };
        let result = panic::catch_unwind(AssertUnwindSafe(handler));
        waiter.task = CURRENT.replace(me);
        let slot = &mut self.slots.borrow_mut()[index];
        slot.end = match result {
            Ok(true) => {
                slot.waiter = Some(waiter);
                return;
            }
            Ok(false) => Some(End::Resumed),
            Err(payload) => Some(End::Panicked(payload)),
        };
        waiter.coroutine.unpark();
    }
}

/// The body of the event loop's coroutine.
pub(in crate::st) fn drive() {
    let Some(event_loop) = EVENT_LOOP.with_borrow(Clone::clone) else { return };
    let mut events = [EpollEvent::empty(); MAX_EVENTS];
    loop {
        if event_loop.handle_events(&mut events) {
            timer::yield_now();
        } else {
            block(|| event_loop.queue.wait_io());
        }
    }
}

/// The registration of a socket and its handler, until it is dropped.
pub(super) struct Place<'a> {
    event_loop: Rc<EventLoop>,
    key: u64,
    socket: BorrowedFd<'a>,
}

impl Place<'_> {
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Blocks the coroutine until its handler returns false, or until `is_woken` after a wake-up. A panic of the handler continues
    /// here.
    pub(super) fn wait(self, is_woken: impl Fn() -> bool) {
        block(|| {
            while !is_woken() && self.slot().end.is_none() {
                coroutine::park();
            }
        });
        let end = self.slot().end.take();
        drop(self);
        if let Some(End::Panicked(payload)) = end {
            panic::resume_unwind(payload);
        }
    }

    fn slot(&self) -> RefMut<'_, Slot> {
        RefMut::map(self.event_loop.slots.borrow_mut(), |slots| &mut slots[index_of(self.key)])
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Fails only if it was not added.
        let _ = self.event_loop.queue.inner().0.delete(self.socket);
        let slot = &mut *self.slot();
        *slot = Slot { generation: slot.generation.wrapping_add(1), ..Slot::default() };
        self.event_loop.unused.borrow_mut().push(index_of(self.key));
    }
}

fn index_of(key: u64) -> usize {
    key as u32 as usize
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::st::run;

    struct Idle;

    impl Handler for Idle {
        fn handle(&mut self, _: usize) -> bool {
            true
        }

        fn prefetch(&self, _: usize) {}
    }

    #[test]
    fn a_socket_is_added_once_and_again_after_its_removal() {
        run(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let (mut one, mut other) = (Idle, Idle);
            let place = add(socket.as_fd(), &mut one).unwrap();
            assert_eq!(
                add(socket.as_fd(), &mut other).err().map(|error| error.kind()),
                Some(io::ErrorKind::AlreadyExists)
            );
            drop(place);
            drop(add(socket.as_fd(), &mut other).unwrap());
        })
        .unwrap();
    }
}
