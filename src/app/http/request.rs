//! The parser of requests (RFC 9112). Knows no socket.
//!
//! Refuses every ambiguous request, since two servers that disagree about the end of a request enable request smuggling: both a
//! length and a transfer coding, several different lengths, folded lines, lines that end in LF alone.

use super::conditions::Conditions;
use super::status::Status;

/// Maximum size of a request's head, in bytes. Browsers with many cookies stay below 8 KiB.
pub const MAX_HEAD: usize = 8 * 1024;

/// Maximum number of header fields. Browsers send about 20.
const MAX_FIELDS: usize = 64;

/// Maximum size of a body, in bytes. Bodies are read and discarded.
const MAX_BODY: u64 = 16 * 1024;

/// A request method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: as GET, without the body.
    Head,
    /// OPTIONS: the CORS preflight of browsers.
    Options,
}

/// A request.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The decoded path, without leading slash and query. Contains no `.` or `..`.
    pub path: String,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
    /// Size of the body that follows, in bytes.
    pub body: u64,
    pub(super) conditions: Conditions,
    /// The value of `Range`.
    pub range: Option<String>,
}

/// The answer to an invalid request. The connection must be closed: the begin of the next request is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: Status,
    /// The reason, for the client and the log.
    pub message: &'static str,
}

fn refuse<T>(status: Status, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, message })
}

/// The fields that decide where the request ends and whether the connection is kept.
#[derive(Default)]
struct Framing {
    hosts: usize,
    length: Option<u64>,
    has_transfer_encoding: bool,
    close: bool,
    keep_alive: bool,
    expect: bool,
}

/// Parses the request at the beginning of `bytes`, and returns it with the size of its head. `None`: it is not complete.
///
/// # Errors
/// When it is no valid request, or an ambiguous one.
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
    let (mut framing, mut conditions, mut range, mut ranges) = (Framing::default(), Conditions::default(), None, 0);
    for field in head.headers.iter() {
        let name = field.name;
        if framing.read(name, field.value)? || conditions.read(name, field.value) {
            continue;
        }
        if name.eq_ignore_ascii_case("range") {
            ranges += 1;
            range = std::str::from_utf8(field.value).ok().map(str::to_owned);
        }
    }
    framing.check(minor)?;
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "OPTIONS" => Method::Options,
        _ => return refuse(Status::MethodNotAllowed, "only GET, HEAD and OPTIONS are allowed"),
    };
    let request = Request {
        method,
        path: path(target, method)?,
        keep_alive: if minor == 0 { framing.keep_alive && !framing.close } else { !framing.close },
        body: framing.length.unwrap_or(0),
        conditions,
        range: range.filter(|_| ranges == 1),
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

impl Framing {
    /// Reads a field and returns true if it is one of these.
    fn read(&mut self, name: &str, value: &[u8]) -> Result<bool, Refusal> {
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
            let length = length(value);
            if length.is_none() || self.length.is_some() && self.length != length {
                return refuse(Status::BadRequest, "invalid or repeated Content-Length");
            }
            self.length = length;
        } else if is("transfer-encoding") {
            self.has_transfer_encoding = true;
        } else if is("expect") {
            self.expect = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Checks the fields together, for HTTP/1.`minor`.
    fn check(&self, minor: u8) -> Result<(), Refusal> {
        if self.has_transfer_encoding && (self.length.is_some() || minor == 0) {
            return refuse(Status::BadRequest, "Transfer-Encoding is not allowed here");
        }
        if self.has_transfer_encoding {
            return refuse(Status::LengthRequired, "request bodies are not supported");
        }
        if self.length.is_some_and(|length| length > MAX_BODY) {
            return refuse(Status::ContentTooLarge, "request bodies are not supported");
        }
        if self.expect {
            return refuse(Status::ExpectationFailed, "request bodies are not supported");
        }
        // RFC 9112, 3.2. The value does not matter: all hosts have the same files.
        if self.hosts > 1 || self.hosts == 0 && minor > 0 {
            return refuse(Status::BadRequest, "exactly one Host field is required");
        }
        Ok(())
    }
}

/// Parses decimal digits; `str::parse` would also accept a plus sign.
fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Returns the decoded path of a request's target (RFC 9112, 3.2).
fn path(target: &str, method: Method) -> Result<String, Refusal> {
    if target == "*" && method == Method::Options {
        return Ok(String::new());
    }
    let path = match target.split_once("://") {
        // The absolute form, which every server must accept.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = if path.is_empty() && target.contains("://") { "/" } else { path };
    let Some(path) = path.strip_prefix('/') else {
        return refuse(Status::BadRequest, "the path does not begin with a slash");
    };
    let Some(path) = decoded(path) else { return refuse(Status::BadRequest, "the path is not percent-encoded UTF-8") };
    let is_relative = |part: &str| part == ".." || part == ".";
    if path.split(['/', '\\']).any(is_relative) || path.chars().any(char::is_control) {
        return refuse(Status::BadRequest, "the path contains \".\", \"..\" or control characters");
    }
    Ok(path)
}

/// Decodes percent-encoding (RFC 3986, 2.1).
fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
