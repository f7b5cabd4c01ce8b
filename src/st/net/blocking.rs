//! Reads and writes that block the coroutine until there are bytes or room, and their time-outs.

use std::io::{self, IoSlice, Read, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::page_file::PageFile;
use super::stream::TcpStream;
use crate::st::clock;

impl TcpStream {
    /// Sets the longest time that a blocking write waits for any room; `None` for no limit. Costs no system call.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.0.write_timeout.store(milliseconds(timeout), Ordering::Relaxed);
    }

    /// Limits all blocking reads and writes together: they time out once `limit` has passed from now, even if bytes arrived
    /// meanwhile. `None` removes the limit.
    pub fn set_time_limit(&self, limit: Option<Duration>) {
        *self.0.expiry.lock().unwrap_or_else(PoisonError::into_inner) = limit.map(|limit| clock::now() + limit);
    }

    /// Blocks until there is a byte, and returns it without consuming it. Returns `None` at the end of the stream.
    /// Errors: those of recv(2), and of the time limit.
    pub fn peek_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let n = self.read_blocking(|| self.socket().try_peek(&mut first))?;
        Ok((n > 0).then_some(first[0]))
    }

    /// Closes the sending direction and discards input until the peer has closed too, the time limit has passed, or more than
    /// `bytes` came. A socket that is closed with unread input drops the data on its way to the peer.
    pub fn linger(&self, bytes: u64) {
        self.shutdown_write();
        let until = self.bytes_received().saturating_add(bytes);
        let mut reader = self;
        let mut buffer = [0; 512];
        while self.bytes_received() < until && reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
    }

    /// Repeats `attempt`, whose `None` means that there is no data yet, until it has a result or time is up.
    pub(in crate::st) fn read_blocking(
        &self,
        mut attempt: impl FnMut() -> io::Result<Option<usize>>,
    ) -> io::Result<usize> {
        let mut timed_out = false;
        loop {
            self.check_interrupted()?;
            if let Some(n) = attempt()? {
                self.yield_if_busy();
                self.check_time_limit()?;
                return Ok(n);
            }
            // Checked after the attempt: the data may have arrived in time, and this coroutine run late.
            if timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
            timed_out = self.wait(self.expiry()).timed_out;
        }
    }

    /// Repeats `attempt`, whose 0 means that there is no room, until it has a result or time is up.
    pub(in crate::st) fn write_blocking(&self, mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let mut deadline = None;
        let mut timed_out = false;
        loop {
            self.check_interrupted()?;
            match attempt()? {
                0 => {}
                n => {
                    self.yield_if_busy_after(n);
                    return Ok(n);
                }
            }
            if timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let deadline = *deadline.get_or_insert_with(|| self.write_deadline());
            timed_out = self.wait(deadline).timed_out;
        }
    }

    /// Waits for the next event of the socket after a partial write: an earlier attempt would find next to no room. May return
    /// early, and returns at the latest when a write without room would time out.
    pub fn wait_for_room(&self) {
        // Under TLS, a partial write does not mean that the socket is full.
        if !self.is_encrypted() {
            self.wait(self.write_deadline());
        }
    }

    /// Blocks until some bytes of `head`, or of the file after it from `offset` on, at most `len`, are written. Returns how
    /// many of each. Not for encrypted connections.
    ///
    /// # Errors
    /// Those of send(2), sendfile(2), and of the time limit.
    pub fn write_file(&self, head: &[u8], file: &PageFile, offset: u64, len: usize) -> io::Result<(usize, usize)> {
        debug_assert!(!self.is_encrypted());
        let mut of_head = 0;
        let written = self.write_blocking(|| {
            if of_head < head.len() {
                of_head += self.socket().try_write_more(&head[of_head..])?;
            }
            let of_file = if of_head < head.len() { 0 } else { self.socket().try_send_file(file, offset, len)? };
            Ok(of_head + of_file)
        })?;
        Ok((of_head, written - of_head))
    }

    fn check_interrupted(&self) -> io::Result<()> {
        if self.0.interrupted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Fails when the limit of [`TcpStream::set_time_limit`] has passed, for peers that send without a pause.
    fn check_time_limit(&self) -> io::Result<()> {
        if self.expiry().is_some_and(|expiry| clock::now() >= expiry) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn expiry(&self) -> Option<Instant> {
        *self.0.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the deadline of a blocking write that starts now.
    fn write_deadline(&self) -> Option<Instant> {
        let expiry = self.expiry();
        match self.0.write_timeout.load(Ordering::Relaxed) {
            0 => expiry,
            ms => {
                let deadline = clock::now() + Duration::from_millis(ms.into());
                Some(expiry.map_or(deadline, |expiry| expiry.min(deadline)))
            }
        }
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_blocking(|| self.try_read(buffer))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.write_blocking(|| self.try_write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        self.write_blocking(|| self.try_write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(session) = self.0.session.get() else { return Ok(()) };
        self.write_blocking(|| session.flush(&mut self.socket()).map(usize::from)).map(drop)
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

fn milliseconds(timeout: Option<Duration>) -> u32 {
    // 0 means none, so the shortest is one; the longest is 49 days.
    timeout.map_or(0, |timeout| u32::try_from(timeout.as_millis().max(1)).unwrap_or(u32::MAX))
}
