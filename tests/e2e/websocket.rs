//! A client of WebSocket, for FLV.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::flv::{self, Tag};
use crate::common::scratch::Scratch;

const LIMIT: Duration = Duration::from_secs(30);

/// A client of WebSocket that shares no code with the server.
pub(crate) struct WebSocket {
    stream: TcpStream,
    input: Vec<u8>,
}

impl WebSocket {
    pub(crate) fn open(port: u16, path: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a request");
        Self { stream, input: Vec::new() }
    }

    /// Reads the head of the response.
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..end + 4).collect();
                return String::from_utf8(head).expect("ASCII");
            }
            assert!(self.read(), "the connection ended before the head");
        }
    }

    pub(crate) fn read(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let n = self.stream.read(&mut buffer).expect("input within the limit");
        self.input.extend_from_slice(&buffer[..n]);
        n > 0
    }

    /// Reads a frame: its first byte and its content; `None` at the end of the connection.
    pub(crate) fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((head, length)) = frame_length(&self.input)
                && self.input.len() >= head + length
            {
                let first = self.input[0];
                let frame: Vec<u8> = self.input.drain(..head + length).collect();
                return Some((first, frame[head..].to_vec()));
            }
            if !self.read() {
                assert!(self.input.is_empty(), "the connection ended in a frame");
                return None;
            }
        }
    }

    /// Sends a frame with a mask of zeros.
    pub(crate) fn send(&mut self, first: u8, content: &[u8]) {
        let length = u8::try_from(content.len()).expect("a short frame");
        let frame = [&[first, 0x80 | length, 0, 0, 0, 0], content].concat();
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// Reads the response until the server closes the WebSocket, and returns the tags.
    pub(crate) fn read_to_end(&mut self, scratch: &Scratch) -> Vec<Tag> {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        let mut content = Vec::new();
        loop {
            let (first, bytes) = self.frame().expect("a close before the end");
            match first {
                0x82 => content.extend(bytes),
                0x88 => break,
                other => panic!("a frame that starts with {other:#x}"),
            }
        }
        let file = scratch.file("websocket.flv");
        std::fs::write(&file, content).expect("a file in the scratch folder");
        flv::read(&file)
    }
}

/// Returns the lengths of a frame's head and content, if the head is complete.
fn frame_length(input: &[u8]) -> Option<(usize, usize)> {
    match *input {
        [_, 126, a, b, ..] => Some((4, usize::from(u16::from_be_bytes([a, b])))),
        [_, 127, ref rest @ ..] => Some((10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?)),
        [_, short @ ..=125, ..] => Some((2, usize::from(short))),
        _ => None,
    }
}
