//! The process and its environment: terminal, pid file, signals, limits, and the service manager.
//!
//! Nothing here knows the server. Signals become [`ControlCommand`]s; sd_notify(3) is implemented here, since it is one
//! datagram.

mod detach;
mod limits;
mod memory;
mod notify;
mod pid_file;
pub mod process;
mod signals;

pub use detach::{WaitingStarter, detach};
pub use limits::{FileLimit, raise_file_limit};
pub use memory::{memory_limit, resident_bytes};
pub use notify::{monotonic_micros, notify};
pub use pid_file::PidFile;
pub use signals::{ControlCommand, watch_signals};

/// Resources that this process uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Open file descriptors.
    pub files: usize,
    /// Resident memory, in KiB.
    pub memory: usize,
}

/// Reads the usage from `/proc`. Blocks for a moment.
pub fn usage() -> Usage {
    // Reading the folder takes a descriptor itself.
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    Usage { files, memory: resident_bytes() / 1024 }
}
