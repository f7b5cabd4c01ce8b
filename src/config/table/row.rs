//! Constructors of rows, and what rows of several files share.

use super::super::kind::Kind;
use super::super::reload::Reload::{self, Next, Now};
use super::super::schema::{BlockKind, Row, Shape};
use super::super::units::TimeUnit;

/// Creates the row of a directive with a default.
pub(super) const fn setting(
    block: BlockKind,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reload: Reload,
    summary: &'static str,
    text: &'static str,
) -> Row {
    Row { block, name, shape: Shape::Setting { kind, default: Some(default) }, reload: Some(reload), summary, text }
}

/// Creates the row of a directive without a default.
pub(super) const fn optional(
    block: BlockKind,
    name: &'static str,
    kind: Kind,
    reload: Reload,
    summary: &'static str,
    text: &'static str,
) -> Row {
    Row { block, name, shape: Shape::Setting { kind, default: None }, reload: Some(reload), summary, text }
}

pub(super) const fn block(
    block: BlockKind,
    name: &'static str,
    shape: Shape,
    reload: Option<Reload>,
    summary: &'static str,
    text: &'static str,
) -> Row {
    Row { block, name, shape, reload, summary, text }
}

pub(super) const fn unsupported(block: BlockKind, name: &'static str) -> Row {
    Row { block, name, shape: Shape::Unsupported, reload: None, summary: "not supported in this version", text: "" }
}

pub(super) const fn number(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

pub(super) const fn text(name: &'static str) -> Kind {
    Kind::Text { name, is_secret: false }
}

pub(super) const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Time { min: min * 1000, max: max * 1000, bare: TimeUnit::Seconds }
}

pub(super) const fn millis(min: u64, max: u64) -> Kind {
    Kind::Time { min, max, bare: TimeUnit::Milliseconds }
}

/// Creates a time whose range is in milliseconds and whose numbers without a unit are seconds.
pub(super) const fn millis_of_seconds(min: u64, max: u64) -> Kind {
    Kind::Time { min, max, bare: TimeUnit::Seconds }
}

pub(super) const CHUNK_SIZE: Kind = Kind::Size { min: 128, max: 65536 };
pub(super) const TIMEOUT: Kind = seconds(1, 3600);
pub(super) const BUFFER_SIZE: Kind = Kind::Size { min: 1 << 20, max: 4 << 30 };
pub(super) const FRAGMENT: Kind = Kind::Time { min: 500, max: 600_000, bare: TimeUnit::Seconds };
pub(super) const WINDOW: Kind = seconds(1, 86_400);
pub(super) const TD_RATIO: Kind = Kind::Ratio { min: 1000, max: 10_000 };
pub(super) const DISPOSE: Kind = seconds(0, 604_800);
pub(super) const ENDLIST_DELAY: Kind = seconds(0, 604_800);
pub(super) const ON_ERROR: Kind = Kind::Choice(&["ignore", "disconnect"]);
pub(super) const FILE: Kind = Kind::Path("FILE");
pub(super) const DIRECTORY: Kind = Kind::Path("DIRECTORY");
pub(super) const CLIENTS: Reload = Next("new connections; nobody is disconnected");
pub(super) const STREAMS: Reload = Now("running streams of the vhost");
pub(super) const REQUESTS: Reload = Next("new requests to connect, publish or play; running streams continue");
pub(super) const TLS: Reload = Next("new TLS connections");
pub(super) const HTTP_REQUESTS: Reload = Next("new HTTP requests");
pub(super) const HOOKS: Reload = Now("questions and events after the reload");
pub(super) const CHUNK_SIZE_TEXT: &str = "Size of the RTMP chunks that are sent. Large chunks cost the least CPU (srs.conf uses \
    65000); a small size is for clients that cannot handle large ones. After a reload, players get the new size within \
    the stream (Set Chunk Size).";
