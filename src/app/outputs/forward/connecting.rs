//! From the name of a target to a connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::forwarder::Forwarder;
use super::route::is_own;
use super::session::Failure;
use crate::app::server::Server;
use crate::app::session::request::AppRequest;
use crate::app::stream::Source;
use crate::config::Destination;
use crate::rtmp::server::Connect;
use crate::st;
use crate::st::net::TcpStream;

/// How long one address of the target may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

/// Connects to the first address of the target that accepts.
pub(super) fn connect(
    server: &Server,
    forwarder: &Forwarder,
    source: &Source,
    destination: &Destination,
) -> Result<TcpStream, Failure> {
    let addresses = resolve(server, forwarder, destination)?;
    let listeners: Vec<_> = server.config().listeners().iter().map(|listen| listen.address).collect();
    if let Some(&address) = addresses.iter().find(|&&address| is_own(address, &listeners))
        && comes_back(server, source, destination)
    {
        return Err(Failure::Itself { address });
    }
    let mut failure = None;
    for address in addresses {
        forwarder.go_on()?;
        match TcpStream::connect(address, CONNECT) {
            // A port of this machine that nobody listens on can be taken for the connection itself, which then meets itself.
            Ok(stream) if stream.local_addr().is_ok_and(|local| local == address) => {
                failure = Some(Failure::Connect { address, error: io::ErrorKind::ConnectionRefused.into() });
            }
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(Failure::Connect { address, error }),
        }
    }
    Err(failure.unwrap_or_else(|| no_address(destination)))
}

/// The addresses of the target, looked up beside the worker.
fn resolve(server: &Server, forwarder: &Forwarder, destination: &Destination) -> Result<Vec<SocketAddr>, Failure> {
    let Destination { host, port, .. } = destination;
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let (lookups, target) = (&server.forwards.lookups, host_and_port(destination));
    let _place = forwarder.take_place(&lookups.places, &target)?;
    let name = (host.clone(), *port);
    let look_up = move || name.to_socket_addrs().map(|all| all.take(ADDRESSES).collect());
    let addresses = lookups.ask(&target, || match st::offload(look_up) {
        Ok(addresses) => addresses.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    });
    addresses.map_err(|error| Failure::Name { host: host.clone(), error })
}

/// What forwarders call the same target by.
pub(super) fn host_and_port(Destination { host, port, .. }: &Destination) -> String {
    format!("{host}:{port}")
}

fn no_address(destination: &Destination) -> Failure {
    Failure::Name { host: destination.host.clone(), error: "it has no address".into() }
}

/// Whether the destination, on this very server, is the stream that is to be forwarded.
fn comes_back(server: &Server, source: &Source, destination: &Destination) -> bool {
    let (connect, config) = (Connect::new(&destination.app, &destination.tc_url), server.config());
    let request = AppRequest::new(&connect, &config).and_then(|app| app.stream(&destination.stream, &config));
    request.is_ok_and(|request| request.name == source.name())
}
