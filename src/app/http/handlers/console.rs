//! The console page at `/`: the list of live streams, and a player.
//!
//! The player uses hls.js in browsers without HLS of their own. It is not part of this program: `make` downloads it
//! next to the binary. Without it, the page plays only in browsers that support HLS.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::{Body, Response};
use crate::app::http::router::Handler;
use crate::app::outputs::live_files::{LiveFile, LiveFiles};
use crate::app::stream::StreamSummary;
use crate::config::DEFAULT_VHOST;
use crate::http::request::Request;
use crate::http::uri::percent_encode;
use crate::log::quoted;
use crate::memory::Category;
use crate::st::{self, Cond, Shared};

/// Allows scripts, styles and data from this server only, nothing inline. hls.js plays media as a blob.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'\r\nReferrer-Policy: no-referrer\r\n";

/// File name of hls.js, and its maximum size: version 1.7 has 620 KB.
const HLS_JS: &str = "hls.min.js";
const MAX_HLS_JS: u64 = 4 << 20;

/// Lifetime of a stream list: it is rendered at most once in this time, however many clients ask.
const LIST_TTL: Duration = Duration::from_millis(500);

/// Maximum age of a list that is served while the next one is being rendered, and maximum time of rendering: after
/// that, another request renders it.
const RENDER_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams rendered before yielding: at most 0.2 ms, with names of maximum length in which each character is escaped.
const YIELD_EVERY: usize = 16;

/// Maximum size of a list in bytes, about 20,000 streams with ordinary names. A slow client keeps a list in memory.
const MAX_LIST_BYTES: usize = 4 << 20;

/// Serves the files of the page, and the cached stream list.
pub(crate) struct ConsoleHandler {
    ctx: Context,
    live_files: LiveFiles,
    files: HashMap<&'static str, Arc<LiveFile>>,
    list: Shared<ListCache>,
    list_rendered: Cond,
}

/// A cache of the stream list in which one request renders and the others wait or get the last list.
#[derive(Default)]
struct ListCache {
    last: Option<RenderedList>,
    /// Start of the rendering that is under way.
    rendering_since: Option<Instant>,
}

struct RenderedList {
    started: Instant,
    finished: Instant,
    json: Bytes,
}

/// The result of a cache lookup.
enum Cached {
    Hit(Bytes),
    /// Another request is rendering the list.
    InFlight,
    /// The caller must render the list and insert it.
    Miss,
}

impl ConsoleHandler {
    /// Loads the files. `live_files` tell which streams have HLS. Must be called from a coroutine, since it reads hls.js from
    /// disk.
    pub(crate) fn new(ctx: Context, live_files: LiveFiles) -> Self {
        let hls_js = st::offload(read_hls_js).unwrap_or_default();
        let sources = [
            ("page.html", "", Some(Bytes::from_static(include_bytes!("console/page.html")))),
            ("page.css", "page.css", Some(Bytes::from_static(include_bytes!("console/page.css")))),
            ("page.js", "page.js", Some(Bytes::from_static(include_bytes!("console/page.js")))),
            (HLS_JS, HLS_JS, hls_js),
        ];
        let now = st::system_time();
        let files = sources.into_iter().filter_map(|(name, path, body)| {
            let mut file = LiveFile::new(name, body?, now);
            file.metadata.head.push_str(POLICY);
            Some((path, Arc::new(file)))
        });
        Self { ctx, live_files, files: files.collect(), list: Shared::default(), list_rendered: Cond::new() }
    }

    /// Returns the live streams as JSON. `rtmp_port` is the port to play them over RTMP. May wait.
    fn stream_list(&self, rtmp_port: u16) -> Bytes {
        loop {
            let now = st::now();
            match self.list.with(|cache| cache.get(now)) {
                Cached::Hit(list) => return list,
                Cached::InFlight => drop(self.list_rendered.wait_timeout(RENDER_TIMEOUT)),
                Cached::Miss => {
                    let list = render_list(&self.ctx.streams.published(), &self.live_files, rtmp_port);
                    // Charged, since slow clients may keep many old lists.
                    let list = self.ctx.memory.charge_bytes(Category::Http, list.into());
                    self.list.with(|cache| cache.insert(now, st::now(), list.clone()));
                    self.list_rendered.broadcast();
                    return list;
                }
            }
        }
    }
}

impl Handler for ConsoleHandler {
    fn handle(&self, request: &Request, _: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.ctx.config.get();
        if !config.http_server.page {
            return Ok(None);
        }
        if request.path == "streams.json" {
            let rtmp_port = config.listen.first().map_or(1935, |listen| listen.address.port());
            return Ok(Some(Response::json(self.stream_list(rtmp_port))));
        }
        let Some(file) = self.files.get(request.path.as_str()) else { return Ok(None) };
        Ok(Some(Response::file(request, &file.metadata, |range| {
            // The range is one of the body, so it fits.
            Body::Bytes(file.body.slice(range.start as usize..range.end as usize))
        })))
    }
}

