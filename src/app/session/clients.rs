//! The clients by number, and how many there may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::app::session::client::Client;
use crate::app::session::per_ip::Addresses;
use crate::config::Config;
use crate::st::net::TcpStream;

/// Clients beyond `max_connections` that are heard out, to be told why they are turned away. More are closed at once.
pub(crate) const HEARD_OUT: usize = 64;

/// The same for those beyond `max_connections_per_address`, of each address: nobody is to fill the places of all others with being
/// refused.
const HEARD_OUT_OF_ADDRESS: usize = 4;

/// How often clients too many are mentioned.
const MENTION: Duration = Duration::from_secs(5);

/// Those who are here, and those who are one too many and are told so.
#[derive(Default)]
pub(crate) struct Clients {
    last: u64,
    by_number: BTreeMap<u64, Arc<Client>>,
    /// But for those of balancers.
    by_address: Addresses,
    /// When the last client too many was mentioned, and how many there have been since.
    mentioned: Option<Instant>,
    unmentioned: u64,
}

impl Clients {
    /// A number that nobody has had.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// By number, so in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.by_number.values().cloned().collect()
    }

    /// Gives a client its number, and says why it is one too many, if it is. `None`: far too many, it is not even told.
    pub(crate) fn add(&mut self, stream: &TcpStream, config: &Config) -> Option<(Arc<Client>, Option<String>)> {
        let address = stream.peer().ip();
        let is_balancer = config.proxy_protocol.iter().any(|balancer| balancer.contains(address));
        let own = if is_balancer { 0 } else { self.by_address.count(address) };
        let (max, max_own) = (config.max_connections, config.max_connections_per_address);
        let too_many_own = max_own > 0 && own >= max_own;
        if self.by_number.len() >= max + HEARD_OUT || (too_many_own && own >= max_own + HEARD_OUT_OF_ADDRESS) {
            self.unmentioned += 1;
            if self.mentioned.is_none_or(|at| at.elapsed() >= MENTION) {
                let which = if too_many_own { "max_connections_per_address" } else { "max_connections" };
                let max = if too_many_own { max_own } else { max };
                log::warn!("{} clients closed at once, the last from {address}: {which} is {max}", self.unmentioned);
                (self.mentioned, self.unmentioned) = (Some(Instant::now()), 0);
            }
            return None;
        }
        let number = self.next_number();
        let client = Arc::new(Client::new(number, stream));
        let too_many = if self.by_number.len() >= max {
            Some(format!("the server is full: max_connections is {max}"))
        } else if too_many_own {
            Some(format!("too many clients from {address}: max_connections_per_address is {max_own}"))
        } else {
            None
        };
        if !is_balancer {
            self.by_address.enter(address);
            client.counts_for_address.store(true, Ordering::Relaxed);
        }
        self.by_number.insert(number, client.clone());
        Some((client, too_many))
    }

    /// Takes a client out, if it is here.
    pub(crate) fn remove(&mut self, client: &Client) {
        let is_here = self.by_number.remove(&client.number).is_some();
        if is_here && client.counts_for_address.load(Ordering::Relaxed) {
            self.by_address.leave(client.stream.peer().ip());
        }
    }
}
