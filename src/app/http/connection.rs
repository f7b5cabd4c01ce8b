//! A connection: requests one after the other, each answered before the next is looked at.

use std::io;
use std::time::{Duration, Instant};

use super::Http;
use super::conditions::Part;
use super::disk::Absent;
use super::entity::Entity;
use super::request::{self, Method, Refusal, Request};
use super::response::{Body, Response};
use super::status::Status;
use crate::st::{self, net::TcpStream};

/// How long a connection may be idle at most when there are many.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(5);

/// After how much idleness what a connection does not need now is given back.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a client that was refused is listened to, so that what it was told arrives, and how many bytes of it: closing a
/// socket with unread bytes throws away what is on the way to the other end.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 256 * 1024;

/// When who was not let in may ask again: an overload lasts for seconds at least.
const RETRY_AFTER: &str = "Retry-After: 5\r\n";

/// What the kernel may take of a response that the network does not, in bytes: of hundreds of clients that read nothing, megabytes
/// each would be copied, and everybody else would wait for that. Most segments are smaller, and are written in one piece: in pieces,
/// one of a thousand connections waits for all the others between two of them.
const UNSENT: usize = 512 * 1024;

/// What is read at a time.
const READ: usize = 2048;

pub(super) struct Connection<'a> {
    pub(super) http: &'a Http,
    pub(super) number: u64,
    pub(super) stream: &'a TcpStream,
    /// What came and was not looked at begins at `at`.
    input: Vec<u8>,
    at: usize,
    /// When the first byte of the request came that is being read.
    begun: Option<Instant>,
    /// Since when it has asked for nothing, while it does not.
    idle_since: Instant,
    /// It has had a live file: whoever watches is not new.
    is_viewer: bool,
    pub(super) times: Times,
}

/// How long a client may take, as it was configured when it came.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// For a request, from its first byte.
    request: Duration,
    /// Between two requests.
    idle: Duration,
    /// To take nothing of a response.
    pub(super) send: Duration,
}

/// Why a connection ends.
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
    #[error("after the last response")]
    Done,
    #[error("refused, {}: {}", .0.status.code(), .0.why)]
    Refused(Refusal),
    #[error("a file could not be read to its end: {0}")]
    File(String),
    #[error("the server is short of memory, and this client was slow to take what it asked for")]
    Memory,
}

/// Serves a client until its connection ends, and says why it has.
pub(super) fn serve(http: &Http, number: u64, stream: &TcpStream) -> End {
    // A socket that does not take the options costs some latency, no more.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_unsent_limit(UNSENT);
    let times = {
        let config = &http.server.config().http_server;
        Times { request: config.request_timeout, idle: config.idle_timeout, send: config.send_timeout }
    };
    stream.set_write_timeout(Some(times.send));
    let mut connection = Connection {
        http,
        number,
        stream,
        input: Vec::new(),
        at: 0,
        begun: None,
        idle_since: Instant::now(),
        is_viewer: false,
        times,
    };
    loop {
        connection.idle_since = Instant::now();
        let answered = connection.next_request().and_then(|request| connection.reply(request));
        if let Err(end) = answered {
            connection.farewell(&end);
            return end;
        }
    }
}

