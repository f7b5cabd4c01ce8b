//! `http_hooks`: the backends that are asked before, and told after, clients publish and play.

use std::path::PathBuf;
use std::time::Duration;

use super::api_token::Secret;
use super::hook_url::HookUrl;
use super::reader::{Reader, Section};

/// HTTP callbacks of a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHooks {
    /// `enabled`.
    pub enabled: bool,
    /// `on_connect`: asked once per connection, before the first `on_publish` or `on_play`.
    pub on_connect: Vec<HookUrl>,
    /// `on_close`: told when a connection ends for which `on_connect` passed.
    pub on_close: Vec<HookUrl>,
    /// `on_publish`: asked before a client publishes.
    pub on_publish: Vec<HookUrl>,
    /// `on_unpublish`: told when it has stopped.
    pub on_unpublish: Vec<HookUrl>,
    /// `on_play`: asked before a client plays.
    pub on_play: Vec<HookUrl>,
    /// `on_stop`: told when it has stopped.
    pub on_stop: Vec<HookUrl>,
    /// `on_update`: asked every `recheck` about each client that publishes or plays.
    pub on_update: Vec<HookUrl>,
    /// `on_dvr`: told of each recording that is complete.
    pub on_dvr: Vec<HookUrl>,
    /// `on_hls`: told of each segment that is written.
    pub on_hls: Vec<HookUrl>,
    /// `on_hls_notify`: fetched for each segment that is written.
    pub on_hls_notify: Vec<HookUrl>,
    /// `on_server_start`: told at the start of the server.
    pub on_server_start: Vec<HookUrl>,
    /// `on_bandwidth`: told the result of a bandwidth test.
    pub on_bandwidth: Vec<HookUrl>,
    /// `hooks_timeout`: time for one request, from the connection to the end of the answer.
    pub timeout: Duration,
    /// `hooks_retry`: further attempts of a question that fails.
    pub retry: u64,
    /// `on_hook_failure`: whether clients pass while a backend does not answer.
    pub allow_on_failure: bool,
    /// `hooks_recheck`: time between two `on_update` about a client.
    pub recheck: Duration,
    /// `hooks_format`: the form of requests and answers.
    pub format: HookFormat,
    /// `hooks_secret`: requests are signed with it.
    pub secret: Option<Secret>,
    /// `hooks_spool`: file that keeps events over a restart.
    pub spool: Option<PathBuf>,
}

/// The form of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookFormat {
    /// JSON, as SRS.
    Json,
    /// Url-encoded fields, as nginx-rtmp.
    Form,
}

impl HttpHooks {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>) -> HttpHooks {
        HttpHooks {
            enabled: reader.switch(section, "enabled"),
            on_connect: reader.urls(section, "on_connect"),
            on_close: reader.urls(section, "on_close"),
            on_publish: reader.urls(section, "on_publish"),
            on_unpublish: reader.urls(section, "on_unpublish"),
            on_play: reader.urls(section, "on_play"),
            on_stop: reader.urls(section, "on_stop"),
            on_update: reader.urls(section, "on_update"),
            on_dvr: reader.urls(section, "on_dvr"),
            on_hls: reader.urls(section, "on_hls"),
            on_hls_notify: reader.urls(section, "on_hls_notify"),
            on_server_start: reader.urls(section, "on_server_start"),
            on_bandwidth: reader.urls(section, "on_bandwidth"),
            timeout: reader.duration(section, "hooks_timeout"),
            retry: reader.number(section, "hooks_retry"),
            allow_on_failure: reader.choice(section, "on_hook_failure") == "allow",
            recheck: reader.duration(section, "hooks_recheck"),
            format: match reader.choice(section, "hooks_format") {
                "form" => HookFormat::Form,
                _ => HookFormat::Json,
            },
            secret: reader.text(section, "hooks_secret").map(Secret),
            spool: reader.optional_path(section, "hooks_spool"),
        }
    }
}
