//! RTMP over TLS: who is under TLS, and by which certificate.

#[cfg(feature = "ssl")]
use crate::app::rtmp::connection::in_start;
use crate::app::session::close::CloseReason;
use crate::config::{Config, ListenKind};
use crate::st::net::TcpStream;
#[cfg(feature = "ssl")]
use crate::st::{Shared, tls};

/// The first byte of whoever begins with TLS: a record of its handshake (RFC 8446, section 5.1).
#[cfg(feature = "ssl")]
const TLS: u8 = 0x16;

/// The first byte of whoever begins with RTMP: C0.
#[cfg(feature = "ssl")]
const RTMP: u8 = 3;

/// The certificate in force.
pub struct Rtmps {
    #[cfg(feature = "ssl")]
    acceptor: Shared<Option<tls::Acceptor>>,
}

/// Why RTMPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RtmpsError {
    /// Certificate and key are not what they should be.
    #[cfg(feature = "ssl")]
    #[error("rtmps: {0}")]
    Tls(#[from] tls::Error),
}

#[cfg(feature = "ssl")]
impl Rtmps {
    /// Reads the files that a configuration names, if it has RTMPS. Blocks the thread.
    ///
    /// # Errors
    /// When they cannot be used, with the file and what is wrong with it.
    pub fn load(config: &Config) -> Result<Self, RtmpsError> {
        let rtmps = &config.rtmps;
        let acceptor = rtmps.enabled.then(|| tls::Acceptor::load(&rtmps.cert, &rtmps.key)).transpose()?;
        Ok(Self { acceptor: Shared::new(acceptor) })
    }

    /// Puts what was loaded anew in force; clients that there are keep theirs.
    pub fn replace(&self, new: Rtmps) {
        let new = new.acceptor.with(Option::take);
        self.acceptor.with(|acceptor| *acceptor = new);
    }

    /// Shakes hands with a client that is to be, or may be, under TLS.
    pub(crate) fn secure(&self, stream: &TcpStream, kind: ListenKind) -> Result<(), CloseReason> {
        let ListenKind::Rtmps { plain } = kind else { return Ok(()) };
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::InvalidData => CloseReason::Protocol(error.to_string()),
            std::io::ErrorKind::UnexpectedEof => CloseReason::ByPeer,
            _ => in_start(error.into()),
        };
        match stream.peek().map_err(failed)? {
            None => return Err(CloseReason::ByPeer),
            Some(TLS) => {}
            Some(_) if plain => return Ok(()),
            Some(RTMP) => return Err(CloseReason::Protocol("this is RTMP without TLS, on a port for RTMPS".into())),
            Some(_) => {}
        }
        let Some(acceptor) = self.acceptor.with(|acceptor| acceptor.clone()) else {
            return Err(CloseReason::Protocol("RTMPS is no longer served".into()));
        };
        stream.accept_tls(&acceptor).map_err(failed)
    }
}

#[cfg(not(feature = "ssl"))]
impl Rtmps {
    /// Nothing to load: a configuration with RTMPS is refused by a build without TLS.
    ///
    /// # Errors
    /// None.
    pub fn load(_: &Config) -> Result<Self, RtmpsError> {
        Ok(Self {})
    }

    /// Nothing to put in force.
    pub fn replace(&self, _: Rtmps) {}

    pub(crate) fn secure(&self, _: &TcpStream, _: ListenKind) -> Result<(), CloseReason> {
        Ok(())
    }
}
