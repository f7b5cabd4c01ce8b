//! Why a client's connection ends: a fixed list, so that it can be logged, told, and counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The publisher sends more than `max_bitrate`, which is this, in kbit/s.
    TooFast(u64),
    /// The client takes nothing of what is sent to it.
    NotReading,
    /// What the client sent is no RTMP.
    Protocol(String),
    /// The request was refused, for the reason that the client was told: a name, a vhost, a page.
    Refused(String),
    /// The rules of `security` do not let its address do that.
    Denied(String),
    /// A balancer sent no PROXY header, or a wrong one.
    Proxy(String),
    /// The stream is being published by another.
    Busy(String),
    /// There are as many clients as there may be, or no memory for another.
    Full(String),
    /// More is held than `max_memory`, and of all clients this was one to go.
    Memory(String),
    /// The worker is asked for more than it can do.
    Overload(String),
    /// The files of the publisher's stream could not be written, and `hls_on_error` says that it is to know.
    Hls(String),
    /// The publisher had stalled, and another took its stream's name.
    Replaced {
        /// The client that publishes the stream now.
        by: u64,
    },
    /// The coroutine of the client panicked or overflowed its stack: a fault of this server.
    Crashed,
    /// A reload took the client's vhost out of the configuration.
    VhostRemoved(String),
    /// A reload turned the client's vhost off.
    VhostDisabled(String),
    /// The server stops.
    ServerStopped,
}

/// The codes of all reasons, see [`CloseReason::code`].
const CODES: [&str; 20] = [
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
];

impl CloseReason {
    /// A name for counting and searching, in words joined by dashes.
    pub fn code(&self) -> &'static str {
        CODES[self.index()]
    }

    /// Whether this is the ordinary end of an ordinary client, or what the operator has asked for.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::ByPeer | Self::VhostRemoved(_) | Self::VhostDisabled(_) | Self::ServerStopped)
    }

    /// The place in [`CODES`].
    fn index(&self) -> usize {
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
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => write!(f, "the client closed the connection"),
            Self::Network(error) => write!(f, "the connection failed: {error}"),
            Self::SlowStart => write!(f, "too slow: neither publishing nor playing in time"),
            Self::SilentPublisher => write!(f, "the publisher has sent nothing for too long"),
            Self::TooFast(max) => write!(f, "the publisher sends more than max_bitrate, {max} kbit/s"),
            Self::NotReading => write!(f, "the client takes nothing of what it is sent"),
            Self::Protocol(what) => write!(f, "{what}"),
            Self::Refused(why)
            | Self::Denied(why)
            | Self::Proxy(why)
            | Self::Busy(why)
            | Self::Full(why)
            | Self::Memory(why)
            | Self::Overload(why) => write!(f, "{why}"),
            Self::Hls(why) => write!(f, "HLS of the stream cannot be written: {why}"),
            Self::Replaced { by } => write!(f, "stalled, and client {by} took over the stream"),
            Self::Crashed => write!(f, "a fault of this server, see the error before"),
            Self::VhostRemoved(vhost) => write!(f, "the vhost {vhost} was removed"),
            Self::VhostDisabled(vhost) => write!(f, "the vhost {vhost} was disabled"),
            Self::ServerStopped => write!(f, "the server stops"),
        }
    }
}

/// How many connections were closed since the server started, by reason. Any thread may read it.
#[derive(Default)]
pub(crate) struct CloseTotals([AtomicU64; CODES.len()]);

impl CloseTotals {
    pub(crate) fn count(&self, reason: &CloseReason) {
        // 64 bits: at a million a second they last for half a million years.
        self.0[reason.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Each reason's code and how often it came, zeros included, always in the same order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.iter().zip(&self.0).map(|(&code, count)| (code, count.load(Ordering::Relaxed)))
    }
}

/// Those that are not zero, for the log: `by-peer=3, refused=1`.
impl fmt::Display for CloseTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (code, count) in self.all().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{code}={count}")?;
            separator = ", ";
        }
        Ok(())
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
        ];
        let totals = CloseTotals::default();
        for (reason, code) in &all {
            assert_eq!(reason.code(), *code);
            assert!(!reason.to_string().is_empty());
            totals.count(reason);
        }
        assert_eq!(totals.all().collect::<Vec<_>>(), CODES.map(|code| (code, 1)));
    }

    #[test]
    fn totals_say_what_there_was() {
        let totals = CloseTotals::default();
        assert_eq!(totals.to_string(), "");
        totals.count(&CloseReason::ByPeer);
        totals.count(&CloseReason::ByPeer);
        totals.count(&CloseReason::Crashed);
        assert_eq!(totals.to_string(), "by-peer=2, crashed=1");
    }
}
