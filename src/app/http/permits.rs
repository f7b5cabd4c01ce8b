//! The open connections, and the limits of their number.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::app::session::per_ip::ConnectionsPerIp;
use crate::config::HttpServer;
use crate::st::Shared;

#[derive(Clone, Default)]
pub(super) struct Connections(Shared<Table>);

#[derive(Default)]
struct Table {
    numbers: HashSet<u64>,
    by_address: ConnectionsPerIp,
}

/// The permit of one open connection. Dropping it allows another one.
pub(super) struct Permit {
    connections: Connections,
    number: u64,
    address: IpAddr,
}

impl Connections {
    /// Adds a connection. Fails when there are too many; the text is for the client.
    pub(super) fn add(&self, number: u64, address: IpAddr, config: &HttpServer) -> Result<Permit, &'static str> {
        let max_own = config.max_connections_per_address;
        self.0.with(|table| {
            if table.numbers.len() >= config.max_connections {
                return Err("too many connections");
            }
            if max_own > 0 && table.by_address.count(address) >= max_own {
                return Err("too many connections from your address");
            }
            table.numbers.insert(number);
            table.by_address.add(address);
            Ok(())
        })?;
        Ok(Permit { connections: self.clone(), number, address })
    }

    pub(super) fn len(&self) -> usize {
        self.0.with(|table| table.numbers.len())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.0.try_with(|table| {
            if table.numbers.remove(&self.number) {
                table.by_address.remove(self.address);
            }
        });
    }
}
