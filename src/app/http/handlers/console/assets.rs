//! The files of the console: its own are part of this program; players for the browser are files beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::app::outputs::live_files::LiveFile;
use crate::log::quoted;
use crate::st;

/// Maximum size of a player: version 1.7 of hls.js has 620 KB.
const MAX_PLAYER: u64 = 4 << 20;

/// Players for the browser, which `make` downloads, and the effect of their absence.
const PLAYERS: [(&str, &str); 2] = [
    ("hls.min.js", "the console plays only in browsers with HLS of their own"),
    ("mpegts.js", "the console plays HTTP-FLV nowhere"),
];

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_bytes!($name) as &'static [u8])),*] };
}

const FILES: [(&str, &[u8]); 30] = files![
    "api.js" "decoders.js" "dom.js" "events.js" "format.js" "health.js" "links.js" "live_edge.js" "main.js"
    "playback.js" "player.js" "plot.js" "qr.js" "store.js" "style.css" "table.js" "views.css" "views/clients.js"
    "views/closes.js" "views/config.js" "views/events.js" "views/forwarders.js" "views/login.js" "views/overview.js"
    "views/parts.js" "views/programs.js" "views/recordings.js" "views/stream.js" "views/streams.js" "views/viewer.js"
];

/// The page, with the paths of its files as they are below `/`.
const INDEX: &str = include_str!("index.html");

/// The files by their names below `console/`, and the page.
#[derive(Clone)]
pub(super) struct Assets {
    files: Arc<HashMap<&'static str, LiveFile>>,
    /// The page for `/`, and for `/console/`.
    pages: Arc<[LiveFile; 2]>,
}

impl Assets {
    /// Loads the files, from a coroutine, since it reads the players from disk. Missing ones are logged if `is_served`.
    pub(super) fn load(is_served: bool) -> Self {
        let now = st::system_time();
        let players =
            st::offload(move || PLAYERS.map(|(name, effect)| (name, read_player(name, effect, is_served)))).ok();
        let players = players.into_iter().flatten().filter_map(|(name, content)| Some((name, content?)));
        let own = FILES.iter().map(|&(name, content)| (name, Bytes::from_static(content)));
        let files = own.chain(players).map(|(name, content)| (name, LiveFile::new(name, content, now)));
        let page = |text: String| LiveFile::new("index.html", text.into(), now);
        let pages = [page(INDEX.to_owned()), page(INDEX.replace("\"console/", "\""))];
        Self { files: Arc::new(files.collect()), pages: Arc::new(pages) }
    }

    /// Returns the page. `is_in_folder`: its address ends in `console/`.
    pub(super) fn page(&self, is_in_folder: bool) -> &LiveFile {
        &self.pages[usize::from(is_in_folder)]
    }

    pub(super) fn get(&self, name: &str) -> Option<&LiveFile> {
        self.files.get(name)
    }
}

/// Reads a player from the directory of the binary, or from objs/ of the working directory.
fn read_player(name: &str, effect: &str, is_served: bool) -> Option<Bytes> {
    let beside = std::env::current_exe().ok().and_then(|binary| Some(binary.parent()?.join(name)));
    let paths: Vec<PathBuf> = beside.into_iter().chain([Path::new("objs").join(name)]).collect();
    for path in &paths {
        let is_usable = |file: std::fs::Metadata| file.is_file() && file.len() <= MAX_PLAYER;
        if std::fs::metadata(path).is_ok_and(is_usable)
            && let Ok(content) = std::fs::read(path)
        {
            return Some(content.into());
        }
    }
    if is_served {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        log::info!("web player not installed: file={name} effect={} paths={}", quoted(effect), quoted(paths.join(" ")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let named = |text: &str, start: &str| -> Vec<String> {
            text.split(start).skip(1).filter_map(|rest| Some(rest.split_once(['"', '\''])?.0.to_owned())).collect()
        };
        let names: Vec<_> = FILES.iter().map(|(name, _)| *name).collect();
        for name in named(INDEX, "\"console/") {
            let is_player = PLAYERS.iter().any(|(player, _)| *player == name);
            assert!(is_player || names.contains(&name.as_str()), "{name}");
        }
        for (file, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            for import in named(text, "from './").into_iter().filter(|_| !file.starts_with("views/")) {
                assert!(names.contains(&import.as_str()), "{file}: {import}");
            }
            for import in named(text, "from '../") {
                assert!(names.contains(&import.as_str()), "{file}: {import}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_nothing_parses_html() {
        for inline in ["<script>", "<style", " style=", " onclick", "javascript:"] {
            assert!(!INDEX.contains(inline), "{inline}: the policy forbids it");
        }
        for (file, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            let unsafe_sinks = [
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "new Function",
                "DOMParser",
                "srcdoc",
            ];
            for unsafe_sink in unsafe_sinks {
                assert!(!text.contains(unsafe_sink), "{file}: {unsafe_sink}: names are text");
            }
            let is_script = file.ends_with(".js");
            assert!(
                !is_script || !text.contains("'style'") && !text.contains("style:"),
                "{file}: the policy forbids inline styles"
            );
        }
    }
}
