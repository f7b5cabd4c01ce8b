//! A connection's TLS, once hands are shaken.

use std::io::{self, IoSlice, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::Connection;

use super::super::net::Wire;
use super::{invalid, none_if_blocked};
use crate::memory::Held;

/// Bytes that may be encrypted and not yet taken by the socket. A write takes no more than this at a time, and nothing while
/// any of it is left.
const UNSENT: usize = 64 * 1024;

/// Bytes that may come in a row without any content: of the longest record, which has content when it is whole, with room to spare.
/// `rustls` takes 32 records without content in a row, but as many as come with changes of keys between them. It is also the most that
/// is kept of a message about TLS itself which never becomes whole.
const BARREN: usize = 32 * 1024;

/// How long one read may take with nothing to show for it before others have their turn. A change of keys takes some microseconds.
const LONG: Duration = Duration::from_millis(1);

/// What stands between a connection's socket and its readers and writers.
pub(in crate::st) struct Session {
    /// Locked for a moment at a time and never over a wait; a lock at all only because connections can be sent.
    tls: Mutex<Box<Connection>>,
    /// Bytes that came since there was content.
    barren: AtomicUsize,
    /// Bytes that came, and those of content among them that were read.
    came: AtomicU64,
    read: AtomicU64,
    /// See [`Session::overhead`].
    overhead: AtomicU64,
    /// The last read ended before the socket was empty.
    more: AtomicBool,
    /// Where what the socket has not taken is counted, but for the headers of its records.
    unsent: OnceLock<Held>,
}

impl Session {
    pub(super) fn new(mut tls: Box<Connection>) -> Self {
        tls.set_buffer_limit(Some(UNSENT));
        Self {
            tls: Mutex::new(tls),
            barren: AtomicUsize::new(0),
            came: AtomicU64::new(0),
            read: AtomicU64::new(0),
            overhead: AtomicU64::new(0),
            more: AtomicBool::new(true),
            unsent: OnceLock::new(),
        }
    }

    /// Has what was encrypted counted until the socket has taken it.
    pub(in crate::st) fn count_unsent(&self, held: Held) {
        // Once is enough.
        let _ = self.unsent.set(held);
    }

    fn tls(&self) -> MutexGuard<'_, Box<Connection>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what has been decrypted, or else what the socket has. `None`: nothing yet.
    pub(in crate::st) fn try_read(&self, wire: &mut Wire<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut tls = self.tls();
        self.more.store(false, Ordering::Relaxed);
        let mut began = None;
        loop {
            match tls.reader().read(buffer) {
                Ok(n) => {
                    self.barren.store(0, Ordering::Relaxed);
                    self.read.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(Some(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer closed without saying so in TLS. RTMP says itself where its messages end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) => return Err(error),
            }
            self.measure_overhead();
            if self.barren.load(Ordering::Relaxed) > BARREN {
                let error = format!("TLS: more than {BARREN} bytes came without any content");
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if began.get_or_insert_with(Instant::now).elapsed() >= LONG {
                self.more.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            let Some(came) = none_if_blocked(tls.read_tls(wire))? else { return Ok(None) };
            self.barren.fetch_add(came, Ordering::Relaxed);
            self.came.fetch_add(came as u64, Ordering::Relaxed);
            let result = tls.process_new_packets();
            // An alert, or the answer to a change of keys.
            let _ = self.send(&mut tls, wire);
            result.map_err(invalid)?;
        }
    }

    /// Takes what came and has given no content for overhead, once all content that there is has been read. The beginning of a record
    /// is among it, but the largest such difference so far grows by no more than one record beyond what is true.
    fn measure_overhead(&self) {
        let [came, read] = [&self.came, &self.read].map(|bytes| bytes.load(Ordering::Relaxed));
        self.overhead.fetch_max(came.saturating_sub(read), Ordering::Relaxed);
    }

    /// Bytes that came so far beyond what was read of them. It never becomes less.
    pub(in crate::st) fn overhead(&self) -> u64 {
        self.overhead.load(Ordering::Relaxed)
    }

    /// Whether there may be something to read though the socket says nothing: then a wait must not wait. Said once, until the next
    /// read ends so.
    pub(in crate::st) fn take_more(&self) -> bool {
        self.more.swap(false, Ordering::Relaxed)
    }

    /// Encrypts what may be, and writes of it what fits. 0: no room now. What was encrypted counts as written: the rest of it
    /// follows with the next write, wait or flush.
    pub(in crate::st) fn try_write(&self, wire: &mut Wire<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut tls = self.tls();
        if !self.send(&mut tls, wire)? {
            return Ok(0);
        }
        let n = tls.writer().write_vectored(slices)?;
        if let Some(unsent) = self.unsent.get() {
            unsent.set(n);
        }
        self.send(&mut tls, wire)?;
        Ok(n)
    }

    /// Writes what is left of what was encrypted. Whether that is all.
    pub(in crate::st) fn flush(&self, wire: &mut Wire<'_>) -> io::Result<bool> {
        self.send(&mut self.tls(), wire)
    }

    /// Tells the peer that nothing follows.
    pub(in crate::st) fn close(&self, wire: &mut Wire<'_>) {
        let mut tls = self.tls();
        tls.send_close_notify(); // Only the first time: it knows.
        // If there is no room for it now, the end of the connection has to say it.
        let _ = self.send(&mut tls, wire);
    }

    /// Has the socket take what was encrypted. Whether it has taken all.
    fn send(&self, tls: &mut Connection, wire: &mut Wire<'_>) -> io::Result<bool> {
        let mut sent = 0;
        while tls.wants_write() {
            match none_if_blocked(tls.write_tls(wire))? {
                Some(n) if n > 0 => sent += n,
                _ => {
                    if let Some(unsent) = self.unsent.get() {
                        unsent.set(unsent.get().saturating_sub(sent));
                    }
                    return Ok(false);
                }
            }
        }
        if let Some(unsent) = self.unsent.get() {
            unsent.set(0);
        }
        Ok(true)
    }
}
