//! Leaving the terminal, once the server serves.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Read, Write};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

/// Byte by which the server reports that it serves.
const SERVES: u8 = 1;

/// The process that was started, which waits until its copy serves. If this is dropped before, it exits with status 1.
#[must_use = "the process that was started ends with an error when it is dropped"]
pub struct WaitingStarter {
    report: PipeWriter,
    null: File,
}

/// Continues as a copy of this process in its own session, without standard input and output; the working directory stays.
/// The process that was started exits with status 0 when the copy [serves](WaitingStarter::report_serving), and with 1 when it
/// has ended before. Call it before any thread starts; `fork` returns true in the copy. Errors: those of pipe(2), fork(2) and
/// setsid(2).
pub fn detach(fork: impl FnOnce() -> io::Result<bool>) -> io::Result<WaitingStarter> {
    let (mut reports, report) = io::pipe()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    if !fork()? {
        drop(report);
        let mut byte = [0];
        let serves = reports.read_exact(&mut byte).is_ok() && byte == [SERVES];
        // No destructor runs: what was opened is the copy's now, such as the pid file.
        std::process::exit(i32::from(!serves));
    }
    setsid()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(WaitingStarter { report, null })
}

impl WaitingStarter {
    /// Leaves standard error, to which errors of the start were written, and ends the wait.
    pub fn report_serving(mut self) -> io::Result<()> {
        dup2_stderr(&self.null)?;
        // Fails if somebody has killed the process that waits.
        let _ = self.report.write_all(&[SERVES]);
        Ok(())
    }
}
