//! The callbacks, and their subjects.

use std::path::Path;

use serde_json::Value;

use crate::app::events::HlsSegment;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{HookUrl, HttpHooks, Vhost};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Connect,
    Close,
    Publish,
    Unpublish,
    Play,
    Stop,
    Update,
    Dvr,
    Hls,
    HlsNotify,
    Bandwidth,
    Forward,
    ServerStart,
}

impl Hook {
    pub(super) const ALL: [Self; 13] = [
        Self::Connect,
        Self::Close,
        Self::Publish,
        Self::Unpublish,
        Self::Play,
        Self::Stop,
        Self::Update,
        Self::Dvr,
        Self::Hls,
        Self::HlsNotify,
        Self::Bandwidth,
        Self::Forward,
        Self::ServerStart,
    ];

    /// Returns the name of the directive, which is the `action` of the body.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "on_connect",
            Self::Close => "on_close",
            Self::Publish => "on_publish",
            Self::Unpublish => "on_unpublish",
            Self::Play => "on_play",
            Self::Stop => "on_stop",
            Self::Update => "on_update",
            Self::Dvr => "on_dvr",
            Self::Hls => "on_hls",
            Self::HlsNotify => "on_hls_notify",
            Self::Bandwidth => "on_bandwidth",
            Self::Forward => "on_forward",
            Self::ServerStart => "on_server_start",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    pub(super) fn urls(self, hooks: &HttpHooks) -> &[HookUrl] {
        match self {
            Self::Connect => &hooks.on_connect,
            Self::Close => &hooks.on_close,
            Self::Publish => &hooks.on_publish,
            Self::Unpublish => &hooks.on_unpublish,
            Self::Play => &hooks.on_play,
            Self::Stop => &hooks.on_stop,
            Self::Update => &hooks.on_update,
            Self::Dvr => &hooks.on_dvr,
            Self::Hls => &hooks.on_hls,
            Self::HlsNotify => &hooks.on_hls_notify,
            Self::Bandwidth => &hooks.on_bandwidth,
            Self::ServerStart => &hooks.on_server_start,
            // It stands in another block.
            Self::Forward => &[],
        }
    }

    /// Returns whether it can be lost without a backend having a wrong picture of who is there.
    pub(super) fn is_informational(self) -> bool {
        matches!(self, Self::Hls | Self::HlsNotify | Self::Bandwidth)
    }

    pub(super) fn all_urls(vhost: &Vhost) -> impl Iterator<Item = &HookUrl> {
        let hooks = Self::ALL.into_iter().filter(|_| vhost.http_hooks.enabled);
        hooks.flat_map(|hook| hook.urls(&vhost.http_hooks)).chain(&vhost.forward.backend)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) client: Option<&'a ClientInfo>,
    pub(super) stream: Option<&'a StreamInfo>,
    pub(super) detail: Detail<'a>,
}

/// The part of a body that only `on_close`, `on_hls`, `on_dvr` or `on_update` has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Detail<'a> {
    None,
    Traffic(Traffic),
    Segment(&'a HlsSegment),
    Recording { file: &'a Path, more: &'a [(&'static str, Value)] },
    Update { is_publishing: bool, seconds: u64 },
    Fields(&'a [(&'static str, Value)]),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}
