//! The running server as its operator steers it: listeners, control commands, reload, shutdown.
//!
//! ```text
//! listener ── accept ──> ServeAccepted (app.rs: RTMP, HTTP)
//! signal ──> Control ──> reload: prepare everything, then commit
//!                   └──> shutdown: drain players, flush features
//! ```

pub(crate) mod acceptor;
pub mod control;
pub mod listeners;
mod reload;
mod shutdown;

use std::io;
use std::sync::Arc;

use self::listeners::{Listeners, Sockets};
use crate::app::context::{Context, Feature};
use crate::config::{ConfigSetter, Listen};

pub(crate) struct Server {
    pub(crate) ctx: Context,
    pub(crate) config_setter: ConfigSetter,
    pub(crate) listeners: Listeners,
    pub(crate) features: Vec<Arc<dyn Feature>>,
}

impl Server {
    /// Listens on exactly the wanted addresses. `new` has the sockets of those that were not open. Fails when a socket
    /// or a coroutine for it cannot be had.
    pub(crate) fn listen(&self, wanted: &[Listen], new: Sockets) -> io::Result<()> {
        self.listeners.replace(wanted, new)
    }
}
