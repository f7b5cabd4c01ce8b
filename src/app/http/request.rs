//! Requests (RFC 9112): from bytes to what is asked for. Knows no socket.
//!
//! Two programs that disagree about where a request ends can be made to disagree about who asked for what, so whatever is
//! not plain is refused: both a length and a transfer coding, lengths that differ, folded lines, lines that end in LF alone.

use super::conditions::Conditions;
use super::status::Status;

/// The longest head of a request, in bytes. Browsers with many cookies stay below 8 KiB.
pub const MAX_HEAD: usize = 8 * 1024;

/// The most fields in it. Browsers send about 20.
const MAX_FIELDS: usize = 64;

/// The longest body that is read and thrown away, in bytes: nothing here takes a body.
const MAX_BODY: u64 = 16 * 1024;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A file.
    Get,
    /// What is said of a file.
    Head,
    /// What a browser asks before it lets a page of another site ask.
    Options,
}

/// A request.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// Decoded, without the slash before it and without a query. Never leads upwards.
    pub path: String,
    /// Whether the connection may be used again.
    pub keep_alive: bool,
    /// Bytes of a body that follow.
    pub body: u64,
    pub(super) conditions: Conditions,
    /// The value of `Range`.
    pub range: Option<String>,
}

/// Why a request is refused. The connection is of no use afterwards: where the next request begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is answered.
    pub status: Status,
    /// In a few words, for the client and the log.
    pub why: &'static str,
}

fn refusal<T>(status: Status, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

/// What the fields say that matters before the request as a whole is looked at.
#[derive(Default)]
struct Framing {
    hosts: usize,
    length: Option<u64>,
    is_coded: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
}

/// Reads a request from the beginning of `bytes`, and how long its head is. `None`: it is not complete.
///
/// # Errors
/// When it is none, or one that is not plain.
#[inline(never)] // The fields take 2 KiB of the stack, which a connection that waits does not need.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => return too_long(bytes),
        Err(httparse::Error::TooManyHeaders) => return refusal(Status::HeadTooLarge, "too many fields"),
        Err(httparse::Error::Version) => return refusal(Status::VersionNotSupported, "this is an HTTP/1.1 server"),
        Err(_) => return refusal(Status::BadRequest, "this is no HTTP request"),
    };
    if len > MAX_HEAD {
        return too_long(bytes);
    }
    if has_bare_lf(&bytes[..len]) {
        return refusal(Status::BadRequest, "a line does not end in CR LF");
    }
    // Of a complete head none of these is absent.
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
        _ => return refusal(Status::MethodNotAllowed, "only GET, HEAD and OPTIONS are allowed"),
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
        refusal(Status::HeadTooLarge, "the fields are too long")
    } else {
        refusal(Status::UriTooLong, "the URL is too long")
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
    /// Takes a field if it is one of these.
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
                return refusal(Status::BadRequest, "a Content-Length that is no length, or several");
            }
            self.length = length;
        } else if is("transfer-encoding") {
            self.is_coded = true;
        } else if is("expect") {
            self.expects = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn check(&self, minor: u8) -> Result<(), Refusal> {
        if self.is_coded && (self.length.is_some() || minor == 0) {
            return refusal(Status::BadRequest, "a Transfer-Encoding where none may be");
        }
        if self.is_coded {
            return refusal(Status::LengthRequired, "a body is not taken");
        }
        if self.length.is_some_and(|length| length > MAX_BODY) {
            return refusal(Status::ContentTooLarge, "a body is not taken");
        }
        if self.expects {
            return refusal(Status::ExpectationFailed, "a body is not taken");
        }
        // RFC 9112, 3.2. What it says does not matter: every name is served the same files.
        if self.hosts > 1 || self.hosts == 0 && minor > 0 {
            return refusal(Status::BadRequest, "there is not one Host");
        }
        Ok(())
    }
}

/// Digits and nothing else: `str::parse` would also take a plus sign.
fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The path of a request's target (RFC 9112, 3.2), decoded.
fn path(target: &str, method: Method) -> Result<String, Refusal> {
    if target == "*" && method == Method::Options {
        return Ok(String::new());
    }
    let path = match target.split_once("://") {
        // The absolute form, as to a proxy, which every server must take.
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = if path.is_empty() && target.contains("://") { "/" } else { path };
    let Some(path) = path.strip_prefix('/') else { return refusal(Status::BadRequest, "the path is none") };
    let Some(path) = decoded(path) else { return refusal(Status::BadRequest, "the path is not encoded well") };
    let leads_away = |part: &str| part == ".." || part == ".";
    if path.split(['/', '\\']).any(leads_away) || path.chars().any(char::is_control) {
        return refusal(Status::BadRequest, "the path leads away");
    }
    Ok(path)
}

/// Without percent-encoding (RFC 3986, 2.1).
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
