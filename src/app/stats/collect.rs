//! Collects a [`Snapshot`] from the clients, the streams and the features.
//!
//! All functions run in a coroutine and yield every [`TIME_SLICE`], so that 10,000 clients delay no media. They cost nothing
//! while nobody asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::media_paths::MediaPaths;
use super::reporter::{MessageCounts, SourceStats};
use super::snapshot::{
    AudioReport, ClientReport, ClientState, CloseCount, HeldBytes, LimitsReport, Section, ServerReport, Snapshot,
    StreamReport, StreamState, Traffic, VhostReport, VideoReport,
};
use crate::app::context::Context;
use crate::app::limits::fairness::TimeSlice;
use crate::app::session::client::{Client, ClientKind};
#[cfg(feature = "http")]
use crate::app::session::viewers::Viewer;
use crate::app::stream::{Source, StreamSnapshot};
use crate::config::Config;
use crate::{os, st};

/// Longest time without a yield.
const TIME_SLICE: Duration = Duration::from_millis(1);

/// Collects everything but the clients. May wait.
pub(crate) fn snapshot(ctx: &Context) -> Snapshot {
    let clients = clients(ctx);
    let streams = streams(ctx, &clients);
    let vhosts = vhosts(ctx, &streams, &clients);
    discard(clients);
    Snapshot {
        server: server(ctx, &streams),
        limits: limits(ctx),
        vhosts,
        streams,
        closes: closes(ctx),
        features: features(ctx),
    }
}

/// Frees reports. May wait: to free those of ten thousand clients takes milliseconds.
pub(crate) fn discard<T>(reports: Vec<T>) {
    let mut slice = TimeSlice::new(TIME_SLICE);
    for report in reports {
        drop(report);
        slice.yield_if_used_up();
    }
}

/// Collects the clients, by number. May wait.
pub(crate) fn clients(ctx: &Context) -> Vec<ClientReport> {
    let now = st::now();
    let mut slice = TimeSlice::new(TIME_SLICE);
    let mut reports = Vec::new();
    for client in ctx.clients.all() {
        reports.push(client_report(ctx, &client, now));
        slice.yield_if_used_up();
    }
    #[cfg(feature = "http")]
    {
        reports.extend(ctx.viewers.all().iter().map(|viewer| viewer_report(viewer, now)));
        reports.sort_by_key(|report| report.id);
    }
    reports
}

/// Collects one client.
pub(crate) fn client(ctx: &Context, id: u64) -> Option<ClientReport> {
    let client = ctx.clients.get(id).map(|client| client_report(ctx, &client, st::now()));
    #[cfg(feature = "http")]
    let client = client.or_else(|| Some(viewer_report(&ctx.viewers.find(id)?, st::now())));
    client
}

/// Returns the number of HLS viewers with sessions.
fn viewer_count(ctx: &Context) -> u64 {
    #[cfg(feature = "http")]
    return ctx.viewers.len() as u64;
    #[cfg(not(feature = "http"))]
    {
        let _ = ctx;
        0
    }
}

#[cfg(feature = "http")]
fn viewer_report(viewer: &Viewer, now: Instant) -> ClientReport {
    let Viewer { client, stream, .. } = viewer;
    ClientReport {
        id: client.id,
        kind: ClientKind::Hls,
        state: if viewer.close.is_some() { ClientState::Closing } else { ClientState::Playing },
        ip: client.ip,
        port: 0,
        vhost: stream.vhost.clone(),
        app: stream.app.clone(),
        stream: stream.stream.clone(),
        stream_name: stream.name.clone(),
        tc_url: client.tc_url.clone(),
        page_url: client.page_url.clone(),
        age_ms: millis(now.saturating_duration_since(viewer.since)),
        bytes_in: 0,
        bytes_out: viewer.bytes,
        kbps_in: 0,
        kbps_out: 0,
        messages: 0,
        dropped: 0,
        engine: None,
    }
}

