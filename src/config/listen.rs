//! Where to listen, and for what.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::kind::{Mismatch, digits};

/// The word after an address that has several sockets share its port.
const REUSE_PORT: &str = "reuseport";

/// An address to listen on, with the words that stand after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address; the port is not 0. An IPv6 address takes IPv6 connections only.
    pub address: SocketAddr,
    /// What is spoken there.
    pub kind: ListenKind,
    /// `reuseport`: other processes of the same user that say so too may listen on the address at the same time, and the kernel
    /// shares the connections out among them (SO_REUSEPORT).
    pub reuse_port: bool,
}

/// What is spoken on an address. A protocol that is to be listened for is a variant here; [`super::Config::listeners`] names all
/// addresses there are, and the server serves each by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenKind {
    /// RTMP over TCP.
    Rtmp,
    /// RTMP over TLS.
    Rtmps {
        /// And RTMP over TCP for those who begin so.
        plain: bool,
    },
    /// HTTP over TCP.
    #[cfg(feature = "hls")]
    Http,
}

impl Listen {
    /// An address without any word after it.
    pub(super) fn plain(address: SocketAddr) -> Listen {
        Listen { address, kind: ListenKind::Rtmp, reuse_port: false }
    }

    /// Reads addresses, each with the words that are for it: `1935 [::]:1935 reuseport`.
    pub(super) fn read(words: &[&str]) -> Result<Vec<Listen>, Mismatch> {
        let wrong = |word: &str| Mismatch::Word(word.to_owned());
        let mut all: Vec<Listen> = Vec::with_capacity(words.len());
        let mut seen = BTreeSet::new();
        for word in words {
            if *word == REUSE_PORT {
                all.last_mut().ok_or_else(|| wrong(word))?.reuse_port = true;
                continue;
            }
            let address = address(word).ok_or_else(|| wrong(word))?;
            if !seen.insert(address) {
                return Err(Mismatch::Repeated(address.to_string()));
            }
            all.push(Listen::plain(address));
        }
        Ok(all)
    }
}

/// As it is written in a configuration, with the address in full.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.reuse_port { write!(f, " {REUSE_PORT}") } else { Ok(()) }
    }
}

/// As it is said in the log.
impl fmt::Display for ListenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenKind::Rtmp => "RTMP",
            ListenKind::Rtmps { plain: false } => "RTMPS",
            ListenKind::Rtmps { plain: true } => "RTMPS and RTMP",
            #[cfg(feature = "hls")]
            ListenKind::Http => "HTTP",
        })
    }
}

/// A bare port is a port on every IPv4 address, as in the original. Port 0 (any free one) is of no use to an operator.
fn address(word: &str) -> Option<SocketAddr> {
    let address = match digits(word) {
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
