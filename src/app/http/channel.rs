//! Reading and writing of one connection, with its time limits.

use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::disk::OpenError;
use super::state::State;
use crate::app::session::close::CloseReason;
use crate::http::body::BodyDecoder;
use crate::http::refusal::Refusal;
use crate::http::request::{self, Request};
use crate::st::{self, net::PageFile, net::TcpStream};

/// Idle timeout while there are many connections, see [`State::is_crowded`].
const CROWDED_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Bounds of reading after the last response: closing a socket with unread input would discard the response on its way.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// Unsent bytes per connection in the kernel. Without a bound, megabytes would be copied for each of hundreds of clients that
/// read nothing, while all others wait. Most segments are smaller, so they are written in one go: with a thousand connections,
/// a connection waits for all the others between two writes.
const MAX_UNSENT: usize = 512 * 1024;

const READ_SIZE: usize = 2048;

const LARGE_READ_SIZE: usize = 32 * 1024;

/// The minimum rate of a client, in bytes per second: a response gets `send_timeout` plus the time it takes at this rate.
const MIN_RATE: u64 = 4 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client closed the connection")]
    ByPeer,
    #[error("{0}")]
    Network(#[from] io::Error),
    #[error("idle")]
    Idle,
    #[error("the request took too long")]
    SlowRequest,
    #[error("closed after the last response")]
    Done,
    #[error("bad request: {} {}", .0.status.code(), .0.message)]
    Refused(Refusal),
    #[error("file not sent completely: {0}")]
    File(OpenError),
    #[error("aborted: memory is short and the client reads slowly")]
    Memory,
    #[error("{0}")]
    Viewer(CloseReason),
}

pub(super) struct Channel<'a> {
    pub(super) state: &'a State,
    pub(super) number: u64,
    pub(super) stream: &'a TcpStream,
    /// The connection has been admitted to live files.
    pub(super) is_viewer: bool,
    /// Bytes read. Those before `at` have been consumed.
    input: Vec<u8>,
    at: usize,
    /// Arrival of the first byte of the request that is being read.
    request_started: Option<Instant>,
    /// End of the last response, or the start of the connection.
    idle_since: Instant,
    timeouts: Timeouts,
}

/// The timeouts of a connection, as configured when it was accepted.
#[derive(Clone, Copy)]
struct Timeouts {
    request: Duration,
    idle: Duration,
    send: Duration,
}

