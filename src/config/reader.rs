//! From the values of the `config` crate to typed ones, by the kinds and defaults of the schema.
//!
//! The text of a file has been checked before it got here. It is read by the same kinds once more because a value may
//! come from another source, which nothing has checked.

use std::path::PathBuf;
use std::time::Duration;

use ::config::{ConfigError, Map, Value, ValueKind};

use super::error::{Error, Problem, Reason};
use super::forward::Target;
use super::kind::{Kind, Setting};
use super::listen::Listen;
use super::memory::Memory;
use super::network::{Network, Rule};
use super::schema::{self, Place, Row, Shape};

/// A block, or the absence of one: then each directive in it has its default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    place: Place,
    table: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Map<String, Value>) -> Section<'a> {
        Section { place: Place::Root, table: Some(table) }
    }

    fn value(self, name: &str) -> Option<&'a Value> {
        self.table?.get(name)
    }

    pub(super) fn place(self) -> Place {
        self.place
    }

    /// The value of a directive that counts, its default included, and its words.
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

    /// Where a directive stands, if it is there.
    pub(super) fn position(self, name: &str) -> Option<&'a str> {
        self.value(name)?.origin()
    }

    /// Whether the file has the directive here.
    pub(super) fn has(self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn inner(self, name: &str) -> Option<&'a Map<String, Value>> {
        match &self.value(name)?.kind {
            ValueKind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Whether a directive that has two forms has that of a block here.
    pub(super) fn is_block(self, name: &str) -> bool {
        self.inner(name).is_some()
    }

    /// A block without a name of its own.
    pub(super) fn block(self, name: &str) -> Section<'a> {
        match row(self.place, name).shape {
            Shape::Block(place) | Shape::Either { block: place, .. } => Section { place, table: self.inner(name) },
            other => unreachable!("\"{name}\" is read as a block, but the schema says {other:?}"),
        }
    }

    /// This section, if the setting stands in it, else `other`.
    pub(super) fn unless_absent(self, name: &str, other: Section<'a>) -> Section<'a> {
        if self.value(name).is_some() { self } else { other }
    }

    /// The blocks that have names, in their order.
    pub(super) fn named(self, name: &str) -> Vec<(&'a str, Section<'a>)> {
        let Shape::Named(place) = row(self.place, name).shape else { return Vec::new() };
        let all = self.inner(name).into_iter().flatten();
        let mut all: Vec<_> = all.map(|(name, _)| name.as_str()).collect();
        all.sort_unstable();
        let inner = Section { place, table: self.inner(name) };
        all.into_iter().map(|name| (name, Section { place, table: inner.inner(name) })).collect()
    }
}

/// Reads settings and collects what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
    warnings: Vec<(String, String)>,
}

