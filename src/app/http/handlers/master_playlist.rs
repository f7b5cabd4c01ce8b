//! The master playlist (RFC 8216, 4.3.4) of a stream with a ladder, at the path of its own playlist.
//!
//! It lists the renditions whose playlists are there. Before the first one is, it lists the stream itself, with a parameter by
//! which its own playlist is found: players do not expect that a playlist of one kind becomes one of the other.

use std::fmt::Write as _;

use crate::app::context::Context;
use crate::app::hooks::transcode::ladders::{ActiveLadder, Ladders};
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::Response;
use crate::app::http::router::Handler;
use crate::app::outputs::live_files::LiveFiles;
use crate::app::stream::StreamSnapshot;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::uri::percent_encode;
use crate::memory::Category;

const PLAYLIST_SUFFIX: &str = ".m3u8";

/// Content type of playlists (RFC 8216, 4).
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

/// The parameter of the stream's own playlist.
const SOURCE_PARAMETER: &str = "rendition=source";

/// Bit rate in kbit/s that is added for audio to that of an encoder's video.
const AUDIO_KBPS: u64 = 160;

/// Handler of master playlists.
pub(crate) struct MasterPlaylistHandler {
    ctx: Context,
    ladders: Ladders,
    live_files: LiveFiles,
}

/// A playlist that the master playlist refers to.
struct Variant {
    uri: String,
    /// The highest bit rate that the encoder is allowed, in kbit/s; 0 if it is not known.
    max_kbps: u64,
    snapshot: StreamSnapshot,
}

impl MasterPlaylistHandler {
    /// Creates a handler in front of that of the playlists themselves.
    pub(crate) fn new(ctx: Context, ladders: Ladders, live_files: LiveFiles) -> Self {
        Self { ctx, ladders, live_files }
    }

    fn variants(&self, path: &str, ladder: &ActiveLadder) -> Vec<Variant> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let variant = |name: &str, uri: String, max_kbps: u64| {
            Some(Variant { uri, max_kbps, snapshot: self.ctx.streams.find(name)?.snapshot() })
        };
        let renditions = ladder.renditions.iter().filter_map(|rendition| {
            let suffix = &rendition.suffix;
            self.live_files.get(&format!("{path}{suffix}{PLAYLIST_SUFFIX}"))?;
            let uri = percent_encode(&format!("{file}{suffix}{PLAYLIST_SUFFIX}"));
            variant(&rendition.name, uri, rendition.kbps * 6 / 5 + AUDIO_KBPS)
        });
        let renditions: Vec<_> = renditions.collect();
        if !renditions.is_empty() {
            return renditions;
        }
        let own = self.live_files.get(&format!("{path}{PLAYLIST_SUFFIX}"));
        let uri = percent_encode(&format!("{file}{PLAYLIST_SUFFIX}"));
        own.and_then(|_| variant(&ladder.source, format!("{uri}?{SOURCE_PARAMETER}"), 0)).into_iter().collect()
    }
}

impl Handler for MasterPlaylistHandler {
    #[inline(never)] // Keeps its locals off the stack of a connection that sends a file.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let Some(path) = request.path.strip_suffix(PLAYLIST_SUFFIX) else { return Ok(None) };
        let Some(ladder) = self.ladders.find(path) else { return Ok(None) };
        if request.query.as_str().split('&').any(|pair| pair == SOURCE_PARAMETER) {
            return Ok(None);
        }
        let variants = self.variants(path, &ladder);
        if variants.is_empty() {
            return Ok(Some(Response::text(Status::NotFound, "the stream has no playlist yet")));
        }
        if let Err(response) = exchange.admit_viewer() {
            return Ok(Some(*response));
        }
        let body = self.ctx.memory.charge_bytes(Category::Http, write(&variants).into());
        Ok(Some(Response::content(Status::Ok, PLAYLIST_TYPE, body)))
    }
}

fn write(variants: &[Variant]) -> String {
    let mut text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    for Variant { uri, max_kbps, snapshot } in variants {
        let (media, ingest) = (&snapshot.media, &snapshot.ingest);
        let average = ingest.as_ref().map_or(0, |ingest| ingest.video_kbps + ingest.audio_kbps);
        // A peak of the stream itself is not known; MPEG-TS adds some percent.
        let peak = if *max_kbps == 0 { average * 3 / 2 } else { average.max(*max_kbps) };
        let bits = |kbps: u64| kbps.max(1) * 1050;
        // Writing to a String cannot fail.
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", bits(peak), bits(average));
        if let (Some(width), Some(height)) = (media.width, media.height) {
            let _ = write!(text, ",RESOLUTION={width}x{height}");
        }
        let codecs: Vec<&str> =
            [&media.video_codec, &media.audio_codec].into_iter().flatten().map(String::as_str).collect();
        if !codecs.is_empty() {
            let _ = write!(text, ",CODECS=\"{}\"", codecs.join(","));
        }
        let measured = ingest.as_ref().map(|ingest| ingest.frame_rate).filter(|rate| *rate > 0.0);
        if let Some(rate) = media.frame_rate.or(measured) {
            let _ = write!(text, ",FRAME-RATE={rate:.3}");
        }
        let _ = write!(text, "\n{uri}\n");
    }
    text
}
