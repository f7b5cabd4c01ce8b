//! `http_remux`: live streams over HTTP.

use std::time::Duration;

use super::mount::Mount;
use super::reader::{Reader, Section};

/// Live streams of a vhost over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRemux {
    /// `enabled`.
    pub enabled: bool,
    /// `mount`: the paths, and with their extensions the formats.
    pub mounts: Vec<Mount>,
    /// `has_audio`: viewers get audio.
    pub has_audio: bool,
    /// `has_video`: viewers get video.
    pub has_video: bool,
    /// `fast_cache`: sound of a stream without video that viewers of sound alone start with.
    pub fast_cache: Duration,
    /// `wait`: time that a viewer waits for a publisher.
    pub wait: Duration,
}

impl HttpRemux {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>) -> HttpRemux {
        reader.warn_unsupported(section);
        HttpRemux {
            enabled: reader.switch(section, "enabled"),
            mounts: reader.mounts(section, "mount"),
            has_audio: reader.switch(section, "has_audio"),
            has_video: reader.switch(section, "has_video"),
            fast_cache: reader.duration(section, "fast_cache"),
            wait: reader.duration(section, "wait"),
        }
    }
}
