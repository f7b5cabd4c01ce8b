//! `http_hooks`: the backends that are asked before, and told after, clients publish and play.

use std::time::Duration;

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
    /// `hooks_timeout`: time for one request, from the connection to the end of the answer.
    pub timeout: Duration,
    /// `hooks_retry`: further attempts of a question that fails.
    pub retry: u64,
    /// `on_hook_failure`: whether clients pass while a backend does not answer.
    pub allow_on_failure: bool,
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
            timeout: reader.duration(section, "hooks_timeout"),
            retry: reader.number(section, "hooks_retry"),
            allow_on_failure: reader.choice(section, "on_hook_failure") == "allow",
        }
    }
}
