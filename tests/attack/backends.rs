//! Attacks by backends of HTTP callbacks: answers that do not come, do not end, or are huge.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::attacker::Attacker;
use crate::common::server::free_port;
use crate::rig::{Rig, Setup, StopOnDrop};
use crate::rtmp::play_session;

/// Behaviour of a backend on one connection, after it has read a request.
type Behaviour = fn(&mut TcpStream, &AtomicBool);

const BACKENDS: [Behaviour; 8] =
    [never_answer, endless_body, drip, endless_header, many_headers, many_chunks, many_continues, reset];

/// Time within which a question is decided: twice `hooks_timeout`, with all who ask at the same time.
const DECISION_TIME: Duration = Duration::from_secs(10);

/// Resident memory in MB with all backends at work.
const MAX_MB: u64 = 150;

#[test]
fn callback_backends() {
    let ports: Vec<u16> = BACKENDS.iter().map(|_| free_port()).collect();
    let vhost = |(number, port): (usize, &u16)| {
        format!(
            "vhost backend{number} {{ http_hooks {{ enabled on; on_play http://127.0.0.1:{port}/x; hooks_timeout 1; \
             hooks_retry 1; }} }}\n"
        )
    };
    let root: String = ports.iter().enumerate().map(vhost).collect();
    let mut rig = Rig::start(Setup { root: &root, side_by_side: true, ..Setup::default() });
    rig.attack("backends that are silent, answer without end, and send huge heads and many chunks", |rig| {
        run_backends(rig, &ports);
    });
    rig.finish();
}

fn never_answer(_: &mut TcpStream, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends `first`, then `repeated` until the connection is closed.
fn send_forever(stream: &mut TcpStream, stop: &AtomicBool, first: &[u8], repeated: &[u8]) {
    if stream.write_all(first).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.write(repeated) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}

fn endless_body(stream: &mut TcpStream, stop: &AtomicBool) {
    send_forever(stream, stop, b"HTTP/1.1 200 OK\r\n\r\n", &[b' '; 64 * 1024]);
}

/// Sends a byte of a header every 20 ms: no wait is long.
fn drip(stream: &mut TcpStream, stop: &AtomicBool) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
    while !stop.load(Ordering::Relaxed) && stream.write_all(b"a").is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn endless_header(stream: &mut TcpStream, stop: &AtomicBool) {
    send_forever(stream, stop, b"HTTP/1.1 200 OK\r\nX: ", &[b'a'; 64 * 1024]);
}

fn many_headers(stream: &mut TcpStream, stop: &AtomicBool) {
    send_forever(stream, stop, b"HTTP/1.1 200 OK\r\n", "X: a\r\n".repeat(10_000).as_bytes());
}

fn many_chunks(stream: &mut TcpStream, stop: &AtomicBool) {
    let chunks = "1;extension=\"of a chunk\"\r\n \r\n".repeat(100_000);
    send_forever(stream, stop, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks.as_bytes());
}

fn many_continues(stream: &mut TcpStream, stop: &AtomicBool) {
    send_forever(stream, stop, b"", "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000).as_bytes());
}

fn reset(stream: &mut TcpStream, _: &AtomicBool) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0");
    let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
}

fn serve(listener: &TcpListener, behave: Behaviour, stop: &AtomicBool, requests: &AtomicUsize) {
    listener.set_nonblocking(true).expect("a socket option");
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            scope.spawn(move || {
                stream.set_nonblocking(false).expect("a socket option");
                let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
                let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
                if stream.read(&mut [0; 64 * 1024]).is_ok_and(|read| read > 0) {
                    requests.fetch_add(1, Ordering::Relaxed);
                    behave(&mut stream, stop);
                }
            });
        }
    });
}

fn run_backends(rig: &Rig, ports: &[u16]) {
    let stop = AtomicBool::new(false);
    let requests: Vec<_> = ports.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for ((&port, behave), requests) in ports.iter().zip(BACKENDS).zip(&requests) {
            let (stop, listener) = (&stop, TcpListener::bind(("127.0.0.1", port)).expect("a free port"));
            scope.spawn(move || serve(&listener, behave, stop, requests));
        }
        let _stop = StopOnDrop(&stop);
        for round in 0..rig.count(2, 30, "rounds of questions to hostile backends") {
            let mut asking = Vec::new();
            for client in 0..ports.len() * 4 {
                let backend = client % ports.len();
                let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
                attacker.send(&play_session(format!("cam{round}?vhost=backend{backend}")));
                asking.push((backend, attacker));
            }
            for (backend, attacker) in &mut asking {
                assert!(attacker.is_closed_within(DECISION_TIME), "a question to backend {backend} is not decided");
            }
            let memory = rig.process_kib("VmRSS") >> 10;
            assert!(memory < MAX_MB, "{memory} MB resident");
        }
    });
    println!("    requests: {requests:?}");
    assert!(requests.iter().all(|count| count.load(Ordering::Relaxed) > 0), "each backend was asked: {requests:?}");
}
