//! Reads the values of the `config` crate as typed ones, by the kinds and defaults of the schema.
//!
//! Values of a file have been checked before. Those of other sources have not, so all are checked here too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::config::{ConfigError, Map, Value, ValueKind};

use super::api_token::ApiToken;
use super::error::{Error, Problem, Reason};
use super::forward::Target;
use super::hook_url::HookUrl;
use super::kind::{Kind, Setting};
use super::listen::Listen;
use super::memory::MemoryLimit;
use super::mount::Mount;
use super::network::{Network, Rule};
use super::schema::{BlockKind, Row, Shape};
use super::stream_keys::StreamKeys;
use super::table;

/// A block. In an absent one, each directive has its default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    kind: BlockKind,
    table: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Map<String, Value>) -> Section<'a> {
        Section { kind: BlockKind::Root, table: Some(table) }
    }

    /// Returns a block without any directive.
    pub(super) fn empty(kind: BlockKind) -> Section<'a> {
        Section { kind, table: None }
    }

    fn value(self, name: &str) -> Option<&'a Value> {
        self.table?.get(name)
    }

    pub(super) fn kind(self) -> BlockKind {
        self.kind
    }

    /// Returns the effective value of a directive, its default included, and its words.
    pub(super) fn effective(self, row: &Row) -> (Option<Setting>, String) {
        let (Shape::Setting { kind, default } | Shape::Either { kind, default, .. }) = row.shape else {
            return (None, String::new());
        };
        let words = match self.value(row.name) {
            Some(value) => words_of_all(kind, value),
            None => default.map(str::to_owned).into_iter().collect(),
        };
        let setting = kind.read(&words.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        (setting, words.join(" "))
    }

    /// Returns `FILE:LINE` of a directive, if it is present.
    pub(super) fn position(self, name: &str) -> Option<&'a str> {
        self.value(name)?.origin()
    }

    /// Returns whether the directive is present.
    pub(super) fn has(self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Returns the options of a block with any names, as written.
    pub(super) fn free_text(self, name: &str) -> String {
        let Some(Value { kind: ValueKind::Array(options), .. }) = self.value(name) else { return String::new() };
        options.iter().map(|option| words(Kind::Command, option).join(" ") + ";").collect::<Vec<_>>().join(" ")
    }

    fn inner(self, name: &str) -> Option<&'a Map<String, Value>> {
        match &self.value(name)?.kind {
            ValueKind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Returns whether a directive with two forms has the form of a block here.
    pub(super) fn is_block(self, name: &str) -> bool {
        self.inner(name).is_some()
    }

    /// Returns a block without a name of its own.
    pub(super) fn block(self, name: &str) -> Section<'a> {
        match row(self.kind, name).shape {
            Shape::Block(kind) | Shape::Either { block: kind, .. } => Section { kind, table: self.inner(name) },
            other => unreachable!("\"{name}\" is read as a block, but the schema says {other:?}"),
        }
    }

    /// Returns this section if the setting is present in it, else `other`.
    pub(super) fn if_has(self, name: &str, other: Section<'a>) -> Section<'a> {
        if self.value(name).is_some() { self } else { other }
    }

    pub(super) fn named(self, name: &str) -> Vec<(&'a str, Section<'a>)> {
        let (Shape::Named(kind) | Shape::Labelled(kind)) = row(self.kind, name).shape else { return Vec::new() };
        let all = self.inner(name).into_iter().flatten();
        let mut all: Vec<_> = all.map(|(name, _)| name.as_str()).collect();
        all.sort_unstable();
        let inner = Section { kind, table: self.inner(name) };
        all.into_iter().map(|name| (name, Section { kind, table: inner.inner(name) })).collect()
    }
}

/// Reader of settings, which collects problems and warnings.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
    warnings: Vec<(String, String)>,
}

/// Defines a method for each kind. A kind that differs from the schema is a bug of this program, which reading any file
/// shows.
macro_rules! typed {
    ($($(#[$doc:meta])* $method:ident: $variant:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        pub(super) fn $method(&mut self, section: Section<'_>, name: &str) -> $type {
            match self.setting(section, name) {
                Some(Setting::$variant(value)) => value.into(),
                other => unreachable!("\"{name}\" is read as {}, but is {other:?}", stringify!($variant)),
            }
        }
    )*};
}

impl Reader {
    typed! {
        switch: Switch -> bool;
        choice: Choice -> &'static str;
        path: Path -> PathBuf;
        number: Number -> u64;
        memory: Memory -> MemoryLimit;
        duration: Time -> Duration;
        /// Returns thousandths.
        ratio: Ratio -> u64;
    }

    /// Reads a number as a `usize`.
    pub(super) fn size(&mut self, section: Section<'_>, name: &str) -> usize {
        // Only 4 GiB on a 32-bit machine does not fit, where the maximum means the same.
        usize::try_from(self.number(section, name)).unwrap_or(usize::MAX)
    }

