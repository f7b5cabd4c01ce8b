//! One HTTP connection: reads a request, sends the response, reads the next one.

use std::io;
use std::time::{Duration, Instant};

use super::Http;
use super::conditions::Part;
use super::disk::OpenError;
use super::file_metadata::FileMetadata;
use super::request::{self, Method, Refusal, Request};
use super::response::{Body, Response};
use super::status::Status;
use crate::log::quoted;
use crate::st::{self, net::TcpStream};

/// Idle timeout while there are many connections, see [`Http::is_crowded`].
const CROWDED_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle time after which a connection frees its buffer and unused stack.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Bounds of reading after the last response, in time and bytes. Closing a socket with unread input would discard the response on
/// its way to the client.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// Retry time for clients that are not admitted: an overload lasts for seconds at least.
const RETRY_AFTER: &str = "Retry-After: 5\r\n";

/// Unsent bytes per connection in the kernel. Without a bound, megabytes would be copied for each of hundreds of clients that read
/// nothing, while all others wait. Most segments are smaller, so they are written in one go: with a thousand connections, a
/// connection waits for all the others between two writes.
const MAX_UNSENT: usize = 512 * 1024;

/// Bytes per read.
const READ_SIZE: usize = 2048;

/// The state of one connection.
pub(super) struct Connection<'a> {
    pub(super) http: &'a Http,
    pub(super) number: u64,
    pub(super) stream: &'a TcpStream,
    /// Bytes read. Those before `at` have been consumed.
    input: Vec<u8>,
    at: usize,
    /// Arrival of the first byte of the request that is being read.
    request_started: Option<Instant>,
    /// End of the last response, or the start of the connection.
    idle_since: Instant,
    /// It has been admitted to live files.
    is_viewer: bool,
    pub(super) timeouts: Timeouts,
}

/// The timeouts of a connection, as configured when it was accepted.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// From the first byte of a request to its last.
    request: Duration,
    /// Between two requests.
    idle: Duration,
    /// Without progress of a response.
    pub(super) send: Duration,
}

/// Reason for the end of a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
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
}

/// Serves a connection until it ends, and returns the reason.
pub(super) fn serve(http: &Http, number: u64, stream: &TcpStream) -> End {
    // Without these options, only latency suffers.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_unsent_limit(MAX_UNSENT);
    let timeouts = {
        let config = &http.server.config().http_server;
        Timeouts { request: config.request_timeout, idle: config.idle_timeout, send: config.send_timeout }
    };
    stream.set_write_timeout(Some(timeouts.send));
    let mut connection = Connection {
        http,
        number,
        stream,
        input: Vec::new(),
        at: 0,
        request_started: None,
        idle_since: Instant::now(),
        is_viewer: false,
        timeouts,
    };
    loop {
        connection.idle_since = Instant::now();
        let answered = connection.next_request().and_then(|request| connection.reply(request));
        if let Err(end) = answered {
            connection.close(&end);
            return end;
        }
    }
}

