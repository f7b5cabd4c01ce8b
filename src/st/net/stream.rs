//! A TCP connection: reads and writes that do not block.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::raw_socket::RawSocket;
use super::wait_timer::WaitTimer;
use crate::memory::Charge;
#[cfg(not(feature = "ssl"))]
use crate::st::no_tls::Session;
use crate::st::prefetch;
#[cfg(feature = "ssl")]
use crate::st::tls::Session;

/// Most bytes of one [`TcpStream::try_read_with`]: several messages of a publisher, which are then sent together.
const READ_BUFFER_BYTES: usize = 32 * 1024;

thread_local! {
    /// Read buffer that all connections of the worker share: it stays in the processor's cache, unlike a buffer for each
    /// connection.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TCP connection. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct TcpStream(pub(super) Arc<Inner>);

/// The state that the clones of a connection share.
#[repr(C)] // What a write accesses is together: the end of the socket, and the session.
pub(super) struct Inner {
    pub(super) socket: RawSocket,
    /// The TLS session, once the handshake is done.
    pub(super) session: OnceLock<Box<Session>>,
    peer: SocketAddr,
    pub(super) interrupted: AtomicBool,
    /// In milliseconds, 0 for none.
    pub(super) write_timeout: AtomicU32,
    /// Deadline of all blocking reads and writes together.
    pub(super) expiry: Mutex<Option<Instant>>,
    wait_timer: Mutex<WaitTimer>,
}

impl TcpStream {
    pub(super) fn new(stream: net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            socket: RawSocket::new(stream)?,
            peer,
            interrupted: AtomicBool::new(false),
            write_timeout: AtomicU32::new(0),
            expiry: Mutex::new(None),
            wait_timer: Mutex::default(),
            session: OnceLock::new(),
        })))
    }

    /// Returns the socket below the TLS session.
    pub(in crate::st) fn socket(&self) -> &RawSocket {
        &self.0.socket
    }

    /// Returns the address of the peer.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Returns the local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.io.inner().local_addr()
    }

    /// Returns the number of bytes received so far.
    pub fn bytes_received(&self) -> u64 {
        self.0.socket.bytes_received.load(Ordering::Relaxed)
    }

    /// Returns the bytes received so far that are not payload of TLS, once the handshake is done: at least 22 for a record.
    /// Never decreases.
    pub fn tls_overhead(&self) -> u64 {
        self.0.session.get().map_or(0, |session| session.overhead())
    }

    /// Returns the number of bytes sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.socket.bytes_sent.load(Ordering::Relaxed)
    }

    /// Closes both directions at once. The peer sees it, and a coroutine that waits on the socket is woken.
    pub fn shutdown(&self) {
        // Fails only when the connection is already gone.
        let _ = self.0.socket.io.inner().shutdown(Shutdown::Both);
        self.wake();
    }

    /// Closes the sending direction; the other one stays open.
    pub fn shutdown_write(&self) {
        if let Some(session) = self.0.session.get() {
            session.close(&mut self.socket());
        }
        let _ = self.0.socket.io.inner().shutdown(Shutdown::Write);
    }

    /// Reads available bytes. Returns `None` if there are none yet, and `Some(0)` at the end of the stream. Errors:
    /// those of read(2), and `InvalidData` for invalid TLS.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.session.get() {
            None => self.0.socket.try_read(buffer),
            Some(session) => session.try_read(&mut self.socket(), buffer),
        }
    }

    /// Returns whether the next read finds nothing, as far as is known without a system call.
    pub fn is_drained(&self) -> bool {
        !self.0.socket.readable.load(Ordering::Relaxed) && self.0.session.get().is_none()
    }

    /// Makes the next read ask the kernel although no event came: below a low-water mark there may be bytes without an event.
    pub fn assume_readable(&self) {
        self.0.socket.readable.store(true, Ordering::Relaxed);
    }

    /// Reads available bytes, up to `READ_BUFFER_BYTES`, and passes them to `consume`, which must not block; an empty
    /// slice is the end of the stream. Returns `None` if there are no bytes yet. Errors: those of
    /// [`TcpStream::try_read`].
    pub fn try_read_with<R>(&self, consume: impl FnOnce(&[u8]) -> R) -> io::Result<Option<R>> {
        let mut buffer = READ_BUFFER.take();
        if buffer.is_empty() {
            // Zeros of the system: only pages that are read into take memory, which `resize` would write to.
            buffer = vec![0; READ_BUFFER_BYTES];
        }
        let result = self.try_read(&mut buffer).map(|read| read.map(|n| consume(&buffer[..n])));
        READ_BUFFER.set(buffer);
        result
    }

    /// Writes as many bytes as fit and returns their number, 0 if there is no room.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = self.0.session.get() else {
            return self.0.socket.try_write(bytes);
        };
        let mut written = 0;
        while written < bytes.len() {
            match session.try_write(&mut self.socket(), &[IoSlice::new(&bytes[written..])])? {
                0 => break,
                n => written += n,
            }
        }
        Ok(written)
    }

    /// Writes as many bytes of several slices as fit, in one system call, and returns their number.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.session.get() {
            None => self.0.socket.try_write_vectored(slices),
            Some(session) => session.try_write(&mut self.socket(), slices),
        }
    }

    /// Prefetches the memory that the next write accesses first.
    pub fn prefetch(&self) {
        prefetch(self.0.socket.io.inner());
        prefetch(&self.0.session);
    }

    /// Returns whether the connection uses TLS.
    pub fn is_encrypted(&self) -> bool {
        self.0.session.get().is_some()
    }

    /// Charges encrypted bytes to `charge` until the kernel has taken them, if the connection uses TLS.
    pub fn count_unsent(&self, charge: impl FnOnce() -> Charge) {
        if let Some(session) = self.0.session.get() {
            session.count_unsent(charge());
        }
    }

    #[cfg(feature = "ssl")]
    pub(in crate::st) fn set_session(&self, session: Session) {
        // Never set before: there is one handshake.
        let _ = self.0.session.set(Box::new(session));
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpStream({})", self.0.peer)
    }
}

impl Inner {
    pub(super) fn wait_timer(&self) -> MutexGuard<'_, WaitTimer> {
        self.wait_timer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(session) = self.session.get() {
            session.close(&mut &self.socket);
        }
    }
}
