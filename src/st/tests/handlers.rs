//! Waits with an event handler.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::BOUND;
use super::sockets::pair;
use crate::st::net::{EventHandler, TcpStream, WaitResult};
use crate::st::{Handle, Shared, current_client, run, sleep, spawn, yield_now};

/// Reads all that is there. Returns the number of bytes.
fn read_all(stream: &TcpStream) -> usize {
    let mut total = 0;
    while let Some(n) = stream.try_read(&mut [0; 16]).unwrap().filter(|&n| n > 0) {
        total += n;
    }
    total
}

/// Waits, and reads within the handler, until there were `bytes`. Returns the number of calls of the handler.
fn receive(stream: &TcpStream, bytes: usize) -> usize {
    let (mut received, mut calls) = (read_all(stream), 0);
    while received < bytes {
        let deadline = Some(Instant::now() + BOUND);
        let end = stream.wait_with_handler(deadline, &mut |_| {
            calls += 1;
            received += read_all(stream);
            (received < bytes).then_some(deadline)
        });
        assert!(!end.unwrap().timed_out, "{received} of {bytes} bytes");
        received += read_all(stream);
    }
    assert_eq!(received, bytes);
    calls
}

#[test]
fn a_handler_gets_the_events_of_its_socket_as_its_client() {
    run(|| {
        let (near, far) = pair();
        let (reader, clients) = (near.clone(), Shared::new(Vec::new()));
        let seen = clients.clone();
        let waiting = spawn("reader", 77, move || {
            let deadline = Some(Instant::now() + BOUND);
            while seen.with(|seen| seen.len()) < 3 {
                let end = reader.wait_with_handler(deadline, &mut |_| {
                    read_all(&reader);
                    seen.with(|seen| seen.push(current_client()));
                    (seen.with(|seen| seen.len()) < 3).then_some(deadline)
                });
                assert!(!end.unwrap().timed_out);
                read_all(&reader);
            }
            seen.with(|seen| seen.push(current_client()));
        })
        .unwrap();
        while !waiting.is_finished() {
            (&far).write_all(b"x").unwrap();
            sleep(Duration::from_millis(1));
        }
        assert_eq!(clients.with(|clients| clients.clone()), [77; 4]);
        read_all(&near);
        // The socket is as before.
        (&far).write_all(b"abc").unwrap();
        near.set_time_limit(Some(BOUND));
        (&near).read_exact(&mut [0; 3]).unwrap();
    })
    .unwrap();
}

#[test]
fn a_wake_up_ends_a_wait_with_a_handler() {
    run(|| {
        let (near, _far) = pair();
        let deadline = Some(Instant::now() + BOUND);
        let mut never = |event: WaitResult| {
            assert!(event.timed_out, "no event");
            None
        };
        near.wake();
        assert!(near.wait_with_handler(deadline, &mut never).unwrap().woken, "before it began");
        let target = near.clone();
        spawn("waker", 0, move || target.wake()).unwrap();
        let WaitResult { woken, timed_out, .. } = near.wait_with_handler(deadline, &mut never).unwrap();
        assert!(woken && !timed_out);
        let from = Instant::now();
        let end = near.wait_with_handler(Some(from + Duration::from_millis(20)), &mut never).unwrap();
        assert!(end.timed_out && from.elapsed() >= Duration::from_millis(20));
    })
    .unwrap();
}

#[test]
fn the_deadline_of_a_handler_is_kept() {
    const LIMIT: Duration = Duration::from_millis(50);
    run(|| {
        for first in [LIMIT / 2, BOUND] {
            let (near, far) = pair();
            spawn("writer", 0, move || {
                (&far).write_all(b"x").unwrap();
                // Longer than the test.
                sleep(BOUND);
            })
            .unwrap();
            let (from, mut bytes) = (Instant::now(), 0);
            let mut deadline = Some(from + first);
            loop {
                let end = near.wait_with_handler(deadline, &mut |event: crate::st::net::WaitResult| {
                    bytes += read_all(&near);
                    if bytes == 1 {
                        deadline = Some(from + LIMIT);
                    }
                    (!event.timed_out).then_some(deadline)
                });
                if bytes == 1 && end.unwrap().timed_out {
                    break;
                }
                bytes += read_all(&near);
            }
            assert!((LIMIT..BOUND).contains(&from.elapsed()), "{:?} after {first:?}", from.elapsed());
        }
    })
    .unwrap();
}

