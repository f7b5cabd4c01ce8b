//! What is below TLS.

use std::io::{self, IoSlice, Read, Write};
use std::sync::atomic::Ordering;

use super::{Inner, TcpStream, retry};

/// A connection's socket, as TLS sees it: it does not block, and it counts.
pub(in crate::st) struct Wire<'a>(&'a Inner);

impl TcpStream {
    /// What its session reads and writes through.
    pub(in crate::st) fn wire(&self) -> Wire<'_> {
        Wire(&self.0)
    }
}

impl<'a> Wire<'a> {
    pub(super) fn of(socket: &'a Inner) -> Self {
        Self(socket)
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.try_read(buffer)?.ok_or(io::ErrorKind::WouldBlock)?;
        // A turn each: it is 4 KB at most, but may be hundreds of records, of which the reader gets next to nothing.
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        Ok(n)
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
