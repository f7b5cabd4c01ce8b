use std::net::IpAddr;

use serde::Serialize;

/// The figures of a complete bandwidth test. Names of fields are those of the JSON that tools see: keep them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BandwidthReport {
    /// The number of the client, or of its first connection, in the log.
    pub client_id: u64,
    pub ip: IpAddr,
    pub vhost: String,
    /// `rtmp`, `rtmps` or `http`.
    pub protocol: &'static str,
    /// Milliseconds since 1970.
    pub start_time: u64,
    /// Milliseconds since 1970.
    pub end_time: u64,
    pub play_kbps: u64,
    pub publish_kbps: u64,
    /// Bytes that the client has acknowledged within `play_time`.
    pub play_bytes: u64,
    /// Bytes received from the client within `publish_time`.
    pub publish_bytes: u64,
    /// In milliseconds.
    pub play_time: u64,
    /// In milliseconds.
    pub publish_time: u64,
    pub rtt_ms: f64,
    /// Variation of the round-trip time without load, if it was measured.
    pub jitter_ms: Option<f64>,
    pub retransmits: u64,
}

/// Bytes of one direction, and the time that they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfer {
    pub bytes: u64,
    /// In milliseconds.
    pub ms: u64,
}

impl Transfer {
    pub fn kbps(self) -> u64 {
        self.bytes.saturating_mul(8).checked_div(self.ms).unwrap_or(0)
    }
}
