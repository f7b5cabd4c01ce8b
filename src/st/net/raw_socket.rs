//! The socket of a connection, below TLS.

use std::io::{self, IoSlice, Read, Write};
use std::net;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;

use super::page_file::PageFile;
use super::watched::Watched;

/// A socket that does not block. It counts bytes and remembers the events that a wait has consumed.
#[repr(C)] // The descriptor, at the end of `io`, is beside what else a read or write accesses.
pub(in crate::st) struct RawSocket {
    pub(super) io: Watched<net::TcpStream>,
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    /// A read may find data: an event came since a read found the socket empty.
    pub(super) readable: AtomicBool,
    /// The event of the connection's end came, perhaps with the last bytes; no event will follow.
    pub(super) end_seen: AtomicBool,
    /// The last file was written in one go.
    takes_files: AtomicBool,
    /// Reads and writes since the last wait.
    pub(super) ops_since_wait: AtomicU32,
}

impl RawSocket {
    pub(super) fn new(stream: net::TcpStream) -> io::Result<Self> {
        Ok(Self {
            io: Watched::new(stream)?,
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            readable: AtomicBool::new(true),
            end_seen: AtomicBool::new(false),
            takes_files: AtomicBool::new(false),
            ops_since_wait: AtomicU32::new(0),
        })
    }

    /// Reads available bytes. Returns `None` if there are none yet, and `Some(0)` at the end of the stream.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match retry_interrupted(|| Ok(recv(self.io.inner(), &mut *buffer, RecvFlags::empty())?.0)) {
            Ok(n) => {
                count(&self.bytes_received, n);
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

    /// Reads available bytes without consuming them. Returns `None` if there are none yet.
    pub(super) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match retry_interrupted(|| self.io.inner().peek(buffer)) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes as many bytes as fit and returns their number, 0 if there is no room.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.count_written(retry_interrupted(|| Ok(send(self.io.inner(), bytes, SendFlags::NOSIGNAL)?)))
    }

    /// Writes as many bytes of several slices as fit, in one system call, and returns their number.
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.count_written(retry_interrupted(|| self.io.inner().write_vectored(slices)))
    }

    /// Writes as many bytes as fit, after which others follow at once, and returns their number, 0 if there is no room.
    pub(super) fn try_write_more(&self, bytes: &[u8]) -> io::Result<usize> {
        let socket = SockRef::from(self.io.inner());
        self.count_written(retry_interrupted(|| socket.send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL)))
    }

    /// Writes as many bytes of a file as fit, at most `len` from `offset` on, and returns their number, 0 if there is no room.
    pub(super) fn try_send_file(&self, file: &PageFile, offset: u64, len: usize) -> io::Result<usize> {
        let is_fast = self.takes_files.load(Ordering::Relaxed);
        let written = self.count_written(retry_interrupted(|| file.write_to(self.io.inner(), offset, len, is_fast)))?;
        if offset == 0 {
            self.takes_files.store(written == len, Ordering::Relaxed);
        }
        Ok(written)
    }

    fn count_written(&self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Ok(n) => {
                count(&self.bytes_sent, n);
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// For the TLS session.
impl Read for &RawSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.try_read(buffer)?.ok_or(io::ErrorKind::WouldBlock)?;
        // Each read counts: it has 4 KB at most, but that may be hundreds of records with next to no payload.
        self.ops_since_wait.fetch_add(1, Ordering::Relaxed);
        Ok(n)
    }
}

/// For the TLS session.
impl Write for &RawSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds to a counter that only the worker, which alone uses sockets, changes: an atomic addition would cost more.
fn count(counter: &AtomicU64, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Relaxed);
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
