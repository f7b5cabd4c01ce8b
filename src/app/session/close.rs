//! Reasons for closing a connection: a closed list, logged, sent to the client, and counted.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    ByPeer,
    Network(String),
    /// The client neither published nor played within the time limit.
    SlowStart,
    SilentPublisher,
    /// The publisher exceeded `max_bitrate`, given in kbit/s.
    TooFast(u64),
    NotReading,
    Protocol(String),
    /// The request was refused: a wrong name, vhost, or referring page.
    Refused(String),
    Denied(String),
    /// A load balancer sent no PROXY header, or a wrong one.
    Proxy(String),
    Busy(String),
    /// The limit of connections is reached, or the system has no memory for another.
    Full(String),
    Memory(String),
    Overload(String),
    /// The publisher's HLS files could not be written, and `hls_on_error` is `disconnect`.
    Hls(String),
    /// A backend of `http_hooks` refused the request, or did not answer.
    Hook(String),
    /// The publisher stalled, and another one took over its stream.
    Replaced {
        by: u64,
    },
    /// The client's coroutine panicked or overflowed its stack: a fault of this server.
    Crashed,
    VhostRemoved(String),
    VhostDisabled(String),
    ServerStopped,
    Kicked,
    /// The stream of an HTTP viewer has ended.
    StreamEnded,
    Tested,
    Banned(String),
}

/// Codes of all reasons, in the order of their counters.
pub(crate) const CLOSE_CODES: [&str; 25] = [
    "by-peer",
    "network",
    "slow-start",
    "silent-publisher",
    "not-reading",
    "protocol",
    "refused",
    "busy",
    "full",
    "replaced",
    "crashed",
    "vhost-removed",
    "vhost-disabled",
    "server-stopped",
    "denied",
    "proxy",
    "hls",
    "too-fast",
    "memory",
    "overload",
    "hook",
    "kicked",
    "banned",
    "tested",
    "stream-ended",
];

impl CloseReason {
    /// Returns the code for logs and counters: words joined by dashes.
    pub fn code(&self) -> &'static str {
        CLOSE_CODES[self.index()]
    }

    /// Returns whether this is a normal end, or one that the operator caused.
    pub fn is_ordinary(&self) -> bool {
        is_ordinary_code(self.code())
    }

    pub(crate) fn index(&self) -> usize {
        match self {
            Self::ByPeer => 0,
            Self::Network(_) => 1,
            Self::SlowStart => 2,
            Self::SilentPublisher => 3,
            Self::NotReading => 4,
            Self::Protocol(_) => 5,
            Self::Refused(_) => 6,
            Self::Busy(_) => 7,
            Self::Full(_) => 8,
            Self::Replaced { .. } => 9,
            Self::Crashed => 10,
            Self::VhostRemoved(_) => 11,
            Self::VhostDisabled(_) => 12,
            Self::ServerStopped => 13,
            Self::Denied(_) => 14,
            Self::Proxy(_) => 15,
            Self::Hls(_) => 16,
            Self::TooFast(_) => 17,
            Self::Memory(_) => 18,
            Self::Overload(_) => 19,
            Self::Hook(_) => 20,
            Self::Kicked => 21,
            Self::Tested => 23,
            Self::StreamEnded => 24,
            Self::Banned(_) => 22,
        }
    }
}

/// Returns whether the reason with this code is a normal end, or one that the operator caused.
pub(crate) fn is_ordinary_code(code: &str) -> bool {
    matches!(
        code,
        "by-peer" | "vhost-removed" | "vhost-disabled" | "server-stopped" | "kicked" | "tested" | "stream-ended"
    )
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => write!(f, "the client closed the connection"),
            Self::Network(error) => write!(f, "connection failed: {error}"),
            Self::SlowStart => write!(f, "the client neither published nor played within the time limit"),
            Self::SilentPublisher => write!(f, "the publisher sent nothing for too long"),
            Self::TooFast(max) => write!(f, "the publisher exceeded max_bitrate of {max} kbit/s"),
            Self::NotReading => write!(f, "the client does not read what it is sent"),
            Self::Protocol(what) => write!(f, "{what}"),
            Self::Refused(why)
            | Self::Denied(why)
            | Self::Proxy(why)
            | Self::Busy(why)
            | Self::Full(why)
            | Self::Memory(why)
            | Self::Overload(why)
            | Self::Hook(why)
            | Self::Banned(why) => write!(f, "{why}"),
            Self::Hls(why) => write!(f, "HLS files of the stream cannot be written: {why}"),
            Self::Replaced { by } => write!(f, "the publisher stalled, and client {by} took over the stream"),
            Self::Crashed => write!(f, "internal server error, see the error logged before"),
            Self::VhostRemoved(vhost) => write!(f, "vhost {vhost} was removed"),
            Self::VhostDisabled(vhost) => write!(f, "vhost {vhost} was disabled"),
            Self::ServerStopped => write!(f, "the server is shutting down"),
            Self::Kicked => write!(f, "an operator disconnected the client"),
            Self::StreamEnded => write!(f, "the stream has ended"),
            Self::Tested => write!(f, "the bandwidth test is complete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_code_of_its_own() {
        let text = || "x".to_owned();
        let all = [
            (CloseReason::ByPeer, "by-peer"),
            (CloseReason::Network(text()), "network"),
            (CloseReason::SlowStart, "slow-start"),
            (CloseReason::SilentPublisher, "silent-publisher"),
            (CloseReason::NotReading, "not-reading"),
            (CloseReason::Protocol(text()), "protocol"),
            (CloseReason::Refused(text()), "refused"),
            (CloseReason::Busy(text()), "busy"),
            (CloseReason::Full(text()), "full"),
            (CloseReason::Replaced { by: 1 }, "replaced"),
            (CloseReason::Crashed, "crashed"),
            (CloseReason::VhostRemoved(text()), "vhost-removed"),
            (CloseReason::VhostDisabled(text()), "vhost-disabled"),
            (CloseReason::ServerStopped, "server-stopped"),
            (CloseReason::Denied(text()), "denied"),
            (CloseReason::Proxy(text()), "proxy"),
            (CloseReason::Hls(text()), "hls"),
            (CloseReason::TooFast(8000), "too-fast"),
            (CloseReason::Memory(text()), "memory"),
            (CloseReason::Overload(text()), "overload"),
            (CloseReason::Hook(text()), "hook"),
            (CloseReason::Kicked, "kicked"),
            (CloseReason::Banned(text()), "banned"),
            (CloseReason::Tested, "tested"),
            (CloseReason::StreamEnded, "stream-ended"),
        ];
        for (index, (reason, code)) in all.iter().enumerate() {
            assert_eq!(reason.code(), *code);
            assert!(!reason.to_string().is_empty());
            assert_eq!((reason.index(), CLOSE_CODES[index]), (index, *code));
        }
        assert_eq!(all.len(), CLOSE_CODES.len());
    }
}
