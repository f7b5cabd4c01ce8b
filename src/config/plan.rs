//! The plan of a reload: the differences between two configurations, and when each takes effect for whom.
//!
//! The plan compares effective values: defaults included, and `32m` equal to `33554432`. Each row of the table of
//! directives has its [`Reload`] effect, so that no directive can be forgotten. To add a directive:
//!
//! 1. add its row to `table`;
//! 2. read it from `Server::config()`, or from the stream's vhost, at the time when it is needed: then a reload only
//!    needs to replace the configuration. `app::server::reload` has the few settings that are kept elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::api_token::Secret;
use super::forward::Target;
use super::hook_url::HookUrl;
use super::kind::{Kind, Setting};
use super::listen::Listen;
use super::reader::Section;
pub use super::reload::Reload;
use super::reload::Reload::{Next, Now, Restart};
use super::schema::{Row, Shape};
use super::table::{self, rows};

/// The effects of a vhost that is added, and of one that is removed.
const ADDED: Reload = Next("new connections to this host");
const REMOVED: Reload = Now("its clients, which are disconnected");

/// Returns the effect where it depends on the values: an address that stays keeps its socket, with the options it was
/// opened with.
fn listen_effect(old: &Setting, new: &Setting) -> Option<Reload> {
    let (Setting::Addresses(old), Setting::Addresses(new)) = (old, new) else { return None };
    let stays = |listen: &&Listen| new.iter().any(|other| other.address == listen.address);
    if old.iter().filter(stays).all(|listen| new.contains(listen)) {
        return None;
    }
    Some(if old.len() == new.len() && old.iter().all(|listen| stays(&listen)) {
        Restart("\"reuseport\" of an open socket cannot be changed")
    } else {
        Now("new connections; \"reuseport\" of an address that stays takes effect after a restart")
    })
}

/// The effective values by their place, such as `gop_cache in vhost a.b`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Settings(BTreeMap<String, Entry>);

#[derive(Debug, Clone)]
struct Entry {
    /// The value; none if it is absent or has several lines.
    setting: Option<Setting>,
    /// The value as written.
    text: String,
    /// The block, such as `publish in vhost a.b`.
    block: String,
    /// The place where it is set; none for a default.
    origin: Option<String>,
    row: &'static Row,
    /// It is a block with a name, which can be added and removed.
    is_named: bool,
}

impl Settings {
    /// Collects the values of a whole configuration.
    pub(super) fn of(root: Section<'_>) -> Settings {
        let mut settings = Settings::default();
        settings.collect(root, "");
        settings
    }

    fn collect(&mut self, section: Section<'_>, suffix: &str) {
        for row in rows(section.kind()) {
            match row.shape {
                Shape::Block(_) => self.collect(section.block(row.name), &format!(" in {}{suffix}", row.name)),
                Shape::Either { .. } if section.is_block(row.name) => {
                    self.collect(section.block(row.name), &format!(" in {}{suffix}", row.name));
                }
                Shape::Named(_) | Shape::Labelled(_) => {
                    for (name, inner) in section.named(row.name) {
                        let what = format!("{} {name}", row.name).trim_end().to_owned();
                        self.insert(&what, suffix, Entry { is_named: true, ..Entry::new(row) });
                        self.collect(inner, &format!(" in {what}{suffix}"));
                    }
                }
                Shape::Setting { .. } | Shape::Either { .. } => {
                    let (setting, text) = section.effective(row);
                    let is_secret = row.kind().is_some_and(Kind::is_secret);
                    // A plan is logged: no passwords, and targets contain stream keys. The whole text is still compared.
                    let setting = if is_secret { Some(Setting::Hidden(Secret::from(text.as_str()))) } else { setting };
                    let text = match &setting {
                        Some(Setting::Targets(targets)) => {
                            targets.iter().map(Target::redacted).collect::<Vec<_>>().join(" ")
                        }
                        Some(Setting::Urls(urls)) => urls.iter().map(HookUrl::redacted).collect::<Vec<_>>().join(" "),
                        _ if is_secret && !text.is_empty() => "…".to_owned(),
                        _ => text,
                    };
                    let origin = section.position(row.name).map(str::to_owned);
                    self.insert(row.name, suffix, Entry { setting, text, origin, ..Entry::new(row) });
                }
                Shape::Free => {
                    let (text, origin) = (section.free_text(row.name), section.position(row.name).map(str::to_owned));
                    self.insert(row.name, suffix, Entry { text, origin, ..Entry::new(row) });
                }
                Shape::Unsupported => {}
            }
        }
    }

    /// Adds a part of a value that is not shown, such as the content of its file.
    pub(super) fn add_hidden(&mut self, at: &str, part: &str) {
        if let Some(entry) = self.0.get_mut(at) {
            entry.setting = Some(Setting::Hidden(Secret::from(format!("{} {part}", entry.text).as_str())));
        }
    }

    fn insert(&mut self, name: &str, suffix: &str, mut entry: Entry) {
        entry.block = suffix.trim_start_matches(" in ").to_owned();
        self.0.insert(format!("{name}{suffix}"), entry);
    }

    /// Returns all values, by block in the order of the table of directives.
    pub(super) fn values(&self) -> Vec<EffectiveValue> {
        let values = self.0.values().filter(|entry| !entry.is_named && !self.is_superseded(entry));
        let mut values: Vec<_> = values.map(Entry::value).collect();
        values.sort_by(|a, b| a.block.cmp(&b.block).then(a.row_index.cmp(&b.row_index)));
        values
    }

