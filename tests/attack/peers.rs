//! Attacks by other servers: PROXY headers of load balancers, and targets that streams are forwarded to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Close};
use crate::common::process::eventually;
use crate::random::Random;
use crate::rig::{Rig, Setup, StopOnDrop};
use crate::rtmp::{AUDIO, VIDEO, header, message, play_session};

#[test]
fn balancers() {
    let mut rig = Rig::start(Setup { root: "proxy_protocol 127.0.0.2;", side_by_side: true, ..Setup::default() });
    rig.attack("PROXY headers that are cut or malformed", proxy_headers);
    rig.attack("PROXY headers of clients that are no load balancers", forged_headers);
    rig.finish();
}

#[test]
fn forward_targets() {
    // They are at work before the server starts: a forwarder whose target did not listen retries after up to half a minute.
    let listeners = TARGETS.map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    let list = listeners.each_ref().map(|listener| listener.local_addr().expect("bound").to_string());
    let vhost = format!("forward {};", list.join(" "));
    let connections = TARGETS.map(|_| AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for ((listener, behave), count) in listeners.iter().zip(TARGETS).zip(&connections) {
            let stop = &stop;
            scope.spawn(move || run_target(listener, behave, count, stop));
        }
        let mut rig = Rig::start(Setup { vhost: &vhost, side_by_side: true, ..Setup::default() });
        rig.attack("targets that flood, claim, redirect, break off, and stay silent", |rig| {
            watch_targets(rig, &connections);
        });
        rig.finish();
    });
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Returns a header of version 2 for a client at 192.0.2.7, with `unknown` bytes of unknown content.
fn version_2(unknown: usize) -> Vec<u8> {
    let length = u16::try_from(12 + unknown).expect("16 bits").to_be_bytes();
    let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 7, 0x8f];
    [&SIGNATURE[..], &[0x21, 0x11], &length, &addresses, &vec![4; unknown]].concat()
}

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 1935\r\n";

fn proxy_headers(rig: &Rig) {
    let mut random = Random::new(6);
    let valid = [VERSION_1.to_vec(), version_2(0), version_2(100)];
    let mut inputs: Vec<Vec<u8>> =
        valid.iter().flat_map(|head| (0..=head.len()).map(|at| head[..at].to_vec())).collect();
    inputs.extend(
        (0..rig.count(300, 10_000, "mutated headers"))
            .map(|n| [random.mutate(&valid[n % valid.len()]), play_session("healthy")].concat()),
    );
    inputs.extend([
        [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
        [&SIGNATURE[..], &[0x21, 0x11, 0, 0]].concat(),
        [&SIGNATURE[..], &[0x2f, 0xff, 0, 12], &[0; 12]].concat(),
        version_2(60_000),
        [b"PROXY TCP4 ", &[b'1'; 5000][..]].concat(),
        b"PROXY TCP6 ::1 ::1 99999 -1\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4\x1b[2J 1.2.3.4 1 1\r\n".to_vec(),
        b"\r\n".repeat(1000),
    ]);
    let mut silent = Vec::new();
    for (n, input) in inputs.iter().enumerate() {
        let Some(mut attacker) = Attacker::connect_from(2, rig.rtmp) else { continue };
        attacker.send(input);
        match n % 3 {
            0 => attacker.close(Close::Fin),
            1 => attacker.close(Close::Rst),
            _ => silent.push(attacker),
        }
    }
    thread::sleep(Duration::from_millis(500));
    drop(silent);
    // A client with a valid header is served, and logged by the address in it.
    for head in valid {
        let mut attacker = Attacker::connect_from(2, rig.rtmp).expect("a balancer connects");
        attacker.send(&[head, play_session("healthy")].concat());
        assert!(attacker.receives(20_000, Duration::from_secs(10)), "a client behind a balancer plays");
    }
    rig.server.wait_log(&[r"client connected: address=192.0.2.7:4660 proxy=127.0.0.2:"], Duration::from_secs(20));
}

fn forged_headers(rig: &Rig) {
    for n in 0..100 {
        let Some(mut attacker) = Attacker::connect(rig.rtmp) else { continue };
        let head = if n % 2 == 0 { b"PROXY TCP4 198.51.100.1 127.0.0.1 4660 1935\r\n".to_vec() } else { version_2(0) };
        attacker.send(&[head, play_session("healthy")].concat());
        assert!(attacker.is_closed_within(Duration::from_secs(10)), "the server accepts a PROXY header of any client");
    }
    assert!(rig.server.log_line(&["198.51.100.1"]).is_none(), "the server believes the address in a forged header");
}

/// Behaviour of a target on one connection of a forwarder.
type Behaviour = fn(&mut TcpStream, &AtomicBool);

const TARGETS: [Behaviour; 6] = [stay_silent, flood, ask, claim, break_off, redirect];

/// Returns the recorded answers of a server to a publisher, up to the status that the stream may start.
fn answers() -> Vec<u8> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/client/srs");
    let recorded = std::fs::read(recorded).expect("a file of the corpus");
    [&[3][..], &[0; 2 * 1536], &recorded].concat()
}

