//! The parser of requests (RFC 9112).
//!
//! Refuses every ambiguous request, since two servers that disagree about the end of a request enable request smuggling: both a
//! length and a transfer coding, several different lengths, folded lines, lines that end in LF alone.

use super::body::{BodyDecoder, BodyLength, MAX_DISCARDED};
use super::conditions::Conditions;
use super::headers::Headers;
use super::refusal::{Refusal, refuse};
use super::status::Status;
use super::uri::{self, Query};

/// Maximum size of a request's head, in bytes. Browsers with many cookies stay below 8 KiB.
pub const MAX_HEAD: usize = 8 * 1024;

/// Maximum number of header fields. Browsers send about 20.
const MAX_FIELDS: usize = 64;

/// A request method (RFC 9110, 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the specification")]
pub enum Method {
    Get,
    /// As GET, without the body.
    Head,
    Post,
    Put,
    Delete,
    /// The CORS preflight of browsers.
    Options,
    /// Any other one but CONNECT, which is refused.
    Other,
}

impl Method {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The decoded path, without leading slash and query. Has no part `.` or `..`.
    pub path: String,
    /// The query.
    pub query: Query,
    /// The minor version of HTTP/1.
    pub minor_version: u8,
    /// All header fields.
    pub headers: Headers,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
    /// Length of the body that follows.
    pub body: BodyLength,
    /// The answer that the client expects before it sends the body.
    pub expectation: Expectation,
}

/// The value of `Expect` (RFC 9110, 10.1.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// There is none.
    #[default]
    None,
    /// The client waits for `100 Continue`.
    Continue,
    /// An unknown expectation.
    Unknown,
}

impl Request {
    /// Returns the value of `Range` if this is a GET (RFC 9110, 14.2), and there is only one.
    pub fn range(&self) -> Option<&str> {
        if self.method == Method::Get { self.headers.get_single("range") } else { None }
    }

    /// Returns the conditional fields.
    pub fn conditions(&self) -> Conditions {
        Conditions::read(&self.headers)
    }

    /// Returns the decoder of the body for a handler that reads at most `max` bytes of it.
    ///
    /// With 0, the handler reads no body; the decoder then serves to discard a small one. Fails when the body is too
    /// large or the expectation unknown; without a reading handler also when the client uses the chunked coding, or
    /// waits before it sends the body.
    pub fn body_decoder(&self, max: u64) -> Result<BodyDecoder, Refusal> {
        const UNSUPPORTED: &str = "request bodies are not supported";
        let is_read = max > 0;
        if self.body == BodyLength::Chunked && !is_read {
            return refuse(Status::LengthRequired, UNSUPPORTED);
        }
        if !is_read && matches!(self.body, BodyLength::Known(length) if length > MAX_DISCARDED) {
            return refuse(Status::ContentTooLarge, UNSUPPORTED);
        }
        match self.expectation {
            Expectation::None => {}
            Expectation::Continue if is_read => {}
            Expectation::Continue => return refuse(Status::ExpectationFailed, UNSUPPORTED),
            Expectation::Unknown => return refuse(Status::ExpectationFailed, "unknown expectation"),
        }
        BodyDecoder::new(self.body, if is_read { max } else { MAX_DISCARDED })
    }
}

/// Parses the request at the beginning of `bytes`, and returns it with the size of its head. `None`: it is not
/// complete. Fails when it is no valid request, or an ambiguous one.
#[inline(never)] // The fields take 2 KiB of stack, which a connection that waits does not need.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => return too_long(bytes),
        Err(httparse::Error::TooManyHeaders) => return refuse(Status::HeadTooLarge, "too many fields"),
        Err(httparse::Error::Version) => return refuse(Status::VersionNotSupported, "this is an HTTP/1.1 server"),
        Err(_) => return refuse(Status::BadRequest, "this is not an HTTP request"),
    };
    if len > MAX_HEAD {
        return too_long(bytes);
    }
    if has_bare_lf(&bytes[..len]) {
        return refuse(Status::BadRequest, "a line does not end with CR LF");
    }
    // All three are present in a complete head.
    let (method, target, minor) = (head.method.unwrap_or(""), head.path.unwrap_or(""), head.version.unwrap_or(0));
    let mut framing = Framing::default();
    let mut headers = Headers::with_capacity(head.headers.len(), len);
    for field in head.headers.iter() {
        framing.read(field.name, field.value)?;
        headers.push(field.name, field.value);
    }
    let body = framing.body(minor)?;
    let (method, is_connect) = (Method::parse(method), method == "CONNECT");
    if is_connect {
        return refuse(Status::MethodNotAllowed, "this server is no proxy");
    }
    let (path, query) = match target {
        "*" if method == Method::Options => Default::default(),
        _ => uri::parse_target(target)?,
    };
    let request = Request {
        method,
        path,
        query,
        minor_version: minor,
        headers,
        keep_alive: if minor == 0 { framing.keep_alive && !framing.close } else { !framing.close },
        body,
        expectation: framing.expectation,
    };
    Ok(Some((request, len)))
}

fn too_long<T>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.contains(&b'\n') {
        refuse(Status::HeadTooLarge, "the fields are too long")
    } else {
        refuse(Status::UriTooLong, "the URL is too long")
    }
}

fn has_bare_lf(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|&byte| {
        byte == b'\n' && std::mem::replace(&mut before, byte) != b'\r' || {
            before = byte;
            false
        }
    })
}

/// The fields that decide where the request ends and whether the connection is kept.
#[derive(Default)]
struct Framing {
    hosts: usize,
    length: Option<u64>,
    codings: usize,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    expectation: Expectation,
}

impl Framing {
    fn read(&mut self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("host") {
            self.hosts += 1;
        } else if is("connection") {
            for option in value.split(|&byte| byte == b',') {
                let option = option.trim_ascii();
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("content-length") {
            let length = parse_length(value);
            if length.is_none() || self.length.is_some() && self.length != length {
                return refuse(Status::BadRequest, "invalid or repeated Content-Length");
            }
            self.length = length;
        } else if is("transfer-encoding") {
            self.codings += 1;
            self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if is("expect") {
            let is_known = value.eq_ignore_ascii_case(b"100-continue") && self.expectation != Expectation::Unknown;
            self.expectation = if is_known { Expectation::Continue } else { Expectation::Unknown };
        }
        Ok(())
    }

    /// Checks the fields together, for HTTP/1.`minor`, and returns the length of the body.
    fn body(&self, minor: u8) -> Result<BodyLength, Refusal> {
        if self.codings > 0 && (self.length.is_some() || minor == 0) {
            return refuse(Status::BadRequest, "Transfer-Encoding is not allowed here");
        }
        if self.codings > 1 || self.codings > 0 && !self.is_chunked {
            return refuse(Status::NotImplemented, "chunked is the only Transfer-Encoding");
        }
        // RFC 9112, 3.2. The value does not matter: all hosts have the same files.
        if self.hosts > 1 || self.hosts == 0 && minor > 0 {
            return refuse(Status::BadRequest, "exactly one Host field is required");
        }
        Ok(if self.codings > 0 { BodyLength::Chunked } else { BodyLength::Known(self.length.unwrap_or(0)) })
    }
}

/// Parses decimal digits; `str::parse` would also accept a plus sign.
fn parse_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
