//! Sockets and their waits.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::BOUND;
use crate::st::net::{TcpListener, TcpStream};
use crate::st::{gather_events, offload, run, sleep, spawn, yield_now};

pub(super) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap(), BOUND).unwrap();
    (near, listener.accept().unwrap().unwrap())
}

/// Returns a connection whose first end is a blocking socket, for a thread.
fn pair_with_thread() -> (std::net::TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // The kernel completes a loopback connection before it is accepted, so this does not block the worker.
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().unwrap())
}

#[test]
fn yielding_in_a_loop_starves_no_socket() {
    run(|| {
        let (mut near, far) = pair_with_thread();
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let reader = spawn("reader", 0, move || {
            (&far).read_exact(&mut [0; 3]).unwrap();
            stop.store(true, Ordering::Relaxed);
        })
        .unwrap();
        let until = Instant::now() + BOUND;
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            near.write_all(b"abc").unwrap();
        });
        while !done.load(Ordering::Relaxed) {
            assert!(Instant::now() < until, "the reader never ran");
            yield_now();
        }
        reader.join();
    })
    .unwrap();
}

#[test]
fn nobody_waits_for_ever_while_events_gather() {
    run(|| {
        let (mut near, far) = pair_with_thread();
        let end = Instant::now() + Duration::from_millis(100);
        gather_events(Duration::from_millis(2), end);
        let echo = thread::spawn(move || {
            let mut byte = [0];
            while near.read(&mut byte).is_ok_and(|n| n > 0) {
                near.write_all(&byte).unwrap();
            }
        });
        let mut far = &far;
        let mut turns = 0;
        // Also after the last pause.
        while turns < 5 || Instant::now() < end + Duration::from_millis(10) {
            far.write_all(b"x").unwrap();
            far.read_exact(&mut [0]).unwrap();
            sleep(Duration::from_micros(100));
            yield_now();
            turns += 1;
        }
        far.shutdown();
        echo.join().unwrap();
    })
    .unwrap();
}

#[test]
fn a_peer_that_never_stops_sending_leaves_the_others_their_turn() {
    run(|| {
        let (mut near, far) = pair_with_thread();
        let stop = Arc::new(AtomicBool::new(false));
        let flood = stop.clone();
        let flooder = thread::spawn(move || while !flood.load(Ordering::Relaxed) && near.write(&[0; 65536]).is_ok() {});
        let busy = spawn("busy", 0, move || {
            let mut buffer = [0; 1024];
            while (&far).read(&mut buffer).is_ok_and(|n| n > 0) {}
        })
        .unwrap();
        for _ in 0..20 {
            sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::Relaxed);
        offload(|| flooder.join().unwrap()).unwrap();
        busy.join();
    })
    .unwrap();
}

#[test]
fn a_blocking_write_swallows_no_read_event() {
    run(|| {
        let (near, far) = pair();
        let peer = far.clone();
        let peer = spawn("peer", 0, move || {
            // While the other end is stuck in its write, send it something, then read all of what it writes.
            (&peer).write_all(b"hello").unwrap();
            sleep(Duration::from_millis(20));
            let mut buffer = vec![0; 1 << 20];
            let mut left = 8 << 20;
            while left > 0 {
                left -= (&peer).read(&mut buffer).unwrap();
            }
        })
        .unwrap();
        (&near).write_all(&vec![0; 8 << 20]).unwrap();
        near.set_time_limit(Some(BOUND));
        let mut hello = [0; 5];
        (&near).read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
        peer.join();
    })
    .unwrap();
}

