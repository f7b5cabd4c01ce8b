//! Two priorities: who streams goes first, and all others share what that leaves of the worker's time.
//!
//! A coroutine of low priority runs when it is admitted. They are admitted one after the other, in the order in which they asked, of
//! each [`Crowd`] in turn, and have together a [`QUANTUM`] in each round of the event queue, in which every coroutine that can run has
//! its turn. So one of normal priority waits for a quantum and one more run at most, however many strangers there are, and they get
//! all the time that nobody else wants.
//!
//! That by itself would cost a worker that has too much to do for those who stream a fair part of its time. So where these need more
//! than [`HALF`] of it, the others get no more than what is left, less some to grow into, and [`LEAST`] at the least.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use may::coroutine::{self, Coroutine};

use super::{CURRENT, load, timer};

/// What all coroutines of low priority may use of a round. Another round costs some microseconds.
const QUANTUM: Duration = Duration::from_millis(1);

/// How long a share of the time holds.
const PERIOD: Duration = Duration::from_millis(100);

/// When normal priority needs more than this share of the time, that of the others is bounded.
const HALF: f64 = 0.5;

/// What is left free then.
const SPARE: f64 = 0.05;

/// What low priority has in any case: a server that is too busy to let anybody in is to say so.
pub(super) const LEAST: f64 = 0.05;

thread_local! {
    static LOW: Low = const { Low::new() };
}

/// Who has low priority. Each crowd has a queue of its own, so that a few of the one do not stand behind the thousands of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// Those who have just come, and do not stream yet.
    Arrivals = 0,
    /// Those who ask for one thing after the other.
    Requests = 1,
}

/// What coroutines of low priority do and did.
struct Low {
    /// Since when one of them runs.
    running: Cell<Option<Instant>>,
    /// One has been admitted and is about to run.
    is_next: Cell<bool>,
    /// Time used since the worker started, and in this round.
    total: Cell<Duration>,
    in_round: Cell<Duration>,
    /// When this period ends, and the `total` that is not to be passed until then.
    period_end: Cell<Option<Instant>>,
    bound: Cell<Duration>,
    queues: RefCell<[VecDeque<Rc<Ticket>>; 2]>,
    /// Whose turn it is.
    turn: Cell<usize>,
}

/// One that waits to be admitted.
struct Ticket {
    is_admitted: Cell<bool>,
    coroutine: Coroutine,
}

/// The current coroutine has normal priority for as long as this lives. It is for this coroutine and no other.
#[must_use = "priority is low again when it is dropped"]
pub struct Raised(PhantomData<*const ()>);

/// Gives the current coroutine normal priority, if it was spawned with a low one.
pub fn raise() -> Raised {
    set_low(false);
    Raised(PhantomData)
}

impl Drop for Raised {
    fn drop(&mut self) {
        set_low(true);
    }
}

fn set_low(is_low: bool) {
    CURRENT.with_borrow(|current| {
        if let Some(task) = current.as_ref().filter(|task| task.crowd.is_some()) {
            task.is_low.store(is_low, Ordering::Relaxed);
            if is_low { LOW.with(|low| low.begin(Instant::now())) } else { pause() }
        }
    });
}

/// Waits until the current coroutine, which is of low priority, is admitted. What it does from then on counts.
pub(super) fn admit(crowd: Crowd) {
    let ticket = LOW.with(|low| low.ask(crowd, Instant::now()));
    if let Some(ticket) = ticket {
        while !ticket.is_admitted.get() {
            coroutine::park();
        }
        LOW.with(|low| {
            low.is_next.set(false);
            low.begin(Instant::now());
        });
    }
}

/// The current coroutine, which was of low priority and admitted, is about to wait or has ended.
pub(super) fn pause() {
    LOW.with(|low| low.end(Instant::now()));
}

/// Every coroutine that could run has run.
pub(super) fn on_round(now: Instant) {
    LOW.with(|low| {
        low.in_round.set(Duration::ZERO);
        low.admit_next(now);
    });
}

