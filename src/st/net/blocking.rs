//! Reads and writes that block the coroutine until there is something, or room, and the limits of their patience.

use std::io::{self, IoSlice, Read, Write};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{TcpStream, retry};

impl TcpStream {
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

    /// Sends the end of the stream, and throws away what still comes, until the other end has closed too, the time limit has passed,
    /// or it was more than `bytes`: a socket that is closed with unread bytes takes back what is on the way to the other end.
    pub fn linger(&self, bytes: u64) {
        self.shutdown_write();
        let until = self.received().saturating_add(bytes);
        let mut reader = self;
        let mut buffer = [0; 512];
        while self.received() < until && reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
    }

    /// Repeats `attempt`, whose `None` is that there is nothing yet, until it has something or patience ends.
    pub(in crate::st) fn read_with(&self, mut attempt: impl FnMut() -> io::Result<Option<usize>>) -> io::Result<usize> {
        let mut deadline = None;
        let mut is_late = false;
        loop {
            self.check_interrupted()?;
            if let Some(n) = attempt()? {
                self.take_turns();
                self.check_time_limit()?;
                return Ok(n);
            }
            // It may have come in time, and this coroutine be late.
            if is_late {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let deadline = *deadline.get_or_insert_with(|| self.deadline(&self.0.read_timeout));
            is_late = self.wait(deadline).timed_out;
        }
    }

    /// Repeats `attempt`, whose 0 is that there is no room, until there is some or patience ends.
    pub(in crate::st) fn write_with(&self, mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let mut deadline = None;
        let mut is_late = false;
        loop {
            self.check_interrupted()?;
            match attempt()? {
                0 => {}
                n => {
                    self.take_turns_of(n);
                    return Ok(n);
                }
            }
            if is_late {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let deadline = *deadline.get_or_insert_with(|| self.deadline(&self.0.write_timeout));
            is_late = self.wait(deadline).timed_out;
        }
    }

    /// Waits for the socket's next event, after a write that was cut short: another attempt before that would find next to no room,
    /// and the kernel says when there is some. May end early, and ends at the latest when a write that found no room would.
    pub fn wait_for_room(&self) {
        // What TLS has not taken is another matter.
        if !self.is_encrypted() {
            self.wait(self.deadline(&self.0.write_timeout));
        }
    }

    fn check_interrupted(&self) -> io::Result<()> {
        if self.0.interrupted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
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
}

/// The calls that straight code uses, through any handle.
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

fn milliseconds(timeout: Option<Duration>) -> u32 {
    // 0 means none, so the shortest is one; the longest is 49 days.
    timeout.map_or(0, |timeout| u32::try_from(timeout.as_millis().max(1)).unwrap_or(u32::MAX))
}