#[test]
fn a_deadline_that_moves_is_kept() {
    // Longer than a busy machine stops this process.
    const LIMIT: Duration = Duration::from_secs(2);
    run(|| {
        let (near, far) = pair();
        let written = far.clone();
        let writer = spawn("writer", 0, move || {
            for _ in 0..5 {
                sleep(Duration::from_millis(15));
                (&written).write_all(b"x").unwrap();
            }
        })
        .unwrap();
        let from = Instant::now();
        let mut bytes = 0;
        let error = loop {
            near.set_time_limit(Some(LIMIT));
            match (&near).read(&mut [0]) {
                Ok(n) => bytes += n,
                Err(error) => break error,
            }
        };
        assert_eq!((bytes, error.kind()), (5, std::io::ErrorKind::TimedOut));
        assert!(from.elapsed() >= Duration::from_millis(5 * 15) + LIMIT);
        writer.join();
        drop(far);
    })
    .unwrap();
}

#[test]
fn an_interrupted_read_ends_and_the_socket_stays_usable() {
    run(|| {
        let (near, far) = pair();
        let target = near.clone();
        spawn("interrupter", 0, move || target.interrupt()).unwrap();
        assert_eq!((&near).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(near.resume());
        (&near).write_all(b"bye").unwrap();
        let mut bye = [0; 3];
        (&far).read_exact(&mut bye).unwrap();
        assert_eq!(&bye, b"bye");
        assert!(!near.resume());
    })
    .unwrap();
}

#[test]
fn shutdown_ends_a_read() {
    run(|| {
        let (near, _far) = pair();
        let target = near.clone();
        spawn("closer", 0, move || target.shutdown()).unwrap();
        assert_eq!((&near).read(&mut [0]).unwrap(), 0);
    })
    .unwrap();
}

#[test]
fn the_same_address_cannot_be_bound_twice() {
    run(|| {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let again = TcpListener::bind(listener.local_addr().unwrap());
        assert_eq!(again.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    })
    .unwrap();
}

#[test]
fn a_listener_that_closes_accepts_those_who_wait_and_not_all_who_come() {
    run(|| {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut last = std::net::TcpStream::connect(address).unwrap();
        listener.close();
        let mut accepted = 0;
        while accepted < 10_000 && listener.accept().unwrap().is_some() {
            accepted += 1;
            last = std::net::TcpStream::connect(address).unwrap();
        }
        drop(last);
        assert_eq!(accepted, 4096);
    })
    .unwrap();
}

#[test]
fn connecting_to_nobody_is_refused() {
    run(|| {
        let address = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
        let error = TcpStream::connect(address, BOUND).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    })
    .unwrap();
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen() {
    run(|| {
        let (mut near, far) = pair_with_thread();
        far.set_time_limit(Some(BOUND));
        let mut buffer = [0; 100];
        far.set_time_limit(Some(Duration::from_millis(5)));
        assert!((&far).read(&mut buffer).is_err(), "nothing yet, so the next read follows an event");
        // Both are there before the worker looks again.
        near.write_all(b"last").unwrap();
        drop(near);
        far.set_time_limit(Some(BOUND));
        let from = Instant::now();
        assert_eq!((&far).read(&mut buffer).unwrap(), 4);
        assert_eq!((&far).read(&mut buffer).unwrap(), 0);
        assert!(from.elapsed() < BOUND);
    })
    .unwrap();
}

#[test]
fn the_kernel_counts_what_the_peer_has_acknowledged() {
    const BYTES: usize = 300_000;
    run(|| {
        let (mut near, far) = pair();
        let before = near.tcp_info().unwrap().bytes_acked;
        let reader = spawn("reader", 0, move || {
            (&far).read_exact(&mut vec![0; BYTES]).unwrap();
            (&far).write_all(b"!").unwrap();
        });
        near.write_all(&vec![7; BYTES]).unwrap();
        near.read_exact(&mut [0]).unwrap();
        let info = near.tcp_info().unwrap();
        assert_eq!(info.bytes_acked - before, BYTES as u64, "{info:?}");
        assert!(info.rtt > Duration::ZERO && info.min_rtt <= info.rtt && info.segments > 0, "{info:?}");
        reader.unwrap().join();
    })
    .unwrap();
}
