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
use crate::app::outputs::live_files::{LiveFile, LiveFiles};
use crate::app::stream::StreamSnapshot;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::uri::{percent_decode, percent_encode};
use crate::memory::Category;

const PLAYLIST_SUFFIX: &str = ".m3u8";

/// Content type of playlists (RFC 8216, 4).
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

const SOURCE_PARAMETER: &str = "rendition=source";

/// Bit rate in kbit/s that is added for audio to that of an encoder's video.
const AUDIO_KBPS: u64 = 160;

/// Segments from whose sizes bit rates are computed: the last ones of a playlist.
const MEASURED_SEGMENTS: usize = 30;

pub(crate) struct MasterPlaylistHandler {
    ctx: Context,
    ladders: Ladders,
    live_files: LiveFiles,
}

struct Variant {
    uri: String,
    /// The highest bit rate that the encoder is allowed, in kbit/s; 0 if it is not known.
    max_kbps: u64,
    measured: Option<Rates>,
    snapshot: StreamSnapshot,
}

/// Bit rates of segments, in bit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates {
    peak: u64,
    average: u64,
}

impl MasterPlaylistHandler {
    pub(crate) fn new(ctx: Context, ladders: Ladders, live_files: LiveFiles) -> Self {
        Self { ctx, ladders, live_files }
    }

    fn variants(&self, path: &str, ladder: &ActiveLadder) -> Vec<Variant> {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let variant = |name: &str, uri: String, max_kbps: u64, playlist: &LiveFile| {
            let size_of = |uri: &str| Some(self.live_files.get(&format!("{folder}/{uri}"))?.body.len() as u64);
            let measured = measure(&String::from_utf8_lossy(&playlist.body), size_of);
            Some(Variant { uri, max_kbps, measured, snapshot: self.ctx.streams.find(name)?.snapshot() })
        };
        let renditions = ladder.renditions.iter().filter_map(|rendition| {
            let suffix = &rendition.suffix;
            let playlist = self.live_files.get(&format!("{path}{suffix}{PLAYLIST_SUFFIX}"))?;
            let uri = percent_encode(&format!("{file}{suffix}{PLAYLIST_SUFFIX}"));
            variant(&rendition.name, uri, rendition.kbps * 6 / 5 + AUDIO_KBPS, &playlist)
        });
        let renditions: Vec<_> = renditions.collect();
        if !renditions.is_empty() {
            return renditions;
        }
        let own = self.live_files.get(&format!("{path}{PLAYLIST_SUFFIX}"));
        let uri = percent_encode(&format!("{file}{PLAYLIST_SUFFIX}"));
        own.and_then(|playlist| variant(&ladder.source, format!("{uri}?{SOURCE_PARAMETER}"), 0, &playlist))
            .into_iter()
            .collect()
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

/// Computes the bit rates of the last segments of a playlist whose sizes in bytes `size_of` knows; `None` if there are none.
fn measure(playlist: &str, size_of: impl Fn(&str) -> Option<u64>) -> Option<Rates> {
    let lines: Vec<&str> = playlist.lines().collect();
    let segments = lines.iter().enumerate().filter_map(|(at, line)| {
        let seconds: f64 = line.strip_prefix("#EXTINF:")?.split(',').next()?.parse().ok()?;
        let uri = lines[at..].iter().find(|line| !line.starts_with('#'))?;
        Some((seconds, uri.split('?').next().unwrap_or(uri)))
    });
    let segments: Vec<_> = segments.collect();
    let last = &segments[segments.len().saturating_sub(MEASURED_SEGMENTS)..];
    let sizes = last.iter().filter_map(|&(seconds, uri)| Some((seconds, size_of(&percent_decode(uri)?)? * 8)));
    let sizes: Vec<(f64, u64)> = sizes.filter(|(seconds, _)| *seconds > 0.0).collect();
    let total: f64 = sizes.iter().map(|(seconds, _)| seconds).sum();
    // Bits of a segment in memory and seconds are far below 2^53.
    let peak = sizes.iter().map(|(seconds, bits)| (*bits as f64 / seconds).ceil() as u64).max()?;
    Some(Rates { peak, average: (sizes.iter().map(|(_, bits)| *bits as f64).sum::<f64>() / total).ceil() as u64 })
}

fn write(variants: &[Variant]) -> String {
    let mut text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    for Variant { uri, max_kbps, measured, snapshot } in variants {
        let (media, ingest) = (&snapshot.media, &snapshot.ingest);
        // MPEG-TS adds some percent.
        let bits = |kbps: u64| kbps.max(1) * 1050;
        let average = ingest.as_ref().map_or(0, |ingest| ingest.video_kbps + ingest.audio_kbps);
        let average = measured.map_or(bits(average), |rates| rates.average);
        // The peak of segments to come is not known: of a rendition the encoder bounds it, of the stream itself nobody does.
        let bound = if *max_kbps == 0 { average * 3 / 2 } else { bits(*max_kbps) };
        let peak = measured.map_or(average, |rates| rates.peak).max(bound);
        // Writing to a String cannot fail.
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_are_those_of_the_segments() {
        let playlist = "#EXTM3U\n#EXTINF:2.000,\na%20b-0.ts\n#EXTINF:4.000, no desc\n#EXT-X-DISCONTINUITY\na%20b-1.ts?x=1\n\
                        #EXTINF:1.0,\ngone.ts\n#EXTINF:0,\nempty.ts\n#EXTINF:x,\nodd.ts\n#EXTINF:1,\n";
        let size_of = |uri: &str| match uri {
            "a b-0.ts" => Some(1000),
            "a b-1.ts" => Some(5000),
            "empty.ts" => Some(7),
            _ => None,
        };
        assert_eq!(measure(playlist, size_of), Some(Rates { peak: 10_000, average: 8000 }));
        assert_eq!((measure(playlist, |_| None), measure("", size_of)), (None, None));
        let long = "#EXTINF:1,\nlarge.ts\n".to_owned() + &"#EXTINF:1,\nsmall.ts\n".repeat(MEASURED_SEGMENTS);
        let rates = measure(&long, |uri| Some(if uri == "small.ts" { 100 } else { 100_000 }));
        assert_eq!(rates, Some(Rates { peak: 800, average: 800 }), "old ones do not count");
    }
}
