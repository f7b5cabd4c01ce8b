//! A minimal HTTP/1.1 client that shows every byte of a response.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

const LIMIT: Duration = Duration::from_secs(30);

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Returns the value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection to an HTTP server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Client {
        Client::of(TcpStream::connect(("127.0.0.1", port)).expect("the server listens"))
    }

    /// Connects from 127.0.0.77, an address that no other client uses.
    pub(crate) fn elsewhere(port: u16) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 77], 0)).into()).expect("all of 127.0.0.0/8 is this machine");
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("the server listens");
        Client::of(socket.into())
    }

    fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        stream.set_write_timeout(Some(LIMIT)).expect("a time-out");
        Client { stream, input: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A server that has refused what came before may have closed already.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads the next response; `None` if the server closes the connection instead. `with_body` is false after a HEAD request.
    pub(crate) fn answer(&mut self, with_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read() {
                assert!(self.input.is_empty(), "an incomplete response: {:?}", String::from_utf8_lossy(&self.input));
                return None;
            }
        };
        let head = String::from_utf8(self.input.drain(..end).collect()).expect("a head is ASCII");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.field("Content-Length").map_or(0, |length| length.parse().expect("a length"));
        while with_body && self.input.len() < length {
            assert!(self.read(), "the body ends before its length");
        }
        if with_body {
            answer.body = self.input.drain(..length).collect();
        }
        Some(answer)
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(n) => {
                self.input.extend_from_slice(&buffer[..n]);
                n > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no response within {LIMIT:?}: {error}"),
        }
    }

    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
        self.answer(true).expect("an answer")
    }
}
