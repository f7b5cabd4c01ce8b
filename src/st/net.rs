//! Sockets that block a coroutine, not the worker.
//!
//! | part | function |
//! |---|---|
//! | [`TcpListener`], [`bind`], [`inherited_listeners`] | listening sockets, own ones and those of a service manager |
//! | [`TcpStream`] | `try_read`, `try_write`: never block; `Read`, `Write`: block the coroutine up to a time-out |
//! | [`TcpStream::wait`] | ends on readiness, on a deadline, or on [`TcpStream::wake`] from any coroutine or thread |
//! | [`TcpStream::interrupt`] | ends blocking calls, so that a coroutine can send its client a last message |
//! | TLS session | once set, all reads and writes go through it |
//!
//! Reads and writes try first and wait only when the kernel has no data (or no room). Events are edge-triggered, and a wait for
//! one direction also consumes the event of the other, which [`TcpStream`] therefore remembers.

mod blocking;
mod inherited;
mod listener;
mod options;
mod raw_socket;
mod wait;

pub use inherited::{inherited_listeners, listens_on};
pub use listener::{TcpListener, bind};
pub(super) use raw_socket::RawSocket;
pub(crate) use wait::WeakStream;
pub use wait::{WaitResult, set_eager_yield};

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use may::io::CoIo;
use socket2::{Domain, Protocol, Socket, Type};

use self::wait::WaitTimer;
#[cfg(not(feature = "ssl"))]
use super::no_tls::Session;
#[cfg(feature = "ssl")]
use super::tls::Session;
use crate::memory::Charge;

/// Most bytes of one [`TcpStream::try_read_with`]: several messages of a publisher, which are then sent together.
const READ_BUFFER_BYTES: usize = 32 * 1024;

