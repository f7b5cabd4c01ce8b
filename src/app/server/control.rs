//! Control commands of the operator: reload, reopen the log, stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::app::context::Context;
use crate::app::server::reload::ReloadError;
use crate::app::server::shutdown::{self, PLAYER_DRAIN};
use crate::app::server::{Server, reload};
use crate::config::plan::Change;
use crate::log::{Backend, quoted};
use crate::os::{self, ControlCommand};
use crate::st::{self, Inbox};

pub struct Control {
    /// Configuration file that a reload reads.
    pub file: PathBuf,
    pub commands: Arc<Inbox<ControlCommand>>,
    /// Receives one message when everything is finished and the process may exit.
    pub ended: Sender<()>,
}

impl Control {
    pub(crate) fn run(&self, server: &Server) {
        os::notify("READY=1\nSTATUS=serving");
        loop {
            match self.commands.receive() {
                ControlCommand::Reload => drop(self.reload(server)),
                ControlCommand::Requests => self.answer_requests(server),
                ControlCommand::Reopen => reopen_log(&server.ctx),
                ControlCommand::Stop => {
                    os::notify("STOPPING=1\nSTATUS=stopping");
                    log::info!("server stopping: mode=immediate");
                    break;
                }
                ControlCommand::Quit => {
                    os::notify("STOPPING=1\nSTATUS=stopping, flushing buffered data to players");
                    log::info!("server stopping: mode=graceful drain_seconds={}", PLAYER_DRAIN.as_secs());
                    shutdown::drain(&server.ctx, &server.listeners);
                    break;
                }
            }
        }
        shutdown::finish(&server.ctx, &server.listeners, &server.features);
        log_status(&server.ctx);
        // Fails only if the main thread no longer waits.
        let _ = self.ended.send(());
    }

    fn answer_requests(&self, server: &Server) {
        for request in server.ctx.reloads.take_waiting() {
            let lines = |error: ReloadError| error.to_string().lines().map(str::to_owned).collect();
            let outcome = match request.dry_run {
                true => reload::plan(server, &self.file),
                false => self.reload(server),
            };
            request.answer(outcome.map_err(lines));
        }
    }

    fn reload(&self, server: &Server) -> Result<Vec<Change>, ReloadError> {
        os::notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", os::monotonic_micros()));
        let result = reload::reload(server, &self.file);
        let status = match &result {
            Ok(_) => "STATUS=serving".to_owned(),
            Err(error) => {
                let text = error.to_string();
                for line in text.lines() {
                    log::error!("reload failed, configuration unchanged: error={}", quoted(line));
                }
                format!("STATUS=serving; the last reload failed: {}", text.lines().next().unwrap_or_default())
            }
        };
        os::notify(&format!("READY=1\n{status}"));
        log_status(&server.ctx);
        result
    }
}

fn reopen_log(ctx: &Context) {
    let config = ctx.config.get();
    let failed = |error: &dyn std::fmt::Display| {
        log::error!("cannot reopen log file, continuing with the old one: error={}", quoted(error));
    };
    match st::offload(move || Backend::open(&config.log).map(Backend::replace)) {
        Ok(Ok(())) => log::info!("log file reopened"),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
    log_status(ctx);
}

/// Logs a summary for operators and leak tests. `held` is the sum of the categories after it, in bytes.
fn log_status(ctx: &Context) {
    let os::Usage { files, memory } = st::offload(os::usage).unwrap_or_default();
    log::info!(
        "status: clients={} publishers={} players={} streams={} coroutines={} files={files} memory_kib={memory} held={}",
        ctx.clients.len(),
        ctx.stats.publish.count(),
        ctx.stats.play.count(),
        ctx.streams.len(),
        st::coroutine_count(),
        ctx.memory,
    );
}