/// One typed way to read, for each kind there is. That the kind is the one of the schema is a matter of this program,
/// not of the file, and reading any file shows it.
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
        memory: Memory -> Memory;
        /// In thousandths.
        decimal: Decimal -> u64;
    }

    /// A number as a size in memory.
    pub(super) fn size(&mut self, section: Section<'_>, name: &str) -> usize {
        // Only 4 GiB on a 32-bit machine does not fit, where the largest there is means the same.
        usize::try_from(self.number(section, name)).unwrap_or(usize::MAX)
    }

    /// A size that is inherited where it is absent.
    pub(super) fn size_or(&mut self, section: Section<'_>, name: &str, inherited: usize) -> usize {
        match self.setting(section, name) {
            Some(Setting::Number(n)) => usize::try_from(n).unwrap_or(usize::MAX),
            _ => inherited,
        }
    }

    pub(super) fn millis(&mut self, section: Section<'_>, name: &str) -> Duration {
        Duration::from_millis(self.number(section, name))
    }

    pub(super) fn seconds(&mut self, section: Section<'_>, name: &str) -> Duration {
        Duration::from_secs(self.number(section, name))
    }

    /// Seconds with decimals.
    pub(super) fn decimal_seconds(&mut self, section: Section<'_>, name: &str) -> Duration {
        Duration::from_millis(self.decimal(section, name))
    }

    /// Empty where it is absent.
    pub(super) fn addresses(&mut self, section: Section<'_>, name: &str) -> Vec<Listen> {
        match self.setting(section, name) {
            Some(Setting::Addresses(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Empty where it is absent.
    pub(super) fn hosts(&mut self, section: Section<'_>, name: &str) -> Vec<String> {
        match self.setting(section, name) {
            Some(Setting::Hosts(all)) => all,
            _ => Vec::new(),
        }
    }

    /// Empty where it is absent.
    pub(super) fn targets(&mut self, section: Section<'_>, name: &str) -> Vec<Target> {
        let all = match self.setting(section, name) {
            Some(Setting::Targets(all)) => all,
            _ => Vec::new(),
        };
        if let Some(target) = all.iter().find(|target| target.is_tls() && !cfg!(feature = "ssl")) {
            let at = section.value(name).and_then(Value::origin).unwrap_or("the configuration").to_owned();
            self.problem(at, Reason::NoTls { target: target.shown() });
        }
        all
    }

    /// Empty where it is absent.
    pub(super) fn networks(&mut self, section: Section<'_>, name: &str) -> Vec<Network> {
        match self.setting(section, name) {
            Some(Setting::Networks(all)) => all,
            _ => Vec::new(),
        }
    }

    /// All rules of this name; of a scalar, as from the environment, the only one.
    pub(super) fn rules(&mut self, section: Section<'_>, name: &str) -> Vec<Rule> {
        let row = row(section.place, name);
        let values = match section.value(name) {
            Some(Value { kind: ValueKind::Array(values), .. }) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        let rules = values.iter().map(|value| self.value(row, Kind::Rule, value));
        rules
            .flatten()
            .filter_map(|setting| if let Setting::Rule(rule) = setting { Some(rule) } else { None })
            .collect()
    }

    /// The setting as it stands, else its default, else none. One that is wrong is a problem, and reads as if absent.
    fn setting(&mut self, section: Section<'_>, name: &str) -> Option<Setting> {
        let row = row(section.place, name);
        let (Shape::Setting { kind, default } | Shape::Either { kind, default, .. }) = row.shape else { return None };
        if let Some(value) = section.value(name).filter(|value| !matches!(value.kind, ValueKind::Table(_)))
            && let Some(setting) = self.value(row, kind, value)
        {
            return Some(setting);
        }
        kind.read(&[default?]).ok()
    }

    /// A value, if it is of its kind; else that is a problem.
    fn value(&mut self, row: &'static Row, kind: Kind, value: &Value) -> Option<Setting> {
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

    /// Warns of each directive of a block that has no effect yet.
    pub(super) fn warn_of_later(&mut self, section: Section<'_>) {
        let later = |row: &&Row| row.place == section.place && matches!(row.shape, Shape::Later);
        for row in schema::TABLE.iter().filter(later) {
            let Some(Value { kind: ValueKind::Array(times), .. }) = section.value(row.name) else { continue };
            for time in times {
                let at = time.origin().unwrap_or("the configuration").to_owned();
                self.warn(at, &format!("\"{}\" is not in this version yet: ignored", row.name));
            }
        }
    }

    /// The warnings, by file and line.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        let place = |at: &str| {
            let (file, line) = at.rsplit_once(':').unwrap_or((at, ""));
            (file.to_owned(), line.parse::<usize>().ok())
        };
        self.warnings.sort_by_key(|(at, _)| place(at));
        self.warnings.drain(..).map(|(at, text)| format!("{at}: {text}")).collect()
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        Error::unless_empty(self.problems)
    }
}

/// What the `config` crate says: our own error, if it came from the text.
pub(super) fn from_crate(file: &str, error: ConfigError) -> Error {
    let other = |text: String| Error::one(file.to_owned(), Reason::Other(text));
    match error {
        ConfigError::FileParse { cause, .. } => match cause.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(cause) => other(cause.to_string()),
        },
        error => other(error.to_string()),
    }
}

/// The words of a value: an array holds them one by one, as from a file; a scalar, as from the environment, in one
/// text.
fn words(kind: Kind, value: &Value) -> Vec<String> {
    let text = |value: &Value| value.clone().into_string().unwrap_or_default();
    match &value.kind {
        ValueKind::Array(words) => words.iter().map(text).collect(),
        // The path of a file may have blanks in it.
        _ if matches!(kind, Kind::Path) => vec![text(value)],
        _ => text(value).split_whitespace().map(str::to_owned).collect(),
    }
}

/// The words of a value, be it of several lines.
fn words_of_all(kind: Kind, value: &Value) -> Vec<String> {
    match &value.kind {
        ValueKind::Array(lines) if lines.iter().any(|line| matches!(line.kind, ValueKind::Array(_))) => {
            lines.iter().map(|line| words(kind, line).join(" ")).collect()
        }
        _ => words(kind, value),
    }
}

fn row(place: Place, name: &str) -> &'static Row {
    let Some(row) = schema::find(place, name) else { unreachable!("\"{name}\" is read, but the schema lacks it") };
    row
}
