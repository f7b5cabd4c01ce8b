//! A socket that the kernel's event queue watches.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use may::io::{CoIo, WaitIo, WaitIoWaker};

/// A socket that the event queue watches until it is dropped.
///
/// The queue forgets it before it is closed, in the order of these fields. `CoIo` alone would close its socket first, which
/// makes the kernel forget it only if nobody else has it open. But a child process has it open between fork and exec, in which
/// another thread may be: the kernel would go on to report events, with the address of what is freed by then.
pub(super) struct Watched<T> {
    io: CoIo<Borrowed>,
    socket: T,
}

/// A descriptor that somebody else closes.
struct Borrowed(RawFd);

impl AsRawFd for Borrowed {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl<T: AsRawFd> Watched<T> {
    /// Makes the event queue watch a socket, which blocks no more.
    pub(super) fn new(socket: T) -> io::Result<Self> {
        Ok(Self { io: CoIo::new(Borrowed(socket.as_raw_fd()))?, socket })
    }

    /// Returns the socket.
    pub(super) fn inner(&self) -> &T {
        &self.socket
    }

    /// Waits for an event, and returns its flags. For use in [`block`](crate::st::block::block).
    pub(super) fn wait_io(&self) -> usize {
        self.io.wait_io()
    }

    /// Returns what ends [`Watched::wait_io`] from elsewhere.
    pub(super) fn waker(&self) -> WaitIoWaker {
        self.io.waker()
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
