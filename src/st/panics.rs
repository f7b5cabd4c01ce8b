//! The log lines of panics.

use std::panic;

use super::task::with_current;
use crate::log::quoted;

/// Sends panics to the log, with the client they belong to. They never print a backtrace: its symbols take more stack than a
/// coroutine has.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = quoted(info.payload_as_str().unwrap_or("(no message)"));
        let place = info.location().map_or_else(|| "?".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
        match with_current(|task| task.name) {
            Some(name) => {
                log::error!("coroutine panicked and was ended: coroutine={name} at={place} message={message}");
            }
            None => {
                // Outside coroutines the log may not be running, and a thread's panic must not be lost.
                eprintln!("thread panicked: at={place} message={message}");
                log::error!("thread panicked: at={place} message={message}");
            }
        }
    }));
}
