//! The list of live streams for viewers: `streams.json`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::app::outputs::live_files::LiveFiles;
use crate::app::stats::media_paths::playlist_file;
use crate::app::stats::snapshot::{StreamReport, StreamState};
use crate::st;

/// Lifetime of a list: it is rendered at most once in this time, however many viewers ask.
const TTL: Duration = Duration::from_millis(500);

/// Streams rendered before yielding: at most 0.2 ms, with names of maximum length.
const YIELD_EVERY: usize = 16;

/// Maximum size of a list in bytes, about 20,000 streams with ordinary names. A slow client keeps a list in memory.
const MAX_BYTES: usize = 4 << 20;

#[derive(Serialize)]
struct PublicStream<'a> {
    vhost: &'a str,
    name: String,
    video: Option<&'a str>,
    audio: Option<&'a str>,
    /// Reason for which HLS has no audio, although it carries the codec.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_obstacle: Option<&'a str>,
    players: u64,
    hls: Option<&'a str>,
    flv: Option<&'a str>,
}

/// The last list. While one request renders the next one, the others get this one.
#[derive(Default)]
pub(super) struct ListCache {
    list: Option<Bytes>,
    rendered_at: Option<Instant>,
}

impl ListCache {
    /// Returns the list if it is to be used at `now`. `None`: the caller is to render one.
    pub(super) fn get(&mut self, now: Instant) -> Option<Bytes> {
        let is_fresh = self.rendered_at.is_some_and(|at| now.saturating_duration_since(at) < TTL);
        if is_fresh && let Some(list) = &self.list {
            return Some(list.clone());
        }
        self.rendered_at = Some(now);
        None
    }

    pub(super) fn set(&mut self, list: Bytes) {
        self.list = Some(list);
    }
}

/// Renders the list as JSON. Yields between the streams.
pub(super) fn render(streams: &[StreamReport], live: &LiveFiles, rtmp_port: u16) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut json = format!("{{\"server\":\"simple-rtmp-server\",\"version\":\"{version}\",\"rtmp_port\":{rtmp_port},");
    json.push_str("\"streams\":[");
    let (mut listed, mut unlisted) = (0, 0);
    for stream in streams.iter().filter(|stream| stream.state == StreamState::Live) {
        if json.len() >= MAX_BYTES {
            unlisted += 1;
            continue;
        }
        if listed > 0 {
            json.push(',');
            if listed % YIELD_EVERY == 0 {
                st::yield_now();
            }
        }
        // Its first segment may be missing yet.
        let has_playlist = |_: &&str| live.get(&playlist_file(&stream.name)).is_some();
        let stream = PublicStream {
            vhost: &stream.vhost,
            name: format!("{}/{}", stream.app, stream.stream),
            video: stream.video.as_ref().map(|video| video.codec.as_str()),
            audio: stream.audio.as_ref().map(|audio| audio.codec.as_str()),
            audio_obstacle: stream.audio.as_ref().and_then(|audio| audio.hls_obstacle.as_deref()),
            players: stream.players,
            hls: stream.hls.as_deref().filter(has_playlist),
            flv: stream.flv.as_deref(),
        };
        json.push_str(&escape(serde_json::to_string(&stream).unwrap_or_default()));
        listed += 1;
    }
    json.push(']');
    if unlisted > 0 {
        json.push_str(&format!(",\"unlisted\":{unlisted}"));
    }
    json.push_str("}\n");
    json
}

/// Escapes what could end a script, in case that somebody puts the list into a page.
fn escape(json: String) -> String {
    if json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        let escapes =
            [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
        return escapes.into_iter().fold(json, |json, (character, escape)| json.replace(character, escape));
    }
    json
}
