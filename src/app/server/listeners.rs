//! Listening sockets, and changing their set while the server runs.
//!
//! A change has two steps. [`Listeners::bind`] opens the new addresses; if one fails, nothing has changed.
//! [`Listeners::replace`] then starts accepting on the new sockets and closes the unwanted ones; their clients stay. An address
//! in both sets keeps its socket, and with it the connections that wait in the kernel.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;

use crate::config::Listen;
use crate::log::quoted;
use crate::st::net::TcpListener;
use crate::st::{self, LowClass, Shared};

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(.error))]
pub struct ListenError {
    pub address: SocketAddr,
    pub error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another server running on this port?",
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for root",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

#[derive(Default)]
pub struct Sockets(Vec<(Listen, net::TcpListener)>);

impl Sockets {
    /// Opens the wanted addresses, or takes over the `inherited` sockets that already listen on them. Returns the addresses of
    /// the other inherited sockets, which are closed. On an error none is open.
    pub fn bind(
        wanted: &[Listen],
        inherited: Vec<net::TcpListener>,
    ) -> Result<(Sockets, Vec<SocketAddr>), ListenError> {
        let mut is_wanted = vec![false; inherited.len()];
        let mut sockets = Vec::new();
        for listen in wanted {
            let found = inherited.iter().position(|socket| st::net::listens_on(socket, listen.address));
            sockets.push(match found {
                Some(at) => {
                    is_wanted[at] = true;
                    let address = listen.address;
                    (*listen, inherited[at].try_clone().map_err(|error| ListenError { address, error })?)
                }
                None => open(listen, listen.reuse_port)?,
            });
        }
        let unwanted = inherited.iter().zip(is_wanted).filter(|(_, is_wanted)| !is_wanted);
        let unwanted = unwanted.filter_map(|(socket, _)| socket.local_addr().ok()).collect();
        Ok((Sockets(sockets), unwanted))
    }
}

fn open(listen: &Listen, reuse_port: bool) -> Result<(Listen, net::TcpListener), ListenError> {
    let address = listen.address;
    let socket = st::net::bind(address, reuse_port).map_err(|error| ListenError { address, error })?;
    Ok((*listen, socket))
}

pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Protocol and options. A reload may change the protocol of an address.
    listen: Shared<Listen>,
}

impl Listener {
    pub(crate) fn listen(&self) -> Listen {
        self.listen.with(|listen| *listen)
    }
}

pub(crate) struct Listeners {
    open: Shared<Vec<Arc<Listener>>>,
    accept: Arc<dyn Fn(&Listener) + Send + Sync>,
}

impl Listeners {
    /// Creates a set without sockets. `accept` runs in a coroutine for each socket, until the socket is closed.
    pub(crate) fn new(accept: impl Fn(&Listener) + Send + Sync + 'static) -> Self {
        Self { open: Shared::default(), accept: Arc::new(accept) }
    }

    pub(crate) fn close(&self) {
        // Without new sockets nothing can fail.
        let _ = self.replace(&[], Sockets::default());
    }

    pub(crate) fn bind(&self, wanted: &[Listen]) -> Result<Sockets, ListenError> {
        let open_now = self.open.with(|open| open.clone());
        let is_open = |listen: &&Listen| open_now.iter().any(|open| open.listen().address == listen.address);
        let mut sockets = Sockets::default();
        for listen in wanted.iter().filter(|listen| !is_open(listen)) {
            // For example "0.0.0.0:1935" replaces "127.0.0.1:1935": both are open for a moment.
            let overlapping: Vec<_> = open_now
                .iter()
                .filter(|open| {
                    let address = open.listen().address;
                    overlaps(address, listen.address) && wanted.iter().all(|wanted| wanted.address != address)
                })
                .collect();
            let share = |on: bool| overlapping.iter().for_each(|open| drop(open.socket.set_reuse_port(on)));
            share(true);
            let socket = open(listen, listen.reuse_port || !overlapping.is_empty());
            share(false);
            sockets.0.push(socket?);
        }
        Ok(sockets)
    }

    /// Listens on exactly the wanted addresses: accepts on each new socket, and closes the unwanted ones. Fails when
    /// the system has no memory for a coroutine, or refuses a socket option.
    pub(crate) fn replace(&self, wanted: &[Listen], new: Sockets) -> io::Result<()> {
        let find = |address| wanted.iter().find(|wanted| wanted.address == address);
        let unwanted = self.open.with(|open| {
            let (kept, unwanted) =
                open.drain(..).partition(|open: &Arc<Listener>| find(open.listen().address).is_some());
            *open = kept;
            unwanted
        });
        for listener in unwanted {
            log::info!("listener closed: address={}", listener.listen().address);
            listener.socket.close();
        }
        for listener in self.open.with(|open| open.clone()) {
            let before = listener.listen();
            if let Some(wanted) = find(before.address).filter(|wanted| wanted.kind != before.kind) {
                log::info!("listener changed: address={} kind={}", wanted.address, quoted(wanted.kind));
                listener.listen.with(|listen| *listen = *wanted);
            }
        }
        for (listen, socket) in new.0 {
            let socket = TcpListener::new(socket)?;
            // It may have been set while an overlapping address was replaced.
            socket.set_reuse_port(listen.reuse_port)?;
            log::info!("listener opened: address={} kind={}", listen.address, quoted(listen.kind));
            let listener = Arc::new(Listener { socket, listen: Shared::new(listen) });
            self.open.with(|open| open.push(listener.clone()));
            let accept = self.accept.clone();
            st::spawn_low_priority(
                LowClass::Arrivals,
                "accept",
                0,
                st::supervised("accept", move || accept(&listener)),
            )?;
        }
        Ok(())
    }
}

/// Returns whether two different addresses cannot both be open, because one of them is the wildcard address.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    let has_wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && has_wildcard && a != b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_overlapping_of_all_addresses_of_its_family() {
        for (a, b, expected) in [
            ("0.0.0.0:1935", "127.0.0.1:1935", true),
            ("127.0.0.1:1935", "0.0.0.0:1935", true),
            ("[::]:1935", "[::1]:1935", true),
            ("0.0.0.0:1935", "[::]:1935", false),
            ("0.0.0.0:1935", "127.0.0.1:1936", false),
            ("127.0.0.2:1935", "127.0.0.1:1935", false),
            ("0.0.0.0:1935", "0.0.0.0:1935", false),
        ] {
            assert_eq!(overlaps(a.parse().unwrap(), b.parse().unwrap()), expected, "{a} {b}");
        }
    }
}
