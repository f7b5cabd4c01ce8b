//! The process and those who look after it: the terminal, the pid file, signals, limits, and the service manager.
//!
//! Nothing here knows what the server does. Signals are handed on as [`Order`]s; sd_notify(3) is spoken by hand, since it is one
//! datagram.

mod limits;
mod memory;
mod notify;
mod pid_file;
mod signals;

pub use limits::{Files, raise_file_limit};
pub use memory::{memory, resident};
pub use notify::{monotonic_micros, notify};
pub use pid_file::PidFile;
pub use signals::{Order, watch_signals};

use std::io;

/// What this process has taken of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Open file descriptors.
    pub files: usize,
    /// Resident memory, in KiB.
    pub memory: usize,
}

/// Looks at `/proc`. It blocks for a moment.
pub fn usage() -> Usage {
    // The look itself takes a descriptor.
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    Usage { files, memory: resident() / 1024 }
}

/// Leaves the terminal: goes on as a child of init, in a session of its own, with the standard streams on `/dev/null`. The working
/// directory stays. To be called before any thread is started, since only the calling one goes on; the caller's exit status is 0.
///
/// # Errors
/// Those of fork(2) and setsid(2).
pub fn detach() -> io::Result<()> {
    nix::unistd::daemon(true, false).map_err(io::Error::from)
}