/// Collects the streams that are published or that somebody waits for, by name. May wait.
pub(crate) fn streams(ctx: &Context, clients: &[ClientReport]) -> Vec<StreamReport> {
    let mut slice = TimeSlice::new(TIME_SLICE);
    let mut traffic: HashMap<&str, Vec<&ClientReport>> = HashMap::new();
    for client in clients.iter().filter(|client| !client.stream_name.is_empty()) {
        traffic.entry(&client.stream_name).or_default().push(client);
        slice.yield_if_used_up();
    }
    let config = ctx.config.get();
    let mut reports = Vec::new();
    for source in ctx.streams.all() {
        let snapshot = source.snapshot();
        let own = traffic.get(snapshot.name.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(report) = stream_report(&config, &source, snapshot, own) {
            reports.push(report);
        }
        slice.yield_if_used_up();
    }
    reports.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    reports
}

/// Collects the vhosts of the configuration, by name. May wait.
pub(crate) fn vhosts(ctx: &Context, streams: &[StreamReport], clients: &[ClientReport]) -> Vec<VhostReport> {
    let config = ctx.config.get();
    let mut slice = TimeSlice::new(TIME_SLICE);
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
    for stream in streams.iter().filter(|stream| stream.publisher.is_some()) {
        if let Some(&at) = indices.get(stream.vhost.as_str()) {
            reports[at].streams += 1;
        }
        slice.yield_if_used_up();
    }
    for client in clients.iter().filter(|client| !client.stream_name.is_empty()) {
        if let Some(&at) = indices.get(client.vhost.as_str()) {
            let vhost = &mut reports[at];
            vhost.clients += u64::from(client.engine.is_none() || client.state == ClientState::Publishing);
            vhost.bytes_in += client.bytes_in;
            vhost.bytes_out += client.bytes_out;
            vhost.kbps_in += client.kbps_in;
            vhost.kbps_out += client.kbps_out;
        }
        slice.yield_if_used_up();
    }
    reports
}

/// Collects process and totals. `streams` are those of [`streams`]. May wait.
pub(crate) fn server(ctx: &Context, streams: &[StreamReport]) -> ServerReport {
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
        clients: ctx.clients.len() as u64 + viewer_count(ctx),
        publishers: ctx.stats.publish.count() as u64,
        players: ctx.stats.play.count() as u64 + viewer_count(ctx),
        forwarders: ctx.stats.forward.count() as u64,
        streams: streams.iter().filter(|stream| stream.publisher.is_some()).count() as u64,
        publish: traffic(ctx.stats.publish.total()),
        play: traffic(ctx.stats.play.total()),
        forward: traffic(ctx.stats.forward.total()),
    }
}

/// Collects the limits.
pub(crate) fn limits(ctx: &Context) -> LimitsReport {
    let config = ctx.config.get();
    LimitsReport {
        max_connections: config.max_connections as u64,
        max_memory_bytes: config.max_memory.bytes(os::memory_limit()) as u64,
        max_busy: config.max_busy,
        refusing: ctx.admission.check().err().map(|reason| reason.to_string()),
    }
}

/// Collects the reasons for which connections were closed.
pub(crate) fn closes(ctx: &Context) -> Vec<CloseCount> {
    let occurred = ctx.stats.closed.all().filter(|(_, count)| *count > 0);
    occurred.map(|(code, count)| CloseCount { code, count }).collect()
}

/// Collects what the features report of themselves.
pub(crate) fn features(ctx: &Context) -> Vec<Section> {
    ctx.features.all().iter().filter_map(|feature| feature.snapshot()).collect()
}

/// Returns the bytes sent over HTTP since the start.
#[cfg(feature = "http")]
pub(crate) fn http_bytes(ctx: &Context) -> u64 {
    let http = ctx.features.all().iter().find(|feature| feature.name() == "http").and_then(|http| http.snapshot());
    let sent = http.and_then(|http| http.numbers.into_iter().find(|number| number.name == "sent_bytes_total"));
    sent.map_or(0, |number| number.value)
}

fn client_report(ctx: &Context, client: &Arc<Client>, now: Instant) -> ClientReport {
    let (is_publishing, is_playing) = (client.is_publishing(), client.is_playing());
    let info = client.info();
    let state = match () {
        () if client.close_requested().is_some() => ClientState::Closing,
        () if is_publishing => ClientState::Publishing,
        () if is_playing => ClientState::Playing,
        () if info.is_some() => ClientState::Idle,
        () => ClientState::Connecting,
    };
    let stream = client.stream_info().filter(|_| is_publishing || is_playing);
    let group = if is_publishing { &ctx.stats.publish } else { &ctx.stats.play };
    let stats = stream.as_ref().and_then(|_| group.stats_of(client.number)).unwrap_or_default();
    let address = client.address();
    let text = |of: fn(&crate::app::session::info::ClientInfo) -> &String| info.map_or("", |info| of(info)).to_owned();
    ClientReport {
        id: client.number,
        kind: client.kind,
        state,
        ip: address.ip(),
        port: address.port(),
        vhost: stream.as_ref().map_or_else(|| text(|info| &info.vhost), |stream| stream.vhost.clone()),
        app: stream.as_ref().map_or_else(|| text(|info| &info.app), |stream| stream.app.clone()),
        stream: stream.as_ref().map(|stream| stream.stream.clone()).unwrap_or_default(),
        stream_name: stream.as_ref().map(|stream| stream.name.clone()).unwrap_or_default(),
        tc_url: text(|info| &info.tc_url),
        page_url: text(|info| &info.page_url),
        age_ms: millis(now.saturating_duration_since(client.connected_at)),
        bytes_in: client.stream.bytes_received(),
        bytes_out: client.stream.bytes_sent(),
        kbps_in: stats.kbps_in,
        kbps_out: stats.kbps_out,
        messages: stats.messages.passed,
        dropped: stats.messages.dropped,
        engine: client.engine().map(|engine| engine.name.clone()),
    }
}