    /// Reads a size; `inherited` if it is absent.
    pub(super) fn size_or(&mut self, section: Section<'_>, name: &str, inherited: usize) -> usize {
        match self.setting(section, name) {
            Some(Setting::Number(n)) => usize::try_from(n).unwrap_or(usize::MAX),
            _ => inherited,
        }
    }

    /// Reads addresses; empty if absent.
    pub(super) fn addresses(&mut self, section: Section<'_>, name: &str) -> Vec<Listen> {
        match self.setting(section, name) {
            Some(Setting::Addresses(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Reads host names; empty if absent.
    pub(super) fn hosts(&mut self, section: Section<'_>, name: &str) -> Vec<String> {
        match self.setting(section, name) {
            Some(Setting::Hosts(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Reads targets; empty if absent.
    pub(super) fn targets(&mut self, section: Section<'_>, name: &str) -> Vec<Target> {
        let all = match self.setting(section, name) {
            Some(Setting::Targets(all)) => all,
            _ => Vec::new(),
        };
        if let Some(target) = all.iter().find(|target| target.is_tls() && !cfg!(feature = "ssl")) {
            let at = section.value(name).and_then(Value::origin).unwrap_or("the configuration").to_owned();
            self.problem(at, Reason::NoTls { target: target.redacted() });
        }
        all
    }

    /// Reads names of streams; empty for all.
    pub(super) fn streams(&mut self, section: Section<'_>, name: &str) -> Vec<String> {
        match self.setting(section, name) {
            Some(Setting::Streams(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Reads paths of live streams over HTTP.
    pub(super) fn mounts(&mut self, section: Section<'_>, name: &str) -> Vec<Mount> {
        match self.setting(section, name) {
            Some(Setting::Mounts(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Reads URLs of callbacks; empty if absent.
    pub(super) fn urls(&mut self, section: Section<'_>, name: &str) -> Vec<HookUrl> {
        let all = match self.setting(section, name) {
            Some(Setting::Urls(all)) => all,
            _ => Vec::new(),
        };
        if let Some(url) = all.iter().find(|url| url.tls && !cfg!(feature = "ssl")) {
            let at = section.value(name).and_then(Value::origin).unwrap_or("the configuration").to_owned();
            self.problem(at, Reason::NoTls { target: url.redacted() });
        }
        all
    }

    /// Reads networks; empty if absent.
    pub(super) fn networks(&mut self, section: Section<'_>, name: &str) -> Vec<Network> {
        match self.setting(section, name) {
            Some(Setting::Networks(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Reads a text; none if it is absent.
    pub(super) fn text(&mut self, section: Section<'_>, name: &str) -> Option<String> {
        match self.setting(section, name) {
            Some(Setting::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Reads a path; none if it is absent.
    pub(super) fn optional_path(&mut self, section: Section<'_>, name: &str) -> Option<PathBuf> {
        match self.setting(section, name) {
            Some(Setting::Path(path)) => Some(path.into()),
            _ => None,
        }
    }

    /// Reads the file of stream keys that a path names; none if it is absent. A file that cannot be read is a problem.
    pub(super) fn stream_keys(&mut self, section: Section<'_>, name: &str) -> Option<Arc<StreamKeys>> {
        let Some(Setting::Path(path)) = self.setting(section, name) else { return None };
        match StreamKeys::load(Path::new(&path)) {
            Ok(keys) => Some(Arc::new(keys)),
            Err(problem) => {
                let at = section.position(name).unwrap_or("the configuration").to_owned();
                self.problem(at, Reason::Other(problem));
                None
            }
        }
    }

    pub(super) fn rules(&mut self, section: Section<'_>, name: &str) -> Vec<Rule> {
        let rule = |setting| if let Setting::Rule(rule) = setting { Some(rule) } else { None };
        self.lines(section, name, Kind::Rule).into_iter().filter_map(rule).collect()
    }

    pub(super) fn commands(&mut self, section: Section<'_>, name: &str) -> Vec<Vec<String>> {
        let command = |setting| if let Setting::Command(words) = setting { Some(words) } else { None };
        self.lines(section, name, Kind::Command).into_iter().filter_map(command).collect()
    }

    /// Reads heights of pictures; empty if absent.
    pub(super) fn heights(&mut self, section: Section<'_>, name: &str) -> Vec<u32> {
        match self.setting(section, name) {
            Some(Setting::Heights(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Reads the options of a block with any names.
    pub(super) fn options(&mut self, section: Section<'_>, name: &str) -> Vec<(String, Option<String>)> {
        let Some(Value { kind: ValueKind::Array(options), .. }) = section.value(name) else { return Vec::new() };
        let option = |option: &Value| {
            let mut words = words(Kind::Command, option).into_iter();
            words.next().map(|name| (name, words.next()))
        };
        options.iter().filter_map(option).collect()
    }

    pub(super) fn tokens(&mut self, section: Section<'_>, name: &str) -> Vec<ApiToken> {
        let token = |setting| if let Setting::Token(token) = setting { Some(token) } else { None };
        self.lines(section, name, Kind::Token).into_iter().filter_map(token).collect()
    }

    /// Reads the lines of a directive with one value per line. A scalar, as from the environment, is one line.
    fn lines(&mut self, section: Section<'_>, name: &str, kind: Kind) -> Vec<Setting> {
        let row = row(section.kind, name);
        let values = match section.value(name) {
            Some(Value { kind: ValueKind::Array(values), .. }) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        values.iter().filter_map(|value| self.parse(row, kind, value)).collect()
    }

    /// Reads a setting, else its default, else none. An invalid one is a problem, and reads as if absent.
    fn setting(&mut self, section: Section<'_>, name: &str) -> Option<Setting> {
        let row = row(section.kind, name);
        let (Shape::Setting { kind, default } | Shape::Either { kind, default, .. }) = row.shape else { return None };
        if let Some(value) = section.value(name).filter(|value| !matches!(value.kind, ValueKind::Table(_)))
            && let Some(setting) = self.parse(row, kind, value)
        {
            return Some(setting);
        }
        kind.read(&[default?]).ok()
    }

    /// Parses a value. An invalid one is a problem.
    fn parse(&mut self, row: &'static Row, kind: Kind, value: &Value) -> Option<Setting> {
        let words = words(kind, value);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match kind.read(&words) {
            Ok(setting) => Some(setting),
            Err(mismatch) => {
                let at = value.origin().unwrap_or("the configuration").to_owned();
                self.problem(at, row.mismatch(kind, words.len(), mismatch));
                None
            }
        }
    }

    pub(super) fn problem(&mut self, at: String, reason: Reason) {
        self.problems.push(Problem { at, reason });
    }

    pub(super) fn warn(&mut self, at: String, text: &str) {
        self.warnings.push((at, text.to_owned()));
    }

    /// Warns of each unsupported directive in a block.
    pub(super) fn warn_unsupported(&mut self, section: Section<'_>) {
        for row in table::rows(section.kind).filter(|row| matches!(row.shape, Shape::Unsupported)) {
            let Some(Value { kind: ValueKind::Array(uses), .. }) = section.value(row.name) else { continue };
            for value in uses {
                let at = value.origin().unwrap_or("the configuration").to_owned();
                let hint = if row.text.is_empty() { String::new() } else { format!("; {}", row.text) };
                self.warn(at, &format!("\"{}\" is not supported by this version: ignored{hint}", row.name));
            }
        }
    }

    /// Returns the warnings, by file and line.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        let place = |at: &str| {
            let (file, line) = at.rsplit_once(':').unwrap_or((at, ""));
            (file.to_owned(), line.parse::<usize>().ok())
        };
        self.warnings.sort_by_key(|(at, _)| place(at));
        self.warnings.drain(..).map(|(at, text)| format!("{at}: {text}")).collect()
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        Error::of_problems(self.problems)
    }
}

/// Converts an error of the `config` crate. It wraps our own error if the text was invalid.
pub(super) fn from_crate(file: &str, error: ConfigError) -> Error {
    let other = |text: String| Error::of_problem(file.to_owned(), Reason::Other(text));
    match error {
        ConfigError::FileParse { cause, .. } => match cause.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(cause) => other(cause.to_string()),
        },
        error => other(error.to_string()),
    }
}

/// Returns the words of a value: of an array, as from a file, its items; of a scalar, as from the environment, its
/// words.
fn words(kind: Kind, value: &Value) -> Vec<String> {
    let text = |value: &Value| value.clone().into_string().unwrap_or_default();
    match &value.kind {
        ValueKind::Array(words) => words.iter().map(text).collect(),
        // A path may contain blanks.
        _ if matches!(kind, Kind::Path(_)) => vec![text(value)],
        _ => text(value).split_whitespace().map(str::to_owned).collect(),
    }
}

/// Returns the words of a value, or the lines of one with several lines.
fn words_of_all(kind: Kind, value: &Value) -> Vec<String> {
    match &value.kind {
        ValueKind::Array(lines) if lines.iter().any(|line| matches!(line.kind, ValueKind::Array(_))) => {
            lines.iter().map(|line| words(kind, line).join(" ")).collect()
        }
        _ => words(kind, value),
    }
}

fn row(kind: BlockKind, name: &str) -> &'static Row {
    let Some(row) = table::find(kind, name) else { unreachable!("\"{name}\" is read, but the schema lacks it") };
    row
}
