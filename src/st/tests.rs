//! Tests of the runtime's promises, on the real worker.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::net::{TcpListener, TcpStream};
use super::{Cond, Handle, Shared, offload, run, sleep, spawn, yield_now};

/// Longest time of a wait in a test; the tests share one worker.
const BOUND: Duration = Duration::from_secs(20);

fn current_thread() -> ThreadId {
    thread::current().id()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap(), BOUND).unwrap();
    (near, listener.accept().unwrap().unwrap())
}

/// A connection whose other end is an ordinary blocking socket, for a thread.
fn pair_with_thread() -> (std::net::TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // The kernel completes a loopback connection before it is accepted, so this does not hold the worker.
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().unwrap())
}

#[test]
fn every_kind_of_wait_ends_on_the_worker() {
    run(|| {
        let worker = current_thread();
        sleep(Duration::from_millis(5));
        assert_eq!(current_thread(), worker, "sleep");
        yield_now();
        assert_eq!(current_thread(), worker, "yield_now");
        Cond::new().wait_timeout(Duration::from_millis(5));
        assert_eq!(current_thread(), worker, "condition that times out");
        let cond = Arc::new(Cond::new());
        let signaller = cond.clone();
        spawn("signaller", 0, move || signaller.signal()).unwrap();
        assert!(cond.wait_timeout(BOUND));
        assert_eq!(current_thread(), worker, "condition that is signalled");
        let other = offload(current_thread).unwrap();
        assert_ne!(other, worker);
        assert_eq!(current_thread(), worker, "offload");
        let signaller = cond.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            signaller.signal();
        });
        assert!(cond.wait_timeout(BOUND));
        assert_eq!(current_thread(), worker, "signal from another thread");
        thread.join().unwrap();

        let (near, far) = pair();
        assert_eq!(current_thread(), worker, "connect and accept");
        near.set_time_limit(Some(Duration::from_millis(5)));
        assert_eq!((&near).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(current_thread(), worker, "read that times out");
        let writer = far.clone();
        spawn("writer", 0, move || (&writer).write_all(b"x").unwrap()).unwrap();
        near.set_time_limit(Some(BOUND));
        assert_eq!((&near).read(&mut [0]).unwrap(), 1);
        assert_eq!(current_thread(), worker, "read");
        near.set_write_timeout(Some(Duration::from_millis(20)));
        let full = loop {
            if let Err(error) = (&near).write(&[0; 65536]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(current_thread(), worker, "write that times out");
        let waker = far.clone();
        thread::spawn(move || waker.wake());
        while !far.wait(Some(Instant::now() + BOUND)).woken {}
        assert_eq!(current_thread(), worker, "wake from another thread");
        let joined = spawn("joined", 0, || sleep(Duration::from_millis(5))).unwrap();
        joined.join();
        assert_eq!(current_thread(), worker, "join");
    })
    .unwrap();
}

#[test]
fn coroutines_of_several_runs_share_one_worker() {
    assert_eq!(run(current_thread).unwrap(), run(current_thread).unwrap());
    assert_ne!(run(current_thread).unwrap(), current_thread());
}

#[test]
fn a_panic_ends_its_own_coroutine_only() {
    run(|| {
        let victim = spawn("victim", 7, || panic!("on purpose")).unwrap();
        let witness = spawn("witness", 8, || sleep(Duration::from_millis(10))).unwrap();
        victim.join();
        witness.join();
        assert!(victim.is_finished() && witness.is_finished());
    })
    .unwrap();
}

#[test]
fn what_is_to_last_begins_again_after_a_panic() {
    let ran = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let again = ran.clone();
    let supervised =
        super::supervised("supervised", move || assert!(again.fetch_add(1, Ordering::Relaxed) > 0, "on purpose"));
    let ended = run(move || spawn("supervised", 0, supervised).unwrap().join());
    assert!(ended.is_ok() && ran.load(Ordering::Relaxed) == 2);
}

#[test]
fn a_main_that_panics_is_an_error() {
    assert!(matches!(run(|| panic!("on purpose")), Err::<(), _>(super::RunError::Died)));
}

/// Recursion that no optimizer turns into a loop.
#[inline(never)]
fn exhaust(depth: usize) -> usize {
    let frame = std::hint::black_box([depth as u8; 300]);
    if depth == usize::MAX { 0 } else { exhaust(depth + 1) + frame[depth % 300] as usize }
}

#[test]
fn a_stack_overflow_ends_its_own_coroutine_only() {
    for _ in 0..20 {
        run(|| {
            let notified = Arc::new(AtomicBool::new(false));
            let notify = notified.clone();
            let victim = spawn("victim", 7, move || {
                super::on_overflow(move || notify.store(true, Ordering::Relaxed));
                std::hint::black_box(exhaust(0));
            })
            .unwrap();
            victim.join();
            assert!(notified.load(Ordering::Relaxed), "the callback shuts its socket down");
            sleep(Duration::from_millis(1));
        })
        .unwrap();
    }
}

/// Uses what is shared at each depth, until there is no stack for it.
#[inline(never)]
fn exhaust_within(shared: &Shared<usize>, depth: usize) -> usize {
    let frame = std::hint::black_box([depth as u8; 300]);
    shared.with(|deepest| *deepest = depth);
    if depth == usize::MAX { 0 } else { exhaust_within(shared, depth + 1) + frame[depth % 300] as usize }
}

#[test]
fn a_stack_does_not_overflow_while_it_has_what_is_shared() {
    run(|| {
        for _ in 0..20 {
            let shared = Shared::new(0);
            let (theirs, lost) = (shared.clone(), Arc::new(AtomicBool::new(false)));
            let notify = lost.clone();
            let victim = spawn("victim", 7, move || {
                super::on_overflow(move || notify.store(true, Ordering::Relaxed));
                std::hint::black_box(exhaust_within(&theirs, 0));
            });
            victim.unwrap().join();
            assert!(!lost.load(Ordering::Relaxed), "it panicked before");
            assert!(shared.with(|deepest| *deepest) > 10);
            assert_eq!(shared.handle_count(), 1, "and its frames were dropped");
        }
    })
    .unwrap();
}

#[test]
fn a_stack_is_used_again_after_overflow_and_panic() {
    run(|| {
        for round in 0..50 {
            let victim = spawn("victim", 0, move || match round % 3 {
                0 => panic!("on purpose"),
                1 => {
                    std::hint::black_box(exhaust(0));
                }
                _ => sleep(Duration::from_millis(1)),
            });
            victim.unwrap().join();
        }
    })
    .unwrap();
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let order = run(|| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let handles: Vec<_> = [30u64, 10, 20]
            .map(|ms| {
                let order = order.clone();
                spawn("sleeper", 0, move || {
                    let from = Instant::now();
                    sleep(Duration::from_millis(ms));
                    assert!(from.elapsed() >= Duration::from_millis(ms));
                    order.lock().unwrap().push(ms);
                })
                .unwrap()
            })
            .into();
        handles.iter().for_each(super::Handle::join);
        Arc::into_inner(order).unwrap().into_inner().unwrap()
    });
    assert_eq!(order.unwrap(), [10, 20, 30]);
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
    run(|| {
        let (near, far) = pair();
        let writer = spawn("writer", 0, move || {
            for _ in 0..5 {
                sleep(Duration::from_millis(15));
                (&far).write_all(b"x").unwrap();
            }
            // Keeps the connection open past the reader's time-out.
            sleep(Duration::from_millis(200));
        })
        .unwrap();
        let from = Instant::now();
        let mut bytes = 0;
        let error = loop {
            near.set_time_limit(Some(Duration::from_millis(40)));
            match (&near).read(&mut [0]) {
                Ok(n) => bytes += n,
                Err(error) => break error,
            }
        };
        assert_eq!((bytes, error.kind()), (5, std::io::ErrorKind::TimedOut));
        assert!(from.elapsed() >= Duration::from_millis(5 * 15 + 40));
        writer.join();
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
fn offload_reports_a_panic_and_keeps_its_threads() {
    run(|| {
        for _ in 0..20 {
            assert!(offload(|| panic!("on purpose")).is_err());
        }
        assert_eq!(offload(|| 42).unwrap(), 42);
    })
    .unwrap();
}

#[test]
fn offloaded_work_leaves_the_worker_free() {
    run(|| {
        let ticks = Arc::new(AtomicU32::new(0));
        let counter = ticks.clone();
        spawn("ticker", 0, move || {
            for _ in 0..5 {
                sleep(Duration::from_millis(2));
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
        let seen = ticks.clone();
        // Blocks its thread until the coroutines have had their turns.
        let until = Instant::now() + BOUND;
        let all = offload(move || {
            while seen.load(Ordering::Relaxed) < 5 && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            seen.load(Ordering::Relaxed)
        });
        assert_eq!(all.unwrap(), 5);
    })
    .unwrap();
}

#[test]
fn shared_state_taken_twice_panics_one_coroutine() {
    run(|| {
        let shared = Shared::new(1);
        let inner = shared.clone();
        let wrong = spawn("wrong", 0, move || {
            inner.with(|_| {
                inner.with(|_| ());
            });
        });
        wrong.unwrap().join();
        shared.with(|value| *value += 1);
        assert_eq!(shared.with(|value| *value), 2);
    })
    .unwrap();
}

#[test]
fn the_current_id_follows_the_coroutine() {
    run(|| {
        let handles: Vec<_> = (1..=5)
            .map(|id| {
                spawn("client", id, move || {
                    for _ in 0..5 {
                        assert_eq!(super::current_client(), id);
                        sleep(Duration::from_millis(id));
                    }
                    assert_eq!(super::current_client(), id);
                })
                .unwrap()
            })
            .collect();
        handles.iter().for_each(super::Handle::join);
        assert_eq!(super::current_client(), 0);
    })
    .unwrap();
}

#[test]
fn a_stack_that_was_trimmed_is_as_good_as_before() {
    /// Touches a good part of the stack, then returns.
    #[inline(never)]
    fn deep(depth: usize) -> usize {
        let frame = std::hint::black_box([depth as u8; 1000]);
        if depth == 0 { usize::from(frame[0]) } else { deep(depth - 1) + usize::from(frame[999] == depth as u8) }
    }
    run(|| {
        let handles: Vec<_> = (0..4)
            .map(|_| {
                spawn("deep", 0, || {
                    let kept = std::hint::black_box([7u8; 2000]);
                    for _ in 0..3 {
                        assert_eq!(deep(20), 20);
                        super::trim_stack();
                        sleep(Duration::from_millis(1));
                        super::trim_stack();
                    }
                    assert!(kept.iter().all(|&byte| byte == 7));
                })
                .unwrap()
            })
            .collect();
        handles.iter().for_each(super::Handle::join);
    })
    .unwrap();
    // Outside of coroutines it does nothing.
    super::trim_stack();
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

/// The worker used to hang when a thread's answer came while the coroutine was about to park, and it had nothing else to do.
#[test]
fn a_coroutine_may_end_as_soon_as_a_thread_has_woken_it() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let all = run(|| {
            let ending = |_| spawn("ends", 0, || offload(|| ()).unwrap_or(())).unwrap();
            for _ in 0..500 {
                (0..20).map(ending).collect::<Vec<_>>().iter().for_each(Handle::join);
            }
        });
        sender.send(all).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(60)).expect("the worker goes on").unwrap();
}