fn stay_silent(_: &mut TcpStream, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Accepts the stream, sends `first`, then sends `repeated` again and again, and reads nothing.
fn send_forever(stream: &mut TcpStream, stop: &AtomicBool, first: &[u8], repeated: &[u8]) {
    if stream.write_all(&[&answers(), first].concat()).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.write(repeated) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return;
            }
            _ => {}
        }
    }
}

/// Sends acknowledgements of one byte.
fn flood(stream: &mut TcpStream, stop: &AtomicBool) {
    send_forever(stream, stop, &header(63, 0, 0, 3, 1), &[0xc0 | 63; 64 * 1024]);
}

/// Sends Set Peer Bandwidth messages, each of which has to be answered.
fn ask(stream: &mut TcpStream, stop: &AtomicBool) {
    send_forever(stream, stop, &header(63, 0, 0, 6, 0), &[0xc0 | 63; 64 * 1024]);
}

/// Sends the first chunks of messages of 16 MB, on one chunk stream after the other.
fn claim(stream: &mut TcpStream, stop: &AtomicBool) {
    let first_chunks = (2..64).flat_map(|csid| [header(csid, 0, 0xff_ffff, VIDEO, 1), vec![0; 128]].concat());
    send_forever(stream, stop, &[], &first_chunks.collect::<Vec<_>>());
}

/// Resets the connection in the middle of a message.
fn break_off(stream: &mut TcpStream, _: &AtomicBool) {
    let socket = socket2::SockRef::from(&*stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = stream.write_all(&[answers(), message(4, 0, AUDIO, 1, &[0; 1000])[..500].to_vec()].concat());
}

/// Redirects the forwarder to a port where no server listens, after which it tries the first target again.
fn redirect(stream: &mut TcpStream, _: &AtomicBool) {
    let redirected = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/client/redirected");
    let redirected = std::fs::read(redirected).expect("a file of the corpus");
    let _ = stream.write_all(&[&[3][..], &[0; 2 * 1536], &redirected].concat());
    let _ = stream.read(&mut [0; 64 * 1024]);
}

fn run_target(listener: &TcpListener, behave: Behaviour, connections: &AtomicUsize, stop: &AtomicBool) {
    listener.set_nonblocking(true).expect("a socket option");
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        connections.fetch_add(1, Ordering::Relaxed);
        stream.set_nonblocking(false).expect("a socket option");
        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
        let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
        behave(&mut stream, stop);
    }
}

fn watch_targets(rig: &Rig, connections: &[AtomicUsize]) {
    eventually("each target gets a connection", Duration::from_secs(60), || {
        connections.iter().all(|count| count.load(Ordering::Relaxed) > 0).then_some(())
    });
    let until = Instant::now() + rig.seconds(3, 60);
    while Instant::now() < until {
        let memory = rig.process_kib("VmRSS") >> 10;
        assert!(memory < 100, "{memory} MB resident with six targets");
        thread::sleep(Duration::from_millis(100));
    }
    println!("    connections: {connections:?}");
}