impl ListCache {
    /// Looks the list up at `now`. On a miss, rendering counts as started.
    fn get(&mut self, now: Instant) -> Cached {
        let is_past = |since: Instant, time| now.saturating_duration_since(since) >= time;
        let is_rendering = self.rendering_since.is_some_and(|since| !is_past(since, RENDER_TIMEOUT));
        let ttl = if is_rendering { RENDER_TIMEOUT } else { LIST_TTL };
        match &self.last {
            Some(list) if !is_past(list.finished, ttl) => Cached::Hit(list.json.clone()),
            _ if is_rendering => Cached::InFlight,
            _ => {
                self.rendering_since = Some(now);
                Cached::Miss
            }
        }
    }

    /// Inserts a list that was rendered from `started` to `finished`.
    fn insert(&mut self, started: Instant, finished: Instant, json: Bytes) {
        if self.rendering_since == Some(started) {
            self.rendering_since = None;
        }
        // A rendering that timed out may finish after a later one.
        if self.last.as_ref().is_none_or(|last| last.started <= started) {
            self.last = Some(RenderedList { started, finished, json });
        }
    }
}

/// Reads hls.js from the directory of the binary, or from objs/ of the working directory.
fn read_hls_js() -> Option<Bytes> {
    let beside = std::env::current_exe().ok().and_then(|binary| Some(binary.parent()?.join(HLS_JS)));
    let paths: Vec<PathBuf> = beside.into_iter().chain([Path::new("objs").join(HLS_JS)]).collect();
    for path in &paths {
        let is_usable = |file: std::fs::Metadata| file.is_file() && file.len() <= MAX_HLS_JS;
        if std::fs::metadata(path).is_ok_and(is_usable)
            && let Ok(content) = std::fs::read(path)
        {
            return Some(content.into());
        }
    }
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    log::info!(
        "hls.js not found, the page at / plays only in browsers with HLS of their own: paths={}",
        quoted(paths.join(" "))
    );
    None
}

/// Renders the stream list as JSON.
fn render_list(streams: &[StreamSummary], live: &LiveFiles, rtmp_port: u16) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut json = format!("{{\"server\":\"simple-rtmp-server\",\"version\":\"{version}\",\"rtmp_port\":{rtmp_port},");
    json.push_str("\"streams\":[");
    let mut listed = 0;
    for stream in streams {
        if json.len() >= MAX_LIST_BYTES {
            break;
        }
        if listed > 0 {
            json.push(',');
            if listed % YIELD_EVERY == 0 {
                st::yield_now();
            }
        }
        write_stream(&mut json, stream, live);
        listed += 1;
    }
    json.push(']');
    if listed < streams.len() {
        // Writing to a String cannot fail.
        let _ = write!(json, ",\"unlisted\":{}", streams.len() - listed);
    }
    json.push_str("}\n");
    json
}

fn write_stream(json: &mut String, stream: &StreamSummary, live: &LiveFiles) {
    let (vhost, name) = stream.name.split_once('/').unwrap_or(("", &stream.name));
    // The files of a vhost other than the default one are below its name.
    let base = if vhost == DEFAULT_VHOST { name } else { &stream.name };
    let playlist = format!("{base}.m3u8");
    let hls = live.get(&playlist).map(|_| format!("/{}", percent_encode(&playlist)));
    json.push_str("{\"vhost\":");
    write_string(json, vhost);
    json.push_str(",\"name\":");
    write_string(json, name);
    json.push_str(",\"video\":");
    write_string_or_null(json, stream.video.map(|codec| codec.to_string()));
    json.push_str(",\"audio\":");
    write_string_or_null(json, stream.audio.map(|codec| codec.to_string()));
    // Writing to a String cannot fail.
    let _ = write!(json, ",\"players\":{},\"hls\":", stream.players);
    write_string_or_null(json, hls);
    json.push('}');
}

fn write_string_or_null(json: &mut String, text: Option<String>) {
    match text {
        Some(text) => write_string(json, &text),
        None => json.push_str("null"),
    }
}

/// Writes a JSON string (RFC 8259, 7). Escapes `<`, `>` and `&` too, so that it is safe inside a page.
fn write_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => write_escaped(json, character),
            _ => json.push(character),
        }
    }
    json.push('"');
}

