//! The schema: blocks, shapes and rows of directives. The rows are in `table`.

use super::error::{Mismatch, Reason};
use super::kind::Kind;
use super::names::DEFAULT_VHOST;
use super::reload::Reload;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Root,
    PithyPrint,
    HttpServer,
    HttpApi,
    ApiAuth,
    ApiHttps,
    Exporter,
    RawApi,
    Rtmps,
    Vhost,
    Publish,
    Security,
    Forward,
    Hls,
    HttpHooks,
    HttpRemux,
    Dvr,
    Bandcheck,
    Transcode,
    Engine,
    Ladder,
    Exec,
}

impl BlockKind {
    /// Returns the name, for the reference.
    pub(super) fn name(self) -> &'static str {
        match self {
            BlockKind::Root => "root",
            BlockKind::PithyPrint => "pithy_print",
            BlockKind::HttpServer => "http_server",
            BlockKind::HttpApi => "http_api",
            BlockKind::ApiAuth => "auth",
            BlockKind::RawApi => "raw_api",
            BlockKind::ApiHttps => "https",
            BlockKind::Exporter => "exporter",
            BlockKind::Rtmps => "rtmps",
            BlockKind::Vhost => "vhost",
            BlockKind::Publish => "publish",
            BlockKind::Security => "security",
            BlockKind::Forward => "forward",
            BlockKind::Hls => "hls",
            BlockKind::HttpHooks => "http_hooks",
            BlockKind::HttpRemux => "http_remux",
            BlockKind::Dvr => "dvr",
            BlockKind::Bandcheck => "bandcheck",
            BlockKind::Transcode => "transcode",
            BlockKind::Engine => "engine",
            BlockKind::Ladder => "ladder",
            BlockKind::Exec => "exec",
        }
    }

    /// Returns the phrase for messages.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            BlockKind::Root => "at the top of the file",
            BlockKind::PithyPrint => "in pithy_print",
            BlockKind::HttpServer => "in http_server",
            BlockKind::HttpApi => "in http_api",
            BlockKind::ApiAuth => "in auth of http_api",
            BlockKind::RawApi => "in raw_api of http_api",
            BlockKind::ApiHttps => "in https of http_api",
            BlockKind::Exporter => "in exporter",
            BlockKind::Rtmps => "in rtmps",
            BlockKind::Vhost => "in vhost",
            BlockKind::Publish => "in publish",
            BlockKind::Security => "in security",
            BlockKind::Forward => "in forward",
            BlockKind::Hls => "in hls",
            BlockKind::HttpHooks => "in http_hooks",
            BlockKind::HttpRemux => "in http_remux",
            BlockKind::Dvr => "in dvr",
            BlockKind::Bandcheck => "in bandcheck",
            BlockKind::Transcode => "in transcode",
            BlockKind::Engine => "in engine of transcode",
            BlockKind::Ladder => "in ladder",
            BlockKind::Exec => "in exec",
        }
    }
}

/// The form of a directive behind its name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Words and `;`. Without a default, the reader decides what its absence means.
    Setting { kind: Kind, default: Option<&'static str> },
    /// `{ … }`
    Block(BlockKind),
    /// A host name and `{ … }`
    Named(BlockKind),
    /// `{ … }`, or a label and `{ … }`; several, each with another label.
    Labelled(BlockKind),
    /// `{ … }` with any names, each with a value or none.
    Free,
    /// Words and `;`, or `{ … }`: the two forms of different SRS versions.
    Either { kind: Kind, default: Option<&'static str>, block: BlockKind },
    /// A directive of other versions: accepted in any form, without effect, with a warning.
    Unsupported,
}

/// A known directive.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) block: BlockKind,
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// The effect of a reload that changes it; none for a block whose directives have their own, and if unsupported.
    pub(super) reload: Option<Reload>,
    /// A noun phrase, for messages.
    pub(super) summary: &'static str,
    /// The description in the reference: at most three sentences.
    pub(super) text: &'static str,
}

impl Row {
    /// Returns whether it may stand several times in its block.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(
            self.shape,
            Shape::Unsupported
                | Shape::Setting { kind: Kind::Addresses | Kind::Rule | Kind::Token | Kind::Command, .. }
        )
    }

    /// Returns the kind of its words, if it has a form with words.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.shape {
            Shape::Setting { kind, .. } | Shape::Either { kind, .. } => Some(kind),
            Shape::Block(_) | Shape::Named(_) | Shape::Labelled(_) | Shape::Free | Shape::Unsupported => None,
        }
    }

    pub(super) fn default(&self) -> Option<&'static str> {
        match self.shape {
            Shape::Setting { default, .. } | Shape::Either { default, .. } => default,
            Shape::Block(_) | Shape::Named(_) | Shape::Labelled(_) | Shape::Free | Shape::Unsupported => None,
        }
    }

    /// Returns a valid line, with the default if there is one.
    pub(super) fn example(&self) -> String {
        let words = match self.shape {
            Shape::Named(_) => return format!("{} {} {{ }}", self.name, DEFAULT_VHOST),
            Shape::Block(_) | Shape::Labelled(_) | Shape::Unsupported => return format!("{} {{ }}", self.name),
            Shape::Free => return format!("{} {{ OPTION VALUE; }}", self.name),
            Shape::Setting { default: Some(default), .. } | Shape::Either { default: Some(default), .. } => default,
            Shape::Setting { kind, .. } | Shape::Either { kind, .. } => match kind {
                Kind::Hosts => "github.com github.io",
                Kind::Networks => "192.0.2.0/24",
                Kind::Rule => "publish 127.0.0.1",
                Kind::Token => "ops admin SECRET",
                Kind::Command if self.name == "on_dvr" => "./objs/notify.sh [file]",
                Kind::Command => "./objs/notify.sh [app] [stream]",
                Kind::Heights => "720p 480p 360p",
                Kind::Text { name, .. } => name,
                Kind::Addresses => "1935",
                Kind::Path(_) if self.name == "hooks_spool" => "./objs/hooks.spool",
                Kind::Path(_) => "./conf/keys",
                Kind::Streams => "all",
                Kind::Mounts => "[vhost]/[app]/[stream].flv",
                Kind::Urls => "http://127.0.0.1:8085/api/v1/streams",
                Kind::Targets => "192.168.1.2:1935 rtmp://example.com/live",
                _ => "4096",
            },
        };
        format!("{} {words};", self.name)
    }

    /// Returns the message for `words` words that are not of the directive's kind.
    pub(super) fn mismatch(&self, kind: Kind, words: usize, mismatch: Mismatch) -> Reason {
        let (name, example, summary) = (self.name, self.example(), self.summary);
        match mismatch {
            Mismatch::Count => Reason::Count { name, takes: kind.count(), got: words, example, summary },
            Mismatch::Word(given) => Reason::Value { name, expected: kind.expected(), given, example },
            Mismatch::Repeated(again) => Reason::Repeated { name, again },
        }
    }
}
