//! Reload as a transaction: everything that can fail is done before anything is changed.
//!
//! Most settings are read when they are needed, from [`ConfigCell::get`](crate::config::ConfigCell::get) or from a stream's
//! vhost. The others are passed on here:
//!
//! | setting | goes to |
//! |---|---|
//! | addresses | the listeners |
//! | a vhost's settings | its streams |
//! | everything of a feature, such as certificates and outputs | [`Feature::prepare`](crate::app::context::Feature::prepare), then `reconfigure` |
//! | removed or disabled vhosts | their clients, which are closed |
//! | intervals of `pithy_print` | the stats groups |
//! | tank, level and file of the log | the log |
//! | `max_connections` | the limit of open files |

use std::path::Path;
use std::sync::Arc;

use crate::app::context::{Feature, PrepareError};
use crate::app::limits::files;
use crate::app::server::Server;
use crate::app::server::listeners::ListenError;
use crate::app::session::clients::Clients;
use crate::app::session::close::CloseReason;
use crate::app::stream::ClientHandle;
use crate::config::plan::Change;
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
    #[error("{0}")]
    Feature(PrepareError),
    #[error(transparent)]
    Log(#[from] srs_log::Error),
    #[error("cannot read the file now: {0}")]
    Overloaded(#[from] st::Overloaded),
}

/// Returns what a reload of the file would change. Does not check what only [`reload`] can: addresses, certificates,
/// the log. Fails when the file is invalid.
pub(super) fn plan(server: &Server, file: &Path) -> Result<Vec<Change>, ReloadError> {
    let path = file.to_owned();
    let new = st::offload(move || Config::load(&path))??;
    Ok(server.ctx.config.get().changes_to(&new))
}

/// Loads and applies the file, logs each change, and returns them. On an error nothing changes.
pub(super) fn reload(server: &Server, file: &Path) -> Result<Vec<Change>, ReloadError> {
    let ctx = &server.ctx;
    let path = file.to_owned();
    let new = Arc::new(st::offload(move || Config::load(&path))??);
    let old = ctx.config.get();
    let prepare = |feature: &Arc<dyn Feature>| feature.prepare(&new).map_err(ReloadError::Feature);
    let commits = server.features.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
    let sockets = server.listeners.bind(&new.listeners())?;
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
    server.config_setter.set(new.clone());
    if let Some(log) = log
        && let Err(error) = st::offload(move || log.replace())
    {
        log::error!("cannot replace log file, continuing with the old one: error={}", quoted(error));
    }
    ctx.stats.reconfigure(&new);
    files::check_limit(&new);
    ctx.streams.reconfigure(&new);
    commits.into_iter().for_each(|commit| commit());
    server.features.iter().for_each(|feature| feature.reconfigure(&old, &new));
    if let Err(error) = server.listen(&new.listeners(), sockets) {
        log::error!("cannot listen on all addresses: error={}", quoted(error));
    }
    let closed = close_clients_of_removed_vhosts(&ctx.clients, &new);
    log::info!("configuration reloaded: changes={} clients_closed={closed}", changes.len());
    Ok(changes)
}

fn close_clients_of_removed_vhosts(clients: &Clients, config: &Config) -> usize {
    let removed = |name: String| match config.vhosts.get(&name) {
        None => Some(CloseReason::VhostRemoved(name)),
        Some(vhost) if !vhost.enabled => Some(CloseReason::VhostDisabled(name)),
        Some(_) => None,
    };
    let affected: Vec<_> = clients
        .all()
        .into_iter()
        .filter_map(|client| Some((client.vhost_names().into_iter().find_map(removed)?, client)))
        .collect();
    let count = affected.len();
    for (reason, client) in affected {
        client.close(reason);
    }
    count
}
