//! The sockets that listen: which addresses are open, and how the set changes while the server runs.
//!
//! A change has two halves. [`Listeners::bind`] opens what is new, and fails as a whole, with nothing changed, when one of the
//! addresses cannot be had. [`Listeners::replace`] then has the new ones accept, and closes those that are wanted no longer; the
//! clients that came in by them stay. An address that is in both sets keeps its socket, and with it everybody who is waiting to be
//! accepted.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;

use crate::config::Listen;
use crate::st::net::TcpListener;
use crate::st::{self, Crowd, Shared};

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(.error))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What is wrong.
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

/// Sockets that listen, but on which nobody accepts yet.
#[derive(Default)]
pub struct Sockets(Vec<(Listen, net::TcpListener)>);

impl Sockets {
    /// Opens each of the addresses, unless one of the `inherited` sockets listens on it already. Those of them that no address
    /// wants are closed, and their addresses given.
    ///
    /// # Errors
    /// [`ListenError`] for the first that cannot be opened; then none is.
    pub fn bind(
        wanted: &[Listen],
        inherited: Vec<net::TcpListener>,
    ) -> Result<(Sockets, Vec<SocketAddr>), ListenError> {
        let mut is_wanted = vec![false; inherited.len()];
        let mut sockets = Vec::new();
        for listen in wanted {
            let found = inherited.iter().position(|socket| st::net::serves(socket, listen.address));
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

/// A socket on which a coroutine accepts.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// What it is for; a reload may give an address to another protocol.
    listen: Shared<Listen>,
}

impl Listener {
    pub(crate) fn listen(&self) -> Listen {
        self.listen.with(|listen| *listen)
    }
}

/// The sockets on which the server accepts.
#[derive(Default)]
pub(crate) struct Listeners(Shared<Vec<Arc<Listener>>>);

impl Listeners {
    /// Opens those of the wanted addresses that are not open.
    pub(crate) fn bind(&self, wanted: &[Listen]) -> Result<Sockets, ListenError> {
        let open_now = self.0.with(|open| open.clone());
        let is_open = |listen: &&Listen| open_now.iter().any(|open| open.listen().address == listen.address);
        let mut sockets = Sockets::default();
        for listen in wanted.iter().filter(|listen| !is_open(listen)) {
            // "0.0.0.0:1935" in the place of "127.0.0.1:1935": for a moment both are open.
            let in_the_way: Vec<_> = open_now
                .iter()
                .filter(|open| {
                    let address = open.listen().address;
                    overlap(address, listen.address) && wanted.iter().all(|wanted| wanted.address != address)
                })
                .collect();
            let share = |on: bool| in_the_way.iter().for_each(|open| drop(open.socket.set_reuse_port(on)));
            share(true);
            let socket = open(listen, listen.reuse_port || !in_the_way.is_empty());
            share(false);
            sockets.0.push(socket?);
        }
        Ok(sockets)
    }

    /// Makes the wanted addresses those that are open: has `accept` serve each of the new sockets, in a coroutine of its own, and
    /// closes what is no longer wanted.
    pub(crate) fn replace(
        &self,
        wanted: &[Listen],
        new: Sockets,
        accept: impl Fn(&Listener) + Clone + Send + 'static,
    ) -> io::Result<()> {
        let find = |address| wanted.iter().find(|wanted| wanted.address == address);
        let unwanted = self.0.with(|open| {
            let (kept, unwanted) =
                open.drain(..).partition(|open: &Arc<Listener>| find(open.listen().address).is_some());
            *open = kept;
            unwanted
        });
        for listener in unwanted {
            log::info!("no longer listening on {}", listener.listen().address);
            listener.socket.close();
        }
        for listener in self.0.with(|open| open.clone()) {
            let before = listener.listen();
            if let Some(wanted) = find(before.address).filter(|wanted| wanted.kind != before.kind) {
                log::info!("now listening for {} on {}", wanted.kind, wanted.address);
                listener.listen.with(|listen| *listen = *wanted);
            }
        }
        for (listen, socket) in new.0 {
            let socket = TcpListener::new(socket)?;
            // It may have been shared with the one before.
            socket.set_reuse_port(listen.reuse_port)?;
            log::info!("listening for {} on {}", listen.kind, listen.address);
            let listener = Arc::new(Listener { socket, listen: Shared::new(listen) });
            self.0.with(|open| open.push(listener.clone()));
            let accept = accept.clone();
            st::spawn_low(Crowd::Arrivals, "accept", 0, st::lasting("accept", move || accept(&listener)))?;
        }
        Ok(())
    }
}

/// Whether the two cannot both be open, though they differ: one of them is all addresses of the machine.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_all = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && is_all && a != b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_way_of_all_addresses_of_its_family() {
        for (a, b, expected) in [
            ("0.0.0.0:1935", "127.0.0.1:1935", true),
            ("127.0.0.1:1935", "0.0.0.0:1935", true),
            ("[::]:1935", "[::1]:1935", true),
            ("0.0.0.0:1935", "[::]:1935", false),
            ("0.0.0.0:1935", "127.0.0.1:1936", false),
            ("127.0.0.2:1935", "127.0.0.1:1935", false),
            ("0.0.0.0:1935", "0.0.0.0:1935", false),
        ] {
            assert_eq!(overlap(a.parse().unwrap(), b.parse().unwrap()), expected, "{a} {b}");
        }
    }
}