impl Connection<'_> {
    /// Answers a request.
    #[inline(never)] // As `send`.
    fn reply(&mut self, request: Request) -> Result<(), End> {
        self.skip_body(request.body)?;
        self.begun = None;
        let response = self.objection(&request).unwrap_or_else(|| self.http.answer(&request));
        self.http.count(response.status);
        self.send(response, request.keep_alive, request.method != Method::Head)?;
        if request.keep_alive { Ok(()) } else { Err(End::Done) }
    }

    /// Why the client gets no live file, if so: the server is short of memory or overloaded, and nobody new is let in.
    fn objection(&mut self, request: &Request) -> Option<Response> {
        let server = &self.http.server;
        if self.is_viewer || server.live_files.get(&request.path).is_none() {
            return None;
        }
        let Some(reason) = server.objection() else {
            self.is_viewer = true;
            return None;
        };
        Some(Response::text(Status::ServiceUnavailable, &reason.to_string(), RETRY_AFTER))
    }

    fn next_request(&mut self) -> Result<Request, End> {
        let mut may_be_complete = true;
        loop {
            // Empty lines before a request are no part of it (RFC 9112, 2.2).
            while self.input[self.at..].starts_with(b"\r\n") {
                self.at += 2;
            }
            if may_be_complete && self.at < self.input.len() {
                self.begun.get_or_insert_with(Instant::now);
                if let Some((request, len)) = request::parse(&self.input[self.at..]).map_err(End::Refused)? {
                    self.at += len;
                    return Ok(request);
                }
            }
            // Empty lines are no sign of life: somebody could hold a place with one each few seconds.
            if self.begun.is_none() && self.is_idle_for_long() {
                return Err(End::Idle);
            }
            // A head that comes byte by byte is looked at once a line, and when it is as long as it may be.
            let is_first = self.begun.is_none();
            let more = self.read()?;
            may_be_complete = is_first || self.input[more..].contains(&b'\n') || self.input.len() >= request::MAX_HEAD;
        }
    }

    /// Throws the body of a request away; `request` bounds it.
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

    fn is_idle_for_long(&self) -> bool {
        let most = if self.http.is_crowded() { IDLE_WHEN_FULL } else { Duration::MAX };
        self.idle_since.elapsed() >= self.times.idle.min(most)
    }

    /// Reads some bytes behind those that are there, and says where they begin. Waits for them as long as the connection may be
    /// idle, or the request slow.
    fn read(&mut self) -> Result<usize, End> {
        self.input.drain(..self.at);
        self.at = 0;
        let len = self.input.len();
        let settles_at = Instant::now() + SETTLE;
        let mut is_settled = false;
        let mut is_over = false;
        loop {
            if self.begun.is_some_and(|begun| begun.elapsed() >= self.times.request) {
                return Err(End::SlowRequest);
            }
            self.input.resize(len + READ, 0);
            let n = self.stream.try_read(&mut self.input[len..]);
            self.input.truncate(len + n.as_ref().map_or(0, |n| n.unwrap_or(0)));
            match n? {
                Some(0) => return Err(End::ByPeer),
                Some(_) => break,
                // It may have come in time, and this coroutine be late.
                None if is_over => return Err(End::Idle),
                None => {}
            }
            let limit = match self.begun {
                Some(begun) => begun + self.times.request,
                None if !is_settled => settles_at,
                // It may become crowded meanwhile.
                None => Instant::now() + IDLE_WHEN_FULL.min(self.times.idle),
            };
            if self.stream.wait(Some(limit)).timed_out && self.begun.is_none() {
                is_over = self.is_idle_for_long();
                if !std::mem::replace(&mut is_settled, true) {
                    self.input = Vec::new();
                    st::trim_stack();
                }
            }
        }
        self.stream.take_turns();
        Ok(len)
    }

    /// Tells the client why, if it is the server that ends the connection, and gives it time to read.
    #[inline(never)]
    fn farewell(&mut self, end: &End) {
        let refusal = match end {
            End::Refused(refusal) => *refusal,
            End::SlowRequest => Refusal { status: Status::RequestTimeout, why: "the request took too long" },
            End::Done => return self.linger(),
            _ => return,
        };
        let response = Response::refusal(refusal);
        self.http.count(response.status);
        if self.send(response, false, true).is_ok() {
            self.linger();
        }
    }

    fn linger(&self) {
        self.stream.set_time_limit(Some(FAREWELL));
        self.stream.linger(FAREWELL_BYTES);
    }
}

impl Http {
    /// What a request gets.
    fn answer(&self, request: &Request) -> Response {
        if request.method == Method::Options {
            let lines = "Allow: GET, HEAD, OPTIONS\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
                Access-Control-Allow-Headers: *, Range\r\nAccess-Control-Max-Age: 86400\r\n";
            return Response { status: Status::NoContent, lines: lines.to_owned(), body: Body::Empty };
        }
        let live = &self.server.live_files;
        let config = self.server.config();
        let page = config.http_server.page.then_some(&self.page);
        if let Some(page) = page
            && request.path == "streams.json"
        {
            let rtmp_port = config.listen.first().map_or(1935, |listen| listen.address.port());
            return Response::json(page.list(&self.server, rtmp_port));
        }
        if let Some(file) = live.get(&request.path) {
            return respond(request, &file.entity, |range| Body::Counted(file.body.clone(), range));
        }
        match page.and_then(|page| page.file(&request.path)) {
            Some(file) => respond(request, &file.entity, |range| {
                // The range is one of the body, so it fits.
                Body::Bytes(file.body.slice(range.start as usize..range.end as usize))
            }),
            None => self.answer_from_disk(request),
        }
    }

    #[inline(never)]
    fn answer_from_disk(&self, request: &Request) -> Response {
        match self.disk.open(&self.server.config().http_server.dir, &request.path) {
            Ok(found) => {
                let entity = found.entity.clone();
                respond(request, &entity, |range| Body::File(found, range))
            }
            Err(Absent::NotFound) => Response::text(Status::NotFound, "there is no such file", ""),
            Err(Absent::IsDirectory) => {
                let location = format!("Location: /{}/\r\n", super::encoded(&request.path));
                Response::text(Status::MovedPermanently, "this is a directory", &location)
            }
            Err(Absent::Busy) => Response::text(Status::ServiceUnavailable, "try again", "Retry-After: 1\r\n"),
            Err(Absent::Failed(error)) => {
                log::debug!("{:?} cannot be read: {error}", request.path);
                Response::text(Status::InternalServerError, "the file cannot be read", "")
            }
        }
    }
}

/// A file, as far as it is asked for.
fn respond(request: &Request, entity: &Entity, body: impl FnOnce(std::ops::Range<u64>) -> Body) -> Response {
    // Only a GET has a range (RFC 9110, 14.2).
    let range = request.range.as_deref().filter(|_| request.method == Method::Get);
    match request.conditions.part(entity, range) {
        Part::Whole => Response::file(entity, None, body),
        Part::Bytes(range) => Response::file(entity, Some(range), body),
        Part::NotModified => Response { status: Status::NotModified, lines: entity.head.clone(), body: Body::Empty },
        Part::Failed => Response::text(Status::PreconditionFailed, "the file is another", ""),
        Part::OutOfRange => {
            let lines = format!("Content-Range: bytes */{}\r\n", entity.len);
            Response::text(Status::RangeNotSatisfiable, "the file ends before that", &lines)
        }
    }
}
