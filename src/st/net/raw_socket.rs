//! The socket below TLS.

use std::io::{self, IoSlice, Read, Write};
use std::sync::atomic::Ordering;

use super::{Inner, TcpStream, retry_interrupted};

/// The socket of a connection for its TLS session. It does not block, and it counts bytes.
pub(in crate::st) struct RawSocket<'a>(&'a Inner);

impl TcpStream {
    /// Returns the socket that the TLS session reads from and writes to.
    pub(in crate::st) fn raw_socket(&self) -> RawSocket<'_> {
        RawSocket(&self.0)
    }
}

impl<'a> RawSocket<'a> {
    pub(super) fn of(inner: &'a Inner) -> Self {
        Self(inner)
    }
}

impl Read for RawSocket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.try_read(buffer)?.ok_or(io::ErrorKind::WouldBlock)?;
        // Each read counts: it has 4 KB at most, but that may be hundreds of records with next to no payload.
        self.0.ops_since_wait.fetch_add(1, Ordering::Relaxed);
        Ok(n)
    }
}

impl Write for RawSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.count_written(retry_interrupted(|| self.0.io.inner().write(bytes)))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.count_written(retry_interrupted(|| self.0.io.inner().write_vectored(slices)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
