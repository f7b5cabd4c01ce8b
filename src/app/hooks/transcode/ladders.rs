//! The ladders of running streams, for the master playlists of the HTTP server.
#![cfg_attr(not(feature = "http"), allow(dead_code, reason = "read over HTTP only"))]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::command::{rendition_kbps, rendition_name};
use crate::app::session::info::StreamInfo;
use crate::config::DEFAULT_VHOST;

/// The ladders that run or are about to. Clones are the same set.
#[derive(Clone, Default)]
pub(crate) struct Ladders(Arc<Mutex<HashMap<String, ActiveLadder>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveLadder {
    pub(crate) source: String,
    pub(crate) renditions: Vec<Rendition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendition {
    pub(crate) name: String,
    /// The part of the stream's name after that of the source, such as `_720p`.
    pub(crate) suffix: String,
    /// Bit rate of video that the encoder aims at, in kbit/s.
    pub(crate) kbps: u64,
}

impl Ladders {
    /// Returns the ladder of the stream whose playlist has this path on the HTTP server, without its extension.
    pub(crate) fn find(&self, path: &str) -> Option<ActiveLadder> {
        self.all().get(path).cloned()
    }

    /// Sets the heights of the renditions of a stream; none ends its ladder.
    pub(super) fn set(&self, stream: &StreamInfo, heights: &[u32]) {
        let path = path(stream);
        if heights.is_empty() {
            self.all().remove(&path);
            return;
        }
        let rendition = |&height: &u32| Rendition {
            name: rendition_name(&stream.name, height),
            suffix: rendition_name("", height),
            kbps: rendition_kbps(height),
        };
        let renditions = heights.iter().map(rendition).collect();
        self.all().insert(path, ActiveLadder { source: stream.name.clone(), renditions });
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, ActiveLadder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the path of a stream's files on the HTTP server: those of a vhost other than the default one are below its name.
fn path(stream: &StreamInfo) -> String {
    let StreamInfo { vhost, app, stream, name, .. } = stream;
    if vhost == DEFAULT_VHOST { format!("{app}/{stream}") } else { name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladders_are_found_by_the_path_of_their_playlist() {
        let ladders = Ladders::default();
        let stream = |vhost: &str| StreamInfo {
            vhost: vhost.to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
            name: format!("{vhost}/live/s"),
            params: String::new(),
        };
        ladders.set(&stream(DEFAULT_VHOST), &[720, 360]);
        ladders.set(&stream("v.com"), &[360]);
        let found = ladders.find("live/s").unwrap();
        let names: Vec<_> = found.renditions.iter().map(|rendition| rendition.name.as_str()).collect();
        assert_eq!(names, ["__defaultVhost__/live/s_720p", "__defaultVhost__/live/s_360p"]);
        assert_eq!((found.renditions[1].suffix.as_str(), found.renditions[1].kbps), ("_360p", 900));
        assert_eq!(ladders.find("v.com/live/s").unwrap().source, "v.com/live/s");
        ladders.set(&stream(DEFAULT_VHOST), &[]);
        assert_eq!((ladders.find("live/s"), ladders.find("live/s_720p")), (None, None));
    }
}
