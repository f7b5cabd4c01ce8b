//! The settings of a virtual host.

use std::path::PathBuf;
use std::time::Duration;

use super::api_token::Secret;
use super::bandcheck::Bandcheck;
use super::dvr::Dvr;
use super::forward::Target;
use super::hook_url::HookUrl;
use super::hooks::HttpHooks;
use super::http_remux::HttpRemux;
use super::reader::{Reader, Section};
use super::security::Security;
use super::transcode::{Exec, Ladder, Transcode};

/// The warning of a build without the feature `hls`. No error, since srs.conf uses it.
const NO_HLS: &str = "this server was built without HLS: ignored; build it with ./configure --with-hls";

/// A virtual host: the settings of the streams of one host name.
#[derive(Debug, Clone, PartialEq)]
pub struct Vhost {
    /// Name in lower case, except for [`DEFAULT_VHOST`](super::DEFAULT_VHOST).
    pub name: String,
    /// `enabled`: if off, all clients are refused.
    pub enabled: bool,
    /// `chunk_size`: size of the chunks sent, in bytes.
    pub chunk_size: usize,
    /// `gop_cache`: new players start at the last keyframe.
    pub gop_cache: bool,
    /// `queue_length`: time that a player may fall behind before it is moved on to the newest keyframe.
    pub queue_length: Duration,
    /// `queue_bytes`: the same in bytes of the packet log.
    pub queue_bytes: usize,
    /// `mw_latency`: longest time that a message waits to be merged with others into one write.
    pub mw_latency: Duration,
    /// `mw_adaptive`: this wait is short while the server is mostly idle, and widens to `mw_latency` as it gets busy.
    pub mw_adaptive: bool,
    /// `min_latency`: never wait.
    pub min_latency: bool,
    /// `tcp_nodelay`: sockets send small segments at once (Nagle's algorithm off).
    pub tcp_nodelay: bool,
    /// `security`: client addresses that may publish and play.
    pub security: Security,
    /// `publish`: limits for publishers.
    pub publish: Publish,
    /// `forward`: targets that get each published stream.
    pub forward: Forward,
    /// `hls`: HTTP Live Streaming.
    pub hls: Hls,
    /// `dvr`: recording.
    pub dvr: Dvr,
    /// `http_remux`: live streams over HTTP.
    pub http_remux: HttpRemux,
    /// `http_hooks`: backends that are asked and told about clients.
    pub http_hooks: HttpHooks,
    /// `transcode`: engines for published streams, by scope.
    pub transcode: Vec<Transcode>,
    /// `ladder`: renditions of published streams.
    pub ladder: Ladder,
    /// `exec`: commands at events.
    pub exec: Exec,
    /// `bandcheck`: bandwidth tests.
    pub bandcheck: Bandcheck,
    /// `refer`: hosts whose pages may publish and play, in lower case; empty for all. See
    /// [`refer_allows`](super::refer_allows).
    pub refer: Vec<String>,
    /// `refer_publish`: the same for publishing, in addition to `refer`.
    pub refer_publish: Vec<String>,
    /// `refer_play`: the same for playing, in addition to `refer`.
    pub refer_play: Vec<String>,
}

/// Limits for publishers.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// `stall_timeout`: silence after which a publisher loses its stream name to a new publisher.
    pub stall_timeout: Duration,
    /// `max_bitrate`: kbit/s, on average over 5 seconds, above which a publisher is disconnected; 0 means no limit.
    pub max_bitrate: u64,
    /// `reconnect_grace`: time before players are told that the publisher's connection was lost; most stop when told.
    pub reconnect_grace: Duration,
    /// `timeout`: silence after which a publisher is disconnected.
    pub timeout: Duration,
}

/// Targets that get each stream published in a vhost.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// `forward HOST…;`, or `destination` in its block unless that has `enabled off`; without duplicates.
    pub targets: Vec<Target>,
    /// `forward_tls_verify`: rtmps targets need a certificate for their name that the system trusts.
    pub tls_verify: bool,
    /// `backend`: asked for further targets of each stream; empty if the block has `enabled off`.
    pub backend: Vec<HookUrl>,
}

/// HTTP Live Streaming, as `hls { … }` or as the flat directives of the original.
#[derive(Debug, Clone, PartialEq)]
pub struct Hls {
    /// `hls on`, or `enabled` in the block.
    pub enabled: bool,
    /// `hls_path`: root directory of the files; relative to the working directory.
    pub path: PathBuf,
    /// `hls_fragment`: a segment ends at the first keyframe after this time.
    pub fragment: Duration,
    /// `hls_window`: time that a playlist spans.
    pub window: Duration,
    /// `hls_td_ratio`: minimum target duration as a multiple of `fragment`, in thousandths.
    pub td_ratio: u64,
    /// `hls_cleanup`: remove segments that left the playlist.
    pub cleanup: bool,
    /// `hls_dispose`: time after its end when a stream is removed; zero means never.
    pub dispose: Duration,
    /// `hls_endlist_delay`: time after the publisher has stopped when the playlist is marked as complete.
    pub endlist_delay: Duration,
    /// `hls_on_error`: reaction to a failing disk.
    pub on_error: HlsOnError,
    /// `sessions`: viewers are clients, which gates are asked about.
    pub sessions: bool,
}