/// The time that coroutines of low priority have used so far.
pub(super) fn used() -> Duration {
    LOW.with(|low| low.total.get())
}

impl Low {
    const fn new() -> Self {
        Self {
            running: Cell::new(None),
            is_next: Cell::new(false),
            total: Cell::new(Duration::ZERO),
            in_round: Cell::new(Duration::ZERO),
            period_end: Cell::new(None),
            bound: Cell::new(Duration::ZERO),
            queues: RefCell::new([VecDeque::new(), VecDeque::new()]),
            turn: Cell::new(0),
        }
    }

    /// Begins to run, or gives what is to be waited for.
    fn ask(&self, crowd: Crowd, now: Instant) -> Option<Rc<Ticket>> {
        if !self.is_next.get() && !self.has_waiting() && self.may_run(now) {
            self.begin(now);
            return None;
        }
        let ticket = Rc::new(Ticket { is_admitted: Cell::new(false), coroutine: coroutine::current() });
        self.queues.borrow_mut()[crowd as usize].push_back(ticket.clone());
        self.admit_next(now);
        Some(ticket)
    }

    fn begin(&self, now: Instant) {
        self.running.set(Some(now));
    }

    fn end(&self, now: Instant) {
        let Some(since) = self.running.take() else { return };
        let used = now.saturating_duration_since(since);
        self.total.set(self.total.get() + used);
        self.in_round.set(self.in_round.get() + used);
        self.admit_next(now);
    }

    fn has_waiting(&self) -> bool {
        self.queues.borrow().iter().any(|queue| !queue.is_empty())
    }

    /// Admits who has waited longest, now or in another round. Whenever somebody waits, somebody is about to run or there is to be
    /// another round.
    fn admit_next(&self, now: Instant) {
        if self.is_next.get() || !self.has_waiting() {
            return;
        }
        if !self.may_run(now) {
            let is_spent = self.total.get() >= self.bound.get();
            timer::have_round(if is_spent { self.period_end.get().unwrap_or(now) } else { now });
            return;
        }
        let turn = self.turn.get();
        let ticket = {
            let queues = &mut *self.queues.borrow_mut();
            queues[turn].pop_front().or_else(|| queues[1 - turn].pop_front())
        };
        self.turn.set(1 - turn);
        if let Some(ticket) = ticket {
            self.is_next.set(true);
            ticket.is_admitted.set(true);
            ticket.coroutine.unpark();
        }
    }

    fn may_run(&self, now: Instant) -> bool {
        if self.period_end.get().is_none_or(|end| now >= end) {
            self.period_end.set(Some(now + PERIOD));
            // What was used beyond the bound is missing now, if it is not so much that nobody would have a turn for long.
            let total = self.total.get();
            let used = total.min(self.bound.get()).max(total.saturating_sub(PERIOD / 2));
            self.bound.set(used + PERIOD.mul_f64(share(load::busy_share())));
        }
        self.in_round.get() < QUANTUM && self.total.get() < self.bound.get()
    }
}

