//! Reload: a transaction. Whatever can fail is done before anything is changed; what follows cannot fail.
//!
//! Most settings are read where and when they count, from [`Server::config`] or from a source's vhost. What holds one for longer
//! is told here:
//!
//! | what | whom |
//! |---|---|
//! | addresses | the listeners |
//! | certificate and key of RTMPS | those who shake hands from now on |
//! | the settings of a vhost | its sources, its forwarders |
//! | vhosts that are gone or off | their clients, who are closed |
//! | intervals of the summary lines | the stages |
//! | tank, level, file of the log | the log |
//! | `max_connections` | the limit of open files |

use std::path::Path;
use std::sync::Arc;

use crate::app::rtmp::tls::{Rtmps, RtmpsError};
use crate::app::server::listeners::ListenError;
use crate::app::server::{Server, check_file_limit};
use crate::app::session::close::CloseReason;
use crate::app::stream::Outlet;
use crate::config::{self, Config};
use crate::log::{self as srs_log, Back};
use crate::st;

/// Why the configuration stays as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Rtmps(#[from] RtmpsError),
    #[error(transparent)]
    Log(#[from] srs_log::Error),
    #[error("the file cannot be read now: {0}")]
    Overloaded(#[from] st::Overloaded),
}

impl Server {
    /// Reads the file and puts it in force, with a line in the log for each change; or leaves everything as it was.
    pub(crate) fn reload(&self, file: &Path) -> Result<(), ReloadError> {
        let path = file.to_owned();
        let new = Arc::new(st::offload(move || Config::load(&path))??);
        let old = self.config();
        let config = new.clone();
        // The files may have changed where their names have not: a certificate is renewed.
        let rtmps = st::offload(move || Rtmps::load(&config))??;
        let sockets = self.bind(&new.listeners())?;
        let log = if new.log == old.log {
            None
        } else {
            let config = new.clone();
            Some(st::offload(move || Back::open(&config.log))??)
        };

        // From here on nothing fails.
        for warning in &new.warnings {
            log::warn!("reload: {warning}");
        }
        let changes = old.changes_to(&new);
        for change in &changes {
            log::info!("reload: {change}");
        }
        self.set_config(new.clone());
        self.rtmps.replace(rtmps);
        if let Some(log) = log
            && let Err(error) = st::offload(move || log.replace())
        {
            log::error!("reload: the log goes on where it was: {error}");
        }
        self.play.set_interval(new.pithy_print.play);
        self.publish.set_interval(new.pithy_print.publish);
        self.forward.set_interval(new.pithy_print.forwarder);
        check_file_limit(&new);
        self.sources.configure(&new);
        #[cfg(feature = "hls")]
        {
            self.live_files.set_limit(new.http_server.live_limit());
            self.hls.reconfigure(&self.sources, &new);
        }
        self.forwards.reconfigure(self, &new);
        if let Err(error) = self.listen(&new.listeners(), sockets) {
            log::error!("reload: not all addresses are listened on: {error}");
        }
        let closed = self.close_clients_of_lost_vhosts(&new);
        log::info!("reload: {} changes are in force, {closed} clients are closed", changes.len());
        Ok(())
    }

    fn close_clients_of_lost_vhosts(&self, config: &Config) -> usize {
        let lost: Vec<_> = self
            .clients()
            .into_iter()
            .filter_map(|client| {
                let reason = client.vhost_names().into_iter().find_map(|name| match config.vhosts.get(&name) {
                    None => Some(CloseReason::VhostRemoved(name)),
                    Some(vhost) if !vhost.enabled => Some(CloseReason::VhostDisabled(name)),
                    Some(_) => None,
                })?;
                Some((client, reason))
            })
            .collect();
        let count = lost.len();
        for (client, reason) in lost {
            client.close(reason);
        }
        count
    }
}