    /// Returns whether the other form of a directive counts: `hls_path` in the vhost, or in its `hls` block.
    fn is_superseded(&self, entry: &Entry) -> bool {
        let (name, block) = (entry.row.name, &entry.block);
        match block.strip_prefix("hls in ") {
            Some(vhost) => {
                let flat = self.0.get(&format!("{name} in {vhost}"));
                flat.is_some_and(|flat| entry.origin.is_none() && flat.origin.is_some())
            }
            None => {
                let inner = self.0.get(&format!("{name} in hls in {block}"));
                inner.is_some_and(|inner| inner.origin.is_some() || entry.origin.is_none())
            }
        }
    }
}

impl Entry {
    fn new(row: &'static Row) -> Self {
        Entry { setting: None, text: String::new(), block: String::new(), origin: None, row, is_named: false }
    }

    fn value(&self) -> EffectiveValue {
        let is_secret = self.row.kind().is_some_and(Kind::is_secret);
        EffectiveValue {
            block: self.block.clone(),
            directive: self.row.name,
            value: Some(self.text.clone()).filter(|text| !text.is_empty()),
            default: self.row.default(),
            origin: self.origin.clone(),
            is_secret,
            reload: self.row.reload,
            row_index: table::index(self.row),
        }
    }
}

/// The origin of a value does not count: it is the same on another line.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.setting == other.setting && self.text == other.text && self.is_named == other.is_named
    }
}

/// A value in force, for people. Secrets and keys in URLs are hidden.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveValue {
    /// The block, such as `publish in vhost a.b`; empty at the top of the file.
    pub block: String,
    /// The directive.
    pub directive: &'static str,
    /// The value as written; none if it is absent and has no default.
    pub value: Option<String>,
    /// The default.
    pub default: Option<&'static str>,
    /// `FILE:LINE`, or `environment variable NAME`; none for a default.
    pub origin: Option<String>,
    /// The value is hidden as a whole.
    pub is_secret: bool,
    /// The time at which a change takes effect.
    pub reload: Option<Reload>,
    /// The place in the table of directives.
    row_index: usize,
}

impl EffectiveValue {
    /// Returns whether it is the default, which nobody has set.
    pub fn is_default(&self) -> bool {
        self.origin.is_none()
    }
}

/// A difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The directive and its block, such as `gop_cache in vhost a.b`.
    pub at: String,
    /// The values before and after, as written but without the keys in targets of `forward`; none for a block.
    pub values: Option<(String, String)>,
    /// The kind of the difference.
    pub kind: ChangeKind,
    /// The time at which it takes effect, and for whom.
    pub reload: Reload,
}

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Another value.
    Set,
    /// A new block.
    Added,
    /// A block that is gone.
    Removed,
}

/// The line of a plan.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        match (self.kind, &self.values) {
            (ChangeKind::Added, _) => write!(f, ": added")?,
            (ChangeKind::Removed, _) => write!(f, ": removed")?,
            (ChangeKind::Set, Some((old, new))) if old == new => write!(f, ": {new}, changed in a hidden part")?,
            (ChangeKind::Set, Some((old, new))) => write!(f, ": {old} -> {new}")?,
            (ChangeKind::Set, None) => {}
        }
        write!(f, "; takes effect {}", self.reload)
    }
}

/// Returns the changes from `old` to `new`: named blocks first, then directives, each by name.
pub(super) fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut changed_blocks: Vec<String> = Vec::new();
    let names: BTreeSet<_> = old.0.keys().chain(new.0.keys()).collect();
    let mut add = |at: &String, kind, values, entry: &Entry| {
        let settings =
            old.0.get(at).zip(new.0.get(at)).and_then(|(old, new)| old.setting.as_ref().zip(new.setting.as_ref()));
        let listen_effect = settings.and_then(|(old, new)| listen_effect(old, new));
        let reload = match kind {
            ChangeKind::Added if matches!(entry.row.shape, Shape::Named(_)) => ADDED,
            ChangeKind::Removed if matches!(entry.row.shape, Shape::Named(_)) => REMOVED,
            // A test holds that each row has an effect.
            _ => listen_effect.or(entry.row.reload).unwrap_or(Restart("the effect is unknown")),
        };
        changes.push(Change { at: at.clone(), values, kind, reload });
    };
    // The directives of a block that is added or removed get no lines of their own.
    for at in &names {
        match (old.0.get(*at), new.0.get(*at)) {
            (Some(entry), None) if entry.is_named => {
                add(at, ChangeKind::Removed, None, entry);
                changed_blocks.push(format!(" in {at}"));
            }
            (None, Some(entry)) if entry.is_named => {
                add(at, ChangeKind::Added, None, entry);
                changed_blocks.push(format!(" in {at}"));
            }
            _ => {}
        }
    }
    for at in names {
        if changed_blocks.iter().any(|block| at.ends_with(block.as_str())) {
            continue;
        }
        let text = |entry: Option<&Entry>| match entry {
            Some(Entry { text, .. }) if !text.is_empty() => text.clone(),
            _ => "(absent)".to_owned(),
        };
        let (before, after) = (old.0.get(at), new.0.get(at));
        // A value of several lines is compared as it is written.
        let value = |entry: Option<&Entry>| match entry {
            Some(Entry { setting: Some(setting), .. }) => Ok(setting.clone()),
            entry => Err(text(entry)),
        };
        if let Some(entry) = after.or(before).filter(|entry| !entry.is_named)
            && value(before) != value(after)
        {
            add(at, ChangeKind::Set, Some((text(before), text(after))), entry);
        }
    }
    changes
}

#[cfg(test)]
mod tests;