/// The share of the worker's time that low priority may have when normal priority has the share `busy`.
fn share(busy: f64) -> f64 {
    if busy < HALF { 1.0 } else { (1.0 - SPARE - busy).max(LEAST) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;
    use crate::st::{Handle, Shared, run, spawn_low, yield_now};

    fn spin(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn strangers_have_a_quantum_between_two_turns_of_one_who_streams() {
        const SLICE: Duration = Duration::from_micros(300);
        const STRANGERS: usize = 50;
        let (most, order) = run(|| {
            let (stop, slices, order) =
                (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Shared::new(Vec::new()));
            let strangers: Vec<Handle> = (0..STRANGERS)
                .map(|number| {
                    let (stop, slices, order) = (stop.clone(), slices.clone(), order.clone());
                    spawn_low(Crowd::Requests, "stranger", 0, move || {
                        while !stop.load(Ordering::Relaxed) {
                            slices.fetch_add(1, Ordering::Relaxed);
                            order.with(|order| order.push(number));
                            spin(SLICE);
                            yield_now();
                        }
                    })
                    .unwrap()
                })
                .collect();
            let mut most = 0;
            // Until each has had some turns, however slow the machine is.
            while slices.load(Ordering::Relaxed) < STRANGERS * 5 {
                let before = slices.load(Ordering::Relaxed);
                yield_now();
                most = most.max(slices.load(Ordering::Relaxed) - before);
            }
            stop.store(true, Ordering::Relaxed);
            strangers.iter().for_each(Handle::join);
            (most, order.with(|order| order.clone()))
        })
        .unwrap();
        // 0.3 ms each: the fourth passes the millisecond. A slow machine makes it fewer.
        assert!((1..=4).contains(&most), "{most}");
        let rounds: Vec<_> = order.chunks(STRANGERS).take(5).collect();
        assert!(rounds.iter().all(|round| round == &rounds[0]), "each in its turn: {order:?}");
    }

    #[test]
    fn one_that_panics_or_is_raised_holds_nobody_up() {
        run(|| {
            let broken = spawn_low(Crowd::Requests, "stranger", 0, || panic!("for the test"));
            let raised = spawn_low(Crowd::Requests, "stranger", 0, || {
                let raised = raise();
                yield_now();
                let before = used();
                spin(Duration::from_millis(2));
                assert_eq!(used(), before, "its time is not that of low priority");
                drop(raised);
                yield_now();
            });
            let last = spawn_low(Crowd::Requests, "stranger", 0, yield_now);
            for handle in [broken, raised, last] {
                handle.unwrap().join();
            }
            let before = used();
            spawn_low(Crowd::Requests, "stranger", 0, || spin(Duration::from_millis(2))).unwrap().join();
            assert!(used() - before >= Duration::from_millis(2));
        })
        .unwrap();
    }

    #[test]
    fn they_get_all_that_is_left_and_something_in_any_case() {
        for (busy, due) in [(0.0, 1.0), (0.49, 1.0), (0.5, 0.45), (0.8, 0.15), (0.9, 0.05), (1.0, 0.05)] {
            assert!((share(busy) - due).abs() < 0.001, "{busy}: {}", share(busy));
        }
    }

    #[test]
    fn one_that_overflows_its_stack_holds_nobody_up() {
        #[allow(unconditional_recursion, reason = "that is what it is for")]
        fn deeper(n: u64) -> u64 {
            std::hint::black_box(deeper(std::hint::black_box(n + 1)) + 1)
        }
        run(|| {
            let lost = spawn_low(Crowd::Requests, "stranger", 0, || {
                std::hint::black_box(deeper(0));
            })
            .unwrap();
            let next: Vec<_> = (0..3).map(|_| spawn_low(Crowd::Requests, "stranger", 0, yield_now).unwrap()).collect();
            next.iter().for_each(Handle::join);
            lost.join();
        })
        .unwrap();
    }

    #[test]
    fn a_few_of_one_crowd_do_not_stand_behind_the_many_of_the_other() {
        const MANY: usize = 100;
        let before = run(|| {
            let order = Shared::new(Vec::new());
            let come = |crowd, count| {
                let order = order.clone();
                let spawn = move |_| {
                    let order = order.clone();
                    spawn_low(crowd, "stranger", 0, move || {
                        order.with(|order| order.push(crowd));
                        spin(Duration::from_micros(300));
                    })
                    .unwrap()
                };
                (0..count).map(spawn).collect::<Vec<_>>()
            };
            let all = [come(Crowd::Requests, MANY), come(Crowd::Arrivals, 5)].concat();
            all.iter().for_each(Handle::join);
            let order = order.with(|order| order.clone());
            let last = order.iter().rposition(|crowd| *crowd == Crowd::Arrivals).unwrap();
            order[..last].iter().filter(|crowd| **crowd == Crowd::Requests).count()
        })
        .unwrap();
        assert!(before < MANY / 2, "{before} of {MANY} were before the last of five");
    }
}
