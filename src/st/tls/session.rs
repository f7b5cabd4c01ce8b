//! The TLS session of a connection after the handshake.

use std::io::{self, IoSlice, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustls::Connection;

use crate::memory::Charge;
use crate::st::clock;

/// Most encrypted bytes that the kernel has not taken yet. A write accepts no more than this at a time, and nothing while any of
/// it is left.
const MAX_UNSENT: usize = 64 * 1024;

/// Most bytes in a row without payload: more than the longest record, which has payload once it is complete. `rustls` accepts 32
/// records without payload in a row, but any number with key updates between them. This also bounds an incomplete message of the
/// TLS protocol itself.
const MAX_BYTES_WITHOUT_DATA: usize = 32 * 1024;

/// Longest time of one read without payload before other coroutines run. A key update takes some microseconds.
const MAX_READ_TIME: Duration = Duration::from_millis(1);

/// The TLS state of one connection.
pub(in crate::st) struct Session {
    /// Never locked over a wait. The lock exists because connections can move between threads.
    tls: Mutex<Box<Connection>>,
    bytes_without_data: AtomicUsize,
    bytes_in: AtomicU64,
    data_read: AtomicU64,
    /// See [`Session::overhead`].
    overhead: AtomicU64,
    /// The last read ended before the socket was empty.
    read_pending: AtomicBool,
    /// Memory charge of unsent bytes, without the record headers.
    unsent: OnceLock<Charge>,
}

impl Session {
    pub(super) fn new(mut tls: Box<Connection>) -> Self {
        tls.set_buffer_limit(Some(MAX_UNSENT));
        Self {
            tls: Mutex::new(tls),
            bytes_without_data: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            data_read: AtomicU64::new(0),
            overhead: AtomicU64::new(0),
            read_pending: AtomicBool::new(true),
            unsent: OnceLock::new(),
        }
    }

    /// Charges encrypted bytes until the kernel has taken them. Only the first call has an effect.
    pub(in crate::st) fn count_unsent(&self, charge: Charge) {
        let _ = self.unsent.set(charge);
    }

    fn tls(&self) -> MutexGuard<'_, Box<Connection>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads decrypted bytes, after decrypting input of the socket if needed. Returns `None` if there are none yet.
    pub(in crate::st) fn try_read(
        &self,
        socket: &mut (impl Read + Write),
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        let mut tls = self.tls();
        self.read_pending.store(false, Ordering::Relaxed);
        let mut started = None;
        loop {
            match tls.reader().read(buffer) {
                Ok(n) => {
                    self.bytes_without_data.store(0, Ordering::Relaxed);
                    self.data_read.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(Some(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer closed without a close_notify alert. RTMP needs none: its messages have lengths.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) => return Err(error),
            }
            self.update_overhead();
            if self.bytes_without_data.load(Ordering::Relaxed) > MAX_BYTES_WITHOUT_DATA {
                let error = format!("TLS: more than {MAX_BYTES_WITHOUT_DATA} bytes without payload");
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            let now = clock::now();
            if now - *started.get_or_insert(now) >= MAX_READ_TIME {
                self.read_pending.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            let Some(n) = would_block_to_none(tls.read_tls(socket))? else { return Ok(None) };
            self.bytes_without_data.fetch_add(n, Ordering::Relaxed);
            self.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
            let result = tls.process_new_packets();
            // An alert, or the answer to a key update.
            let _ = self.write_pending(&mut tls, socket);
            result.map_err(invalid_data)?;
        }
    }

    /// Updates the overhead, once all available payload has been read. It includes the beginning of an incomplete record: at most
    /// one record too much.
    fn update_overhead(&self) {
        let [bytes_in, data_read] = [&self.bytes_in, &self.data_read].map(|bytes| bytes.load(Ordering::Relaxed));
        self.overhead.fetch_max(bytes_in.saturating_sub(data_read), Ordering::Relaxed);
    }

    /// Returns the bytes received so far beyond the payload. Never decreases.
    pub(in crate::st) fn overhead(&self) -> u64 {
        self.overhead.load(Ordering::Relaxed)
    }

    /// Returns whether there may be input although the socket reports none: then the caller must not wait. Resets the answer
    /// until another read ends so.
    pub(in crate::st) fn take_read_pending(&self) -> bool {
        self.read_pending.swap(false, Ordering::Relaxed)
    }

    /// Encrypts up to [`MAX_UNSENT`] bytes, sends what fits, and returns the number of encrypted bytes, 0 if there is no room.
    /// The rest follows with the next write, wait or flush.
    pub(in crate::st) fn try_write(
        &self,
        socket: &mut (impl Read + Write),
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let mut tls = self.tls();
        if !self.write_pending(&mut tls, socket)? {
            return Ok(0);
        }
        let n = tls.writer().write_vectored(slices)?;
        if let Some(unsent) = self.unsent.get() {
            unsent.set(n);
        }
        self.write_pending(&mut tls, socket)?;
        Ok(n)
    }

    /// Sends unsent bytes. Returns whether all are sent.
    pub(in crate::st) fn flush(&self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        self.write_pending(&mut self.tls(), socket)
    }

    /// Sends a close_notify alert.
    pub(in crate::st) fn close(&self, socket: &mut (impl Read + Write)) {
        let mut tls = self.tls();
        tls.send_close_notify(); // Has an effect once.
        // Without room the alert is not sent; the end of the connection still tells the peer.
        let _ = self.write_pending(&mut tls, socket);
    }

    /// Writes encrypted bytes to the socket. Returns whether all are written.
    fn write_pending(&self, tls: &mut Connection, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        let mut sent = 0;
        while tls.wants_write() {
            match would_block_to_none(tls.write_tls(socket))? {
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

pub(super) fn invalid_data(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}"))
}

pub(super) fn would_block_to_none(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
