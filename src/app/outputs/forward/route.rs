//! The way of a stream over several servers, so that it never comes back to one where it has been.
//!
//! A forwarder adds a mark of this server and this stream to those that the stream came with, and sends them in its connect
//! object; a server that finds its own mark there refuses the publication. Servers of other kinds drop the marks. A loop over them ends
//! where the stream comes back: its name is taken there.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::OnceLock;

/// The property of the connect object that holds the marks.
pub(crate) const KEY: &str = "srsForwardRoute";

/// Servers that a stream may come over: far more than anybody needs, and an end for what no mark shows.
const MAX_HOPS: usize = 16;

/// The servers that a stream came over, first to last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route(Vec<u64>);

impl Route {
    /// Reads what a connect object says. What is no mark is left out.
    pub(crate) fn read(text: &str) -> Self {
        Self(text.split(',').take(MAX_HOPS + 1).filter_map(|mark| u64::from_str_radix(mark, 16).ok()).collect())
    }

    /// Why a stream that came this way may not be published here as `stream` (vhost/app/stream).
    pub(crate) fn objection(&self, stream: &str) -> Option<&'static str> {
        if self.0.contains(&mark(stream)) {
            return Some("a loop of forwarders: the stream comes from this server itself");
        }
        (self.0.len() >= MAX_HOPS).then_some("a loop of forwarders: the stream came over too many servers")
    }

    /// The way on from here.
    pub(super) fn onwards(&self, stream: &str) -> Self {
        Self(self.0.iter().copied().chain([mark(stream)]).collect())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mark) in self.0.iter().enumerate() {
            write!(f, "{}{mark:016x}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A number for a stream of this process: random to all others, so that it tells nothing and no two servers share one.
fn mark(stream: &str) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(stream)
}

/// Whether a connection to `address` would end at one of `listeners` in this very process.
pub(super) fn is_own(address: SocketAddr, listeners: &[SocketAddr]) -> bool {
    let is_at = |listener: &SocketAddr| {
        let any = listener.ip().is_unspecified() && listener.is_ipv4() == address.is_ipv4();
        listener.port() == address.port() && (listener.ip() == address.ip() || any && is_local(address.ip()))
    };
    listeners.iter().any(is_at)
}

/// Whether this machine has the address: only then can a socket be bound to it.
fn is_local(address: IpAddr) -> bool {
    address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_does_not_come_back() {
        let route = Route::default().onwards("v/live/a").onwards("v/live/b");
        let travelled = Route::read(&route.to_string());
        assert_eq!(travelled, route);
        assert!(travelled.objection("v/live/a").is_some() && travelled.objection("v/live/b").is_some());
        assert_eq!(travelled.objection("v/live/c"), None);
        assert_eq!(Route::read("").objection("v/live/a"), None);
    }

    #[test]
    fn a_route_has_an_end_and_takes_any_text() {
        let mut route = Route::default();
        for hop in 0..MAX_HOPS {
            assert_eq!(route.objection("x"), None);
            route = route.onwards(&hop.to_string());
        }
        assert!(route.objection("x").is_some());
        assert!(Route::read(&"1,".repeat(100_000)).objection("x").is_some());
        for text in ["nonsense", ",,,", "-1", "fffffffffffffffff", "é"] {
            assert_eq!(Route::read(text), Route::default(), "{text}");
        }
    }

    #[test]
    fn own_addresses_are_known() {
        let address = |text: &str| text.parse().unwrap();
        for (target, listener, own) in [
            ("127.0.0.1:1935", "127.0.0.1:1935", true),
            ("127.0.0.1:1935", "0.0.0.0:1935", true),
            ("127.9.9.9:1935", "0.0.0.0:1935", true),
            ("127.0.0.1:1936", "0.0.0.0:1935", false),
            ("127.0.0.2:1935", "127.0.0.1:1935", false),
            ("127.0.0.1:1935", "[::]:1935", false),
            ("192.0.2.1:1935", "0.0.0.0:1935", false),
            ("0.0.0.0:1935", "0.0.0.0:1935", true),
        ] {
            assert_eq!(is_own(address(target), &[address(listener)]), own, "{target} {listener}");
        }
    }
}
