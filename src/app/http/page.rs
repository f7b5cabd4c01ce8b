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
use super::live::{LiveFile, LiveFiles};
use crate::account::Part;
use crate::app::server::Server;
use crate::app::source::Published;
use crate::config::DEFAULT_VHOST;
use crate::st::{self, Shared};

/// Scripts, styles and data of this server and of no other; nothing inline. Media come through hls.js as a blob.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    media-src 'self' blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'\r\nReferrer-Policy: no-referrer\r\n";

/// The file of hls.js, and the most that is taken for it: version 1.7 has 620 KB.
const HLS_JS: &str = "hls.min.js";
const MAX_HLS_JS: u64 = 4 << 20;

/// How long a list of the streams is good for: however many ask, it is made once in this time.
const LIST: Duration = Duration::from_millis(500);

/// The page's files by path.
pub(super) struct Page {
    files: HashMap<&'static str, Arc<LiveFile>>,
    list: Shared<Option<(Instant, Bytes)>>,
}

impl Page {
    /// Reads hls.js, so call it from a coroutine.
    pub(super) fn new() -> Self {
        let hls_js = st::offload(read_hls_js).unwrap_or_default();
        let sources = [
            ("page.html", "", Some(Bytes::from_static(include_bytes!("page/page.html")))),
            ("page.css", "page.css", Some(Bytes::from_static(include_bytes!("page/page.css")))),
            ("page.js", "page.js", Some(Bytes::from_static(include_bytes!("page/page.js")))),
            (HLS_JS, HLS_JS, hls_js),
        ];
        let now = SystemTime::now();
        let files = sources.into_iter().filter_map(|(name, path, body)| {
            let mut file = LiveFile::new(name, body?, now);
            file.entity.head.push_str(POLICY);
            Some((path, Arc::new(file)))
        });
        Self { files: files.collect(), list: Shared::default() }
    }

    pub(super) fn file(&self, path: &str) -> Option<Arc<LiveFile>> {
        self.files.get(path).cloned()
    }

    /// The live streams as JSON. `rtmp_port` is where they are played over RTMP.
    pub(super) fn list(&self, server: &Server, rtmp_port: u16) -> Bytes {
        let now = Instant::now();
        let known = self.list.with(|list| list.clone().filter(|(at, _)| now.duration_since(*at) < LIST));
        if let Some((_, list)) = known {
            return list;
        }
        let list = list(&server.sources.published(), &server.live_files, rtmp_port);
        // Who is slow to take it may keep one of each half second.
        let list = server.account.count(Part::Http, list.into());
        self.list.with(|known| *known = Some((now, list.clone())));
        list
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
    for (n, stream) in streams.iter().enumerate() {
        let (vhost, name) = stream.name.split_once('/').unwrap_or(("", &stream.name));
        // Files of the default vhost are at the root, those of others below the vhost's name.
        let base = if vhost == DEFAULT_VHOST { name } else { &stream.name };
        let playlist = format!("{base}.m3u8");
        let hls = live.get(&playlist).map(|_| format!("/{}", encoded(&playlist)));
        let comma = if n == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(
            json,
            "{comma}{{\"vhost\":{},\"name\":{},\"video\":{},\"audio\":{},\"players\":{},\"hls\":{}}}",
            quoted(vhost),
            quoted(name),
            or_null(stream.video.map(|codec| codec.to_string())),
            or_null(stream.audio.map(|codec| codec.to_string())),
            stream.players,
            or_null(hls),
        );
    }
    json.push_str("]}\n");
    json
}

fn or_null(text: Option<String>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| quoted(&text))
}

/// A string of JSON (RFC 8259, 7). `<` and `&` are escaped as well, for whoever puts it into a page as it is.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
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

    #[test]
    fn the_page_has_nothing_inline() {
        let page = include_str!("page/page.html");
        for inline in ["<script>", "<style", " style=", " onclick", "javascript:"] {
            assert!(!page.contains(inline), "{inline}: the policy forbids it");
        }
        let script = include_str!("page/page.js");
        for unsafe_sink in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!script.contains(unsafe_sink), "{unsafe_sink}: names are text");
        }
    }
}
