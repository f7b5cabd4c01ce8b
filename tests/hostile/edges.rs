//! Attacks by others than clients: balancers that say whom they speak for, and targets that the server forwards to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, End};
use crate::process::eventually;
use crate::random::Random;
use crate::rig::{Rig, Stop, times};
use crate::rtmp::{AUDIO, VIDEO, header, message, playing};
use crate::server::free_port;

#[test]
fn balancers() {
    let mut rig = Rig::plain("proxy_protocol 127.0.0.2;", "");
    rig.attack("PROXY headers that are cut, that lie, that are none", proxy_headers);
    rig.attack("PROXY headers of others than balancers", borrowed_names);
    rig.finish();
}

#[test]
fn forward_targets() {
    let ports: Vec<u16> = TARGETS.iter().map(|_| free_port()).collect();
    let list: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut rig = Rig::plain("", &format!("forward {};", list.join(" ")));
    rig.attack("targets that flood, claim, redirect, break off, and say nothing", |rig| misbehave(rig, &ports));
    rig.finish();
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 for a client at 192.0.2.7, with so many bytes of what nobody knows.
fn version_2(more: usize) -> Vec<u8> {
    let length = u16::try_from(12 + more).expect("16 bits").to_be_bytes();
    let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 7, 0x8f];
    [&SIGNATURE[..], &[0x21, 0x11], &length, &addresses, &vec![4; more]].concat()
}

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 1935\r\n";

fn proxy_headers(rig: &Rig) {
    let mut random = Random::new(6);
    let good = [VERSION_1.to_vec(), version_2(0), version_2(100)];
    let mut inputs: Vec<Vec<u8>> =
        good.iter().flat_map(|head| (0..=head.len()).map(|at| head[..at].to_vec())).collect();
    inputs.extend((0..times(300, 10_000)).map(|n| [random.mutate(&good[n % good.len()]), playing("healthy")].concat()));
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
        let Some(mut attacker) = Attacker::connect_from(2, rig.target) else { continue };
        attacker.send(input);
        match n % 3 {
            0 => attacker.leave(End::Fin),
            1 => attacker.leave(End::Rst),
            _ => silent.push(attacker),
        }
    }
    thread::sleep(Duration::from_millis(500));
    drop(silent);
    // Whose header is right is served, and called by the name in it.
    for head in good {
        let mut attacker = Attacker::connect_from(2, rig.target).expect("a balancer connects");
        attacker.send(&[head, playing("healthy")].concat());
        assert!(attacker.hears(20_000, Duration::from_secs(10)), "a client behind a balancer plays");
    }
    rig.server.wait_log(&["client 192.0.2.7:4660 connected through 127.0.0.2:"], Duration::from_secs(5));
}

fn borrowed_names(rig: &Rig) {
    for n in 0..100 {
        let Some(mut attacker) = Attacker::connect(rig.target) else { continue };
        let head = if n % 2 == 0 { b"PROXY TCP4 198.51.100.1 127.0.0.1 4660 1935\r\n".to_vec() } else { version_2(0) };
        attacker.send(&[head, playing("healthy")].concat());
        assert!(attacker.is_closed_within(Duration::from_secs(10)), "a client that is no balancer is taken for one");
    }
    assert!(rig.server.log_line(&["198.51.100.1"]).is_none(), "what a stranger calls itself is believed");
}

/// What a target does after it has let the forwarder publish, or instead.
type Misbehaviour = fn(&mut TcpStream, &AtomicBool);

const TARGETS: [Misbehaviour; 6] = [say_nothing, flood, ask, claim, break_off, redirect];

/// What a target says to one who publishes, up to the word that the stream may come: as recorded.
fn answers() -> Vec<u8> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/client/srs");
    let recorded = std::fs::read(recorded).expect("a file of the corpus");
    [&[3][..], &[0; 2 * 1536], &recorded].concat()
}

fn say_nothing(_: &mut TcpStream, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says the same until it is no longer taken, and reads nothing.
fn go_on(stream: &mut TcpStream, stop: &AtomicBool, first: &[u8], then: &[u8]) {
    if stream.write_all(&[&answers(), first].concat()).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.write(then) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return;
            }
            _ => {}
        }
    }
}

/// Messages of one byte that mean nothing.
fn flood(stream: &mut TcpStream, stop: &AtomicBool) {
    go_on(stream, stop, &header(63, 0, 0, 3, 1), &[0xc0 | 63; 64 * 1024]);
}

/// Questions (Set Peer Bandwidth), each of which is to be answered.
fn ask(stream: &mut TcpStream, stop: &AtomicBool) {
    go_on(stream, stop, &header(63, 0, 0, 6, 0), &[0xc0 | 63; 64 * 1024]);
}

/// Messages of 16 MB, on one chunk stream after the other, of which each gets its first chunk.
fn claim(stream: &mut TcpStream, stop: &AtomicBool) {
    let begun = (2..64).flat_map(|csid| [header(csid, 0, 0xff_ffff, VIDEO, 1), vec![0; 128]].concat());
    go_on(stream, stop, &[], &begun.collect::<Vec<_>>());
}

fn break_off(stream: &mut TcpStream, _: &AtomicBool) {
    let socket = socket2::SockRef::from(&*stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = stream.write_all(&[answers(), message(4, 0, AUDIO, 1, &[0; 1000])[..500].to_vec()].concat());
}

/// Sends the forwarder to a port where nobody listens, after which it tries the first one again.
fn redirect(stream: &mut TcpStream, _: &AtomicBool) {
    let redirected = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/client/redirected");
    let redirected = std::fs::read(redirected).expect("a file of the corpus");
    let _ = stream.write_all(&[&[3][..], &[0; 2 * 1536], &redirected].concat());
    let _ = stream.read(&mut [0; 64 * 1024]);
}

fn misbehave(rig: &Rig, ports: &[u16]) {
    let stop = AtomicBool::new(false);
    let came: Vec<_> = ports.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for ((&port, behave), came) in ports.iter().zip(TARGETS).zip(&came) {
            let stop = &stop;
            scope.spawn(move || {
                let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
                listener.set_nonblocking(true).expect("a socket option");
                while !stop.load(Ordering::Relaxed) {
                    let Ok((mut stream, _)) = listener.accept() else {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    came.fetch_add(1, Ordering::Relaxed);
                    stream.set_nonblocking(false).expect("a socket option");
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                    let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
                    behave(&mut stream, stop);
                }
            });
        }
        // A forwarder whose target was not there waits for up to half a minute before it tries again.
        let _ends = Stop(&stop);
        eventually("each target is tried", Duration::from_secs(60), || {
            came.iter().all(|count| count.load(Ordering::Relaxed) > 0).then_some(())
        });
        let until = Instant::now() + Duration::from_secs(times(4, 60) as u64);
        while Instant::now() < until {
            let memory = rig.process("VmRSS") >> 10;
            assert!(memory < 100, "{memory} MB for six targets");
            thread::sleep(Duration::from_millis(100));
        }
    });
    println!("    connections: {came:?}");
}
