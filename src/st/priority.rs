//! Two priorities: coroutines that stream media run first, all others share what they leave of the worker's time.
//!
//! A coroutine of low priority runs only when admitted. Admission is first come, first served within each [`LowClass`], and
//! alternates between the classes. All of them together have one [`QUANTUM`] per round of the event queue, in which every
//! coroutine that can run has its turn. So a coroutine of normal priority waits for at most one quantum and one more run, and
//! low priority gets all the time that nobody else needs.
//!
//! On a busy worker that alone would take a considerable part of the time of normal priority. When normal priority needs more
//! than [`THROTTLE_ABOVE`], low priority gets what is left minus [`HEADROOM`], but at least [`MIN_LOW_PRIORITY_SHARE`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use may::coroutine::{self, Coroutine};

use super::load::{self, MIN_LOW_PRIORITY_SHARE};
use super::task::{CURRENT, LowClass};
use super::{alarm, clock};

/// Time for all coroutines of low priority in one round. A further round costs some microseconds.
const QUANTUM: Duration = Duration::from_millis(1);

/// Period for which a share of the time is granted.
const PERIOD: Duration = Duration::from_millis(100);

/// Share of the time used by normal priority above which low priority is throttled.
const THROTTLE_ABOVE: f64 = 0.5;

/// Share of the time that throttling leaves free.
const HEADROOM: f64 = 0.05;

thread_local! {
    static SCHEDULER: Scheduler = const { Scheduler::new() };
}

/// Admission of coroutines of low priority.
struct Scheduler {
    /// Start of the current run of a low-priority coroutine.
    running_since: Cell<Option<Instant>>,
    /// A coroutine has been admitted and does not run yet.
    admission_pending: Cell<bool>,
    /// Time used in this round.
    in_round: Cell<Duration>,
    period_end: Cell<Option<Instant>>,
    /// Upper bound of the time used since the worker started, until the end of the period.
    allowed_total: Cell<Duration>,
    queues: RefCell<[VecDeque<Rc<Ticket>>; 2]>,
    next_class: Cell<usize>,
}

/// A coroutine that waits for admission.
struct Ticket {
    is_admitted: Cell<bool>,
    coroutine: Coroutine,
}

/// Normal priority of the current coroutine. Dropping it restores low priority; it stays with its coroutine.
#[must_use = "priority is low again when it is dropped"]
pub struct PriorityGuard(PhantomData<*const ()>);

/// Gives the current coroutine normal priority, if it was spawned with low priority.
pub fn raise_priority() -> PriorityGuard {
    set_low(false);
    PriorityGuard(PhantomData)
}

impl Drop for PriorityGuard {
    fn drop(&mut self) {
        set_low(true);
    }
}

fn set_low(is_low: bool) {
    CURRENT.with_borrow(|current| {
        if let Some(task) = current.as_ref().filter(|task| task.low_class.is_some()) {
            task.is_low.store(is_low, Ordering::Relaxed);
            if is_low { SCHEDULER.with(|scheduler| scheduler.start_run(clock::now())) } else { stop_running() }
        }
    });
}

/// Waits until the current coroutine, which has low priority, is admitted. From then on its time counts.
pub(super) fn admit(class: LowClass) {
    let ticket = SCHEDULER.with(|scheduler| scheduler.start_or_enqueue(class, clock::now()));
    if let Some(ticket) = ticket {
        while !ticket.is_admitted.get() {
            coroutine::park();
        }
        SCHEDULER.with(|scheduler| {
            scheduler.admission_pending.set(false);
            scheduler.start_run(clock::now());
        });
    }
}

/// Ends the run of the current coroutine of low priority, which is about to wait or has ended.
pub(super) fn stop_running() {
    SCHEDULER.with(|scheduler| scheduler.finish_run(clock::now()));
}

/// Returns whether a coroutine of low priority waits for its turn.
pub(super) fn has_waiting() -> bool {
    SCHEDULER.with(Scheduler::has_waiting)
}

/// Starts a new round: every coroutine that could run has run.
pub(super) fn on_round(now: Instant) {
    SCHEDULER.with(|scheduler| {
        scheduler.in_round.set(Duration::ZERO);
        scheduler.admit_next(now);
    });
}

impl Scheduler {
    const fn new() -> Self {
        Self {
            running_since: Cell::new(None),
            admission_pending: Cell::new(false),
            in_round: Cell::new(Duration::ZERO),
            period_end: Cell::new(None),
            allowed_total: Cell::new(Duration::ZERO),
            queues: RefCell::new([VecDeque::new(), VecDeque::new()]),
            next_class: Cell::new(0),
        }
    }

    /// Starts the run of the current coroutine, or returns a ticket to wait for.
    fn start_or_enqueue(&self, class: LowClass, now: Instant) -> Option<Rc<Ticket>> {
        if !self.admission_pending.get() && !self.has_waiting() && self.may_run(now) {
            self.start_run(now);
            return None;
        }
        let ticket = Rc::new(Ticket { is_admitted: Cell::new(false), coroutine: coroutine::current() });
        self.queues.borrow_mut()[class as usize].push_back(ticket.clone());
        self.admit_next(now);
        Some(ticket)
    }

