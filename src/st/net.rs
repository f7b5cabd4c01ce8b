//! Sockets that block a coroutine, not the worker.
//!
//! A wait ends when the socket is ready, when its deadline passes, or when somebody inside the process wakes it. Reads and
//! writes try first and wait only when the kernel has nothing (or no room): events are edge-triggered, and a wait for one
//! direction also takes the event of the other, which [`TcpStream`] therefore remembers.

mod inherited;
mod listener;

pub use inherited::{inherited, serves};
pub use listener::{TcpListener, bind};

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use may::io::{CoIo, WaitIo};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

#[cfg(not(feature = "ssl"))]
use super::no_tls::Session;
#[cfg(feature = "ssl")]
use super::tls::Session;
use super::{Waker, block, timer, yield_now};
use crate::account::Held;

/// What [`TcpStream::try_read_with`] reads at a time: some messages of a publisher, so that they go out together.
const SCRATCH: usize = 32 * 1024;

thread_local! {
    /// The worker's buffer for reading, which all connections share: its memory stays in the processor's cache, where that of
    /// each connection's own would be gone by the time that the connection has something to read.
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Successful reads or writes in a row after which a coroutine lets others run.
const TURNS: u32 = 16;

/// What a wait reports, besides readiness: `may`'s mark for a wake-up, and the events of epoll(7).
const WOKEN: usize = 0x8000_0000;
const EVENTS_OF_END: usize = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as usize;
const EVENTS_OF_READ: usize = libc::EPOLLIN as usize | EVENTS_OF_END;

/// A TCP connection. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct TcpStream(Arc<Inner>);

/// What a timer keeps of a connection.
#[derive(Clone)]
pub(crate) struct WeakStream(Weak<Inner>);

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

/// The deadline of the current wait. Most waits end long before theirs, so the timer is not taken back then but left to
/// find, when it fires, that the deadline has moved.
#[derive(Default)]
struct Alarm {
    deadline: Option<Instant>,
    timer: Option<timer::Key>,
}

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

    /// Bytes written so far.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// How long one blocking read may take to get its first byte; `None` for ever. Costs no system call.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.0.read_timeout.store(milliseconds(timeout), Ordering::Relaxed);
    }

    /// How long a blocking write may find no room at all; `None` for ever. Costs no system call.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.0.write_timeout.store(milliseconds(timeout), Ordering::Relaxed);
    }

    /// Bounds all blocking reads and writes together: they time out once `limit` has passed from now, however often a byte
    /// came in between. `None` lifts the bound.
    pub fn set_time_limit(&self, limit: Option<Duration>) {
        *self.0.expiry.lock().unwrap_or_else(PoisonError::into_inner) = limit.map(|limit| Instant::now() + limit);
    }

    /// Whether small writes are sent at once (TCP_NODELAY).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.io.inner().set_nodelay(nodelay)
    }

    /// Has the kernel find out, within minutes, that the other end is gone without a word (SO_KEEPALIVE).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_keepalive(&self, idle: Duration) -> io::Result<()> {
        SockRef::from(self.0.io.inner()).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(idle))
    }

    /// Has the socket count as readable only when so many bytes are there, or its end (SO_RCVLOWAT).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    #[allow(unsafe_code)] // No crate at hand has this option.
    pub fn set_receive_low_water(&self, bytes: usize) -> io::Result<()> {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.0.io.inner());
        // SAFETY: the descriptor is open as long as `self` is; the value is read for the length of a C int, which it has.
        let result = unsafe {
            let value = (&raw const bytes).cast();
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                value,
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sets the kernel's send buffer, in bytes (SO_SNDBUF).
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        SockRef::from(self.0.io.inner()).set_send_buffer_size(bytes)
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

    /// Blocks until the peer has sent something, and gives its first byte without taking it. `None`: the end of the stream.
    ///
    /// # Errors
    /// Those of recv(2), and of the time limit.
    pub fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let n = self.read_with(|| match retry(|| self.0.io.inner().peek(&mut first)) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        })?;
        Ok((n > 0).then_some(first[0]))
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

    pub(super) fn wire(&self) -> Wire<'_> {
        Wire(&self.0)
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

    /// Blocks until the socket has an event, until `deadline`, or until woken. May end early: look again at what was waited
    /// for.
    pub fn wait(&self, deadline: Option<Instant>) -> Wake {
        if self.0.session.get().is_some_and(|session| session.has_more()) {
            yield_now();
            return Wake { readable: true, woken: false, timed_out: false };
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
        Wake {
            readable: self.0.readable.load(Ordering::Relaxed),
            woken: events & WOKEN != 0,
            timed_out: deadline.is_some_and(|deadline| Instant::now() >= deadline),
        }
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

    /// Whether two handles are of the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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

    fn check_interrupted(&self) -> io::Result<()> {
        if self.0.interrupted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Lets others run when this coroutine has not waited for long: its peer keeps it busy. Blocking reads and writes do it;
    /// a loop over [`TcpStream::try_read`] has to.
    pub fn take_turns(&self) {
        if self.0.turns.fetch_add(1, Ordering::Relaxed) >= TURNS {
            self.0.turns.store(0, Ordering::Relaxed);
            yield_now();
        }
    }

    /// A peer that always has something to say is not to outrun the limit of [`TcpStream::set_time_limit`].
    fn check_time_limit(&self) -> io::Result<()> {
        let expiry = *self.0.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        if expiry.is_some_and(|expiry| Instant::now() >= expiry) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// When a blocking call that starts now is to time out.
    fn deadline(&self, timeout: &AtomicU32) -> Option<Instant> {
        let expiry = *self.0.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        match timeout.load(Ordering::Relaxed) {
            0 => expiry,
            ms => {
                let deadline = Instant::now() + Duration::from_millis(ms.into());
                Some(expiry.map_or(deadline, |expiry| expiry.min(deadline)))
            }
        }
    }

    pub(super) fn read_with(&self, mut attempt: impl FnMut() -> io::Result<Option<usize>>) -> io::Result<usize> {
        let mut deadline = None;
        loop {
            self.check_interrupted()?;
            if let Some(n) = attempt()? {
                self.take_turns();
                self.check_time_limit()?;
                return Ok(n);
            }
            let deadline = *deadline.get_or_insert_with(|| self.deadline(&self.0.read_timeout));
            if self.wait(deadline).timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    pub(super) fn write_with(&self, mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let mut deadline = None;
        loop {
            self.check_interrupted()?;
            match attempt()? {
                0 => {}
                n => {
                    self.take_turns();
                    return Ok(n);
                }
            }
            let deadline = *deadline.get_or_insert_with(|| self.deadline(&self.0.write_timeout));
            if self.wait(deadline).timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Blocks the coroutine: the calls that straight code uses, through any handle.
impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|| self.try_read(buffer))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.write_with(|| self.try_write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        self.write_with(|| self.try_write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(session) = self.0.session.get() else { return Ok(()) };
        self.write_with(|| session.flush(&mut self.wire()).map(usize::from)).map(drop)
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

/// A connection's socket, as TLS sees it: it does not block, and it counts.
pub(super) struct Wire<'a>(&'a Inner);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.written(retry(|| self.0.io.inner().write(bytes)))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.written(retry(|| self.0.io.inner().write_vectored(slices)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

    fn alarm(&self) -> std::sync::MutexGuard<'_, Alarm> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(session) = self.session.get() {
            session.close(&mut Wire(self));
        }
        if let Some(timer) = self.alarm().timer.take() {
            timer::remove(timer);
        }
    }
}

impl WeakStream {
    /// The timer fired: wakes the coroutine, or sets the timer for a deadline that has moved.
    pub(super) fn on_timer(&self) {
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

fn milliseconds(timeout: Option<Duration>) -> u32 {
    // 0 means none, so the shortest is one; the longest is 49 days.
    timeout.map_or(0, |timeout| u32::try_from(timeout.as_millis().max(1)).unwrap_or(u32::MAX))
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
