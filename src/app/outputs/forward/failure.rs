//! Failures of a connection to a target.

use std::io;
use std::net::SocketAddr;

use crate::config::Destination;
use crate::rtmp;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("nothing left to send")]
    Finished,
    #[error("cannot resolve {host}: {error}")]
    Resolve { host: String, error: String },
    #[error("cannot connect to {address}: {error}")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("forwarding loop: {address} is this server itself")]
    Loop { address: SocketAddr },
    #[error("{0}")]
    Rtmp(rtmp::Error),
    #[error("the target does not answer")]
    NoAnswer,
    #[error("the target does not read")]
    NotReading,
    #[error("the target acknowledges nothing")]
    Gone,
    #[error("the target reported {code}: {description}")]
    Refused { code: String, description: String },
    #[error("the target closed the connection")]
    Closed,
    #[error("the target redirected twice in a row")]
    Redirected(Box<Destination>),
}

impl Failure {
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Loop { .. })
    }
}

impl From<rtmp::Error> for Failure {
    fn from(error: rtmp::Error) -> Self {
        match error {
            rtmp::Error::Io(io) => io.into(),
            rtmp::Error::Closed => Self::Closed,
            other => Self::Rtmp(other),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            io::ErrorKind::TimedOut => Self::Gone,
            _ => Self::Rtmp(rtmp::Error::Io(error)),
        }
    }
}