/// Writes `\uXXXX`. Several times as fast as formatting, since a name may consist of escaped characters only.
fn write_escaped(json: &mut String, character: char) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    json.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        json.push(DIGITS[(u32::from(character) >> shift & 0xf) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flv::{AudioCodec, VideoCodec};
    use std::time::SystemTime;

    #[test]
    fn the_list_escapes_what_publishers_call_their_streams() {
        let live = LiveFiles::new();
        let put = |path: &str| live.insert(path, path, LiveFile::new(path, Bytes::new(), SystemTime::UNIX_EPOCH));
        put("live/a b.m3u8");
        put("v.com/live/s.m3u8");
        let stream = |name: &str, video| StreamSummary {
            name: name.to_owned(),
            video,
            audio: Some(AudioCodec::Aac),
            players: 2,
        };
        let streams = [
            stream("__defaultVhost__/live/a b", Some(VideoCodec::Avc)),
            stream("v.com/live/s", None),
            stream("__defaultVhost__/live/<script>\"\\\u{2028}", None),
        ];
        let rest = "\"audio\":\"AAC\",\"players\":2,\"hls\":";
        let expected = format!(
            "{{\"server\":\"simple-rtmp-server\",\"version\":\"{}\",\"rtmp_port\":1935,\"streams\":[\
             {{\"vhost\":\"__defaultVhost__\",\"name\":\"live/a b\",\"video\":\"H.264\",{rest}\"/live/a%20b.m3u8\"}},\
             {{\"vhost\":\"v.com\",\"name\":\"live/s\",\"video\":null,{rest}\"/v.com/live/s.m3u8\"}},\
             {{\"vhost\":\"__defaultVhost__\",\"name\":\"live/\\u003cscript\\u003e\\u0022\\u005c\\u2028\",\"video\":null,{rest}null}}\
             ]}}\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(render_list(&streams, &live, 1935), expected);
    }

    fn many(count: usize, name: &str) -> Vec<StreamSummary> {
        let stream = |n| StreamSummary { name: format!("v/{n}{name}"), video: None, audio: None, players: 0 };
        (0..count).map(stream).collect()
    }

    #[test]
    fn others_run_while_a_long_list_is_made() {
        let turns = st::run(|| {
            let (ended, turns) = (Shared::new(false), Shared::new(0));
            let (end, count) = (ended.clone(), turns.clone());
            let other = st::spawn("other", 0, move || {
                while !end.with(|end| *end) {
                    count.with(|count| *count += 1);
                    st::yield_now();
                }
            });
            let list = render_list(&many(10 * YIELD_EVERY, "<<<"), &LiveFiles::new(), 1935);
            ended.with(|ended| *ended = true);
            other.unwrap().join();
            assert_eq!(list.matches("\"name\"").count(), 10 * YIELD_EVERY);
            assert!(!list.contains("unlisted"));
            turns.with(|turns| *turns)
        });
        assert!((9..=11).contains(&turns.unwrap()));
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        st::run(|| {
            let count = 4000;
            let list = render_list(&many(count, &"<".repeat(255)), &LiveFiles::new(), 1935);
            let listed = list.matches("\"name\"").count();
            assert!((MAX_LIST_BYTES..MAX_LIST_BYTES + 2000).contains(&list.len()), "{}", list.len());
            assert!(list.ends_with(&format!("\"hls\":null}}],\"unlisted\":{}}}\n", count - listed)));
        })
        .unwrap();
    }

    #[test]
    fn one_makes_the_list_and_the_others_get_the_last() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut cache = ListCache::default();
        let hits =
            |cache: &mut ListCache, ms, expected| matches!(cache.get(at(ms)), Cached::Hit(list) if list == expected);
        assert!(matches!(cache.get(at(0)), Cached::Miss));
        assert!(matches!(cache.get(at(1)), Cached::InFlight), "there is none yet");
        cache.insert(at(0), at(0), bytes("first"));
        assert!(hits(&mut cache, 499, "first"));
        assert!(matches!(cache.get(at(500)), Cached::Miss));
        assert!(hits(&mut cache, 501, "first"));
        assert!(hits(&mut cache, 9_999, "first"));
        assert!(matches!(cache.get(at(10_000)), Cached::InFlight), "it is too old");
        assert!(matches!(cache.get(at(10_500)), Cached::Miss), "rendering timed out");
        cache.insert(at(10_500), at(10_500), bytes("third"));
        cache.insert(at(500), at(10_501), bytes("second"));
        assert!(hits(&mut cache, 10_999, "third"));
        assert!(matches!(cache.get(at(11_000)), Cached::Miss));
        cache.insert(at(11_000), at(22_000), bytes("slow"));
        assert!(hits(&mut cache, 22_001, "slow"), "a request that waited gets it, however old it is");
    }

    #[test]
    fn the_page_has_nothing_inline() {
        let page = include_str!("console/page.html");
        for inline in ["<script>", "<style", " style=", " onclick", "javascript:"] {
            assert!(!page.contains(inline), "{inline}: the policy forbids it");
        }
        let script = include_str!("console/page.js");
        for unsafe_sink in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!script.contains(unsafe_sink), "{unsafe_sink}: names are text");
        }
    }
}
