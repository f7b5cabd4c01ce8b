//! The streams in the order of their names, with reports of those that are wanted.

use super::clients::{ClientEntry, millis};
use crate::app::context::Context;
use crate::app::limits::fairness::TimeSlice;
use crate::app::stats::media_paths::MediaPaths;
use crate::app::stats::snapshot::{AudioReport, ClientState, StreamReport, StreamState, Traffic, VideoReport};
use crate::app::stream::{Source, StreamSnapshot};
use crate::config::Config;

const CHUNK: usize = 64;

/// Players of a stream looked at without a check of the time.
const PLAYERS_CHUNK: usize = 128;

/// The streams of the registry, by name, idle ones included. It holds some of them at a time, and yields as a [`TimeSlice`]
/// says, so that it may wait: streams that come or go meanwhile may be left out.
pub(crate) struct StreamWalk<'a> {
    ctx: &'a Context,
    last: String,
    chunk: std::vec::IntoIter<Source>,
    slice: TimeSlice,
}

impl<'a> StreamWalk<'a> {
    pub(crate) fn new(ctx: &'a Context) -> Self {
        Self { ctx, last: String::new(), chunk: Vec::new().into_iter(), slice: TimeSlice::for_report() }
    }
}

impl Iterator for StreamWalk<'_> {
    type Item = Source;

    fn next(&mut self) -> Option<Source> {
        self.slice.yield_if_used_up();
        if self.chunk.len() == 0 {
            let chunk = self.ctx.streams.after(&self.last, CHUNK);
            self.last = chunk.last()?.name();
            self.chunk = chunk.into_iter();
        }
        self.chunk.next()
    }
}

/// Returns the reports of the streams that somebody publishes, plays or forwards, by name. May wait.
pub(crate) fn streams(ctx: &Context) -> Vec<StreamReport> {
    StreamWalk::new(ctx).filter_map(|source| stream(ctx, &source)).collect()
}

/// Returns the same without the traffic of their clients, which costs time for each of these. May wait.
pub(crate) fn streams_without_traffic(ctx: &Context) -> Vec<StreamReport> {
    let config = ctx.config.get();
    StreamWalk::new(ctx).filter_map(|source| report(ctx, &config, &source)).collect()
}

/// Returns the report of a stream; `None` if nobody publishes, plays or forwards it. May wait.
pub(crate) fn stream(ctx: &Context, source: &Source) -> Option<StreamReport> {
    // Before any wait, so that the report is that of one moment.
    let report = report(ctx, &ctx.config.get(), source)?;
    let publisher = report.publisher.and_then(|id| ctx.clients.get(id));
    let tc_url = publisher.as_ref().and_then(|publisher| publisher.info()).map(|info| info.tc_url.clone());
    let mut traffic = Traffic::default();
    let mut add = |entry: ClientEntry| {
        let facts = entry.facts();
        let Traffic { bytes_in, bytes_out, kbps_out, .. } = entry.traffic(ctx, &facts);
        traffic.bytes_in += bytes_in;
        traffic.bytes_out += bytes_out;
        traffic.kbps_out += if facts.state == ClientState::Playing { kbps_out } else { 0 };
    };
    publisher.map(ClientEntry::Connected).into_iter().for_each(&mut add);
    let mut slice = TimeSlice::for_report();
    let mut slots = 0..PLAYERS_CHUNK;
    while let Some(players) = source.player_numbers(slots.clone()) {
        players.into_iter().filter_map(|id| ctx.clients.get(id)).map(ClientEntry::Connected).for_each(&mut add);
        slots = slots.end..slots.end + PLAYERS_CHUNK;
        slice.yield_if_used_up();
    }
    Some(StreamReport {
        bytes_in: traffic.bytes_in,
        bytes_out: report.bytes_out + traffic.bytes_out,
        kbps_out: traffic.kbps_out,
        tc_url: tc_url.unwrap_or_default(),
        ..report
    })
}

/// Returns the report of a stream without the traffic of its clients, except for viewers of HLS.
fn report(ctx: &Context, config: &Config, source: &Source) -> Option<StreamReport> {
    let snapshot = source.snapshot_if_used()?;
    let state = match snapshot.publisher {
        Some(_) => StreamState::Live,
        None if source.is_live() => StreamState::Lost,
        None => StreamState::Idle,
    };
    let hls = ctx.viewers.of_stream(&snapshot.name);
    let paths = MediaPaths::of(config, &snapshot.name, &snapshot.vhost, &snapshot.app, &snapshot.stream);
    let ingest = snapshot.ingest.as_ref();
    Some(StreamReport {
        state,
        hls: paths.hls,
        flv: paths.flv,
        publisher: snapshot.publisher,
        uptime_ms: ingest.map_or(0, |ingest| millis(ingest.uptime)),
        players: snapshot.players as u64 + hls.count,
        forwarders: snapshot.forwarders as u64,
        video_frames: ingest.map_or(0, |ingest| ingest.frames),
        messages: ingest.map_or(0, |ingest| ingest.messages),
        dropped: snapshot.dropped,
        gop_ms: ingest.and_then(|ingest| ingest.gop_ms),
        av_skew_ms: ingest.and_then(|ingest| ingest.av_distance_ms),
        jitter_ms: ingest.map_or(0.0, |ingest| round(ingest.jitter_ms)),
        stalls: ingest.map_or(0, |ingest| ingest.stalls),
        held_bytes: snapshot.bytes_held as u64,
        bytes_in: 0,
        bytes_out: hls.bytes,
        kbps_in: ingest.map_or(0, |ingest| ingest.video_kbps + ingest.audio_kbps),
        kbps_out: 0,
        tc_url: String::new(),
        video: video(&snapshot),
        audio: audio(&snapshot),
        name: snapshot.name,
        vhost: snapshot.vhost,
        app: snapshot.app,
        stream: snapshot.stream,
    })
}

fn video(snapshot: &StreamSnapshot) -> Option<VideoReport> {
    let StreamSnapshot { media, ingest, codecs, .. } = snapshot;
    let level = |level: u8| match (level / 10, level % 10) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    };
    Some(VideoReport {
        codec: codecs.video?.to_string(),
        profile: media.video_profile,
        level: media.video_level.map(level),
        width: media.width,
        height: media.height,
        fps: ingest.as_ref().map_or(0.0, |ingest| round(ingest.frame_rate)),
        kbps: ingest.as_ref().map_or(0, |ingest| ingest.video_kbps),
    })
}

fn audio(snapshot: &StreamSnapshot) -> Option<AudioReport> {
    let StreamSnapshot { media, ingest, codecs, .. } = snapshot;
    Some(AudioReport {
        codec: codecs.audio?.to_string(),
        profile: media.audio_profile,
        sample_rate: media.sample_rate,
        channels: media.channels,
        kbps: ingest.as_ref().map_or(0, |ingest| ingest.audio_kbps),
        hls_obstacle: media.audio_obstacle.clone(),
    })
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
