//! The connected clients, and the limits on the number of those of RTMP.

use std::collections::BTreeMap;
#[cfg(feature = "http")]
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::app::session::client::{Client, ClientKind};
use crate::app::session::per_ip::ConnectionsPerIp;
use crate::config::Config;
use crate::log::Throttle;
use crate::st::net::TcpStream;
use crate::st::{self, Shared};

/// Clients beyond `max_connections` that are served just enough to be told of their rejection. Others are closed at once.
pub(crate) const MAX_REJECTING: usize = 64;

/// Limit of such clients for each address beyond `max_connections_per_address`: one address must not use up [`MAX_REJECTING`].
const MAX_REJECTING_PER_ADDRESS: usize = 4;

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The connected clients, including those that are about to be rejected. Clones are the same clients.
#[derive(Clone, Default)]
pub(crate) struct Clients(Shared<Table>);

struct Table {
    last_number: u64,
    by_number: BTreeMap<u64, Arc<Client>>,
    /// Clients that do not count for the limits.
    viewers: usize,
    /// Without connections of load balancers.
    by_address: ConnectionsPerIp,
    warning: Throttle,
    unreported: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            last_number: 0,
            by_number: BTreeMap::new(),
            viewers: 0,
            by_address: ConnectionsPerIp::default(),
            warning: Throttle::new(LOG_INTERVAL),
            unreported: 0,
        }
    }
}

impl Clients {
    /// Returns a number not used before: of a client, or of another connection that has a number in the log.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.with(Table::next_number)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.with(|table| table.by_number.len())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.0.with(|table| table.by_number.values().cloned().collect())
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "used over HTTP only"))]
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Client>> {
        self.0.with(|table| table.by_number.get(&number).cloned())
    }

    /// Returns the first clients, `max` at most, with numbers above `after` and up to `until`, by number.
    #[cfg(feature = "http")]
    pub(crate) fn between(&self, after: u64, until: u64, max: usize) -> Vec<Arc<Client>> {
        let range = (Excluded(after), Included(until));
        self.0.with(|table| table.by_number.range(range).take(max).map(|(_, client)| client.clone()).collect())
    }

    /// Returns the numbers of the same, without touching the clients.
    #[cfg(feature = "http")]
    pub(crate) fn numbers_between(&self, after: u64, until: u64, max: usize) -> Vec<u64> {
        let range = (Excluded(after), Included(until));
        self.0.with(|table| table.by_number.range(range).take(max).map(|(number, _)| *number).collect())
    }

    #[cfg(feature = "http")]
    pub(crate) fn last_number(&self) -> u64 {
        self.0.with(|table| table.last_number)
    }

    /// Adds a client. Returns it with the text of its rejection if a limit is exceeded; `None` if there are too many for that.
    pub(crate) fn add(&self, stream: &TcpStream, config: &Config) -> Option<(Arc<Client>, Option<String>)> {
        self.0.with(|table| table.add(stream, config))
    }

    /// Adds an HTTP viewer under the number of its connection, which has passed the limits of HTTP.
    #[cfg(feature = "http")]
    pub(crate) fn add_viewer(&self, number: u64, stream: &TcpStream, kind: ClientKind) -> Arc<Client> {
        self.0.with(|table| {
            let client = Arc::new(Client::new(number, stream, kind));
            table.by_number.insert(number, client.clone());
            table.viewers += 1;
            client
        })
    }

    pub(crate) fn remove(&self, client: &Client) {
        // Not `with`: this may run while a panic unwinds.
        self.0.try_with(|table| table.remove(client));
    }
}

impl Table {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn add(&mut self, stream: &TcpStream, config: &Config) -> Option<(Arc<Client>, Option<String>)> {
        let address = stream.peer().ip();
        let is_balancer = config.proxy_protocol.iter().any(|balancer| balancer.contains(address));
        let same_address = if is_balancer { 0 } else { self.by_address.count(address) };
        let (max, max_per_address) = (config.max_connections, config.max_connections_per_address);
        let address_full = max_per_address > 0 && same_address >= max_per_address;
        let count = self.by_number.len() - self.viewers;
        if count >= max + MAX_REJECTING || (address_full && same_address >= max_per_address + MAX_REJECTING_PER_ADDRESS)
        {
            self.unreported += 1;
            if self.warning.pass(st::now()) {
                let (directive, limit) = match address_full {
                    true => ("max_connections_per_address", max_per_address),
                    false => ("max_connections", max),
                };
                let count = self.unreported;
                log::warn!(
                    "too many clients, closed at once: count={count} last_address={address} {directive}={limit}"
                );
                self.unreported = 0;
            }
            return None;
        }
        let number = self.next_number();
        let client = Arc::new(Client::new(number, stream, ClientKind::Rtmp));
        let rejection = if count >= max {
            Some(format!("the server is full: max_connections is {max}"))
        } else if address_full {
            Some(format!("too many clients from {address}: max_connections_per_address is {max_per_address}"))
        } else {
            None
        };
        if !is_balancer {
            self.by_address.add(address);
            client.counts_for_address.store(true, Ordering::Relaxed);
        }
        self.by_number.insert(number, client.clone());
        Some((client, rejection))
    }

    fn remove(&mut self, client: &Client) {
        let removed = self.by_number.remove(&client.number).is_some();
        if removed && client.kind != ClientKind::Rtmp {
            self.viewers -= 1;
        }
        if removed && client.counts_for_address.load(Ordering::Relaxed) {
            self.by_address.remove(client.stream.peer().ip());
        }
    }
}