/// Returns the report of a stream; `None` if nobody publishes, plays or forwards it. `clients` are its own.
fn stream_report(
    config: &Config,
    source: &Source,
    snapshot: StreamSnapshot,
    clients: &[&ClientReport],
) -> Option<StreamReport> {
    let state = match snapshot.publisher {
        Some(_) => StreamState::Live,
        None if source.is_live() => StreamState::Lost,
        None => StreamState::Idle,
    };
    let is_hls = |client: &&&ClientReport| client.kind != ClientKind::Rtmp && client.port == 0;
    let hls_viewers = clients.iter().filter(is_hls).count() as u64;
    if state == StreamState::Idle && snapshot.players == 0 && snapshot.forwarders == 0 {
        return None;
    }
    let StreamSnapshot { media, ingest, codecs, .. } = &snapshot;
    let ingest = ingest.as_ref();
    let publisher = clients.iter().find(|client| Some(client.id) == snapshot.publisher);
    let video = codecs.video.map(|codec| VideoReport {
        codec: codec.to_string(),
        profile: media.video_profile,
        level: media.video_level.map(|level| match (level / 10, level % 10) {
            (whole, 0) => whole.to_string(),
            (whole, tenth) => format!("{whole}.{tenth}"),
        }),
        width: media.width,
        height: media.height,
        fps: ingest.map_or(0.0, |ingest| round(ingest.frame_rate)),
        kbps: ingest.map_or(0, |ingest| ingest.video_kbps),
    });
    let audio = codecs.audio.map(|codec| AudioReport {
        codec: codec.to_string(),
        profile: media.audio_profile,
        sample_rate: media.sample_rate,
        channels: media.channels,
        kbps: ingest.map_or(0, |ingest| ingest.audio_kbps),
        hls_obstacle: media.audio_obstacle.clone(),
    });
    let paths = MediaPaths::of(config, &snapshot.name, &snapshot.vhost, &snapshot.app, &snapshot.stream);
    Some(StreamReport {
        state,
        hls: paths.hls,
        flv: paths.flv,
        publisher: snapshot.publisher,
        uptime_ms: ingest.map_or(0, |ingest| millis(ingest.uptime)),
        players: snapshot.players as u64 + hls_viewers,
        forwarders: snapshot.forwarders as u64,
        video_frames: ingest.map_or(0, |ingest| ingest.frames),
        messages: ingest.map_or(0, |ingest| ingest.messages),
        dropped: snapshot.dropped,
        gop_ms: ingest.and_then(|ingest| ingest.gop_ms),
        av_skew_ms: ingest.and_then(|ingest| ingest.av_distance_ms),
        jitter_ms: ingest.map_or(0.0, |ingest| round(ingest.jitter_ms)),
        stalls: ingest.map_or(0, |ingest| ingest.stalls),
        held_bytes: snapshot.bytes_held as u64,
        bytes_in: clients.iter().map(|client| client.bytes_in).sum(),
        bytes_out: clients.iter().map(|client| client.bytes_out).sum(),
        kbps_in: ingest.map_or(0, |ingest| ingest.video_kbps + ingest.audio_kbps),
        kbps_out: clients
            .iter()
            .filter(|client| client.state == ClientState::Playing)
            .map(|client| client.kbps_out)
            .sum(),
        tc_url: publisher.map(|client| client.tc_url.clone()).unwrap_or_default(),
        video,
        audio,
        name: snapshot.name,
        vhost: snapshot.vhost,
        app: snapshot.app,
        stream: snapshot.stream,
    })
}

fn traffic(total: SourceStats) -> Traffic {
    let SourceStats { messages: MessageCounts { passed, dropped }, bytes, kbps_in, kbps_out } = total;
    Traffic { bytes_in: bytes.received, bytes_out: bytes.sent, kbps_in, kbps_out, messages: passed, dropped }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Rounds to hundredths, for readers.
fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
