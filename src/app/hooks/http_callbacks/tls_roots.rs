//! TLS to backends: the certificates that this system trusts, read from time to time so that changes take effect.

use std::io;

use crate::st::net::TcpStream;
#[cfg(feature = "ssl")]
use crate::st::{self, Shared, tls::Connector};

/// Time for which the trusted certificates are not read again.
#[cfg(feature = "ssl")]
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(60);

/// The trusted certificates. Clones share them.
#[derive(Clone, Default)]
pub(super) struct TlsRoots {
    #[cfg(feature = "ssl")]
    connector: Shared<Option<(std::time::Instant, Connector)>>,
}

impl TlsRoots {
    /// Does the TLS handshake with the backend `host`, which needs a certificate for that name.
    #[cfg(feature = "ssl")]
    pub(super) fn encrypt(&self, stream: &TcpStream, host: &str) -> io::Result<()> {
        let known = self.connector.with(|known| known.clone());
        let connector = match known.filter(|(read, _)| st::now() - *read < LIFETIME) {
            Some((_, connector)) => connector,
            None => {
                let connector = st::offload(Connector::system).map_err(io::Error::other)?.map_err(io::Error::other)?;
                self.connector.with(|known| *known = Some((st::now(), connector.clone())));
                connector
            }
        };
        stream.connect_tls(&connector, host)
    }

    /// Fails: this build has no TLS, and its configuration has no such URL.
    #[cfg(not(feature = "ssl"))]
    pub(super) fn encrypt(&self, _: &TcpStream, _: &str) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS"))
    }
}
