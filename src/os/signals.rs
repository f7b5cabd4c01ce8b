//! Signals, as commands to the server.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// A command of the operator to the running server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlCommand {
    /// SIGHUP: reload the configuration.
    Reload,
    /// Carry out what operators have asked for by the API. No signal has this command.
    Requests,
    /// SIGUSR1: reopen the log file, and log the status.
    Reopen,
    /// SIGTERM, SIGINT: stop now.
    Stop,
    /// SIGQUIT: stop accepting, flush buffered data to the clients, then stop.
    Quit,
}

/// Starts a thread that passes the command of each signal to `handle`. A second signal to stop ends the process at
/// once, even if everything else is stuck: the thread calls `before_exit` and exits with the status that shells use for
/// the signal. Fails when the handlers cannot be installed or the thread cannot be started.
pub fn watch_signals(
    handle: impl Fn(ControlCommand) + Send + 'static,
    before_exit: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGTERM, SIGINT, SIGQUIT])?;
    let watch = move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            let command = match signal {
                SIGHUP => ControlCommand::Reload,
                SIGUSR1 => ControlCommand::Reopen,
                SIGQUIT => ControlCommand::Quit,
                _ => ControlCommand::Stop,
            };
            if matches!(command, ControlCommand::Stop | ControlCommand::Quit)
                && std::mem::replace(&mut is_stopping, true)
            {
                before_exit();
                std::process::exit(128 + signal);
            }
            handle(command);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}
