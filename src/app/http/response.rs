//! Responses of handlers: a head, and a body in one of several forms.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::channel::End;
use super::disk::OpenFile;
use super::writer::BodyWriter;
use crate::http::conditions::Part;
use crate::http::file_metadata::FileMetadata;
use crate::http::refusal::Refusal;
use crate::http::request::Request;
use crate::http::response::{Head, ResponseLength};
use crate::http::status::Status;
use crate::st::net::PageFile;

/// A response. The lines that depend on the connection are added when it is sent.
pub struct Response {
    pub head: Head,
    /// The body, which is not sent in answer to a HEAD.
    pub body: Body,
    pub close: bool,
}

pub enum Body {
    Empty,
    /// Bytes that memory accounting does not charge: a few, or static ones.
    Bytes(Bytes),
    /// A range of a buffer that memory accounting charges until the last response with it has ended.
    Charged(Bytes, Range<u64>),
    /// The same, with a copy of the buffer in pages of the kernel, of which a connection without TLS takes the range.
    Pages(Bytes, Arc<PageFile>, Range<u64>),
    File(OpenFile, Range<u64>),
    /// Bytes that the function writes, in the coroutine of the connection; it may wait. An error ends the connection.
    Stream(Box<WriteBody>),
}

pub type WriteBody = dyn FnOnce(&mut BodyWriter<'_, '_>) -> Result<(), End> + Send;

impl Response {
    /// Creates a response with a short text for people.
    pub fn text(status: Status, message: &str) -> Self {
        let text = format!("{} {}: {message}\n", status.code(), status.reason());
        Self::new(status, "text/plain; charset=utf-8", text.len()).with_body(Body::Bytes(text.into()))
    }

    /// Creates a response of any type. Memory accounting charges the body.
    pub fn content(status: Status, content_type: &str, body: Bytes) -> Self {
        let length = body.len();
        Self::new(status, content_type, length).with_body(Body::Charged(body, 0..length as u64))
    }

    /// Returns the body, if it is in memory.
    pub fn body_bytes(&self) -> Option<Bytes> {
        match &self.body {
            Body::Empty => Some(Bytes::new()),
            Body::Bytes(bytes) => Some(bytes.clone()),
            Body::Charged(bytes, range) | Body::Pages(bytes, _, range) => {
                Some(bytes.slice(range.start as usize..range.end as usize))
            }
            Body::File(..) | Body::Stream(_) => None,
        }
    }

