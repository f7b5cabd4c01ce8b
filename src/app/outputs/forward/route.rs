//! The servers that a forwarded stream has passed, so that it never returns to one of them.
//!
//! A forwarder adds a random id of this server and this stream to the ids that the stream came with, and sends them in
//! its connect object. A server that finds its own id there refuses the publication. Other servers drop the ids; a loop
//! that includes one ends where the stream returns, because its name is in use there.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::OnceLock;

/// Servers that a stream may pass: far more than needed. Ends loops that the ids do not show.
const MAX_HOPS: usize = 16;

/// The hop of a stream that a program of a server has made: it is transcoded nowhere again.
const TRANSCODED: u64 = u64::MAX;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route(Vec<u64>);

impl Route {
    /// Parses the property of a connect object. Skips what is not an id.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.split(',').take(MAX_HOPS + 1).filter_map(|id| u64::from_str_radix(id, 16).ok()).collect())
    }

    /// Returns why a stream with this route may not be published here as `stream` (vhost/app/stream).
    pub(crate) fn loop_error(&self, stream: &str) -> Option<&'static str> {
        if self.0.contains(&hop_id(stream)) {
            return Some("forwarding loop: the stream has already passed through this server");
        }
        (self.0.len() >= MAX_HOPS).then_some("forwarding loop: the stream has passed through too many servers")
    }

    pub(super) fn transcoded(&self) -> Self {
        Self(self.0.iter().copied().chain([TRANSCODED]).collect())
    }

    /// Returns whether a program of a server that the stream has passed has made it.
    pub(crate) fn is_transcoded(&self) -> bool {
        self.0.contains(&TRANSCODED)
    }

    pub(super) fn with_hop(&self, stream: &str) -> Self {
        Self(self.0.iter().copied().chain([hop_id(stream)]).collect())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, id) in self.0.iter().enumerate() {
            write!(f, "{}{id:016x}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Returns the id of a stream of this process. It is a keyed hash: it reveals nothing, and no two servers share one.
fn hop_id(stream: &str) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(stream)
}

/// Returns whether a connection to `address` reaches one of `listeners` in this process.
pub(super) fn is_own(address: SocketAddr, listeners: &[SocketAddr]) -> bool {
    let reaches = |listener: &SocketAddr| {
        let any = listener.ip().is_unspecified() && listener.is_ipv4() == address.is_ipv4();
        listener.port() == address.port() && (listener.ip() == address.ip() || any && is_local(address.ip()))
    };
    listeners.iter().any(reaches)
}

/// Returns whether this machine has the address: only then can a socket be bound to it.
pub(crate) fn is_local(address: IpAddr) -> bool {
    address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_does_not_come_back() {
        let route = Route::default().with_hop("v/live/a").with_hop("v/live/b");
        let travelled = Route::parse(&route.to_string());
        assert_eq!(travelled, route);
        assert!(travelled.loop_error("v/live/a").is_some() && travelled.loop_error("v/live/b").is_some());
        assert_eq!(travelled.loop_error("v/live/c"), None);
        assert_eq!(Route::parse("").loop_error("v/live/a"), None);
    }

    #[test]
    fn what_a_program_has_made_is_known_on_all_servers() {
        let route = Route::default().transcoded().with_hop("v/live/a");
        assert!(Route::parse(&route.to_string()).is_transcoded());
        assert!(!Route::default().with_hop("v/live/a").is_transcoded());
    }

    #[test]
    fn a_route_has_an_end_and_takes_any_text() {
        let mut route = Route::default();
        for hop in 0..MAX_HOPS {
            assert_eq!(route.loop_error("x"), None);
            route = route.with_hop(&hop.to_string());
        }
        assert!(route.loop_error("x").is_some());
        assert!(Route::parse(&"1,".repeat(100_000)).loop_error("x").is_some());
        for text in ["nonsense", ",,,", "-1", "fffffffffffffffff", "é"] {
            assert_eq!(Route::parse(text), Route::default(), "{text}");
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
