//! Connections with handlers of each kind, over a socket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::connection;
use super::exchange::Exchange;
use super::response::Response;
use super::router::{HTTP_SERVER, Handler, Router};
use super::state::State;
use super::{End, channel};
use crate::app::http::handlers::live_files::LiveFileHandler;
use crate::app::limits::admission::Admission;
use crate::app::outputs::live_files::{LiveFile, LiveFiles};
use crate::config::{Config, ConfigCell};
use crate::http::request::{Method, Request};
use crate::memory::{Category, MemoryTracker};
use crate::st::{self, net::TcpListener};

/// Size of the segment: more than a socket takes at once.
const SEGMENT: usize = 3_000_000;

const LIMIT: Duration = Duration::from_secs(10);

/// Handler that answers a POST with its body, and a GET with nothing.
struct Echo;

impl Handler for Echo {
    fn methods(&self) -> &'static [Method] {
        &[Method::Get, Method::Post]
    }

    fn max_body(&self) -> u64 {
        100_000
    }

    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let body =
            if request.query.get("read").as_deref() == Some("no") { Bytes::new() } else { exchange.read_body()? };
        Ok(Some(Response::json(body)))
    }
}

/// Handler that answers with a stream of three parts. With `?end=close`, the stream ends with the connection.
struct Parts;

impl Handler for Parts {
    fn handle(&self, request: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let write = |writer: &mut super::writer::BodyWriter<'_, '_>| {
            for part in ["one", "", "two", "three"] {
                writer.write(Bytes::from_static(part.as_bytes()))?;
                st::yield_now();
            }
            Ok(())
        };
        let until_close = request.query.get("end").is_some();
        Ok(Some(if until_close { Response::stream_until_close("a/b", write) } else { Response::stream("a/b", write) }))
    }
}

/// Handler that takes the connection over, and sends back the input in capitals.
struct UppercaseEcho;

impl Handler for UppercaseEcho {
    fn handle(&self, _: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        Ok(Some(Response::upgrade("shout", |writer| {
            let mut input = writer.take_input();
            let mut buffer = [0; 100];
            loop {
                writer.write(Bytes::from(input.to_ascii_uppercase()))?;
                match writer.stream().clone().read(&mut buffer)? {
                    0 => return Err(channel::End::ByPeer),
                    n => input = buffer[..n].to_vec(),
                }
            }
        })))
    }
}

fn segment() -> Vec<u8> {
    (0..SEGMENT).map(|at| b'a' + (at % 26) as u8).collect()
}

fn live_files() -> LiveFiles {
    let files = LiveFiles::new();
    let path = "live/s-1.ts";
    files.insert("live/s", path, LiveFile::new(path, segment().into(), SystemTime::UNIX_EPOCH));
    files
}

#[test]
fn a_segment_is_the_same_from_the_heap_and_from_pages() {
    let answers = exchange(
        b"GET /live/s-1.ts HTTP/1.1\r\nHost: h\r\n\r\nGET /live/s-1.ts HTTP/1.1\r\nHost: h\r\n\r\n\
          HEAD /live/s-1.ts HTTP/1.1\r\nHost: h\r\n\r\n\
          GET /live/s-1.ts HTTP/1.1\r\nHost: h\r\nRange: bytes=4095-2000000\r\n\r\n",
    );
    let segment = String::from_utf8(segment()).unwrap();
    let bodies: Vec<_> = answers.split("HTTP/1.1 ").map(|answer| answer.split_once("\r\n\r\n")).collect();
    let expected = [&segment[..], &segment[..], "", &segment[4095..=2_000_000]];
    assert_eq!(bodies.len(), 1 + expected.len());
    for (body, expected) in bodies[1..].iter().zip(expected) {
        assert!(body.is_some_and(|(_, body)| body == expected));
    }
}

