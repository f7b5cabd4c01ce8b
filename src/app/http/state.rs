//! State that all connections share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::permits::Connections;
use super::stalled::StalledResponses;
use crate::app::limits::admission::Admission;
use crate::config::ConfigCell;
use crate::http::date::DateCache;
use crate::http::response::{Head, Persistence};
use crate::http::status::Status;
use crate::memory::MemoryTracker;
use crate::st::{self, Shared};

/// Header lines of every response. Pages of any site may play the streams; browsers must not guess content types.
const COMMON: &str = "Server: simple-rtmp-server\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: Content-Length, Content-Range, Date\r\n\
    X-Content-Type-Options: nosniff\r\n";

const COMMON_PRIVATE: &str = "Server: simple-rtmp-server\r\nX-Content-Type-Options: nosniff\r\n";

pub(super) struct State {
    pub(super) config: ConfigCell,
    pub(super) memory: MemoryTracker,
    pub(super) admission: Admission,
    pub(super) connections: Connections,
    pub(super) stalled: StalledResponses,
    pub(super) counters: Counters,
    date: Shared<DateCache>,
}

/// Counters since the start of the server.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) rejected: AtomicU64,
}

impl State {
    pub(super) fn new(config: ConfigCell, memory: MemoryTracker, admission: Admission) -> Self {
        Self {
            config,
            memory,
            admission,
            connections: Connections::default(),
            stalled: StalledResponses::default(),
            counters: Counters::default(),
            date: Shared::default(),
        }
    }

    pub(super) fn encode_head(&self, head: &Head, persistence: Persistence) -> String {
        let common = if head.is_private { COMMON_PRIVATE } else { COMMON };
        self.date.with(|date| head.encode(persistence, date.format(st::system_time()), common))
    }

    /// Returns whether three quarters of `max_connections` are taken: idle connections are then closed early.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.len() >= self.config.get().http_server.max_connections / 4 * 3
    }

    pub(super) fn count(&self, status: Status) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        if status.code() >= 400 {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
