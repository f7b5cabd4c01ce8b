//! The addresses of a backend: its name is resolved on another thread, once for all who wait for it, and kept for a while.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::HookUrl;
use crate::st::{self, Cond, Shared};

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

const LIFETIME: Duration = Duration::from_secs(10);

/// The addresses of one backend. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Addresses {
    state: Shared<State>,
    resolved: Arc<Cond>,
}

#[derive(Default)]
struct State {
    known: Option<(Instant, Result<Vec<SocketAddr>, String>)>,
    resolving: bool,
}

impl Addresses {
    /// Returns the addresses of a URL's host. Waits at most until `deadline`. Errors: the reason why there are none.
    pub(super) fn resolve(&self, url: &HookUrl, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = (url.host.as_str(), url.port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        loop {
            let (known, must_start) = self.state.with(|state| {
                let known = state.known.as_ref().filter(|(at, _)| st::now() - *at < LIFETIME);
                let known = known.map(|(_, addresses)| addresses.clone());
                let must_start = known.is_none() && !std::mem::replace(&mut state.resolving, known.is_none());
                (known, must_start)
            });
            if let Some(known) = known {
                return known;
            }
            if must_start {
                self.start(host, port)?;
            }
            if !self.resolved.wait_timeout(deadline.saturating_duration_since(st::now())) {
                return Err("the name server did not answer in time".to_owned());
            }
        }
    }

    fn start(&self, host: &str, port: u16) -> Result<(), String> {
        let (addresses, name) = (self.clone(), (host.to_owned(), port));
        let spawned = st::spawn("callback name", 0, move || {
            let look_up = move || name.to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect::<Vec<_>>());
            let found = match st::look_up(look_up) {
                Ok(Ok(found)) if found.is_empty() => Err("it has no address".to_owned()),
                Ok(found) => found.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            addresses.state.with(|state| (state.resolving, state.known) = (false, Some((st::now(), found))));
            addresses.resolved.broadcast();
        });
        spawned.map(drop).map_err(|error| {
            self.state.with(|state| state.resolving = false);
            error.to_string()
        })
    }
}