impl Connection<'_> {
    /// Answers a request.
    #[inline(never)] // As `send`.
    fn reply(&mut self, request: Request) -> Result<(), End> {
        self.skip_body(request.body)?;
        self.request_started = None;
        let response = self.admission_error(&request).unwrap_or_else(|| self.http.answer(&request));
        self.http.count(response.status);
        self.send(response, request.keep_alive, request.method != Method::Head)?;
        if request.keep_alive { Ok(()) } else { Err(End::Done) }
    }

    /// Returns the 503 for a new viewer while the server is short of memory or overloaded. Connections that have had a live file
    /// keep getting them.
    fn admission_error(&mut self, request: &Request) -> Option<Response> {
        let server = &self.http.server;
        if self.is_viewer || server.live_files.get(&request.path).is_none() {
            return None;
        }
        let Some(reason) = server.admission_error() else {
            self.is_viewer = true;
            return None;
        };
        Some(Response::text(Status::ServiceUnavailable, &reason.to_string(), RETRY_AFTER))
    }

    /// Reads the next request.
    fn next_request(&mut self) -> Result<Request, End> {
        let mut may_be_complete = true;
        loop {
            // Skips empty lines before a request (RFC 9112, 2.2).
            while self.input[self.at..].starts_with(b"\r\n") {
                self.at += 2;
            }
            if may_be_complete && self.at < self.input.len() {
                self.request_started.get_or_insert_with(Instant::now);
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
            let more = self.read()?;
            may_be_complete = is_first || self.input[more..].contains(&b'\n') || self.input.len() >= request::MAX_HEAD;
        }
    }

    /// Reads and discards the body of a request; `request` bounds its size.
    fn skip_body(&mut self, mut body: u64) -> Result<(), End> {
        loop {
            let here = body.min((self.input.len() - self.at) as u64);
            self.at += here as usize;
            body -= here;
            if body == 0 {
                return Ok(());
            }
            self.read()?;
        }
    }

    fn is_idle_too_long(&self) -> bool {
        let limit = if self.http.is_crowded() { CROWDED_IDLE_TIMEOUT } else { Duration::MAX };
        self.idle_since.elapsed() >= self.timeouts.idle.min(limit)
    }

    /// Appends some bytes to `input` and returns where they begin. Fails after the idle timeout, or that of the request.
    fn read(&mut self) -> Result<usize, End> {
        self.input.drain(..self.at);
        self.at = 0;
        let len = self.input.len();
        let trim_at = Instant::now() + TRIM_AFTER;
        let mut is_trimmed = false;
        let mut is_expired = false;
        loop {
            if self.request_started.is_some_and(|started| started.elapsed() >= self.timeouts.request) {
                return Err(End::SlowRequest);
            }
            self.input.resize(len + READ_SIZE, 0);
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
                None => Instant::now() + CROWDED_IDLE_TIMEOUT.min(self.timeouts.idle),
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

    /// Sends the reason if the request is the reason, and gives the client time to read it.
    #[inline(never)]
    fn close(&mut self, end: &End) {
        let refusal = match end {
            End::Refused(refusal) => *refusal,
            End::SlowRequest => Refusal { status: Status::RequestTimeout, message: "the request took too long" },
            End::Done => return self.linger(),
            _ => return,
        };
        let response = Response::refusal(refusal);
        self.http.count(response.status);
        if self.send(response, false, true).is_ok() {
            self.linger();
        }
    }

    /// Reads until the client closes, within bounds.
    fn linger(&self) {
        self.stream.set_time_limit(Some(LINGER_TIME));
        self.stream.linger(LINGER_BYTES);
    }
}

impl Http {
    /// Returns the response to a request.
    fn answer(&self, request: &Request) -> Response {
        if request.method == Method::Options {
            let lines = "Allow: GET, HEAD, OPTIONS\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
                Access-Control-Allow-Headers: *, Range\r\nAccess-Control-Max-Age: 86400\r\n";
            return Response { status: Status::NoContent, lines: lines.to_owned(), body: Body::Empty };
        }
        let live = &self.server.live_files;
        let config = self.server.config();
        let page = config.http_server.page.then_some(&self.console);
        if let Some(page) = page
            && request.path == "streams.json"
        {
            let rtmp_port = config.listen.first().map_or(1935, |listen| listen.address.port());
            return Response::json(page.stream_list(&self.server, rtmp_port));
        }
        if let Some(file) = live.get(&request.path) {
            return respond(request, &file.metadata, |range| Body::Charged(file.body.clone(), range));
        }
        match page.and_then(|page| page.file(&request.path)) {
            Some(file) => respond(request, &file.metadata, |range| {
                // The range is one of the body, so it fits.
                Body::Bytes(file.body.slice(range.start as usize..range.end as usize))
            }),
            None => self.answer_from_disk(request),
        }
    }

    #[inline(never)]
    fn answer_from_disk(&self, request: &Request) -> Response {
        match self.disk.open(&self.server.config().http_server.dir, &request.path) {
            Ok(file) => {
                let metadata = file.metadata.clone();
                respond(request, &metadata, |range| Body::File(file, range))
            }
            Err(OpenError::NotFound) => Response::text(Status::NotFound, "no such file", ""),
            Err(OpenError::IsDirectory) => {
                let location = format!("Location: /{}/\r\n", super::percent_encode(&request.path));
                Response::text(Status::MovedPermanently, "this is a directory", &location)
            }
            Err(OpenError::Busy) => {
                Response::text(Status::ServiceUnavailable, "the disk is busy, try again", "Retry-After: 1\r\n")
            }
            Err(OpenError::Failed(error)) => {
                log::debug!("HTTP file error: path={} error={}", quoted(&request.path), quoted(error));
                Response::text(Status::InternalServerError, "the file cannot be read", "")
            }
        }
    }
}

/// Returns the response to a request of a file, by its conditions and its range.
fn respond(request: &Request, metadata: &FileMetadata, body: impl FnOnce(std::ops::Range<u64>) -> Body) -> Response {
    // Only a GET has a range (RFC 9110, 14.2).
    let range = request.range.as_deref().filter(|_| request.method == Method::Get);
    match request.conditions.evaluate(metadata, range) {
        Part::Whole => Response::file(metadata, None, body),
        Part::Bytes(range) => Response::file(metadata, Some(range), body),
        Part::NotModified => Response { status: Status::NotModified, lines: metadata.head.clone(), body: Body::Empty },
        Part::Failed => Response::text(Status::PreconditionFailed, "the file has changed", ""),
        Part::OutOfRange => {
            let lines = format!("Content-Range: bytes */{}\r\n", metadata.len);
            Response::text(Status::RangeNotSatisfiable, "the range lies behind the end of the file", &lines)
        }
    }
}