fn exchange(request: &'static [u8]) -> String {
    let sent = st::run(move || {
        let (config, _setter) = ConfigCell::new(Arc::new(Config::parse("a.conf", "listen 1935;").unwrap()));
        let memory = MemoryTracker::default();
        let state = State::new(config, memory.clone(), Admission::default());
        let router = Router::new()
            .with(HTTP_SERVER, "echo", Echo)
            .with(HTTP_SERVER, "parts", Parts)
            .with(HTTP_SERVER, "shout", UppercaseEcho)
            .with(HTTP_SERVER, "live", LiveFileHandler::new(live_files()));
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut client = StdStream::connect(address).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.write_all(request).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            String::from_utf8(answer).unwrap()
        });
        let stream = listener.accept().unwrap().unwrap();
        connection::serve(&state, &router, HTTP_SERVER, 1, &stream);
        drop(stream);
        assert_eq!(memory.bytes_in(Category::Http), 0, "bodies are charged until their responses have ended");
        st::offload(|| client.join().unwrap()).unwrap()
    });
    sent.unwrap()
}

fn outcome(request: &'static [u8]) -> (Vec<String>, String) {
    let answer = exchange(request);
    // A body is followed by the next status line without a line feed.
    let statuses =
        answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.lines().next()).map(str::to_owned).collect();
    let body = answer.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (statuses, body)
}

#[test]
fn a_handler_reads_bodies_of_both_kinds() {
    for request in [
        &b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a\r\nllo\r\n0\r\nA: b\r\n\r\n",
    ] {
        let (statuses, body) = outcome(request);
        assert_eq!((statuses, body.as_str()), (vec!["200 OK".to_owned()], "hello"));
    }
}

#[test]
fn the_next_request_follows_a_body_that_was_read() {
    let (statuses, body) = outcome(
        b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
          GET /none HTTP/1.1\r\nHost: h\r\n\r\n\
          POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\ndef",
    );
    assert_eq!(statuses, ["200 OK", "404 Not Found", "200 OK"]);
    assert_eq!(body, "def");
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let (statuses, body) = outcome(
        b"POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n\
          POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    );
    // The bytes have arrived with the head, so that nobody waits for them.
    assert_eq!((statuses, body.as_str()), (vec!["200 OK".to_owned(); 2], "abc"));
}

#[test]
fn a_body_that_nobody_reads_ends_the_connection() {
    for request in [
        &b"POST /echo?read=no HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\nGET /echo HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"POST /echo?read=no HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /echo HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let answer = exchange(request);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn invalid_and_long_bodies_are_refused() {
    for (request, status) in [
        (&b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n"[..], "413 Content Too Large"),
        (b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n", "413 Content Too Large"),
        (b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", "400 Bad Request"),
        (b"PUT /echo HTTP/1.1\r\nHost: h\r\n\r\nGET /echo HTTP/1.1\r\nHost: h\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /parts HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411 Length Required"),
    ] {
        let answer = exchange(request);
        assert_eq!(answer.lines().next(), Some(&*format!("HTTP/1.1 {status}")));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn a_stream_is_chunked_or_ends_with_the_connection() {
    let chunked = "3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n";
    let answer = exchange(b"GET /parts HTTP/1.1\r\nHost: h\r\n\r\nHEAD /parts HTTP/1.1\r\nHost: h\r\n\r\n");
    let (first, second) = answer.split_once(chunked).unwrap();
    for head in [first, second] {
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n") && head.contains("\r\nConnection: keep-alive\r\n"));
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
    for request in [&b"GET /parts HTTP/1.0\r\n\r\n"[..], b"GET /parts?end=close HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let answer = exchange(request);
        assert!(answer.contains("\r\nConnection: close\r\n") && !answer.contains("chunked"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nonetwothree"), "{answer}");
    }
}

#[test]
fn a_handler_takes_the_connection_over() {
    let answer = exchange(b"GET /shout HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nhello");
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: upgrade\r\n") && answer.contains("\r\nUpgrade: shout\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nHELLO"), "{answer}");
}

#[test]
fn options_are_those_of_the_handlers() {
    let answer = exchange(b"OPTIONS /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n"), "{answer}");
    assert!(answer.contains("\r\nAccess-Control-Allow-Methods: GET, POST, OPTIONS\r\n"), "{answer}");
    assert!(!answer.contains("\r\nContent-Length"), "{answer}");
}
