//! The page at `/`: what is live, and a player.
//!
//! hls.js, which plays HLS in browsers that cannot, is not part of this program: `make` puts it beside the server's binary. The
//! page does without where it is not there.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::encoded;
use crate::app::outputs::live_files::{LiveFile, LiveFiles};
use crate::app::server::Server;
use crate::app::stream::Published;
use crate::config::DEFAULT_VHOST;
use crate::memory::Part;
use crate::st::{self, Cond, Shared};

/// Scripts, styles and data of this server and of no other; nothing inline. Media come through hls.js as a blob.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'\r\nReferrer-Policy: no-referrer\r\n";

/// The file of hls.js, and the most that is taken for it: version 1.7 has 620 KB.
const HLS_JS: &str = "hls.min.js";
const MAX_HLS_JS: u64 = 4 << 20;

/// How long a list of the streams is good for: however many ask, it is made once in this time.
const LIST: Duration = Duration::from_millis(500);

/// How old a list may be for those who ask while the next one is made. Whoever makes it for longer is taken for lost.
const MAKING: Duration = Duration::from_secs(10);

/// Streams after which whoever makes a list lets others run: 0.2 ms at the most, when their names are as long as can be and each
/// character has to be escaped.
const BATCH: usize = 16;

/// No stream is listed behind so many bytes; that is room for some 20,000 with ordinary names. Whoever is slow to take a list keeps
/// it in memory.
const MAX_LIST: usize = 4 << 20;

/// The page's files by path.
pub(super) struct Page {
    files: HashMap<&'static str, Arc<LiveFile>>,
    lists: Shared<Lists>,
    /// A list has been made.
    made: Cond,
}

/// What is known of the streams.
#[derive(Default)]
struct Lists {
    /// The last list, when it was begun, and when it was there.
    last: Option<(Instant, Instant, Bytes)>,
    /// When the next one was begun, while it is made.
    begun: Option<Instant>,
}

/// What one who asks for the list has to do.
enum Turn {
    Take(Bytes),
    Wait,
    Make,
}

impl Page {
    /// Reads hls.js, so call it from a coroutine.
    pub(super) fn new() -> Self {
        let hls_js = st::offload(read_hls_js).unwrap_or_default();
        let sources = [
            ("page.html", "", Some(Bytes::from_static(include_bytes!("console/page.html")))),
            ("page.css", "page.css", Some(Bytes::from_static(include_bytes!("console/page.css")))),
            ("page.js", "page.js", Some(Bytes::from_static(include_bytes!("console/page.js")))),
            (HLS_JS, HLS_JS, hls_js),
        ];
        let now = SystemTime::now();
        let files = sources.into_iter().filter_map(|(name, path, body)| {
            let mut file = LiveFile::new(name, body?, now);
            file.entity.head.push_str(POLICY);
            Some((path, Arc::new(file)))
        });
        Self { files: files.collect(), lists: Shared::default(), made: Cond::new() }
    }

    pub(super) fn file(&self, path: &str) -> Option<Arc<LiveFile>> {
        self.files.get(path).cloned()
    }

    /// The live streams as JSON. `rtmp_port` is where they are played over RTMP. Call it from a coroutine: it may wait.
    pub(super) fn list(&self, server: &Server, rtmp_port: u16) -> Bytes {
        loop {
            let now = Instant::now();
            match self.lists.with(|lists| lists.ask(now)) {
                Turn::Take(list) => return list,
                Turn::Wait => drop(self.made.wait_timeout(MAKING)),
                Turn::Make => {
                    let list = list(&server.sources.published(), &server.live_files, rtmp_port);
                    // Who is slow to take it may keep one of each half second.
                    let list = server.account.count(Part::Http, list.into());
                    self.lists.with(|lists| lists.put(now, Instant::now(), list.clone()));
                    self.made.broadcast();
                    return list;
                }
            }
        }
    }
}

impl Lists {
    fn ask(&mut self, now: Instant) -> Turn {
        let is_past = |since: Instant, time| now.saturating_duration_since(since) >= time;
        let is_made = self.begun.is_some_and(|begun| !is_past(begun, MAKING));
        let good = if is_made { MAKING } else { LIST };
        match &self.last {
            Some((_, at, list)) if !is_past(*at, good) => Turn::Take(list.clone()),
            _ if is_made => Turn::Wait,
            _ => {
                self.begun = Some(now);
                Turn::Make
            }
        }
    }

    /// The list that was begun at this time.
    fn put(&mut self, begun: Instant, now: Instant, list: Bytes) {
        if self.begun == Some(begun) {
            self.begun = None;
        }
        // One that was taken for lost may come after the next.
        if self.last.as_ref().is_none_or(|(last, ..)| *last <= begun) {
            self.last = Some((begun, now, list));
        }
    }
}

/// hls.js, from beside the binary or from objs/ of the working directory.
fn read_hls_js() -> Option<Bytes> {
    let beside = std::env::current_exe().ok().and_then(|binary| Some(binary.parent()?.join(HLS_JS)));
    let places: Vec<PathBuf> = beside.into_iter().chain([Path::new("objs").join(HLS_JS)]).collect();
    for place in &places {
        let is_fit = |file: std::fs::Metadata| file.is_file() && file.len() <= MAX_HLS_JS;
        if std::fs::metadata(place).is_ok_and(is_fit)
            && let Ok(content) = std::fs::read(place)
        {
            return Some(content.into());
        }
    }
    log::info!("no {HLS_JS} beside the binary or in objs/: the page at / plays only where the browser itself has HLS");
    None
}