thread_local! {
    /// Read buffer that all connections of the worker share: it stays in the processor's cache, unlike a buffer for each
    /// connection.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TCP connection. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct TcpStream(Arc<Inner>);

struct Inner {
    io: CoIo<net::TcpStream>,
    peer: SocketAddr,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    /// A read may find data: an event came since a read found the socket empty.
    readable: AtomicBool,
    /// The event of the connection's end came, perhaps with the last bytes; no event will follow.
    end_seen: AtomicBool,
    interrupted: AtomicBool,
    /// Reads and writes since the last wait.
    ops_since_wait: AtomicU32,
    /// In milliseconds, 0 for none.
    write_timeout: AtomicU32,
    /// Deadline of all blocking reads and writes together.
    expiry: Mutex<Option<Instant>>,
    wait_timer: Mutex<WaitTimer>,
    /// The TLS session, once the handshake is done.
    session: OnceLock<Box<Session>>,
}

impl TcpStream {
    fn new(stream: net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            io: CoIo::new(stream)?,
            peer,
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            readable: AtomicBool::new(true),
            end_seen: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            ops_since_wait: AtomicU32::new(0),
            write_timeout: AtomicU32::new(0),
            expiry: Mutex::new(None),
            wait_timer: Mutex::default(),
            session: OnceLock::new(),
        })))
    }

    /// Connects, in at most `timeout`.
    ///
    /// # Errors
    /// Those of connect(2), `TimedOut` among them.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::connect_with(address, timeout, None)
    }

    /// Connects with a receive buffer of `receive_buffer` bytes (SO_RCVBUF), which must be set before the peer learns its
    /// size.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect`] and of setsockopt(2).
    pub fn connect_with(address: SocketAddr, timeout: Duration, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = Self::new(socket.into(), address)?;
        let deadline = Instant::now() + timeout;
        loop {
            let socket = stream.0.io.inner();
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            match socket.peer_addr() {
                Ok(_) => return Ok(stream),
                Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
                Err(error) => return Err(error),
            }
            if stream.wait(Some(deadline)).timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Returns the address of the peer.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.io.inner().local_addr()
    }

    /// Returns the number of bytes received so far.
    pub fn bytes_received(&self) -> u64 {
        self.0.bytes_received.load(Ordering::Relaxed)
    }

    /// Returns the bytes received so far that are not payload of TLS, once the handshake is done: at least 22 for a record.
    /// Never decreases.
    pub fn tls_overhead(&self) -> u64 {
        self.0.session.get().map_or(0, |session| session.overhead())
    }

    /// Returns the number of bytes sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent.load(Ordering::Relaxed)
    }

    /// Closes both directions at once. The peer sees it, and a coroutine that waits on the socket is woken.
    pub fn shutdown(&self) {
        // Fails only when the connection is already gone.
        let _ = self.0.io.inner().shutdown(Shutdown::Both);
        self.wake();
    }

    /// Closes the sending direction; the other one stays open.
    pub fn shutdown_write(&self) {
        if let Some(session) = self.0.session.get() {
            session.close(&mut self.raw_socket());
        }
        let _ = self.0.io.inner().shutdown(Shutdown::Write);
    }

    /// Reads available bytes. Returns `None` if there are none yet, and `Some(0)` at the end of the stream.
    ///
    /// # Errors
    /// Those of read(2), and `InvalidData` for invalid TLS.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.session.get() {
            None => self.0.try_read(buffer),
            Some(session) => session.try_read(&mut self.raw_socket(), buffer),
        }
    }

    /// Makes the next read ask the kernel although no event came: below a low-water mark there may be bytes without an event.
    pub fn assume_readable(&self) {
        self.0.readable.store(true, Ordering::Relaxed);
    }

    /// Reads available bytes, up to `READ_BUFFER_BYTES`, and passes them to `consume`, which must not block; an empty slice
    /// is the end of the stream. Returns `None` if there are no bytes yet.
    ///
    /// # Errors
    /// Those of [`TcpStream::try_read`].
    pub fn try_read_with<R>(&self, consume: impl FnOnce(&[u8]) -> R) -> io::Result<Option<R>> {
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BUFFER_BYTES, 0);
        let result = self.try_read(&mut buffer).map(|read| read.map(|n| consume(&buffer[..n])));
        READ_BUFFER.set(buffer);
        result
    }

    /// Writes as many bytes as fit and returns their number, 0 if there is no room.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = self.0.session.get() else {
            return self.0.count_written(retry_interrupted(|| self.0.io.inner().write(bytes)));
        };
        let mut written = 0;
        while written < bytes.len() {
            match session.try_write(&mut self.raw_socket(), &[IoSlice::new(&bytes[written..])])? {
                0 => break,
                n => written += n,
            }
        }
        Ok(written)
    }

    /// Writes as many bytes of several slices as fit, in one system call, and returns their number.
    ///
    /// # Errors
    /// Those of writev(2).
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.session.get() {
            None => self.0.count_written(retry_interrupted(|| self.0.io.inner().write_vectored(slices))),
            Some(session) => session.try_write(&mut self.raw_socket(), slices),
        }
    }

    /// Prefetches the memory that the next write accesses first.
    pub fn prefetch(&self) {
        super::prefetch(&self.0.io);
        super::prefetch(&self.0.session);
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
    pub(super) fn set_session(&self, session: Session) {
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
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match retry_interrupted(|| self.io.inner().read(buffer)) {
            Ok(n) => {
                self.bytes_received.fetch_add(n as u64, Ordering::Relaxed);
                // A partly filled buffer means that the socket is empty. After the event of the end, the end is read next.
                if n > 0 && n < buffer.len() && !self.end_seen.load(Ordering::Relaxed) {
                    self.readable.store(false, Ordering::Relaxed);
                }
                Ok(Some(n))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn count_written(&self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Ok(n) => {
                self.bytes_sent.fetch_add(n as u64, Ordering::Relaxed);
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(session) = self.session.get() {
            session.close(&mut RawSocket::of(self));
        }
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
