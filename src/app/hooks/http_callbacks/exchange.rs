//! One HTTP/1.1 request and its answer, on a connection that is open. `ureq-proto` has the protocol; this has the bounds.

use std::io::{self, Read, Write};

use ureq_proto::client::{
    Call, RecvBodyResult, RecvResponseResult, SendRequestResult,
    state::{RecvBody, RecvResponse},
};
use ureq_proto::http::{Request, header};
use ureq_proto::{BodyMode, Error};

use super::message::{Body, Message};

const MAX_HEAD: usize = 16 * 1024;

const MAX_BODY: usize = 64 * 1024;

/// Longest answer in bytes, with chunk sizes, trailers and informational answers: 64 KB in chunks of one byte have six times as
/// many.
const MAX_ANSWER: usize = 512 * 1024;

/// Bytes of one read. The buffer is on the heap: the stack of a coroutine is small.
const READ_BYTES: usize = 4096;

/// Bytes that the head of a request needs beside its URL.
const HEAD_BYTES: usize = 1024;

const USER_AGENT: &str = concat!("simple-rtmp-server/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) location: Option<String>,
    pub(super) reusable: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection ended before the first byte of an answer: a connection that was kept open may have ended earlier.
    #[error("the backend closed the connection without an answer")]
    NoAnswer,
    #[error("the backend closed the connection within its answer")]
    Incomplete,
    #[error("the answer is too long: its {part} has more than {max} bytes")]
    TooLong { part: &'static str, max: usize },
    #[error("invalid HTTP: {0}")]
    Http(#[from] Error),
    #[error("{}", if .0.kind() == io::ErrorKind::TimedOut { "the backend did not answer in time".to_owned() } else { .0.to_string() })]
    Io(#[from] io::Error),
}

/// Sends a request and waits for the answer. Fails when there is no complete and valid answer within the bounds.
pub(super) fn send<S: Read + Write>(stream: &mut S, url: &str, message: &Message) -> Result<Reply, Failure> {
    let (head, mut call) = match &message.body {
        Some(body) => start_post(url, body)?,
        None => start_get(url)?,
    };
    let bytes = [head.as_slice(), message.text().as_bytes()].concat();
    // If the backend has closed the connection, reading tells more than the error of writing.
    let _ = stream.write_all(&bytes).and_then(|()| stream.flush());

    let mut input = Input { stream, bytes: Vec::new(), buffer: vec![0; READ_BYTES], received: 0 };
    let response = loop {
        let (used, response) = call.try_response(&input.bytes, false)?;
        input.bytes.drain(..used);
        if let Some(response) = response {
            break response;
        }
        if input.bytes.len() >= MAX_HEAD {
            return Err(Failure::TooLong { part: "head", max: MAX_HEAD });
        }
        // A used-up informational answer may be followed by the next one.
        if used == 0 && !input.read()? {
            return Err(if input.received > 0 { Failure::Incomplete } else { Failure::NoAnswer });
        }
    };
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (body, must_close) = match call.proceed().ok_or_else(unexpected)? {
        RecvResponseResult::RecvBody(call) => read_body(call, &mut input)?,
        RecvResponseResult::Redirect(call) => (Vec::new(), call.must_close_connection()),
        RecvResponseResult::Cleanup(call) => (Vec::new(), call.must_close_connection()),
    };
    Ok(Reply { status, body, location, reusable: !must_close && input.bytes.is_empty() })
}

/// The head of a request, and the state in which it waits for the answer.
type StartedRequest = (Vec<u8>, Call<RecvResponse>);

#[inline(never)] // Keeps its locals off the stack of a coroutine that waits for the answer.
fn start_post(url: &str, body: &Body) -> Result<StartedRequest, Failure> {
    let mut request = Request::post(url)
        .header("connection", "keep-alive")
        .header("content-length", body.text.len())
        .header("content-type", body.content_type)
        .header("user-agent", USER_AGENT);
    if let Some(signature) = &body.signature {
        request = request.header("x-srs-signature", signature);
    }
    let mut call = Call::new(request.body(()).map_err(invalid)?)?.proceed();
    let head = write_head(url, |head| Ok((call.write(head)?, call.can_proceed())))?;
    let Some(SendRequestResult::SendBody(mut call)) = call.proceed()? else { return Err(unexpected().into()) };
    call.consume_direct_write(body.text.len())?;
    Ok((head, call.proceed().ok_or_else(unexpected)?))
}

#[inline(never)] // As `start_post`.
fn start_get(url: &str) -> Result<StartedRequest, Failure> {
    let request = Request::get(url).header("connection", "keep-alive").header("user-agent", USER_AGENT);
    let mut call = Call::new(request.body(()).map_err(invalid)?)?.proceed();
    let head = write_head(url, |head| Ok((call.write(head)?, call.can_proceed())))?;
    let Some(SendRequestResult::RecvResponse(call)) = call.proceed()? else { return Err(unexpected().into()) };
    Ok((head, call))
}

/// Returns what `write` writes until it says that the head is complete.
fn write_head(
    url: &str,
    mut write: impl FnMut(&mut [u8]) -> Result<(usize, bool), Failure>,
) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; url.len() + HEAD_BYTES];
    let mut head = Vec::new();
    loop {
        let (used, is_complete) = write(&mut buffer)?;
        head.extend_from_slice(&buffer[..used]);
        if is_complete {
            return Ok(head);
        }
    }
}

fn invalid(error: ureq_proto::http::Error) -> Failure {
    io::Error::new(io::ErrorKind::InvalidInput, error).into()
}

fn unexpected() -> io::Error {
    io::Error::other("the request has another state than its headers say")
}

/// Reads the body. Returns whether the connection must be closed after it.
#[inline(never)] // Keeps its locals off the stack of a coroutine that waits for the head.
fn read_body<S: Read + Write>(mut call: Call<RecvBody>, input: &mut Input<'_, S>) -> Result<(Vec<u8>, bool), Failure> {
    let mut body = Vec::new();
    let mut output = vec![0; READ_BYTES];
    let until_close = call.body_mode() == BodyMode::CloseDelimited;
    let mut ended = false;
    while until_close || !call.can_proceed() {
        let (used, produced) = call.read(&input.bytes, &mut output)?;
        input.bytes.drain(..used);
        body.extend_from_slice(&output[..produced]);
        if body.len() > MAX_BODY || input.bytes.len() > MAX_BODY {
            return Err(Failure::TooLong { part: "body", max: MAX_BODY });
        }
        if used == 0 && produced == 0 && !input.read()? {
            if !until_close && !call.is_ended_chunked() {
                return Err(Failure::Incomplete);
            }
            ended = true;
            break;
        }
    }
    let must_close = match call.proceed() {
        Some(RecvBodyResult::Redirect(call)) => call.must_close_connection(),
        Some(RecvBodyResult::Cleanup(call)) => call.must_close_connection(),
        None => true,
    };
    Ok((body, must_close || ended))
}

struct Input<'a, S> {
    stream: &'a mut S,
    bytes: Vec<u8>,
    buffer: Vec<u8>,
    received: usize,
}