#[test]
fn a_panic_of_a_handler_ends_its_coroutine_only() {
    run(|| {
        let (near, far) = pair();
        let (other, other_far) = pair();
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let waiting = spawn("other", 0, move || {
            receive(&other, 2);
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        (&far).write_all(b"x").unwrap();
        (&other_far).write_all(b"x").unwrap();
        let deadline = Some(Instant::now() + BOUND);
        // Without an event before the wait.
        while read_all(&near) == 0 {
            near.wait(deadline);
        }
        (&far).write_all(b"x").unwrap();
        let wait = || near.wait_with_handler(deadline, &mut |_| panic!("for the test"));
        let payload = loop {
            match panic::catch_unwind(AssertUnwindSafe(wait)) {
                Ok(end) => assert!(!end.unwrap().timed_out),
                Err(payload) => break payload,
            }
        };
        assert_eq!(payload.downcast_ref(), Some(&"for the test"));
        (&other_far).write_all(b"x").unwrap();
        waiting.join();
        assert_eq!((read_all(&near), done.load(Ordering::Relaxed)), (1, 1));
    })
    .unwrap();
}

#[test]
fn the_end_of_a_connection_reaches_its_handler() {
    run(|| {
        let (near, far) = pair();
        let closer = spawn("closer", 0, move || drop(far)).unwrap();
        let deadline = Some(Instant::now() + BOUND);
        let mut has_ended = false;
        while !has_ended {
            let end = near.wait_with_handler(deadline, &mut |_| None).unwrap();
            assert!(!end.timed_out);
            has_ended = near.try_read(&mut [0]).unwrap() == Some(0);
        }
        closer.join();
    })
    .unwrap();
}

/// A handler that ends its wait with the first event, and keeps the depths that were prefetched before.
struct DepthRecorder<'a> {
    prefetched: RefCell<Vec<usize>>,
    at_event: &'a mut Vec<usize>,
}

impl EventHandler for DepthRecorder<'_> {
    fn handle(&mut self, _: WaitResult) -> Option<Option<Instant>> {
        *self.at_event = self.prefetched.take();
        None
    }

    fn prefetch(&self, depth: usize) {
        self.prefetched.borrow_mut().push(depth);
    }
}

#[test]
fn the_memory_of_each_handler_is_prefetched_pointer_by_pointer() {
    // Fewer and more events at a time than are prefetched ahead.
    for sockets in [1, 3, 20] {
        run(move || {
            let pairs: Vec<_> = (0..sockets).map(|_| pair()).collect();
            let seen = Shared::new(Vec::new());
            let waits = pairs.iter().map(|(near, _)| {
                let (near, seen) = (near.clone(), seen.clone());
                spawn("reader", 0, move || {
                    let mut depths = Vec::new();
                    // The first wait may return at once, with an event from before.
                    while depths.is_empty() {
                        let handler = DepthRecorder { prefetched: RefCell::default(), at_event: &mut depths };
                        let deadline = Some(Instant::now() + BOUND);
                        assert!(!near.wait_with_handler(deadline, handler).unwrap().timed_out);
                    }
                    seen.with(|seen| seen.push(depths));
                })
                .unwrap()
            });
            let waits: Vec<_> = waits.collect();
            yield_now();
            // Again, after a wait that has returned at once.
            while !waits.iter().all(Handle::is_finished) {
                pairs.iter().for_each(|(_, far)| (&mut &*far).write_all(b"x").unwrap());
                sleep(Duration::from_millis(1));
            }
            assert_eq!(seen.with(std::mem::take), vec![vec![1, 2, 3, 4]; sockets]);
        })
        .unwrap();
    }
}

#[test]
fn no_event_of_many_sockets_is_lost() {
    const SOCKETS: usize = 50;
    const BYTES: usize = 40;
    run(|| {
        let (handlers, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = Vec::new();
        for number in 0..SOCKETS {
            let (near, far) = pair();
            let (calls, reader_done, writer_done) = (handlers.clone(), done.clone(), done.clone());
            // Those that wait without a handler in turns use the other event queue.
            let reader = spawn("reader", 0, move || {
                for count in 1..=BYTES {
                    if (count + number) % 3 == 0 {
                        near.set_time_limit(Some(BOUND));
                        (&near).read_exact(&mut [0]).unwrap();
                    } else {
                        calls.fetch_add(receive(&near, 1), Ordering::Relaxed);
                    }
                    (&near).write_all(b"y").unwrap();
                }
                reader_done.fetch_add(1, Ordering::Relaxed);
            });
            let writer = spawn("writer", 0, move || {
                far.set_time_limit(Some(BOUND));
                for _ in 0..BYTES {
                    (&far).write_all(b"x").unwrap();
                    (&far).read_exact(&mut [0]).unwrap();
                }
                writer_done.fetch_add(1, Ordering::Relaxed);
            });
            all.extend([reader.unwrap(), writer.unwrap()]);
        }
        all.iter().for_each(super::Handle::join);
        assert_eq!(done.load(Ordering::Relaxed), 2 * SOCKETS);
        assert!(handlers.load(Ordering::Relaxed) > SOCKETS, "{handlers:?} calls");
    })
    .unwrap();
}
