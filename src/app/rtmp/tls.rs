//! TLS of RTMPS and of the API: accepts it on the ports configured for it, with the certificates in force.

#[cfg(feature = "ssl")]
use crate::app::rtmp::errors::setup_error;
use crate::app::session::close::CloseReason;
use crate::config::{Config, ListenKind};
use crate::st::net::TcpStream;
#[cfg(feature = "ssl")]
use crate::st::{Shared, tls};

/// First byte of a TLS connection: the content type of a handshake record (RFC 8446, section 5.1).
#[cfg(feature = "ssl")]
const TLS_HANDSHAKE: u8 = 0x16;

/// First byte of an RTMP connection: C0, the version.
#[cfg(feature = "ssl")]
const RTMP_VERSION: u8 = 3;

/// The certificates in force, of what is enabled. A reload replaces them.
#[derive(Clone)]
pub struct TlsAcceptor {
    #[cfg(feature = "ssl")]
    acceptor: Shared<Option<tls::Acceptor>>,
    #[cfg(feature = "ssl")]
    api: Shared<Option<tls::Acceptor>>,
}

/// The reason why RTMPS or the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[cfg(feature = "ssl")]
    #[error("rtmps: {0}")]
    Tls(#[from] tls::Error),
    #[cfg(feature = "ssl")]
    #[error("https of http_api: {0}")]
    Api(tls::Error),
}

#[cfg(feature = "ssl")]
impl TlsAcceptor {
    /// Loads the certificates and keys of what the configuration enables. Blocks the thread.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let rtmps = &config.rtmps;
        let acceptor = rtmps.enabled.then(|| tls::Acceptor::load(&rtmps.cert, &rtmps.key)).transpose()?;
        let https = &config.http_api.https;
        let api = https.enabled.then(|| tls::Acceptor::load(&https.cert, &https.key)).transpose();
        let api = api.map_err(TlsError::Api)?;
        Ok(Self { acceptor: Shared::new(acceptor), api: Shared::new(api) })
    }

    /// Uses the certificates of `new` for new connections. Connections that exist keep theirs.
    pub fn replace(&self, new: TlsAcceptor) {
        let rtmps = new.acceptor.with(Option::take);
        self.acceptor.with(|acceptor| *acceptor = rtmps);
        let api = new.api.with(Option::take);
        self.api.with(|acceptor| *acceptor = api);
    }

    /// Does the TLS handshake with a client of the API. Fails also if a reload has disabled the API over TLS.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "used over HTTP only"))]
    pub(crate) fn accept_api(&self, stream: &TcpStream) -> std::io::Result<()> {
        let acceptor = self.api.with(|acceptor| acceptor.clone());
        let acceptor = acceptor.ok_or_else(|| std::io::Error::other("the API over TLS was disabled by a reload"))?;
        stream.accept_tls(&acceptor)
    }

    /// Does the TLS handshake if the port serves RTMPS, unless the client speaks plain RTMP and the port allows it.
    pub(crate) fn accept(&self, stream: &TcpStream, kind: ListenKind) -> Result<(), CloseReason> {
        let ListenKind::Rtmps { plain } = kind else { return Ok(()) };
        let close_reason = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::InvalidData => CloseReason::Protocol(error.to_string()),
            std::io::ErrorKind::UnexpectedEof => CloseReason::ByPeer,
            _ => setup_error(error.into()),
        };
        match stream.peek_byte().map_err(close_reason)? {
            None => return Err(CloseReason::ByPeer),
            Some(TLS_HANDSHAKE) => {}
            Some(_) if plain => return Ok(()),
            Some(RTMP_VERSION) => {
                return Err(CloseReason::Protocol("RTMP without TLS on a port that serves only RTMPS".into()));
            }
            Some(_) => {}
        }
        let Some(acceptor) = self.acceptor.with(|acceptor| acceptor.clone()) else {
            return Err(CloseReason::Protocol("RTMPS was disabled by a reload".into()));
        };
        stream.accept_tls(&acceptor).map_err(close_reason)
    }
}

#[cfg(not(feature = "ssl"))]
impl TlsAcceptor {
    /// Loads nothing: a build without TLS refuses a configuration with RTMPS. Never fails.
    pub fn load(_: &Config) -> Result<Self, TlsError> {
        Ok(Self {})
    }

    pub fn replace(&self, _: TlsAcceptor) {}

    pub(crate) fn accept(&self, _: &TcpStream, _: ListenKind) -> Result<(), CloseReason> {
        Ok(())
    }

    /// Fails: the configuration has no such listener.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "used over HTTP only"))]
    pub(crate) fn accept_api(&self, _: &TcpStream) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