/// The reaction when the files of a stream cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HlsOnError {
    /// The stream continues without files.
    Ignore,
    /// The publisher is disconnected.
    Disconnect,
}

impl Vhost {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>, name: &str, chunk_size: usize) -> Vhost {
        reader.warn_unsupported(section);
        let publish = section.block("publish");
        reader.warn_unsupported(publish);
        Vhost {
            name: name.to_owned(),
            enabled: reader.switch(section, "enabled"),
            chunk_size: reader.size_or(section, "chunk_size", chunk_size),
            gop_cache: reader.switch(section, "gop_cache"),
            queue_length: reader.duration(section, "queue_length"),
            queue_bytes: reader.size(section, "queue_bytes"),
            mw_latency: reader.duration(section, "mw_latency"),
            mw_adaptive: reader.switch(section, "mw_adaptive"),
            min_latency: reader.switch(section, "min_latency"),
            tcp_nodelay: reader.switch(section, "tcp_nodelay"),
            security: Security::read(reader, section.block("security")),
            publish: Publish {
                stall_timeout: reader.duration(publish, "stall_timeout"),
                max_bitrate: reader.number(publish, "max_bitrate"),
                reconnect_grace: reader.duration(publish, "reconnect_grace"),
                timeout: reader.duration(publish, "timeout"),
            },
            forward: Forward::read(reader, section),
            hls: Hls::read(reader, section),
            dvr: Dvr::read(reader, section.block("dvr")),
            http_remux: HttpRemux::read(reader, section.block("http_remux")),
            http_hooks: HttpHooks::read(reader, section.block("http_hooks")),
            transcode: Transcode::read_all(reader, section),
            ladder: Ladder::read(reader, section),
            exec: Exec::read(reader, section.block("exec")),
            bandcheck: Bandcheck::read(reader, section.block("bandcheck"), section.position("bandcheck")),
            refer: reader.hosts(section, "refer"),
            refer_publish: reader.hosts(section, "refer_publish"),
            refer_play: reader.hosts(section, "refer_play"),
        }
    }
}

impl Security {
    fn read(reader: &mut Reader, section: Section<'_>) -> Security {
        Security {
            enabled: reader.switch(section, "enabled"),
            allow: reader.rules(section, "allow"),
            deny: reader.rules(section, "deny"),
            stream_keys: reader.stream_keys(section, "stream_keys"),
            secret: reader.text(section, "secret").map(Secret),
        }
    }
}

impl Forward {
    fn read(reader: &mut Reader, vhost: Section<'_>) -> Forward {
        let tls_verify = reader.switch(vhost, "forward_tls_verify");
        if !vhost.is_block("forward") {
            return Forward { targets: reader.targets(vhost, "forward"), tls_verify, backend: Vec::new() };
        }
        let block = vhost.block("forward");
        let mut targets = reader.targets(block, "destination");
        let mut backend = reader.urls(block, "backend");
        if !reader.switch(block, "enabled") {
            targets.clear();
            backend.clear();
        }
        Forward { targets, tls_verify, backend }
    }
}

impl Hls {
    /// Reads the HLS settings of a vhost. The block takes precedence over flat directives.
    fn read(reader: &mut Reader, vhost: Section<'_>) -> Hls {
        let block = vhost.block("hls");
        let section = |name: &str| block.if_has(name, vhost);
        let is_block = vhost.is_block("hls");
        reader.warn_unsupported(block);
        let mut hls = Hls {
            enabled: if is_block { reader.switch(block, "enabled") } else { reader.switch(vhost, "hls") },
            path: reader.path(section("hls_path"), "hls_path"),
            fragment: reader.duration(section("hls_fragment"), "hls_fragment"),
            window: reader.duration(section("hls_window"), "hls_window"),
            td_ratio: reader.ratio(section("hls_td_ratio"), "hls_td_ratio"),
            cleanup: reader.switch(section("hls_cleanup"), "hls_cleanup"),
            dispose: reader.duration(section("hls_dispose"), "hls_dispose"),
            endlist_delay: reader.duration(section("hls_endlist_delay"), "hls_endlist_delay"),
            on_error: match reader.choice(section("hls_on_error"), "hls_on_error") {
                "disconnect" => HlsOnError::Disconnect,
                _ => HlsOnError::Ignore,
            },
            sessions: reader.switch(block, "sessions"),
        };
        if hls.enabled && !cfg!(feature = "hls") {
            let at = if is_block { block.position("enabled") } else { vhost.position("hls") };
            reader.warn(at.unwrap_or("the configuration").to_owned(), NO_HLS);
            hls.enabled = false;
        }
        hls
    }
}
