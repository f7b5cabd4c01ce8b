//! The log: its destination and level, and the intervals of its summary lines.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, Section};

/// Destination and level of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// `srs_log_tank`.
    pub tank: LogTank,
    /// `srs_log_level`: lowest level that is logged.
    pub level: LogLevel,
    /// `srs_log_file`: log file for [`LogTank::File`]; relative to the working directory.
    pub file: PathBuf,
}

/// Destination of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTank {
    /// Standard output.
    Console,
    /// [`Log::file`].
    File,
}

/// Levels by their SRS names, from the lowest. `Trace` is the normal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Verbose,
    /// More detail than usual.
    Info,
    /// The normal level: connections and summaries.
    Trace,
    /// Conditions that may need attention.
    Warn,
    /// Failures.
    Error,
}

impl Log {
    pub(super) fn read(reader: &mut Reader, root: Section<'_>) -> Log {
        Log {
            tank: match reader.choice(root, "srs_log_tank") {
                "file" => LogTank::File,
                _ => LogTank::Console,
            },
            level: match reader.choice(root, "srs_log_level") {
                "verbose" => LogLevel::Verbose,
                "info" => LogLevel::Info,
                "warn" => LogLevel::Warn,
                "error" => LogLevel::Error,
                _ => LogLevel::Trace,
            },
            file: reader.path(root, "srs_log_file"),
        }
    }
}

/// The intervals of the summary lines of each stage.
#[derive(Debug, Clone, PartialEq)]
pub struct PithyPrint {
    /// Interval for publishers.
    pub publish: Duration,
    /// Interval for players.
    pub play: Duration,
    /// Interval for forwarders.
    pub forwarder: Duration,
}

impl PithyPrint {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>) -> PithyPrint {
        PithyPrint {
            publish: reader.duration(section, "publish"),
            play: reader.duration(section, "play"),
            forwarder: reader.duration(section, "forwarder"),
        }
    }
}
