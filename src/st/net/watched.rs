//! A socket that the kernel's event queue watches.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use atomic_refcell::AtomicRefCell;
use may::coroutine::{self, Coroutine};
use may::io::{CoIo, WaitIo};

use super::event_loop::{self, Handler};

/// Flag of a wake-up, of `may`.
pub(super) const WOKEN: usize = 0x8000_0000;

/// A socket that the event queue watches until it is dropped.
///
/// The queue forgets it before it is closed, in the order of these fields. `CoIo` alone would close its socket first, which
/// makes the kernel forget it only if nobody else has it open. But a child process has it open between fork and exec, in which
/// another thread may be: the kernel would go on to report events, with the address of what is freed by then.
#[repr(C)] // Keeps `socket` at the end, see `RawSocket`.
pub(super) struct Watched<T> {
    watch: AtomicRefCell<Watch>,
    socket: T,
}

/// The event queue that watches a socket, and what wakes the coroutine that waits for it.
enum Watch {
    /// That of `may`.
    Queue(CoIo<Borrowed>),
    /// That of the [event loop](event_loop), while the coroutine waits with a handler.
    EventLoop { key: u64, coroutine: Coroutine, woken: AtomicBool },
}

/// A descriptor that somebody else closes.
struct Borrowed(RawFd);

impl AsRawFd for Borrowed {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl<T: AsRawFd + AsFd> Watched<T> {
    /// Makes the event queue watch a socket, which blocks no more.
    pub(super) fn new(socket: T) -> io::Result<Self> {
        Ok(Self { watch: AtomicRefCell::new(Watch::of(&socket)?), socket })
    }

    /// Returns the socket.
    pub(super) fn inner(&self) -> &T {
        &self.socket
    }

    /// Waits for an event, and returns its flags. For use in [`block`](crate::st::block::block).
    pub(super) fn wait_io(&self) -> usize {
        match &*self.watch.borrow() {
            Watch::Queue(io) => io.wait_io(),
            // After an error of `wait_with_handler`, which has shut the socket down.
            Watch::EventLoop { .. } => libc::EPOLLHUP as usize,
        }
    }

    /// Waits until `handler`, called with the flags of each event and with 0 at each deadline, returns false, or until a wake-up, of
    /// which it returns the flag. Fails when the system cannot watch the socket.
    pub(super) fn wait_with_handler(&self, handler: &mut dyn Handler) -> io::Result<usize> {
        #[allow(deprecated, reason = "only this returns the flags of what came before without a wait")]
        let flags = match &*self.watch.borrow() {
            Watch::Queue(io) => io.reset_io(),
            Watch::EventLoop { .. } => libc::EPOLLHUP as usize,
        };
        if flags != 0 {
            return Ok(flags);
        }
        let place = event_loop::add(self.socket.as_fd(), handler)?;
        *self.watch.borrow_mut() =
            Watch::EventLoop { key: place.key(), coroutine: coroutine::current(), woken: AtomicBool::new(false) };
        let is_woken = || match &*self.watch.borrow() {
            Watch::Queue(_) => false,
            Watch::EventLoop { woken, .. } => woken.load(Ordering::Relaxed),
        };
        place.wait(is_woken);
        let is_woken = is_woken();
        *self.watch.borrow_mut() = Watch::of(&self.socket)?;
        Ok(if is_woken { WOKEN } else { 0 })
    }

    /// Ends a wait whose deadline has passed, or lets its handler decide.
    pub(super) fn expire(&self) {
        match &*self.watch.borrow() {
            Watch::Queue(io) => io.waker().wakeup(),
            Watch::EventLoop { key, .. } => event_loop::expire(*key),
        }
    }

    /// Ends the present or the next wait.
    pub(super) fn wake(&self) {
        match &*self.watch.borrow() {
            Watch::Queue(io) => io.waker().wakeup(),
            Watch::EventLoop { coroutine, woken, .. } => {
                woken.store(true, Ordering::Relaxed);
                coroutine.unpark();
            }
        }
    }
}

impl Watch {
    fn of(socket: &impl AsRawFd) -> io::Result<Self> {
        Ok(Self::Queue(CoIo::new(Borrowed(socket.as_raw_fd()))?))
    }
}

#[cfg(test)]
mod tests {
    use std::net;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Returns whether an event queue of this process watches the socket of this inode.
    fn is_watched(inode: u64) -> bool {
        let queues = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().contains("eventpoll"))
        });
        let infos = queues.filter_map(|entry| {
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", entry.file_name().to_str()?)).ok()
        });
        let word = format!("ino:{inode:x} ");
        infos.into_iter().any(|info| info.contains(&word))
    }

    #[test]
    fn the_queue_forgets_a_socket_that_a_child_still_has_open() {
        crate::st::run(|| {
            let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
            let socket = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            // As after fork.
            let copy = socket.try_clone().unwrap();
            let inode = std::fs::metadata(format!("/proc/self/fd/{}", copy.as_raw_fd())).unwrap().ino();
            let watched = Watched::new(socket).unwrap();
            assert!(is_watched(inode));
            drop(watched);
            assert!(!is_watched(inode));
        })
        .unwrap();
    }
}
