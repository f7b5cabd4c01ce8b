//! Addresses to listen on, and their protocols.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::error::Mismatch;
use super::units::parse_digits;

/// The option after an address that lets several sockets share it.
const REUSE_PORT: &str = "reuseport";

/// An address to listen on, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address. The port is not 0. An IPv6 address accepts only IPv6 connections.
    pub address: SocketAddr,
    /// The protocol.
    pub kind: ListenKind,
    /// `reuseport`: other processes of the same user with this option may listen on the address too; the kernel
    /// distributes the connections among them (SO_REUSEPORT).
    pub reuse_port: bool,
}

/// The protocol on an address. [`super::Config::listeners`] returns all addresses, and the server serves each by its
/// kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenKind {
    /// RTMP over TCP.
    Rtmp,
    /// RTMP over TLS.
    Rtmps {
        /// Also accept RTMP over TCP.
        plain: bool,
    },
    /// HTTP over TCP: `http_server`.
    Http,
    /// HTTP over TCP: `http_api`.
    HttpApi,
    /// HTTP over TLS: `https` of `http_api`.
    HttpsApi,
    /// HTTP over TCP: `exporter`.
    Exporter,
}

impl Listen {
    /// Creates an RTMP address without options.
    pub(super) fn plain(address: SocketAddr) -> Listen {
        Listen { address, kind: ListenKind::Rtmp, reuse_port: false }
    }

    /// Parses addresses, each followed by its options: `1935 [::]:1935 reuseport`.
    pub(super) fn read(words: &[&str]) -> Result<Vec<Listen>, Mismatch> {
        let invalid = |word: &str| Mismatch::Word(word.to_owned());
        let mut all: Vec<Listen> = Vec::with_capacity(words.len());
        let mut seen = BTreeSet::new();
        for word in words {
            if *word == REUSE_PORT {
                all.last_mut().ok_or_else(|| invalid(word))?.reuse_port = true;
                continue;
            }
            let address = parse_address(word).ok_or_else(|| invalid(word))?;
            if !seen.insert(address) {
                return Err(Mismatch::Repeated(address.to_string()));
            }
            all.push(Listen::plain(address));
        }
        Ok(all)
    }
}

/// The form of the configuration, with the full address.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.reuse_port { write!(f, " {REUSE_PORT}") } else { Ok(()) }
    }
}

/// The name for the log.
impl fmt::Display for ListenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenKind::Rtmp => "RTMP",
            ListenKind::Rtmps { plain: false } => "RTMPS",
            ListenKind::Rtmps { plain: true } => "RTMPS and RTMP",
            ListenKind::Http => "HTTP",
            ListenKind::HttpApi => "HTTP API",
            ListenKind::HttpsApi => "HTTPS API",
            ListenKind::Exporter => "exporter",
        })
    }
}

/// Parses an address or a port, which stands for all IPv4 addresses as in the original SRS. Port 0 (any free port) is
/// invalid.
fn parse_address(word: &str) -> Option<SocketAddr> {
    let address = match parse_digits(word) {
        Some(port) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, u16::try_from(port).ok()?)),
        None => word.parse().ok()?,
    };
    (address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_ports_and_differ() {
        let all = ["0.0.0.0:1935", "127.0.0.1:1936", "[::]:1937"].map(|a| Listen::plain(a.parse().unwrap()));
        assert_eq!(Listen::read(&["1935", "127.0.0.1:1936", "[::]:1937"]), Ok(all.to_vec()));
        assert_eq!(Listen::read(&["1935", "0.0.0.0:1935"]), Err(Mismatch::Repeated("0.0.0.0:1935".to_owned())));
        for bad in ["0", "65536", "localhost:1935", ":1935", "::1935", "+1935", "127.0.0.1", "", "reuseport"] {
            assert_eq!(Listen::read(&[bad]), Err(Mismatch::Word(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn a_word_is_for_the_address_before_it() {
        let all = Listen::read(&["1935", "reuseport", "[::1]:1936"]).unwrap();
        assert_eq!(all.iter().map(|listen| listen.reuse_port).collect::<Vec<_>>(), [true, false]);
        let text: Vec<_> = all.iter().map(Listen::to_string).collect();
        assert_eq!(text, ["0.0.0.0:1935 reuseport", "[::1]:1936"]);
        let words: Vec<_> = text.iter().flat_map(|text| text.split(' ')).collect();
        assert_eq!(Listen::read(&words), Ok(all));
    }
}