    fn start_run(&self, now: Instant) {
        self.running_since.set(Some(now));
    }

    fn finish_run(&self, now: Instant) {
        let Some(since) = self.running_since.take() else { return };
        let used = now.saturating_duration_since(since);
        load::add_low_priority_run(used);
        self.in_round.set(self.in_round.get() + used);
        self.admit_next(now);
    }

    fn has_waiting(&self) -> bool {
        self.queues.borrow().iter().any(|queue| !queue.is_empty())
    }

    /// Admits the next waiting coroutine, or schedules another round. While any coroutine waits, either one is admitted or a
    /// round is scheduled.
    fn admit_next(&self, now: Instant) {
        if self.admission_pending.get() || !self.has_waiting() {
            return;
        }
        if !self.may_run(now) {
            let is_spent = load::low_priority_time() >= self.allowed_total.get();
            alarm::set(if is_spent { self.period_end.get().unwrap_or(now) } else { now });
            return;
        }
        let class = self.next_class.get();
        let ticket = {
            let queues = &mut *self.queues.borrow_mut();
            queues[class].pop_front().or_else(|| queues[1 - class].pop_front())
        };
        self.next_class.set(1 - class);
        if let Some(ticket) = ticket {
            self.admission_pending.set(true);
            ticket.is_admitted.set(true);
            ticket.coroutine.unpark();
        }
    }

    fn may_run(&self, now: Instant) -> bool {
        if self.period_end.get().is_none_or(|end| now >= end) {
            self.period_end.set(Some(now + PERIOD));
            // An overrun of the last period is deducted, up to half a period: more would lock low priority out for long.
            let total = load::low_priority_time();
            let start = total.min(self.allowed_total.get()).max(total.saturating_sub(PERIOD / 2));
            self.allowed_total.set(start + PERIOD.mul_f64(allowed_share(load::busy_share())));
        }
        self.in_round.get() < QUANTUM && load::low_priority_time() < self.allowed_total.get()
    }
}

/// Returns the share of the worker's time for low priority when normal priority uses the share `busy`.
fn allowed_share(busy: f64) -> f64 {
    if busy < THROTTLE_ABOVE { 1.0 } else { (1.0 - HEADROOM - busy).max(MIN_LOW_PRIORITY_SHARE) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;
    use crate::st::{Handle, Shared, run, spawn_low_priority, yield_now};

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
                    spawn_low_priority(LowClass::Requests, "stranger", 0, move || {
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
            // Until each had some turns, however slow the machine is.
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
        assert!(rounds.iter().all(|round| round == &rounds[0]), "they take turns: {order:?}");
    }

    #[test]
    fn one_that_panics_or_is_raised_holds_nobody_up() {
        run(|| {
            let broken = spawn_low_priority(LowClass::Requests, "stranger", 0, || panic!("for the test"));
            let raised = spawn_low_priority(LowClass::Requests, "stranger", 0, || {
                let raised = raise_priority();
                yield_now();
                let before = load::low_priority_time();
                spin(Duration::from_millis(2));
                assert_eq!(load::low_priority_time(), before, "raised time does not count as low priority");
                drop(raised);
                yield_now();
            });
            let last = spawn_low_priority(LowClass::Requests, "stranger", 0, yield_now);
            for handle in [broken, raised, last] {
                handle.unwrap().join();
            }
            let before = load::low_priority_time();
            spawn_low_priority(LowClass::Requests, "stranger", 0, || spin(Duration::from_millis(2))).unwrap().join();
            assert!(load::low_priority_time() - before >= Duration::from_millis(2));
            let runs = load::low_priority_runs();
            assert!(runs.cumulative().next().is_some_and(|(_, short)| short < runs.count()), "{runs:?}");
        })
        .unwrap();
    }

    #[test]
    fn they_get_all_that_is_left_and_something_in_any_case() {
        for (busy, expected) in [(0.0, 1.0), (0.49, 1.0), (0.5, 0.45), (0.8, 0.15), (0.9, 0.05), (1.0, 0.05)] {
            assert!((allowed_share(busy) - expected).abs() < 0.001, "{busy}: {}", allowed_share(busy));
        }
    }

    #[test]
    fn a_few_of_one_class_do_not_stand_behind_the_many_of_the_other() {
        const MANY: usize = 100;
        let before = run(|| {
            let order = Shared::new(Vec::new());
            let spawn_many = |class, count| {
                let order = order.clone();
                let spawn = move |_| {
                    let order = order.clone();
                    spawn_low_priority(class, "stranger", 0, move || {
                        order.with(|order| order.push(class));
                        spin(Duration::from_micros(300));
                    })
                    .unwrap()
                };
                (0..count).map(spawn).collect::<Vec<_>>()
            };
            let all = [spawn_many(LowClass::Requests, MANY), spawn_many(LowClass::Arrivals, 5)].concat();
            all.iter().for_each(Handle::join);
            let order = order.with(|order| order.clone());
            let last = order.iter().rposition(|class| *class == LowClass::Arrivals).unwrap();
            order[..last].iter().filter(|class| **class == LowClass::Requests).count()
        })
        .unwrap();
        assert!(before < MANY / 2, "{before} of {MANY} were before the last of five");
    }
}
