//! The JSON of the health of the server: its last hour, and addresses that cause trouble.

use std::net::IpAddr;

use serde::Serialize;

use crate::app::http::handlers::api::offenders::Record;
use crate::st;

#[derive(Serialize)]
pub(in crate::app::http::handlers::api) struct OffenderJson {
    ip: String,
    refused: u64,
    faulty: u64,
    wrong_secrets: u64,
    last_code: Option<&'static str>,
    seconds_ago: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::app::http::handlers::api) struct SampleJson {
    pub(in crate::app::http::handlers::api) time_ms: u64,
    pub(in crate::app::http::handlers::api) kbps_in: u64,
    pub(in crate::app::http::handlers::api) kbps_out: u64,
    pub(in crate::app::http::handlers::api) clients: u64,
    pub(in crate::app::http::handlers::api) publishers: u64,
    pub(in crate::app::http::handlers::api) players: u64,
    /// Share of the worker's time that media takes, from 0 to 1.
    pub(in crate::app::http::handlers::api) busy: f64,
    pub(in crate::app::http::handlers::api) memory_bytes: u64,
}

impl From<&(IpAddr, Record)> for OffenderJson {
    fn from((ip, record): &(IpAddr, Record)) -> Self {
        Self {
            ip: ip.to_string(),
            refused: record.refused,
            faulty: record.faulty,
            wrong_secrets: record.wrong_secrets,
            last_code: record.last_code,
            seconds_ago: st::now().saturating_duration_since(record.last).as_secs(),
        }
    }
}
