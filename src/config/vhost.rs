//! A virtual host, and what it is read from.

use std::path::PathBuf;
use std::time::Duration;

use super::network::Security;
use super::reader::{Reader, Section};
use super::{NO_HLS, Target};

/// A virtual host: the settings of the streams below one host name.
#[derive(Debug, Clone, PartialEq)]
pub struct Vhost {
    /// In lower case, as host names have none; [`DEFAULT_VHOST`](super::DEFAULT_VHOST) is spelled as it is there.
    pub name: String,
    /// `enabled`: off refuses every client.
    pub enabled: bool,
    /// `chunk_size`: of the chunks sent, in bytes.
    pub chunk_size: usize,
    /// `gop_cache`: a player that joins starts at the last keyframe.
    pub gop_cache: bool,
    /// `queue_length`: the time a player may fall behind before it is moved on to the newest keyframe.
    pub queue_length: Duration,
    /// `queue_bytes`: the same, in bytes of the source's log.
    pub queue_bytes: usize,
    /// `mw_latency`: the longest that a message may wait to be merged with others into one write.
    pub mw_latency: Duration,
    /// `mw_adaptive`: that wait is short while the server is mostly idle, and widens towards `mw_latency` as it gets
    /// busy.
    pub mw_adaptive: bool,
    /// `min_latency`: never wait.
    pub min_latency: bool,
    /// `tcp_nodelay`: sockets send small segments at once instead of collecting them (Nagle's algorithm off).
    pub tcp_nodelay: bool,
    /// `security`: which addresses may publish and play.
    pub security: Security,
    /// `publish`: limits for publishers.
    pub publish: Publish,
    /// `forward`: servers that get each stream published here, too.
    pub forward: Forward,
    /// `hls`: HTTP Live Streaming.
    pub hls: Hls,
    /// `refer`: hosts whose pages may publish and play, in lower case; empty for everybody. See [`refer_allows`](super::refer_allows).
    pub refer: Vec<String>,
    /// `refer_publish`: the same for publishing, in addition to `refer`.
    pub refer_publish: Vec<String>,
    /// `refer_play`: the same for playing, in addition to `refer`.
    pub refer_play: Vec<String>,
}

/// Limits for publishers.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// `stall_timeout`: a publisher that has sent nothing for so long loses the stream name to a new one.
    pub stall_timeout: Duration,
    /// `max_bitrate`: a publisher that sends more than so many kbit/s, on average over 5 seconds, is closed; 0 for no limit.
    pub max_bitrate: u64,
    /// `reconnect_grace`: how long players are not told that a publisher's connection was lost; most end when they are.
    pub reconnect_grace: Duration,
    /// `timeout`: a publisher that has sent nothing for so long is closed.
    pub timeout: Duration,
}

/// Servers that get each stream published in a vhost, too.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// `forward HOST…;`, or `destination` in its block unless `enabled off` is there: none twice.
    pub targets: Vec<Target>,
    /// `forward_tls_verify`: an rtmps target has to show a certificate for its name that the system trusts.
    pub tls_verify: bool,
}

/// HTTP Live Streaming, as `hls { … }` or as the flat directives of the original.
#[derive(Debug, Clone, PartialEq)]
pub struct Hls {
    /// `hls on`, or `enabled` in the block: whether the vhost's streams are there as HLS.
    pub enabled: bool,
    /// `hls_path`: the root of playlists and segments; relative to the working directory.
    pub path: PathBuf,
    /// `hls_fragment`: a segment ends at the first keyframe after this time.
    pub fragment: Duration,
    /// `hls_window`: the time that a playlist spans.
    pub window: Duration,
    /// `hls_td_ratio`: the target duration is at least so many fragments, in thousandths.
    pub td_ratio: u64,
    /// `hls_cleanup`: segments that have left the playlist are removed.
    pub cleanup: bool,
    /// `hls_dispose`: how long after its end a stream is removed; zero for never.
    pub dispose: Duration,
    /// `hls_on_error`: what a failing disk means for the publisher.
    pub on_error: HlsOnError,
}

/// What happens to the publisher when the files of its stream cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HlsOnError {
    /// Nothing.
    Ignore,
    /// It is disconnected.
    Disconnect,
}

impl Vhost {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>, name: &str, chunk_size: usize) -> Vhost {
        reader.warn_of_later(section);
        let publish = section.block("publish");
        Vhost {
            name: name.to_owned(),
            enabled: reader.switch(section, "enabled"),
            chunk_size: reader.size_or(section, "chunk_size", chunk_size),
            gop_cache: reader.switch(section, "gop_cache"),
            queue_length: reader.seconds(section, "queue_length"),
            queue_bytes: reader.size(section, "queue_bytes"),
            mw_latency: reader.millis(section, "mw_latency"),
            mw_adaptive: reader.switch(section, "mw_adaptive"),
            min_latency: reader.switch(section, "min_latency"),
            tcp_nodelay: reader.switch(section, "tcp_nodelay"),
            security: Security::read(reader, section.block("security")),
            publish: Publish {
                stall_timeout: reader.seconds(publish, "stall_timeout"),
                max_bitrate: reader.number(publish, "max_bitrate"),
                reconnect_grace: reader.seconds(publish, "reconnect_grace"),
                timeout: reader.seconds(publish, "timeout"),
            },
            forward: Forward::read(reader, section),
            hls: Hls::read(reader, section),
            refer: reader.hosts(section, "refer"),
            refer_publish: reader.hosts(section, "refer_publish"),
            refer_play: reader.hosts(section, "refer_play"),
        }
    }
}

impl Forward {
    fn read(reader: &mut Reader, vhost: Section<'_>) -> Forward {
        let tls_verify = reader.switch(vhost, "forward_tls_verify");
        if !vhost.is_block("forward") {
            return Forward { targets: reader.targets(vhost, "forward"), tls_verify };
        }
        let block = vhost.block("forward");
        let mut targets = reader.targets(block, "destination");
        if !reader.switch(block, "enabled") {
            targets.clear();
        }
        Forward { targets, tls_verify }
    }
}

impl Hls {
    /// Of a vhost. What stands in the block counts more than what stands beside it.
    fn read(reader: &mut Reader, vhost: Section<'_>) -> Hls {
        let block = vhost.block("hls");
        let section = |name: &str| block.unless_absent(name, vhost);
        let is_block = vhost.is_block("hls");
        let hls = Hls {
            enabled: if is_block { reader.switch(block, "enabled") } else { reader.switch(vhost, "hls") },
            path: reader.path(section("hls_path"), "hls_path"),
            fragment: reader.decimal_seconds(section("hls_fragment"), "hls_fragment"),
            window: reader.decimal_seconds(section("hls_window"), "hls_window"),
            td_ratio: reader.decimal(section("hls_td_ratio"), "hls_td_ratio"),
            cleanup: reader.switch(section("hls_cleanup"), "hls_cleanup"),
            dispose: reader.seconds(section("hls_dispose"), "hls_dispose"),
            on_error: match reader.choice(section("hls_on_error"), "hls_on_error") {
                "disconnect" => HlsOnError::Disconnect,
                _ => HlsOnError::Ignore,
            },
        };
        if hls.enabled && !cfg!(feature = "hls") {
            let at = if is_block { block.position("enabled") } else { vhost.position("hls") };
            reader.warn(at.unwrap_or("the configuration").to_owned(), NO_HLS);
        }
        hls
    }
}
