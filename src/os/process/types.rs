//! A child process: its description, what happens to it, and its end.

use std::path::PathBuf;

use super::log_files::LogFile;

/// A program to start.
pub struct Spawn {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that are added to the environment.
    pub env: Vec<(&'static str, String)>,
    /// Its limits.
    pub limits: Limits,
    /// Directories that are made before it starts.
    pub directories: Vec<PathBuf>,
    /// Receives its standard output. Called on the thread that reads all children: must not block.
    pub stdout: Option<Box<OnOutput>>,
    /// The file that gets its standard error, and without `stdout` also its standard output.
    pub log: Option<LogFile>,
    /// A word that is left out of the log file, such as a secret among the arguments.
    pub hidden: Option<String>,
}

/// Receiver of pieces of output.
pub type OnOutput = dyn FnMut(&[u8]) + Send;

/// Limits of a child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The nice value, from 0 to 19.
    pub nice: u8,
    /// Address space in bytes; 0 means no limit.
    pub max_memory: u64,
    /// Processors that it may use; 0 means all.
    pub max_cpus: usize,
}

/// A signal to a process and to those that it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: finish.
    Interrupt,
    /// SIGTERM: end.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Something that has happened to a child. `id` is that of [`Processes::spawn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It runs.
    Started {
        /// The id of the child.
        id: u64,
        /// Its process id, which is also that of its process group.
        pid: u32,
    },
    /// It has ended, and was reaped.
    Exited {
        /// The id of the child.
        id: u64,
        /// Its end.
        end: ProcessEnd,
        /// The last lines of its standard error.
        last_lines: Vec<String>,
    },
    /// Its log file cannot be written. Reported once for each child.
    LogFailed {
        /// The file.
        path: PathBuf,
        /// The error.
        error: String,
    },
}

/// The end of a child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessEnd {
    /// It has exited with this status.
    #[error("exit status {0}")]
    Status(i32),
    /// A signal has ended it.
    #[error("signal {0}")]
    Signal(i32),
    /// It could not be started.
    #[error("cannot start: {0}")]
    NotStarted(String),
}