impl<'a> Channel<'a> {
    pub(super) fn new(state: &'a State, number: u64, stream: &'a TcpStream) -> Self {
        // Without these options, only latency suffers.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_unsent_limit(MAX_UNSENT);
        let timeouts = {
            let config = &state.config.get().http_server;
            Timeouts { request: config.request_timeout, idle: config.idle_timeout, send: config.send_timeout }
        };
        stream.set_write_timeout(Some(timeouts.send));
        Self {
            state,
            number,
            stream,
            is_viewer: false,
            input: Vec::new(),
            at: 0,
            request_started: None,
            idle_since: st::now(),
            timeouts,
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.stream.peer()
    }

    pub(super) fn next_request(&mut self) -> Result<Request, End> {
        self.request_started = None;
        self.idle_since = st::now();
        let mut may_be_complete = true;
        loop {
            // Skips empty lines before a request (RFC 9112, 2.2).
            while self.input[self.at..].starts_with(b"\r\n") {
                self.at += 2;
            }
            if may_be_complete && self.at < self.input.len() {
                self.request_started.get_or_insert_with(st::now);
                if let Some((request, len)) = request::parse(&self.input[self.at..]).map_err(End::Refused)? {
                    self.at += len;
                    return Ok(request);
                }
            }
            // Empty lines do not count as activity: one every few seconds would keep a connection for ever.
            if self.request_started.is_none() && self.is_idle_too_long() {
                return Err(End::Idle);
            }
            // Parses a head that arrives byte by byte once a line, not once a byte.
            let is_first = self.request_started.is_none();
            let more = self.read(READ_SIZE)?;
            may_be_complete = is_first || self.input[more..].contains(&b'\n') || self.input.len() >= request::MAX_HEAD;
        }
    }

    /// Reads a body to its end. Calls `on_bytes` with what has been decoded after each read.
    pub(super) fn read_body(
        &mut self,
        decoder: &mut BodyDecoder,
        mut on_bytes: impl FnMut(&mut Vec<u8>),
    ) -> Result<(), End> {
        let mut body = Vec::new();
        loop {
            self.at += decoder.decode(&self.input[self.at..], &mut body).map_err(End::Refused)?;
            on_bytes(&mut body);
            if decoder.is_finished() {
                return Ok(());
            }
            self.read(READ_SIZE)?;
        }
    }

    /// Reads a body to its end and discards it, with large reads. Calls `on_bytes`, which may wait, with the bytes of each one.
    pub(super) fn discard_body(
        &mut self,
        decoder: &mut BodyDecoder,
        mut on_bytes: impl FnMut(u64) -> Result<(), End>,
    ) -> Result<(), End> {
        let mut body = Vec::new();
        loop {
            self.at += decoder.decode(&self.input[self.at..], &mut body).map_err(End::Refused)?;
            on_bytes(body.len() as u64)?;
            body.clear();
            if decoder.is_finished() {
                return Ok(());
            }
            self.read(LARGE_READ_SIZE)?;
        }
    }

    /// Reads once without waiting, unless `max` bytes are unconsumed. Returns whether there was input.
    pub(super) fn read_early(&mut self, max: usize) -> Result<bool, CloseReason> {
        let len = self.input.len();
        if len - self.at >= max {
            return Ok(false);
        }
        self.input.resize(len + READ_SIZE, 0);
        let read = self.stream.try_read(&mut self.input[len..]);
        self.input.truncate(len + read.as_ref().map_or(0, |read| read.unwrap_or(0)));
        match read? {
            Some(0) => Err(CloseReason::ByPeer),
            read => Ok(read.is_some()),
        }
    }

    pub(super) fn has_input(&self) -> bool {
        self.at < self.input.len()
    }

    pub(super) fn take_input(&mut self) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.input);
        input.drain(..std::mem::take(&mut self.at));
        input
    }

    fn is_idle_too_long(&self) -> bool {
        let limit = if self.state.is_crowded() { CROWDED_IDLE_TIMEOUT } else { Duration::MAX };
        st::now().duration_since(self.idle_since) >= self.timeouts.idle.min(limit)
    }

    /// Appends some bytes to `input` and returns where they begin. Fails after the idle timeout, or that of the request.
    fn read(&mut self, size: usize) -> Result<usize, End> {
        self.input.drain(..self.at);
        self.at = 0;
        let len = self.input.len();
        let trim_at = st::now() + TRIM_AFTER;
        let mut is_trimmed = false;
        let mut is_expired = false;
        loop {
            if self.request_started.is_some_and(|started| st::now().duration_since(started) >= self.timeouts.request) {
                return Err(End::SlowRequest);
            }
            self.input.resize(len + size, 0);
            let n = self.stream.try_read(&mut self.input[len..]);
            self.input.truncate(len + n.as_ref().map_or(0, |n| n.unwrap_or(0)));
            match n? {
                Some(0) => return Err(End::ByPeer),
                Some(_) => break,
                // Checked after a last read: the bytes may have come in time, and this coroutine be late.
                None if is_expired => return Err(End::Idle),
                None => {}
            }
            let limit = match self.request_started {
                Some(started) => started + self.timeouts.request,
                None if !is_trimmed => trim_at,
                // The server may become crowded meanwhile.
                None => st::now() + CROWDED_IDLE_TIMEOUT.min(self.timeouts.idle),
            };
            if self.stream.wait(Some(limit)).timed_out && self.request_started.is_none() {
                is_expired = self.is_idle_too_long();
                if !std::mem::replace(&mut is_trimmed, true) {
                    self.input = Vec::new();
                    st::trim_stack();
                }
            }
        }
        self.stream.yield_if_busy();
        Ok(len)
    }

    /// Writes all parts in one go, if the socket takes them. Fails with a timeout when the client is slower than [`MIN_RATE`].
    ///
    /// `charged` is the buffer that memory accounting charges while the parts are being written, and the start of the response:
    /// such a response is aborted when memory is short.
    pub(super) fn write(&self, mut parts: [Bytes; 3], charged: Option<(&Bytes, Instant)>) -> Result<(), End> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let mut stream = self.stream;
        self.write_all(bytes, charged, || {
            let slices = parts.each_ref().map(|part| IoSlice::new(part));
            let written = stream.write_vectored(&slices)?;
            let mut left = written;
            for part in &mut parts {
                let of_part = left.min(part.len());
                part.advance(of_part);
                left -= of_part;
            }
            Ok(written)
        })
    }

    /// Writes a head and then a range of a page file. `charged` as for [`Channel::write`].
    pub(super) fn write_pages(
        &self,
        mut head: Bytes,
        pages: &PageFile,
        mut range: Range<u64>,
        charged: (&Bytes, Instant),
    ) -> Result<(), End> {
        let bytes = head.len() + (range.end - range.start) as usize;
        self.write_all(bytes, Some(charged), || {
            let left = (range.end - range.start) as usize;
            let (of_head, of_file) = self.stream.write_file(&head, pages, range.start, left)?;
            head.advance(of_head);
            range.start += of_file as u64;
            Ok(of_head + of_file)
        })
    }

    /// Calls `write`, which returns how many bytes it has written, until these are `bytes`.
    fn write_all(
        &self,
        bytes: usize,
        charged: Option<(&Bytes, Instant)>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Result<(), End> {
        self.stream.set_time_limit(Some(self.timeouts.send + Duration::from_secs(bytes as u64 / MIN_RATE)));
        let stream = self.stream;
        let mut stalled = None;
        let mut left = bytes;
        while left > 0 {
            let n = write().map_err(|error| {
                // Only `StalledResponses` interrupts the stream.
                let is_aborted = error.kind() == io::ErrorKind::ConnectionAborted;
                if is_aborted { End::Memory } else { End::Network(error) }
            })?;
            self.state.counters.bytes.fetch_add(n as u64, Ordering::Relaxed);
            left -= n;
            if left > 0 {
                if let Some((buffer, started)) = charged {
                    let responses = &self.state.stalled;
                    stalled.get_or_insert_with(|| responses.register(self.number, stream, buffer, started));
                }
                stream.wait_for_room();
            }
        }
        self.stream.set_time_limit(None);
        if stalled.take().is_some() {
            // It may have been aborted after the last byte was written.
            self.stream.resume();
        }
        Ok(())
    }

    pub(super) fn linger(&self) {
        self.stream.set_time_limit(Some(LINGER_TIME));
        self.stream.linger(LINGER_BYTES);
    }
}
