//! What an operator asks of the running server: to reload, to open its log again, to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::app::server::Server;
use crate::app::session::close::CloseReason;
use crate::app::stream::Outlet;
use crate::log::Back;
use crate::os::{self, Order};
use crate::st::{self, Inbox};

/// How long a graceful end waits for players to take what they are owed.
const DRAIN: Duration = Duration::from_secs(30);

/// How long it waits for publishers to leave before the players are told that they have left.
const PUBLISHERS: Duration = Duration::from_secs(2);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// How the server is steered.
pub struct Control {
    /// The configuration file that is read again.
    pub file: PathBuf,
    /// What is asked for.
    pub orders: Arc<Inbox<Order>>,
    /// Hears once of the end: everything that was to be done is done, and the process may end.
    pub ended: Sender<()>,
}

impl Control {
    /// Does what is asked for, one after the other, until the end.
    pub(crate) fn obey(&self, server: &Server) {
        os::notify("READY=1\nSTATUS=serving");
        loop {
            match self.orders.take() {
                Order::Reload => self.reload(server),
                Order::Reopen => reopen_log(server),
                Order::Stop => {
                    os::notify("STOPPING=1\nSTATUS=stopping");
                    log::info!("stopping at once");
                    break;
                }
                Order::Quit => {
                    os::notify("STOPPING=1\nSTATUS=stopping, players are being drained");
                    log::info!("stopping: no new clients, and {DRAIN:?} for those who are here");
                    server.drain();
                    break;
                }
            }
        }
        server.end();
        log_status(server);
        // Fails only when nobody waits for the end any more.
        let _ = self.ended.send(());
    }

    fn reload(&self, server: &Server) {
        os::notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", os::monotonic_micros()));
        let status = match server.reload(&self.file) {
            Ok(()) => "STATUS=serving".to_owned(),
            Err(error) => {
                let text = error.to_string();
                for line in text.lines() {
                    log::error!("reload: {line}");
                }
                log::error!("reload: the configuration is as it was before");
                format!("STATUS=serving; the last reload failed: {}", text.lines().next().unwrap_or_default())
            }
        };
        os::notify(&format!("READY=1\n{status}"));
        log_status(server);
    }
}

impl Server {
    /// Ends what is going on here in order, and waits for it, for a time.
    fn drain(&self) {
        self.close_listeners();
        let is_publishing = || self.publish.clients() > 0;
        for client in self.clients() {
            if client.publishes_now() {
                client.close(CloseReason::ServerStopped);
            }
        }
        wait_while(PUBLISHERS, is_publishing);
        self.sources.end_all();
        for client in self.clients() {
            client.close(CloseReason::ServerStopped);
        }
        wait_while(DRAIN, || !self.clients().is_empty());
        let left = self.clients().len();
        if left > 0 {
            log::warn!("{left} clients did not take what they were owed within {DRAIN:?}");
        }
    }

    /// Ends all that would not end by itself with the process. Whatever writes files gets its last words here, and has them written
    /// before this returns.
    fn end(&self) {
        self.close_listeners();
        self.sources.end_all();
        // What players are told is written by their own coroutines: each has its turn before the end.
        st::yield_now();
        #[cfg(feature = "hls")]
        self.hls.wait_written(LAST_SEGMENTS);
    }
}

/// How long the last segments of HLS may take to be on disk.
#[cfg(feature = "hls")]
const LAST_SEGMENTS: Duration = Duration::from_secs(2);

/// Waits while it is so, at most for `limit`.
fn wait_while(limit: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while is_so() && Instant::now() < deadline {
        st::sleep(LOOK);
    }
}

/// For logrotate: the file was renamed, and a new one is to be begun.
fn reopen_log(server: &Server) {
    let config = server.config();
    let reopened = st::offload(move || Back::open(&config.log).map(Back::replace));
    match reopened {
        Ok(Ok(())) => log::info!("the log was opened again"),
        Ok(Err(error)) => log::error!("{error}; the log goes on where it was"),
        Err(error) => log::error!("the log cannot be opened again: {error}; it goes on where it was"),
    }
    log_status(server);
}

/// One line of how things are: what an operator, or a test that looks for leaks, wants to know of the whole.
fn log_status(server: &Server) {
    let os::Usage { files, memory } = st::offload(os::usage).unwrap_or_default();
    log::info!(
        "status: clients={}, publishers={}, players={}, streams={}, coroutines={}, files={files}, memory={memory} KiB, held={}",
        server.clients().len(),
        server.publish.clients(),
        server.play.clients(),
        server.sources.len(),
        st::alive(),
        server.account,
    );
}
