//! The present state of the server as plain values, which the API, the metrics and the console read.
//!
//! [`collect`](super::collect) makes them. Names of fields are those of the JSON that tools see: keep them.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::session::client::ClientKind;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) server: ServerReport,
    pub(crate) limits: LimitsReport,
    pub(crate) vhosts: Vec<VhostReport>,
    pub(crate) streams: Vec<StreamReport>,
    /// Connections closed since the start, by reason; without those that never occurred.
    pub(crate) closes: Vec<CloseCount>,
    pub(crate) features: Vec<Section>,
}

/// The process, and totals over all clients.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ServerReport {
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    /// Share of the worker's time that media takes, from 0 to 1.
    pub(crate) busy: f64,
    pub(crate) resident_bytes: u64,
    /// Bytes held for clients, as `max_memory` counts them.
    pub(crate) held_bytes: u64,
    pub(crate) held: Vec<HeldBytes>,
    pub(crate) open_files: u64,
    pub(crate) coroutines: u64,
    pub(crate) clients: u64,
    pub(crate) publishers: u64,
    pub(crate) players: u64,
    pub(crate) forwarders: u64,
    pub(crate) streams: u64,
    pub(crate) publish: Traffic,
    pub(crate) play: Traffic,
    pub(crate) forward: Traffic,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct HeldBytes {
    pub(crate) category: &'static str,
    pub(crate) bytes: u64,
}

/// Traffic of a group of connections, those that have ended included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Traffic {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) kbps_in: u64,
    pub(crate) kbps_out: u64,
    pub(crate) messages: u64,
    pub(crate) dropped: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct LimitsReport {
    pub(crate) max_connections: u64,
    pub(crate) max_memory_bytes: u64,
    /// In percent; 0 means no limit.
    pub(crate) max_busy: u8,
    pub(crate) refusing: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct VhostReport {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) clients: u64,
    pub(crate) streams: u64,
    /// Bytes of the clients that are connected now.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) kbps_in: u64,
    pub(crate) kbps_out: u64,
    pub(crate) hls: bool,
    pub(crate) hls_fragment_ms: u64,
}

/// A stream that is published, or that clients wait for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StreamReport {
    pub(crate) name: String,
    pub(crate) vhost: String,
    pub(crate) app: String,
    pub(crate) stream: String,
    pub(crate) state: StreamState,
    pub(crate) publisher: Option<u64>,
    pub(crate) uptime_ms: u64,
    pub(crate) players: u64,
    pub(crate) forwarders: u64,
    pub(crate) video: Option<VideoReport>,
    pub(crate) audio: Option<AudioReport>,
    pub(crate) video_frames: u64,
    pub(crate) messages: u64,
    pub(crate) dropped: u64,
    pub(crate) gop_ms: Option<u64>,
    /// Time of the last video message minus that of the last audio message.
    pub(crate) av_skew_ms: Option<i64>,
    pub(crate) jitter_ms: f64,
    /// Times that input was late by a second or more.
    pub(crate) stalls: u64,
    pub(crate) held_bytes: u64,
    /// Bytes of the clients that are connected now: of the publisher, and to all of them.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) kbps_in: u64,
    pub(crate) kbps_out: u64,
    pub(crate) tc_url: String,
    /// Path of its HLS playlist on `http_server`, if that serves HLS of its vhost.
    pub(crate) hls: Option<String>,
    /// Path of its FLV file on `http_server`, if that serves its vhost with `http_remux`.
    pub(crate) flv: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamState {
    Live,
    /// Its publisher was lost, and may come back.
    Lost,
    Idle,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct VideoReport {
    pub(crate) codec: String,
    pub(crate) profile: Option<&'static str>,
    pub(crate) level: Option<String>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) fps: f64,
    pub(crate) kbps: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct AudioReport {
    pub(crate) codec: String,
    pub(crate) profile: Option<&'static str>,
    pub(crate) sample_rate: Option<u32>,
    pub(crate) channels: Option<u8>,
    pub(crate) kbps: u64,
    /// Reason for which HLS has no audio of this codec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hls_obstacle: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClientReport {
    pub(crate) id: u64,
    pub(crate) kind: ClientKind,
    pub(crate) state: ClientState,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// Name of the vhost of its stream, or of its connection; empty before `connect`.
    pub(crate) vhost: String,
    pub(crate) app: String,
    /// Name of its stream within the application; empty if it has none.
    pub(crate) stream: String,
    /// Name of its stream in the server; empty if it has none.
    pub(crate) stream_name: String,
    pub(crate) tc_url: String,
    pub(crate) page_url: String,
    pub(crate) age_ms: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Like all bit rates, over 30 seconds.
    pub(crate) kbps_in: u64,
    pub(crate) kbps_out: u64,
    /// Messages of its stream, received or sent.
    pub(crate) messages: u64,
    pub(crate) dropped: u64,
    /// The program of this server that it is, if it is one. It counts as no client of its vhost.
    pub(crate) engine: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientState {
    Connecting,
    Idle,
    Publishing,
    Playing,
    Closing,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct CloseCount {
    pub(crate) code: &'static str,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) numbers: Vec<Number>,
    /// Its parts, such as the forwarders of all streams.
    pub(crate) items: Vec<Map<String, Value>>,
    /// Metrics with labels; `items` has the same figures for the API.
    #[serde(skip)]
    pub(crate) families: Vec<Family>,
}

/// A metric `srs_FEATURE_NAME` with labels, of whose values there are few.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: &'static str,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Suffix of the name of the metric, such as `_bucket` of a histogram.
    pub(crate) suffix: &'static str,
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) value: f64,
}

/// A number that a feature reports, also a metric `srs_FEATURE_NAME`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Number {
    /// In the form of a metric's name; a counter's ends in `_total`.
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) help: &'static str,
    pub(crate) value: u64,
}

impl Section {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, numbers: Vec::new(), items: Vec::new(), families: Vec::new() }
    }

    /// Adds a number. A counter's name ends in `_total`.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, help: &'static str, value: u64) -> Self {
        self.numbers.push(Number { name, help, value });
        self
    }
}
