//! Signals, as what they ask for.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// What an operator asks of a running server by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the log file again, and say how things are.
    Reopen,
    /// SIGTERM, SIGINT: stop now.
    Stop,
    /// SIGQUIT: stop when those who are here have got what they are owed.
    Quit,
}

/// Starts a thread that hands each signal on to `obey`. The second one that asks for the end does not wait for anybody: the thread
/// calls `last` and ends the process, even when everything else is stuck, with the status that shells give for the signal.
///
/// # Errors
/// When the handlers cannot be installed or there is no thread.
pub fn watch_signals(obey: impl Fn(Order) + Send + 'static, last: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGTERM, SIGINT, SIGQUIT])?;
    let watch = move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            let order = match signal {
                SIGHUP => Order::Reload,
                SIGUSR1 => Order::Reopen,
                SIGQUIT => Order::Quit,
                _ => Order::Stop,
            };
            if matches!(order, Order::Stop | Order::Quit) && std::mem::replace(&mut is_stopping, true) {
                last();
                std::process::exit(128 + signal);
            }
            obey(order);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}
