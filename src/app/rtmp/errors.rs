//! The close reasons of failed connections.

use std::io;

use crate::app::session::close::CloseReason;
use crate::rtmp;

impl From<rtmp::Error> for CloseReason {
    fn from(error: rtmp::Error) -> Self {
        match error {
            rtmp::Error::Closed => Self::ByPeer,
            rtmp::Error::Io(error) => error.into(),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Many players close without a shutdown.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::ByPeer,
            io::ErrorKind::TimedOut => Self::NotReading,
            _ => Self::Network(error.to_string()),
        }
    }
}

/// Returns the close reason of a client that neither publishes nor plays yet: a timeout is a slow start.
pub(crate) fn setup_error(error: rtmp::Error) -> CloseReason {
    match &error {
        rtmp::Error::Io(io) if io.kind() == io::ErrorKind::TimedOut => CloseReason::SlowStart,
        _ => error.into(),
    }
}
