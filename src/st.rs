//! The coroutine runtime, named for the state-threads library that the original server runs on.
//!
//! Every client is a stackful coroutine that reads and writes as if its calls blocked. All coroutines run on **one** worker
//! thread, so that what happens between two blocking calls is atomic for every other coroutine. Only this module and its
//! children name the `may` crate, because `may` alone does not keep that promise: its timed waits resume a coroutine on its
//! timer thread, next to the worker. Here:
//!
//! | item | function |
//! |---|---|
//! | [`spawn`], [`run`] | a coroutine with its own stack; a panic ends that coroutine alone; a stack overflow, which no input can cause, ends the process |
//! | [`spawn_low_priority`], [`raise_priority`] | coroutines that share what the others leave of the worker's time |
//! | [`sleep`], [`yield_now`] | deadlines kept by one coroutine on a timerfd; a yield lets sockets make progress |
//! | [`gather_events`] | short pauses of a worker with many coroutines that each have little to do |
//! | [`now`], [`system_time`] | the only clocks of the server |
//! | [`Cond`], [`Inbox`], [`Shared`] | condition variable, queue from threads to a coroutine, state shared by coroutines |
//! | [`offload`], [`look_up`], [`drop_in_background`] | blocking work (disk, names), TLS handshakes and large frees on other threads |
//! | [`trim_stack`] | returns the unused pages of a stack to the system; the heap does that by itself, see `allocator` |
//! | [`fork`] | a copy of the process, with an allocator that returns memory there too |
//! | [`busy_share`], [`low_priority_runs`], [`start_watchdog`] | load of the worker; a thread that logs when one coroutine holds the worker |
//! | [`net`], `tls` (feature `ssl`) | sockets whose wait ends on readiness, a deadline or a wake-up; RTMPS |
//!
//! Two rules for code in a coroutine: never block the thread (no `std::thread::sleep`, no blocking file or name look-up), and
//! never wait inside `Drop`, which may run while a panic unwinds.

mod alarm;
mod allocator;
mod block;
mod clock;
mod cond;
mod fork;
mod inbox;
mod load;
pub mod net;
mod nice;
#[cfg(not(feature = "ssl"))]
mod no_tls;
mod offload;
mod panics;
mod prefetch;
mod priority;
mod shared;
mod spawn;
mod stack;
mod task;
mod timer;
#[cfg(feature = "ssl")]
pub mod tls;
mod waker;
mod watchdog;

pub use clock::{now, system_time};
pub use cond::Cond;
pub use fork::fork;
pub use inbox::Inbox;
pub use load::{RunLengths, busy_share, low_priority_runs};
pub use nice::set_nice;
pub use offload::{Overloaded, drop_in_background, look_up, offload};
pub use prefetch::{prefetch, prefetch_after, prefetch_all, prefetch_stack};
pub use priority::{PriorityGuard, raise_priority};
pub use shared::Shared;
pub use spawn::{Handle, RunError, coroutine_count, run, spawn, spawn_low_priority, spawn_supervised, supervised};
pub use stack::{STACK_BYTES, trim as trim_stack};
pub use task::{LowClass, current_client};
pub use timer::{gather_events, sleep, yield_now};
pub use watchdog::start_watchdog;

#[cfg(test)]
mod tests;
