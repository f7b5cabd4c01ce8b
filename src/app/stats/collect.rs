//! Collects a [`Snapshot`] from the clients, the streams and the features.
//!
//! All functions run in a coroutine and yield as a [`TimeSlice`] says, so that 10,000 clients delay no media. They cost nothing
//! while nobody asks.

mod clients;
mod streams;

use std::collections::HashMap;

use self::clients::millis;
use super::reporter::{MessageCounts, SourceStats};
use super::snapshot::{
    ClientState, CloseCount, HeldBytes, LimitsReport, Section, ServerReport, Snapshot, Traffic, VhostReport,
};
use crate::app::context::Context;
use crate::app::limits::fairness::TimeSlice;
use crate::{os, st};

pub(crate) use clients::{ClientEntry, ClientFacts, ClientWalk};
pub(crate) use streams::{StreamWalk, stream, streams, streams_without_traffic};

/// Collects everything but the clients. May wait.
pub(crate) fn snapshot(ctx: &Context) -> Snapshot {
    let streams = streams(ctx);
    let live = streams.iter().filter(|stream| stream.publisher.is_some()).count() as u64;
    Snapshot {
        server: server(ctx, live),
        limits: limits(ctx),
        vhosts: vhosts(ctx),
        streams,
        closes: closes(ctx),
        features: features(ctx),
    }
}

/// Frees reports. May wait: to free those of thousands of streams takes milliseconds.
pub(crate) fn discard<T>(reports: Vec<T>) {
    let mut slice = TimeSlice::for_report();
    for report in reports {
        drop(report);
        slice.yield_if_used_up();
    }
}

/// Collects the vhosts of the configuration, by name. May wait.
pub(crate) fn vhosts(ctx: &Context) -> Vec<VhostReport> {
    let config = ctx.config.get();
    let mut reports: Vec<VhostReport> = Vec::new();
    let mut indices = HashMap::new();
    for (name, vhost) in &config.vhosts {
        indices.insert(name.as_str(), reports.len());
        reports.push(VhostReport {
            name: name.clone(),
            enabled: vhost.enabled,
            clients: 0,
            streams: 0,
            bytes_in: 0,
            bytes_out: 0,
            kbps_in: 0,
            kbps_out: 0,
            hls: vhost.hls.enabled,
            hls_fragment_ms: millis(vhost.hls.fragment),
        });
    }
    for source in StreamWalk::new(ctx) {
        let at = source.with_names(|names| indices.get(names.vhost).copied().filter(|_| names.is_published));
        if let Some(at) = at.flatten() {
            reports[at].streams += 1;
        }
    }
    for client in ClientWalk::new(ctx, 0) {
        let facts = client.facts();
        let at = indices.get(facts.vhost()).copied().filter(|_| !facts.stream().is_empty());
        if let Some(at) = at {
            let vhost = &mut reports[at];
            let traffic = client.traffic(ctx, &facts);
            vhost.clients += u64::from(!client.is_engine() || facts.state == ClientState::Publishing);
            vhost.bytes_in += traffic.bytes_in;
            vhost.bytes_out += traffic.bytes_out;
            vhost.kbps_in += traffic.kbps_in;
            vhost.kbps_out += traffic.kbps_out;
        }
    }
    reports
}

/// Collects process and totals. `streams` is the number of published streams. May wait.
pub(crate) fn server(ctx: &Context, streams: u64) -> ServerReport {
    // Without a thread, both count as 0.
    let usage = st::offload(os::usage).unwrap_or_default();
    ServerReport {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        uptime_ms: millis(st::now().saturating_duration_since(ctx.stats.started_at)),
        busy: st::busy_share(),
        resident_bytes: usage.memory as u64 * 1024,
        held_bytes: ctx.memory.total() as u64,
        held: ctx.memory.by_category().map(|(category, bytes)| HeldBytes { category, bytes: bytes as u64 }).collect(),
        open_files: usage.files as u64,
        coroutines: st::coroutine_count() as u64,
        clients: ctx.clients.len() as u64 + ctx.viewers.len() as u64,
        publishers: ctx.stats.publish.count() as u64,
        players: ctx.stats.play.count() as u64 + ctx.viewers.len() as u64,
        forwarders: ctx.stats.forward.count() as u64,
        streams,
        publish: traffic(ctx.stats.publish.total()),
        play: traffic(ctx.stats.play.total()),
        forward: traffic(ctx.stats.forward.total()),
    }
}

pub(crate) fn limits(ctx: &Context) -> LimitsReport {
    let config = ctx.config.get();
    LimitsReport {
        max_connections: config.max_connections as u64,
        max_memory_bytes: config.max_memory.bytes(os::memory_limit()) as u64,
        max_busy: config.max_busy,
        refusing: ctx.admission.check().err().map(|reason| reason.to_string()),
    }
}

pub(crate) fn closes(ctx: &Context) -> Vec<CloseCount> {
    let occurred = ctx.stats.closed.all().filter(|(_, count)| *count > 0);
    occurred.map(|(code, count)| CloseCount { code, count }).collect()
}

pub(crate) fn features(ctx: &Context) -> Vec<Section> {
    ctx.features.all().iter().filter_map(|feature| feature.snapshot()).collect()
}

pub(crate) fn http_bytes(ctx: &Context) -> u64 {
    let http = ctx.features.all().iter().find(|feature| feature.name() == "http").and_then(|http| http.snapshot());
    let sent = http.and_then(|http| http.numbers.into_iter().find(|number| number.name == "sent_bytes_total"));
    sent.map_or(0, |number| number.value)
}

fn traffic(total: SourceStats) -> Traffic {
    let SourceStats { messages: MessageCounts { passed, dropped }, bytes, kbps_in, kbps_out } = total;
    Traffic { bytes_in: bytes.received, bytes_out: bytes.sent, kbps_in, kbps_out, messages: passed, dropped }
}
