//! Reload as a transaction: everything that can fail is done before anything is changed.
//!
//! Most settings are read when they are needed, from [`Server::config`] or from a stream's vhost. The others are passed on here:
//!
//! | setting | goes to |
//! |---|---|
//! | addresses | the listeners |
//! | certificate and key of RTMPS | later TLS handshakes |
//! | a vhost's settings | its streams and forwarders |
//! | removed or disabled vhosts | their clients, which are closed |
//! | intervals of `pithy_print` | the stats groups |
//! | tank, level and file of the log | the log |
//! | `max_connections` | the limit of open files |

use std::path::Path;
use std::sync::Arc;

use crate::app::rtmp::tls::{TlsAcceptor, TlsError};
use crate::app::server::listeners::ListenError;
use crate::app::server::{Server, check_file_limit};
use crate::app::session::close::CloseReason;
use crate::app::stream::ClientHandle;
use crate::config::{self, Config};
use crate::log::{self as srs_log, Backend, quoted};
use crate::st;

/// Failure of a reload. The configuration is unchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Log(#[from] srs_log::Error),
    #[error("cannot read the file now: {0}")]
    Overloaded(#[from] st::Overloaded),
}

impl Server {
    /// Loads and applies the file, and logs each change. On an error nothing changes.
    ///
    /// # Errors
    /// [`ReloadError`] if the file, a certificate, an address, or the log file cannot be used.
    pub(crate) fn reload(&self, file: &Path) -> Result<(), ReloadError> {
        let path = file.to_owned();
        let new = Arc::new(st::offload(move || Config::load(&path))??);
        let old = self.config();
        let config = new.clone();
        // Loaded even if the paths are the same: a renewed certificate has the old name.
        let tls_acceptor = st::offload(move || TlsAcceptor::load(&config))??;
        let sockets = self.bind(&new.listeners())?;
        let log = if new.log == old.log {
            None
        } else {
            let config = new.clone();
            Some(st::offload(move || Backend::open(&config.log))??)
        };

        // From here on nothing fails.
        for warning in &new.warnings {
            log::warn!("configuration warning: warning={}", quoted(warning));
        }
        let changes = old.changes_to(&new);
        for change in &changes {
            log::info!("configuration changed: change={}", quoted(change));
        }
        self.set_config(new.clone());
        self.tls_acceptor.replace(tls_acceptor);
        if let Some(log) = log
            && let Err(error) = st::offload(move || log.replace())
        {
            log::error!("cannot replace log file, continuing with the old one: error={}", quoted(error));
        }
        self.play_stats.set_interval(new.pithy_print.play);
        self.publish_stats.set_interval(new.pithy_print.publish);
        self.forward_stats.set_interval(new.pithy_print.forwarder);
        check_file_limit(&new);
        self.sources.reconfigure(&new);
        #[cfg(feature = "hls")]
        {
            self.live_files.set_limit(new.http_server.live_limit());
            self.hls.reconfigure(&self.sources, &new);
        }
        self.forwards.reconfigure(self, &new);
        if let Err(error) = self.listen(&new.listeners(), sockets) {
            log::error!("cannot listen on all addresses: error={}", quoted(error));
        }
        let closed = self.close_clients_of_removed_vhosts(&new);
        log::info!("configuration reloaded: changes={} clients_closed={closed}", changes.len());
        Ok(())
    }

    /// Closes the clients of removed and disabled vhosts. Returns their number.
    fn close_clients_of_removed_vhosts(&self, config: &Config) -> usize {
        let affected: Vec<_> = self
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
        let count = affected.len();
        for (client, reason) in affected {
            client.close(reason);
        }
        count
    }
}
