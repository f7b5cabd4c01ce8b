//! Responses: head and body.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::disk::OpenFile;
use super::file_metadata::{FileMetadata, http_date};
use super::request::Refusal;
use super::status::Status;

/// Header lines of every response. Pages of any site may play the streams; browsers must not guess content types.
const COMMON: &str = "Server: simple-rtmp-server\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: Content-Length, Content-Range, Date\r\n\
    X-Content-Type-Options: nosniff\r\n";

/// A response. The lines that depend on the connection are added when it is sent.
pub(super) struct Response {
    pub(super) status: Status,
    /// Header lines besides [`COMMON`] and those of the connection.
    pub(super) lines: String,
    pub(super) body: Body,
}

pub(super) enum Body {
    Empty,
    /// Bytes that memory accounting does not charge: a few, or static ones.
    Bytes(Bytes),
    /// A range of a buffer that memory accounting charges until the last response with it has ended.
    Charged(Bytes, Range<u64>),
    /// A range of a file on disk.
    File(OpenFile, Range<u64>),
}

impl Response {
    /// Creates a response with a short text for people, and more header lines.
    pub(super) fn text(status: Status, message: &str, lines: &str) -> Self {
        let text = format!("{} {}: {message}\n", status.code(), status.reason());
        let length = text.len();
        let lines = format!(
            "{lines}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n"
        );
        Self { status, lines, body: Body::Bytes(text.into()) }
    }

    /// Creates a JSON response. Memory accounting charges the body.
    pub(super) fn json(body: Bytes) -> Self {
        let length = body.len();
        let lines =
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n");
        let range = 0..length as u64;
        Self { status: Status::Ok, lines, body: Body::Charged(body, range) }
    }

    /// Creates the response to a request that was refused.
    pub(super) fn refusal(refusal: Refusal) -> Self {
        let lines = if refusal.status == Status::MethodNotAllowed { "Allow: GET, HEAD, OPTIONS\r\n" } else { "" };
        Self::text(refusal.status, refusal.message, lines)
    }

    /// Creates a response with a file, or a range of it.
    pub(super) fn file(
        metadata: &FileMetadata,
        part: Option<Range<u64>>,
        body: impl FnOnce(Range<u64>) -> Body,
    ) -> Self {
        let mut lines = String::with_capacity(metadata.head.len() + 128);
        let (status, range) = match part {
            Some(range) => {
                // Writing to a String cannot fail, here and below.
                let _ = write!(lines, "Content-Range: bytes {}-{}/{}\r\n", range.start, range.end - 1, metadata.len);
                (Status::PartialContent, range)
            }
            None => (Status::Ok, 0..metadata.len),
        };
        let length = range.end - range.start;
        let _ =
            write!(lines, "Content-Type: {}\r\nContent-Length: {length}\r\n{}", metadata.content_type, metadata.head);
        Self { status, lines, body: if length == 0 { Body::Empty } else { body(range) } }
    }

    /// Returns the head as sent, the empty line included.
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

/// The text of the `Date` header, formatted once a second.
#[derive(Default)]
pub(super) struct DateCache {
    seconds: i64,
    date: String,
}

impl DateCache {
    /// Returns the present date.
    pub(super) fn now(&mut self) -> &str {
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
        let metadata = FileMetadata::of_file("a.ts", 1000, UNIX_EPOCH);
        let response = Response::file(&metadata, Some(10..20), |range| {
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
        let empty =
            Response::file(&FileMetadata::of_file("a.ts", 0, UNIX_EPOCH), None, |_| panic!("there are no bytes"));
        assert!(empty.head(false, "now").contains("\r\nContent-Length: 0\r\n"));
    }
}
