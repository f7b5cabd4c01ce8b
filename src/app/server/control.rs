//! Control commands of the operator: reload, reopen the log, stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::app::server::Server;
use crate::app::session::close::CloseReason;
use crate::app::stream::ClientHandle;
use crate::log::{Backend, quoted};
use crate::os::{self, ControlCommand};
use crate::st::{self, Inbox};

/// Longest time that a graceful stop waits for players to receive their buffered data.
const PLAYER_DRAIN: Duration = Duration::from_secs(30);

/// Longest time that it waits for publishers to leave, before the streams end for the players.
const PUBLISHER_DRAIN: Duration = Duration::from_secs(2);

/// Longest time to write the last HLS segments to disk.
#[cfg(feature = "hls")]
const SEGMENT_DRAIN: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Executor of control commands.
pub struct Control {
    /// Configuration file that a reload reads.
    pub file: PathBuf,
    /// Incoming commands.
    pub commands: Arc<Inbox<ControlCommand>>,
    /// Receives one message when everything is finished and the process may exit.
    pub ended: Sender<()>,
}

impl Control {
    /// Executes commands one by one until a stop.
    pub(crate) fn run(&self, server: &Server) {
        os::notify("READY=1\nSTATUS=serving");
        loop {
            match self.commands.receive() {
                ControlCommand::Reload => self.reload(server),
                ControlCommand::Reopen => reopen_log(server),
                ControlCommand::Stop => {
                    os::notify("STOPPING=1\nSTATUS=stopping");
                    log::info!("server stopping: mode=immediate");
                    break;
                }
                ControlCommand::Quit => {
                    os::notify("STOPPING=1\nSTATUS=stopping, flushing buffered data to players");
                    log::info!("server stopping: mode=graceful drain_seconds={}", PLAYER_DRAIN.as_secs());
                    server.drain();
                    break;
                }
            }
        }
        server.finish();
        log_status(server);
        // Fails only if the main thread no longer waits.
        let _ = self.ended.send(());
    }

    fn reload(&self, server: &Server) {
        os::notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", os::monotonic_micros()));
        let status = match server.reload(&self.file) {
            Ok(()) => "STATUS=serving".to_owned(),
            Err(error) => {
                let text = error.to_string();
                for line in text.lines() {
                    log::error!("reload failed, configuration unchanged: error={}", quoted(line));
                }
                format!("STATUS=serving; the last reload failed: {}", text.lines().next().unwrap_or_default())
            }
        };
        os::notify(&format!("READY=1\n{status}"));
        log_status(server);
    }
}

impl Server {
    /// Ends all connections in order: stops accepting, closes publishers, and flushes buffered data to players.
    fn drain(&self) {
        self.close_listeners();
        for client in self.clients() {
            if client.is_publishing() {
                client.close(CloseReason::ServerStopped);
            }
        }
        wait_while(PUBLISHER_DRAIN, || self.publish_stats.count() > 0);
        self.sources.unpublish_all();
        for client in self.clients() {
            client.close(CloseReason::ServerStopped);
        }
        wait_while(PLAYER_DRAIN, || self.has_clients());
        let count = self.client_count();
        if count > 0 {
            log::warn!("clients disconnected before they received all data: count={count}");
        }
    }

    /// Ends what the exit of the process would not end cleanly. Returns when the last files are written.
    fn finish(&self) {
        self.close_listeners();
        self.sources.unpublish_all();
        // Lets the players' coroutines write the last messages.
        st::yield_now();
        #[cfg(feature = "hls")]
        self.hls.wait_written(SEGMENT_DRAIN);
    }
}

/// Waits until the condition is false, at most for `limit`.
fn wait_while(limit: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while condition() && Instant::now() < deadline {
        st::sleep(POLL_INTERVAL);
    }
}

/// Reopens the log file, for logrotate.
fn reopen_log(server: &Server) {
    let config = server.config();
    let failed = |error: &dyn std::fmt::Display| {
        log::error!("cannot reopen log file, continuing with the old one: error={}", quoted(error));
    };
    match st::offload(move || Backend::open(&config.log).map(Backend::replace)) {
        Ok(Ok(())) => log::info!("log file reopened"),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
    log_status(server);
}

/// Logs a summary for operators and leak tests. `held` is the sum of the categories after it, in bytes.
fn log_status(server: &Server) {
    let os::Usage { files, memory } = st::offload(os::usage).unwrap_or_default();
    log::info!(
        "status: clients={} publishers={} players={} streams={} coroutines={} files={files} memory_kib={memory} held={}",
        server.client_count(),
        server.publish_stats.count(),
        server.play_stats.count(),
        server.sources.len(),
        st::coroutine_count(),
        server.memory,
    );
}