impl<S: Read> Input<'_, S> {
    fn read(&mut self) -> Result<bool, Failure> {
        // Input that is always there is never waited for, and no time limit ends it.
        if self.received >= MAX_ANSWER {
            return Err(Failure::TooLong { part: "whole", max: MAX_ANSWER });
        }
        let read = match self.stream.read(&mut self.buffer) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => 0,
            Err(error) => return Err(error.into()),
        };
        self.bytes.extend_from_slice(&self.buffer[..read]);
        self.received += read;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HookFormat;

    /// A connection that answers with `answer`, in pieces of `piece` bytes, and then ends.
    struct Script {
        answer: Vec<u8>,
        piece: usize,
        sent: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.piece.min(self.answer.len()).min(buffer.len());
            buffer[..n].copy_from_slice(&self.answer[..n]);
            self.answer.drain(..n);
            Ok(n)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(answer: impl AsRef<[u8]>, piece: usize) -> (Result<Reply, Failure>, String) {
        let mut script = Script { answer: answer.as_ref().to_vec(), piece, sent: Vec::new() };
        let message = Message::post("{\"action\":\"on_publish\"}".to_owned(), HookFormat::Json, Some(&"secret".into()));
        let reply = send(&mut script, "http://backend:8085/api/v1/streams?key=1", &message);
        (reply, String::from_utf8(script.sent).unwrap())
    }

    #[test]
    fn the_request_is_complete() {
        let sent = answered("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", 9999).1;
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "{\"action\":\"on_publish\"}");
        assert!(head.starts_with("POST /api/v1/streams?key=1 HTTP/1.1\r\n"), "{head}");
        for line in [
            "host: backend:8085",
            "content-length: 23",
            "content-type: application/json",
            "connection: keep-alive",
            "x-srs-signature: sha256=",
        ] {
            assert!(head.contains(line), "{head}");
        }
    }

    #[test]
    fn a_get_has_no_body() {
        let answer = b"HTTP/1.1 302 Found\r\nLocation: cam\r\nContent-Length: 0\r\n\r\n".to_vec();
        let mut script = Script { answer, piece: 7, sent: Vec::new() };
        let reply = send(&mut script, "http://backend:8085/notify?a=b", &Message::get()).unwrap();
        assert_eq!((reply.status, reply.location.as_deref(), reply.reusable), (302, Some("cam"), true));
        let sent = String::from_utf8(script.sent).unwrap();
        assert!(sent.starts_with("GET /notify?a=b HTTP/1.1\r\n") && sent.ends_with("\r\n\r\n"), "{sent}");
        assert!(!sent.contains("content-"), "{sent}");
    }

    #[test]
    fn answers_are_read_in_any_framing_and_cut_anywhere() {
        for (answer, body, reusable) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", "0", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0", "0", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0HTTP/1.1 400 x", "0", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"co\r\n6\r\nde\":0}\r\n0\r\n\r\n",
                "{\"code\":0}",
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n0", "0", false),
            ("HTTP/1.0 200 OK\r\n\r\n0", "0", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n0", "0", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", "0", true),
        ] {
            for piece in 1..answer.len() {
                let reply = answered(answer, piece).0.unwrap_or_else(|error| panic!("{answer} {piece}: {error}"));
                assert_eq!((reply.status, reply.body.as_slice()), (200, body.as_bytes()), "{answer} {piece}");
                // Bytes behind the answer are seen only if they came with it.
                assert!(reply.reusable == reusable || answer.ends_with('x'), "{answer} {piece}");
            }
            assert_eq!(answered(answer, answer.len()).0.unwrap().reusable, reusable, "{answer}");
        }
        assert_eq!(answered("HTTP/1.1 204 No Content\r\n\r\n", 99).0.unwrap().status, 204);
        assert_eq!(
            answered("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 99).0.unwrap().status,
            302
        );
    }

    #[test]
    fn half_an_answer_and_nonsense_fail() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
        for length in 1..whole.len() {
            let error = answered(&whole[..length], 7).0.unwrap_err();
            assert!(matches!(error, Failure::Incomplete), "{length}: {error}");
        }
        assert!(matches!(answered("", 7).0, Err(Failure::NoAnswer)));
        for nonsense in
            ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n0"]
        {
            assert!(matches!(answered(nonsense, 7).0, Err(Failure::Http(_))), "{nonsense}");
        }
    }

    #[test]
    fn an_answer_without_an_end_fails() {
        let long = |head: &str| [head.as_bytes(), &vec![b'a'; 200_000]].concat();
        for (answer, part) in [
            (long("HTTP/1.1 200 OK\r\nX: "), "head"),
            (long("HTTP/1.1 200 OK\r\n\r\n"), "body"),
            (long("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"), "body"),
            (long("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n"), "body"),
            ("HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000).into_bytes(), "whole"),
        ] {
            let error = answered(answer, 4096).0.unwrap_err();
            assert!(matches!(error, Failure::TooLong { part: due, .. } if due == part), "{part}: {error}");
        }
    }
}
