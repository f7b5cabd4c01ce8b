//! Connects to a target: resolves its name, rejects this server itself, and tries its addresses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::failure::Failure;
use super::forwarder::Forwarder;
use super::route::is_own;
use super::target::Dialer;
use crate::app::session::request::AppRequest;
use crate::app::stream::Source;
use crate::config::Destination;
use crate::rtmp::connect::Connect;
use crate::st;
use crate::st::net::TcpStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const MAX_ADDRESSES: usize = 8;

/// Connects to the first address of the target that accepts, unless the target is this stream on this server.
pub(super) fn connect(
    dialer: &Dialer,
    forwarder: &Forwarder,
    source: &Source,
    destination: &Destination,
) -> Result<TcpStream, Failure> {
    let addresses = resolve(dialer, forwarder, destination)?;
    let listeners: Vec<_> = dialer.ctx.config.get().listeners().iter().map(|listen| listen.address).collect();
    if let Some(&address) = addresses.iter().find(|&&address| is_own(address, &listeners))
        && is_same_stream(dialer, source, destination)
    {
        return Err(Failure::Loop { address });
    }
    let mut failure = None;
    for address in addresses {
        forwarder.check_active()?;
        match TcpStream::connect(address, CONNECT_TIMEOUT) {
            // Simultaneous open: without a listener, a connection to a local port can get that port and meet itself.
            Ok(stream) if stream.local_addr().is_ok_and(|local| local == address) => {
                failure = Some(Failure::Connect { address, error: io::ErrorKind::ConnectionRefused.into() });
            }
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(Failure::Connect { address, error }),
        }
    }
    Err(failure
        .unwrap_or_else(|| Failure::Resolve { host: destination.host.clone(), error: "it has no address".into() }))
}

fn resolve(dialer: &Dialer, forwarder: &Forwarder, destination: &Destination) -> Result<Vec<SocketAddr>, Failure> {
    let Destination { host, port, .. } = destination;
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let (resolver, target) = (&dialer.resolver, host_and_port(destination));
    let _permit = forwarder.acquire(&resolver.lookups, &target)?;
    let name = (host.clone(), *port);
    let look_up = move || name.to_socket_addrs().map(|all| all.take(MAX_ADDRESSES).collect());
    let addresses = resolver.resolve(&target, || match st::look_up(look_up) {
        Ok(addresses) => addresses.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    });
    addresses.map_err(|error| Failure::Resolve { host: host.clone(), error })
}

pub(super) fn host_and_port(Destination { host, port, .. }: &Destination) -> String {
    format!("{host}:{port}")
}

fn is_same_stream(dialer: &Dialer, source: &Source, destination: &Destination) -> bool {
    let (connect, config) = (Connect::new(&destination.app, &destination.tc_url), dialer.ctx.config.get());
    let request = AppRequest::new(&connect, &config).and_then(|app| app.stream(&destination.stream, &config));
    request.is_ok_and(|request| request.name == source.name())
}