    /// Keeps the response from pages of other sites, unless its own header lines admit them.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.head.is_private = true;
        self
    }

    pub fn json(body: Bytes) -> Self {
        let length = body.len();
        Self::new(Status::Ok, "application/json", length).with_body(Body::Charged(body, 0..length as u64))
    }

    /// Creates a response whose body has no known end, in chunks; for a client of HTTP/1.0 it ends with the connection.
    pub fn stream(
        content_type: &str,
        write: impl FnOnce(&mut BodyWriter<'_, '_>) -> Result<(), End> + Send + 'static,
    ) -> Self {
        Self::endless(ResponseLength::Chunked, content_type, Box::new(write))
    }

    pub fn stream_until_close(
        content_type: &str,
        write: impl FnOnce(&mut BodyWriter<'_, '_>) -> Result<(), End> + Send + 'static,
    ) -> Self {
        Self::endless(ResponseLength::UntilClose, content_type, Box::new(write))
    }

    /// Creates the response that changes the connection to another protocol, which `run` speaks.
    pub fn upgrade(
        protocol: &str,
        run: impl FnOnce(&mut BodyWriter<'_, '_>) -> Result<(), End> + Send + 'static,
    ) -> Self {
        let head = Head::new(Status::SwitchingProtocols, ResponseLength::None).with("Upgrade", protocol);
        Self { head, body: Body::Stream(Box::new(run)), close: true }
    }

    /// Creates the response to an OPTIONS request of something that allows these methods.
    pub fn options(methods: &str) -> Self {
        let head = Head::new(Status::NoContent, ResponseLength::None)
            .with("Allow", methods)
            .with("Access-Control-Allow-Methods", methods)
            .with("Access-Control-Allow-Headers", "*, Range")
            .with("Access-Control-Max-Age", 86400);
        Self { head, body: Body::Empty, close: false }
    }

    /// Creates the response to a request with another method than these. Closes the connection, as a body may follow.
    pub fn method_not_allowed(methods: &str) -> Self {
        let message = format!("only {methods} are allowed");
        Self { close: true, ..Self::text(Status::MethodNotAllowed, &message) }.with("Allow", methods)
    }

    /// Creates the response to a request that was refused. Closes the connection.
    pub fn refusal(refusal: Refusal) -> Self {
        Self { close: true, ..Self::text(refusal.status, refusal.message) }
    }

    /// Creates the response to a request of a file, by its conditions and range. `body` returns a range, which is never empty.
    pub fn file(request: &Request, metadata: &FileMetadata, body: impl FnOnce(Range<u64>) -> Body) -> Self {
        let (status, range) = match request.conditions().evaluate(metadata, request.range()) {
            Part::Whole => (Status::Ok, 0..metadata.len),
            Part::Bytes(range) => (Status::PartialContent, range),
            Part::NotModified => {
                let head = Head::new(Status::NotModified, ResponseLength::None).with_lines(&metadata.head);
                return Self { head, body: Body::Empty, close: false };
            }
            Part::Failed => return Self::text(Status::PreconditionFailed, "the file has changed"),
            Part::OutOfRange => {
                return Self::text(Status::RangeNotSatisfiable, "the range lies behind the end of the file")
                    .with("Content-Range", format_args!("bytes */{}", metadata.len));
            }
        };
        let length = range.end - range.start;
        let mut head = Head::new(status, ResponseLength::Known(length));
        if status == Status::PartialContent {
            let value = format_args!("bytes {}-{}/{}", range.start, range.end - 1, metadata.len);
            head = head.with("Content-Range", value);
        }
        let head = head.with("Content-Type", metadata.content_type).with_lines(&metadata.head);
        Self { head, body: if length == 0 { Body::Empty } else { body(range) }, close: false }
    }

    #[must_use]
    pub fn with(self, name: &str, value: impl std::fmt::Display) -> Self {
        Self { head: self.head.with(name, value), ..self }
    }

    fn new(status: Status, content_type: &str, length: usize) -> Self {
        let head = Head::new(status, ResponseLength::Known(length as u64))
            .with("Content-Type", content_type)
            .with("Cache-Control", "no-store");
        Self { head, body: Body::Empty, close: false }
    }

    fn endless(length: ResponseLength, content_type: &str, write: Box<WriteBody>) -> Self {
        let head = Head::new(Status::Ok, length).with("Content-Type", content_type).with("Cache-Control", "no-store");
        Self { head, body: Body::Stream(write), close: length == ResponseLength::UntilClose }
    }

    fn with_body(self, body: Body) -> Self {
        Self { body, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::http::request::parse;
    use crate::http::response::Persistence;

    fn get(fields: &str) -> Request {
        parse(format!("GET /a.ts HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_part_says_what_it_is_of() {
        let metadata = FileMetadata::of_file("a.ts", 1000, UNIX_EPOCH);
        let response = Response::file(&get("Range: bytes=10-19\r\n"), &metadata, |range| {
            assert_eq!(range, 10..20);
            Body::Bytes(Bytes::new())
        });
        let head = response.head.encode(Persistence::KeepAlive, "now", "");
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
        let empty = FileMetadata::of_file("a.ts", 0, UNIX_EPOCH);
        let empty = Response::file(&get(""), &empty, |_| panic!("there are no bytes"));
        assert!(empty.head.encode(Persistence::Close, "now", "").contains("\r\nContent-Length: 0\r\n"));
    }
}
