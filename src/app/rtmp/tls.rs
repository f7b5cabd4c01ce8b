//! RTMPS: accepts TLS on the ports configured for it, with the certificate in force.

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

/// The certificate in force, if RTMPS is enabled. A reload replaces it.
#[derive(Clone)]
pub struct TlsAcceptor {
    #[cfg(feature = "ssl")]
    acceptor: Shared<Option<tls::Acceptor>>,
}

/// The reason why RTMPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or the key cannot be used.
    #[cfg(feature = "ssl")]
    #[error("rtmps: {0}")]
    Tls(#[from] tls::Error),
}

#[cfg(feature = "ssl")]
impl TlsAcceptor {
    /// Loads the certificate and the key that the configuration names, if it enables RTMPS. Blocks the thread.
    ///
    /// # Errors
    /// When a file cannot be used, with its path and the problem.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let rtmps = &config.rtmps;
        let acceptor = rtmps.enabled.then(|| tls::Acceptor::load(&rtmps.cert, &rtmps.key)).transpose()?;
        Ok(Self { acceptor: Shared::new(acceptor) })
    }

    /// Uses the certificate of `new` for new connections. Connections that exist keep theirs.
    pub fn replace(&self, new: TlsAcceptor) {
        let new = new.acceptor.with(Option::take);
        self.acceptor.with(|acceptor| *acceptor = new);
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
    /// Loads nothing: a build without TLS refuses a configuration with RTMPS.
    ///
    /// # Errors
    /// None.
    pub fn load(_: &Config) -> Result<Self, TlsError> {
        Ok(Self {})
    }

    /// Does nothing, as [`TlsAcceptor::load`].
    pub fn replace(&self, _: TlsAcceptor) {}

    pub(crate) fn accept(&self, _: &TcpStream, _: ListenKind) -> Result<(), CloseReason> {
        Ok(())
    }
}
