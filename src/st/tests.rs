//! Tests of the runtime's promises, on the real worker.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::{Cond, Handle, Shared, offload, run, sleep, spawn, yield_now};
use sockets::pair;

mod handlers;
mod sockets;
mod stacks;

/// Longest time of a wait in a test; the tests share one worker.
const BOUND: Duration = Duration::from_secs(20);

fn current_thread() -> ThreadId {
    thread::current().id()
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