fn list(streams: &[Published], live: &LiveFiles, rtmp_port: u16) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut json = format!("{{\"server\":\"simple-rtmp-server\",\"version\":\"{version}\",\"rtmp_port\":{rtmp_port},");
    json.push_str("\"streams\":[");
    let mut listed = 0;
    for stream in streams {
        if json.len() >= MAX_LIST {
            break;
        }
        if listed > 0 {
            json.push(',');
            if listed % BATCH == 0 {
                st::yield_now();
            }
        }
        put(&mut json, stream, live);
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

fn put(json: &mut String, stream: &Published, live: &LiveFiles) {
    let (vhost, name) = stream.name.split_once('/').unwrap_or(("", &stream.name));
    // Files of the default vhost are at the root, those of others below the vhost's name.
    let base = if vhost == DEFAULT_VHOST { name } else { &stream.name };
    let playlist = format!("{base}.m3u8");
    let hls = live.get(&playlist).map(|_| format!("/{}", encoded(&playlist)));
    json.push_str("{\"vhost\":");
    quote(json, vhost);
    json.push_str(",\"name\":");
    quote(json, name);
    json.push_str(",\"video\":");
    quote_or_null(json, stream.video.map(|codec| codec.to_string()));
    json.push_str(",\"audio\":");
    quote_or_null(json, stream.audio.map(|codec| codec.to_string()));
    // Writing to a String cannot fail.
    let _ = write!(json, ",\"players\":{},\"hls\":", stream.players);
    quote_or_null(json, hls);
    json.push('}');
}

fn quote_or_null(json: &mut String, text: Option<String>) {
    match text {
        Some(text) => quote(json, &text),
        None => json.push_str("null"),
    }
}

/// Adds a string of JSON (RFC 8259, 7). `<` and `&` are escaped as well, for whoever puts it into a page as it is.
fn quote(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => escape(json, character),
            _ => json.push(character),
        }
    }
    json.push('"');
}

/// By hand: a name may be nothing but these, and formatting takes several times as long. All that are escaped have four digits.
fn escape(json: &mut String, character: char) {
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

    #[test]
    fn the_list_escapes_what_publishers_call_their_streams() {
        let live = LiveFiles::new();
        let put = |path: &str| live.put(path, path, LiveFile::new(path, Bytes::new(), SystemTime::UNIX_EPOCH));
        put("live/a b.m3u8");
        put("v.com/live/s.m3u8");
        let stream =
            |name: &str, video| Published { name: name.to_owned(), video, audio: Some(AudioCodec::Aac), players: 2 };
        let streams = [
            stream("__defaultVhost__/live/a b", Some(VideoCodec::Avc)),
            stream("v.com/live/s", None),
            stream("__defaultVhost__/live/<script>\"\\\u{2028}", None),
        ];
        let rest = "\"audio\":\"AAC\",\"players\":2,\"hls\":";
        let due = format!(
            "{{\"server\":\"simple-rtmp-server\",\"version\":\"{}\",\"rtmp_port\":1935,\"streams\":[\
             {{\"vhost\":\"__defaultVhost__\",\"name\":\"live/a b\",\"video\":\"H.264\",{rest}\"/live/a%20b.m3u8\"}},\
             {{\"vhost\":\"v.com\",\"name\":\"live/s\",\"video\":null,{rest}\"/v.com/live/s.m3u8\"}},\
             {{\"vhost\":\"__defaultVhost__\",\"name\":\"live/\\u003cscript\\u003e\\u0022\\u005c\\u2028\",\"video\":null,{rest}null}}\
             ]}}\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(list(&streams, &live, 1935), due);
    }

    fn many(count: usize, name: &str) -> Vec<Published> {
        let stream = |n| Published { name: format!("v/{n}{name}"), video: None, audio: None, players: 0 };
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
            let list = list(&many(10 * BATCH, "<<<"), &LiveFiles::new(), 1935);
            ended.with(|ended| *ended = true);
            other.unwrap().join();
            assert_eq!(list.matches("\"name\"").count(), 10 * BATCH);
            assert!(!list.contains("unlisted"));
            turns.with(|turns| *turns)
        });
        assert!((9..=11).contains(&turns.unwrap()));
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        st::run(|| {
            let count = 4000;
            let list = list(&many(count, &"<".repeat(255)), &LiveFiles::new(), 1935);
            let listed = list.matches("\"name\"").count();
            assert!((MAX_LIST..MAX_LIST + 2000).contains(&list.len()), "{}", list.len());
            assert!(list.ends_with(&format!("\"hls\":null}}],\"unlisted\":{}}}\n", count - listed)));
        })
        .unwrap();
    }

    #[test]
    fn one_makes_the_list_and_the_others_get_the_last() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut lists = Lists::default();
        let gets = |lists: &mut Lists, ms, due| matches!(lists.ask(at(ms)), Turn::Take(list) if list == due);
        assert!(matches!(lists.ask(at(0)), Turn::Make));
        assert!(matches!(lists.ask(at(1)), Turn::Wait), "there is none yet");
        lists.put(at(0), at(0), bytes("first"));
        assert!(gets(&mut lists, 499, "first"));
        assert!(matches!(lists.ask(at(500)), Turn::Make));
        assert!(gets(&mut lists, 501, "first"));
        assert!(gets(&mut lists, 9_999, "first"));
        assert!(matches!(lists.ask(at(10_000)), Turn::Wait), "it is too old");
        assert!(matches!(lists.ask(at(10_500)), Turn::Make), "whoever makes it is lost");
        lists.put(at(10_500), at(10_500), bytes("third"));
        lists.put(at(500), at(10_501), bytes("second"));
        assert!(gets(&mut lists, 10_999, "third"));
        assert!(matches!(lists.ask(at(11_000)), Turn::Make));
        lists.put(at(11_000), at(22_000), bytes("slow"));
        assert!(gets(&mut lists, 22_001, "slow"), "who has waited for it gets it, however old it is");
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
