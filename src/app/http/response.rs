//! Responses: their heads, and what stands behind them.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::disk::Found;
use super::entity::{Entity, http_date};
use super::request::Refusal;
use super::status::Status;

/// What every response says. Pages of any site may play what is here; a browser is not to guess what a file is.
const COMMON: &str = "Server: simple-rtmp-server\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: Content-Length, Content-Range, Date\r\n\
    X-Content-Type-Options: nosniff\r\n";

/// A response. What depends on the connection is added when it is sent.
pub(super) struct Response {
    pub(super) status: Status,
    /// Lines of the head that are this response's own.
    pub(super) lines: String,
    pub(super) body: Body,
}

pub(super) enum Body {
    Empty,
    /// Little, or what is there as long as the server is.
    Bytes(Bytes),
    /// These bytes of what is in the account, and counts there until nobody sends it any more.
    Counted(Bytes, Range<u64>),
    /// These bytes of a file on disk.
    File(Found, Range<u64>),
}

impl Response {
    /// A short text for people, and what else is to be said.
    pub(super) fn text(status: Status, why: &str, lines: &str) -> Self {
        let text = format!("{} {}: {why}\n", status.code(), status.reason());
        let length = text.len();
        let lines = format!(
            "{lines}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n"
        );
        Self { status, lines, body: Body::Bytes(text.into()) }
    }

    /// What is made for this request, or almost; it is in the account.
    pub(super) fn json(body: Bytes) -> Self {
        let length = body.len();
        let lines =
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n");
        let range = 0..length as u64;
        Self { status: Status::Ok, lines, body: Body::Counted(body, range) }
    }

    pub(super) fn refusal(refusal: Refusal) -> Self {
        let lines = if refusal.status == Status::MethodNotAllowed { "Allow: GET, HEAD, OPTIONS\r\n" } else { "" };
        Self::text(refusal.status, refusal.why, lines)
    }

    /// A file, or bytes of it.
    pub(super) fn file(entity: &Entity, part: Option<Range<u64>>, body: impl FnOnce(Range<u64>) -> Body) -> Self {
        let mut lines = String::with_capacity(entity.head.len() + 128);
        let (status, range) = match part {
            Some(range) => {
                // Writing to a String cannot fail, here and below.
                let _ = write!(lines, "Content-Range: bytes {}-{}/{}\r\n", range.start, range.end - 1, entity.len);
                (Status::PartialContent, range)
            }
            None => (Status::Ok, 0..entity.len),
        };
        let length = range.end - range.start;
        let _ = write!(lines, "Content-Type: {}\r\nContent-Length: {length}\r\n{}", entity.content_type, entity.head);
        Self { status, lines, body: if length == 0 { Body::Empty } else { body(range) } }
    }

    /// The head as it goes out.
    pub(super) fn head(&self, keep_alive: bool, date: &str) -> String {
        let mut head = String::with_capacity(COMMON.len() + self.lines.len() + 128);
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let (code, reason) = (self.status.code(), self.status.reason());
        let _ = write!(head, "HTTP/1.1 {code} {reason}\r\nDate: {date}\r\nConnection: {connection}\r\n{COMMON}");
        head.push_str(&self.lines);
        head.push_str("\r\n");
        head
    }
}

/// The date of responses, made once a second.
#[derive(Default)]
pub(super) struct Clock {
    seconds: i64,
    date: String,
}

impl Clock {
    pub(super) fn date(&mut self) -> &str {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now != self.seconds || self.date.is_empty() {
            (self.seconds, self.date) = (now, http_date(now));
        }
        &self.date
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_what_it_is_of() {
        let entity = Entity::of_file("a.ts", 1000, UNIX_EPOCH);
        let response = Response::file(&entity, Some(10..20), |range| {
            assert_eq!(range, 10..20);
            Body::Bytes(Bytes::new())
        });
        let head = response.head(true, "now");
        assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\nDate: now\r\nConnection: keep-alive\r\n"), "{head}");
        for line in [
            "Content-Range: bytes 10-19/1000",
            "Content-Length: 10",
            "Content-Type: video/mp2t",
            "Accept-Ranges: bytes",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
        assert!(head.ends_with("\r\n\r\n"));
        let empty = Response::file(&Entity::of_file("a.ts", 0, UNIX_EPOCH), None, |_| panic!("there are no bytes"));
        assert!(empty.head(false, "now").contains("\r\nContent-Length: 0\r\n"));
    }
}
