//! Sockets that block a coroutine, not the worker.
//!
//! A wait ends when the socket is ready, when its deadline passes, or when somebody inside the process wakes it. Reads and
//! writes try first and wait only when the kernel has nothing (or no room): events are edge-triggered, and a wait for one
//! direction also takes the event of the other, which [`TcpStream`] therefore remembers.

mod blocking;
mod inherited;
mod listener;
mod options;
mod wait;
mod wire;

pub use inherited::{inherited, serves};
pub use listener::{TcpListener, bind};
pub(crate) use wait::WeakStream;
pub use wait::{Wake, hurry};
pub(super) use wire::Wire;

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use may::io::CoIo;
use socket2::{Domain, Protocol, Socket, Type};

use self::wait::Alarm;
#[cfg(not(feature = "ssl"))]
use super::no_tls::Session;
#[cfg(feature = "ssl")]
use super::tls::Session;
use crate::memory::Held;

/// What [`TcpStream::try_read_with`] reads at a time: some messages of a publisher, so that they go out together.
const SCRATCH: usize = 32 * 1024;

thread_local! {
    /// The worker's buffer for reading, which all connections share: its memory stays in the processor's cache, where that of
    /// each connection's own would be gone by the time that the connection has something to read.
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TCP connection. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct TcpStream(Arc<Inner>);

struct Inner {
    io: CoIo<net::TcpStream>,
    peer: SocketAddr,
    received: AtomicU64,
    sent: AtomicU64,
    /// Whether a read may find something: an event came since a read found the socket empty.
    readable: AtomicBool,
    /// The event of the connection's end has come, perhaps with the last bytes; there will be no other.
    ended: AtomicBool,
    interrupted: AtomicBool,
    /// Reads and writes since the last wait.
    turns: AtomicU32,
    /// In milliseconds, 0 for none.
    read_timeout: AtomicU32,
    write_timeout: AtomicU32,
    /// When every blocking read and write is to end, whatever it has got until then.
    expiry: Mutex<Option<Instant>>,
    alarm: Mutex<Alarm>,
    /// What reads and writes go through, once there is TLS.
    session: OnceLock<Box<Session>>,
}

impl TcpStream {
    fn new(stream: net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            io: CoIo::new(stream)?,
            peer,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            readable: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            turns: AtomicU32::new(0),
            read_timeout: AtomicU32::new(0),
            write_timeout: AtomicU32::new(0),
            expiry: Mutex::new(None),
            alarm: Mutex::default(),
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

    /// The same with a receive buffer of so many bytes (SO_RCVBUF), which has to be set before: the peer is told of it then.
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

    /// The address of the other end.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// The address of this end.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.io.inner().local_addr()
    }

    /// Bytes read so far.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Bytes that came so far with those that were read, but are none of them: what TLS adds, once hands are shaken. 22 for a record at
    /// least. It never becomes less.
    pub fn overhead(&self) -> u64 {
        self.0.session.get().map_or(0, |session| session.overhead())
    }

    /// Bytes written so far.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Ends both directions at once; the other end sees it, and so does a coroutine that waits on the socket.
    pub fn shutdown(&self) {
        // Fails only when the connection is gone already.
        let _ = self.0.io.inner().shutdown(Shutdown::Both);
        self.wake();
    }

    /// Sends the end of the stream; the other direction stays open.
    pub fn shutdown_write(&self) {
        if let Some(session) = self.0.session.get() {
            session.close(&mut self.wire());
        }
        let _ = self.0.io.inner().shutdown(Shutdown::Write);
    }

    /// Reads what is there. `None`: nothing yet.
    ///
    /// # Errors
    /// Those of read(2), and `InvalidData` for what is no TLS. `Ok(Some(0))` is the end of the stream.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.session.get() {
            None => self.0.try_read(buffer),
            Some(session) => session.try_read(&mut self.wire(), buffer),
        }
    }

    /// Has the next read ask the kernel, though no event has said that there is anything: with a low-water mark there may be.
    pub fn assume_readable(&self) {
        self.0.readable.store(true, Ordering::Relaxed);
    }

    /// Reads what is there, up to 32 KiB, and has `take` look at it, which must not block. `None`: nothing yet.
    ///
    /// # Errors
    /// Those of read(2). The end of the stream is an empty slice.
    pub fn try_read_with<R>(&self, take: impl FnOnce(&[u8]) -> R) -> io::Result<Option<R>> {
        let mut buffer = READ.take();
        buffer.resize(SCRATCH, 0);
        let result = self.try_read(&mut buffer).map(|read| read.map(|n| take(&buffer[..n])));
        READ.set(buffer);
        result
    }

    /// Writes what fits. 0: no room now.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = self.0.session.get() else {
            return self.0.written(retry(|| self.0.io.inner().write(bytes)));
        };
        let mut written = 0;
        while written < bytes.len() {
            match session.try_write(&mut self.wire(), &[IoSlice::new(&bytes[written..])])? {
                0 => break,
                n => written += n,
            }
        }
        Ok(written)
    }

    /// Writes what fits of several slices, in one system call. 0: no room now.
    ///
    /// # Errors
    /// Those of writev(2).
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.session.get() {
            None => self.0.written(retry(|| self.0.io.inner().write_vectored(slices))),
            Some(session) => session.try_write(&mut self.wire(), slices),
        }
    }

    /// Has the processor fetch what the next write looks at first.
    pub fn prefetch(&self) {
        super::prefetch(&self.0.io);
        super::prefetch(&self.0.session);
    }

    /// Whether the connection is under TLS.
    pub fn is_encrypted(&self) -> bool {
        self.0.session.get().is_some()
    }

    /// Has what is encrypted counted until the socket has taken it, if the connection is under TLS.
    pub fn count_unsent(&self, held: impl FnOnce() -> Held) {
        if let Some(session) = self.0.session.get() {
            session.count_unsent(held());
        }
    }

    #[cfg(feature = "ssl")]
    pub(super) fn set_session(&self, session: Session) {
        // There is none yet: a handshake comes first, and once.
        let _ = self.0.session.set(Box::new(session));
    }

    /// Whether two handles are of the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
        match retry(|| self.io.inner().read(buffer)) {
            Ok(n) => {
                self.received.fetch_add(n as u64, Ordering::Relaxed);
                // What the buffer did not fill, the socket did not have. The end of the stream is read once its event was.
                if n > 0 && n < buffer.len() && !self.ended.load(Ordering::Relaxed) {
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

    fn written(&self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Ok(n) => {
                self.sent.fetch_add(n as u64, Ordering::Relaxed);
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
            session.close(&mut Wire::of(self));
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
