//! Targets of forwarders, the states on the way to them, and what all forwarders share on that way.

use super::resolver::Resolver;
use super::route::Route;
use super::semaphore::FairSemaphore;
use crate::app::context::Context;
use crate::config::Destination;

/// Forwarders of the whole server that connect at a time, at most half of them to one target. A target answers within
/// milliseconds, so that hundreds connect in a second, and a client that publishes one name after the other cannot
/// cause more connections.
const MAX_CONNECTING: usize = 64;

pub(super) struct Dialer {
    pub(super) ctx: Context,
    pub(super) connecting: FairSemaphore,
    pub(super) resolver: Resolver,
}

impl Dialer {
    pub(super) fn new(ctx: Context) -> Self {
        Self { ctx, connecting: FairSemaphore::new(MAX_CONNECTING), resolver: Resolver::new() }
    }
}

/// A target of one stream. Two forwarders with equal targets would do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) destination: Destination,
    pub(super) tls_verify: bool,
    pub(super) route: Route,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ForwardState {
    /// Waits for media, for a permit to connect, or for the next attempt.
    #[default]
    Waiting,
    Connecting,
    Sending,
    /// The stream has ended; sends the rest and closes.
    Ending,
}

impl ForwardState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Ending => "ending",
        }
    }
}
