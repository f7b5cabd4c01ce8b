//! Why a client's connection ends: a fixed list, so that it can be logged, told, and counted.

use std::fmt;

/// The reason for which a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client ended the connection.
    ByPeer,
    /// The connection failed.
    Network(String),
    /// The client was too slow with its handshake and commands.
    SlowStart,
    /// The publisher has sent nothing for too long.
    SilentPublisher,
    /// The client takes nothing of what is sent to it.
    NotReading,
    /// What the client sent is no RTMP.
    Protocol(String),
    /// The request was refused, for the reason that the client was told.
    Refused(String),
    /// The publisher had stalled, and another took its stream's name.
    Replaced {
        /// The client that publishes the stream now.
        by: u64,
    },
}

impl CloseReason {
    /// A name for counting and searching, in words joined by dashes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ByPeer => "by-peer",
            Self::Network(_) => "network",
            Self::SlowStart => "slow-start",
            Self::SilentPublisher => "silent-publisher",
            Self::NotReading => "not-reading",
            Self::Protocol(_) => "protocol",
            Self::Refused(_) => "refused",
            Self::Replaced { .. } => "replaced",
        }
    }

    /// Whether this is the ordinary end of an ordinary client.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::ByPeer)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => write!(f, "the client closed the connection"),
            Self::Network(error) => write!(f, "the connection failed: {error}"),
            Self::SlowStart => write!(f, "too slow: neither publishing nor playing in time"),
            Self::SilentPublisher => write!(f, "the publisher has sent nothing for too long"),
            Self::NotReading => write!(f, "the client takes nothing of what it is sent"),
            Self::Protocol(what) => write!(f, "{what}"),
            Self::Refused(why) => write!(f, "{why}"),
            Self::Replaced { by } => write!(f, "stalled, and client {by} took over the stream"),
        }
    }
}
