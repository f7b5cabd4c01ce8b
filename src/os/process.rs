//! Child processes: their start, their output, and their end.
//!
//! ```text
//! Processes::spawn ──> thread "processes" ──> launcher (this program) ──exec──> the program
//!                         │  ▲ stdout, stderr, SIGCHLD by poll(2)
//!                         │  └──────────────────────────────────────────────────┘
//!                         ├──> ProcessEvent
//!                         └──> thread "process logs" ──> files
//! ```
//!
//! One thread starts, reads and reaps all children: the kernel ends a child with the thread that has started it
//! (PR_SET_PDEATHSIG), so that thread lives as long as the process. A child is started by way of the [`launcher`], this same
//! program, which sets what holds for the child alone and then becomes the child. So nothing runs between fork and exec, and a
//! server with gigabytes of memory copies no page tables.

mod children;
pub mod launcher;
mod lines;
mod log_budget;
mod log_files;
mod redact;
mod types;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use children::{Children, Order, Sinks};

pub use log_files::LogFile;
pub use types::{Limits, OnOutput, ProcessEnd, ProcessEvent, Spawn, StopSignal};

/// The children of this process. Dropping it leaves them running.
pub struct Processes {
    /// Wakes the thread, which then looks for orders.
    wake: UnixStream,
    orders: Mutex<mpsc::Sender<Order>>,
}

impl Processes {
    /// Starts the threads. `launcher` is the command that becomes the child, see [`launcher`]; `clock` tells the time;
    /// `on_event` is called on the thread that reads all children, and must not block. Fails when the system has no
    /// descriptors or threads for it.
    pub fn start(
        launcher: Vec<OsString>,
        clock: fn() -> Instant,
        on_event: impl Fn(ProcessEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (receiver, wake) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        // Writes a byte at each end of a child.
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, wake.try_clone()?)?;
        let (orders, received) = mpsc::channel();
        let sinks = Sinks { logs: log_files::start()?, clock };
        let mut children = Children::new(launcher, receiver, received, sinks, Box::new(on_event));
        thread::Builder::new().name("processes".into()).spawn(move || children.run())?;
        Ok(Self { wake, orders: Mutex::new(orders) })
    }

    /// Starts a program under an id that is in use by no other child. [`ProcessEvent::Exited`] follows in any case.
    pub fn spawn(&self, id: u64, spawn: Spawn) {
        self.send(Order::Spawn(id, Box::new(spawn)));
    }

    /// Sends a signal to a child, if it runs.
    pub fn signal(&self, id: u64, signal: StopSignal) {
        self.send(Order::Signal(id, signal));
    }

    fn send(&self, order: Order) {
        // The thread lives as long as the process.
        let _ = self.orders.lock().unwrap_or_else(PoisonError::into_inner).send(order);
        // A full buffer wakes the thread too.
        let _ = (&self.wake).write(&[0]);
    }
}

#[cfg(test)]
mod tests;
