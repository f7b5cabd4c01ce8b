//! The kinds of value that a directive can have, and how each is parsed.

mod text;

use std::time::Duration;

use super::api_token::{ApiRole, ApiToken, Secret};
use super::error::Mismatch;
use super::forward::Target;
use super::hook_url::HookUrl;
use super::listen::Listen;
use super::memory::MemoryLimit;
use super::mount::Mount;
use super::names::host;
use super::network::{Action, Network, Rule};
use super::units::{TimeUnit, parse_digits, parse_size, parse_thousandths, parse_time};

/// The kind of the words after a directive's name. All ranges include both ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `on` or `off`.
    Switch,
    /// A whole number. `unit` is in the plural, and empty for a count.
    Number { min: u64, max: u64, unit: &'static str },
    /// A number with up to three decimals; `min` and `max` are in thousandths.
    Ratio { min: u64, max: u64 },
    /// A time; `min` and `max` are in milliseconds. `bare` is the unit of a number without one.
    Time { min: u64, max: u64, bare: TimeUnit },
    /// A number of bytes.
    Size { min: u64, max: u64 },
    /// A number of bytes up to `max`, or a share of the available memory from 1% to 100%.
    Memory { max: u64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path. The text is its placeholder in the reference.
    Path(&'static str),
    /// Any word; a secret one is shown nowhere. `name` is its placeholder in the reference.
    Text { name: &'static str, is_secret: bool },
    /// A name, a role and a secret. The directive may be repeated.
    Token,
    /// One or more `port`, `addr:port` or `[addr]:port`, each at most once, with its own options.
    Addresses,
    /// One or more host names.
    Hosts,
    /// One or more `host[:port]` or `rtmp://…`, each at most once.
    Targets,
    /// `all`, or one or more `APP/STREAM`.
    Streams,
    /// One or more paths of live streams over HTTP, each at most once.
    Mounts,
    /// One or more `http://…` or `https://…`.
    Urls,
    /// One or more addresses, networks or `all`.
    Networks,
    /// `publish` or `play`, and an address, a network or `all`. The directive may be repeated.
    Rule,
    /// A program and its arguments. The directive may be repeated.
    Command,
    /// One or more heights of pictures such as `720p`, each at most once.
    Heights,
}

/// A parsed value within its range.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Setting {
    Switch(bool),
    Number(u64),
    /// In thousandths.
    Ratio(u64),
    Time(Duration),
    Memory(MemoryLimit),
    Choice(&'static str),
    Path(String),
    Text(String),
    /// The words of a secret, compared in a plan.
    Hidden(Secret),
    Token(ApiToken),
    Addresses(Vec<Listen>),
    Hosts(Vec<String>),
    Targets(Vec<Target>),
    /// Empty for all.
    Streams(Vec<String>),
    Mounts(Vec<Mount>),
    Urls(Vec<HookUrl>),
    Networks(Vec<Network>),
    Rule(Rule),
    Command(Vec<String>),
    Heights(Vec<u32>),
}

impl Kind {
    /// Parses the words after a directive's name.
    pub(super) fn read(self, words: &[&str]) -> Result<Setting, Mismatch> {
        match (self, words) {
            (_, []) => Err(Mismatch::Count),
            (Kind::Addresses, _) => Listen::read(words).map(Setting::Addresses),
            (Kind::Hosts, _) => {
                words.iter().map(|w| host(w).ok_or_else(|| invalid(w))).collect::<Result<_, _>>().map(Setting::Hosts)
            }
            (Kind::Targets, _) => targets(words).map(Setting::Targets),
            (Kind::Streams, ["all"]) => Ok(Setting::Streams(Vec::new())),
            (Kind::Streams, _) => match words.iter().find(|word| !is_stream(word)) {
                Some(bad) => Err(invalid(bad)),
                None => Ok(Setting::Streams(words.iter().map(|word| (*word).to_owned()).collect())),
            },
            (Kind::Mounts, _) => unique(words, Mount::parse).map(Setting::Mounts),
            (Kind::Urls, _) => {
                let urls = words.iter().map(|w| HookUrl::parse(w).ok_or_else(|| invalid(&Target::redact_word(w))));
                urls.collect::<Result<_, _>>().map(Setting::Urls)
            }
            (Kind::Networks, _) => words.iter().map(|w| network(w)).collect::<Result<_, _>>().map(Setting::Networks),
            (Kind::Rule, [action, from]) => {
                let action = match *action {
                    "publish" => Action::Publish,
                    "play" => Action::Play,
                    _ => return Err(invalid(action)),
                };
                network(from).map(|network| Setting::Rule(Rule { action, network }))
            }
            (Kind::Rule, _) => Err(Mismatch::Count),
            (Kind::Command, [program, ..]) if program.is_empty() => Err(invalid(program)),
            (Kind::Command, _) => Ok(Setting::Command(words.iter().map(|word| (*word).to_owned()).collect())),
            (Kind::Heights, _) => unique(words, height).map(Setting::Heights),
            (Kind::Token, [name, role, secret]) => match ApiRole::parse(role) {
                _ if name.is_empty() || secret.is_empty() => Err(invalid("")),
                Some(role) => {
                    let (name, secret) = ((*name).to_owned(), Secret::from(*secret));
                    Ok(Setting::Token(ApiToken { name, role, secret }))
                }
                None => Err(invalid(role)),
            },
            (Kind::Token, _) => Err(Mismatch::Count),
            (_, [word]) => self.read_one(word).ok_or_else(|| invalid(word)),
            _ => Err(Mismatch::Count),
        }
    }

    fn read_one(self, word: &str) -> Option<Setting> {
        match self {
            Kind::Switch => match word {
                "on" => Some(Setting::Switch(true)),
                "off" => Some(Setting::Switch(false)),
                _ => None,
            },
            Kind::Number { min, max, .. } => {
                parse_digits(word).filter(|n| (min..=max).contains(n)).map(Setting::Number)
            }
            Kind::Ratio { min, max } => parse_thousandths(word).filter(|n| (min..=max).contains(n)).map(Setting::Ratio),
            Kind::Time { min, max, bare } => {
                let range = Duration::from_millis(min)..=Duration::from_millis(max);
                parse_time(word, bare).filter(|time| range.contains(time)).map(Setting::Time)
            }
            Kind::Size { min, max } => parse_size(word).filter(|n| (min..=max).contains(n)).map(Setting::Number),
            Kind::Memory { max } => match word.strip_suffix('%') {
                Some(share) => {
                    parse_digits(share).filter(|n| (1..=100).contains(n)).map(|n| MemoryLimit::Percent(n as u8))
                }
                None => parse_size(word).filter(|n| *n <= max).map(MemoryLimit::Bytes),
            }
            .map(Setting::Memory),
            Kind::Choice(choices) => choices.iter().find(|c| **c == word).map(|c| Setting::Choice(c)),
            Kind::Path(_) => Some(word).filter(|w| !w.is_empty()).map(|w| Setting::Path(w.to_owned())),
            Kind::Text { .. } => Some(word).filter(|w| !w.is_empty()).map(|w| Setting::Text(w.to_owned())),
            Kind::Addresses
            | Kind::Hosts
            | Kind::Targets
            | Kind::Streams
            | Kind::Mounts
            | Kind::Urls
            | Kind::Networks
            | Kind::Rule
            | Kind::Token
            | Kind::Command
            | Kind::Heights => None,
        }
    }

    /// Returns whether each line of a repeated directive is a value of its own, instead of more words of one value.
    pub(super) fn is_value_per_line(self) -> bool {
        matches!(self, Kind::Rule | Kind::Token | Kind::Command)
    }

    /// Returns whether the value contains a secret, which is shown nowhere.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Kind::Token | Kind::Command | Kind::Text { is_secret: true, .. })
    }
}

fn network(word: &str) -> Result<Network, Mismatch> {
    Network::parse(word).ok_or_else(|| invalid(word))
}

/// Parses values of which each may be there once.
fn unique<T: PartialEq>(words: &[&str], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Mismatch> {
    let mut all = Vec::with_capacity(words.len());
    for word in words {
        let value = parse(word).ok_or_else(|| invalid(word))?;
        if all.contains(&value) {
            return Err(Mismatch::Repeated((*word).to_owned()));
        }
        all.push(value);
    }
    Ok(all)
}

fn height(word: &str) -> Option<u32> {
    let height = word.strip_suffix('p').and_then(parse_digits).and_then(|height| u32::try_from(height).ok());
    height.filter(|height| (16..=8192).contains(height) && height.is_multiple_of(2))
}

fn invalid(word: &str) -> Mismatch {
    Mismatch::Word(word.to_owned())
}

fn targets(words: &[&str]) -> Result<Vec<Target>, Mismatch> {
    let mut all: Vec<Target> = Vec::with_capacity(words.len());
    for word in words {
        let target = Target::parse(word).ok_or_else(|| invalid(&Target::redact_word(word)))?;
        if all.contains(&target) {
            return Err(Mismatch::Repeated(target.redacted()));
        }
        all.push(target);
    }
    Ok(all)
}

/// Returns whether a word names an application and a stream.
fn is_stream(word: &str) -> bool {
    word.rsplit_once('/').is_some_and(|(app, stream)| !app.is_empty() && !stream.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(kind: Kind, word: &str) -> Option<u64> {
        match kind.read(&[word]) {
            Ok(Setting::Number(n)) => Some(n),
            _ => None,
        }
    }

    #[test]
    fn numbers_keep_to_their_range_and_to_digits() {
        let kind = Kind::Number { min: 1, max: 600, unit: "kbit/s" };
        assert_eq!(number(kind, "1"), Some(1));
        assert_eq!(number(kind, "600"), Some(600));
        for bad in ["0", "601", "+5", "-5", "5s", "", " 5", "1.5", "99999999999999999999999"] {
            assert_eq!(number(kind, bad), None, "{bad:?}");
        }
        assert_eq!(kind.expected(), "a whole number of kbit/s from 1 to 600");
        assert_eq!(kind.range().as_deref(), Some("1 to 600 kbit/s"));
    }

    #[test]
    fn ratios_have_three_decimals() {
        let kind = Kind::Ratio { min: 500, max: 600_000 };
        let read = |word| match kind.read(&[word]) {
            Ok(Setting::Ratio(n)) => Some(n),
            _ => None,
        };
        for (word, n) in [("0.5", 500), ("10", 10_000), ("2.002", 2002), ("600.000", 600_000)] {
            assert_eq!(read(word), Some(n), "{word}");
        }
        for bad in ["0.499", "600.001", ".5", "5.", "1.0000", "+1", "-1", "1.5s", "1.-5", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(kind.expected(), "a number from 0.5 to 600");
    }

    #[test]
    fn times_keep_to_their_range_in_any_unit() {
        let kind = Kind::Time { min: 500, max: 600_000, bare: TimeUnit::Seconds };
        let read = |word| match kind.read(&[word]) {
            Ok(Setting::Time(time)) => Some(time.as_millis()),
            _ => None,
        };
        for (word, millis) in [("0.5", 500), ("500ms", 500), ("10m", 600_000), ("2.002s", 2002), ("600", 600_000)] {
            assert_eq!(read(word), Some(millis), "{word}");
        }
        for bad in ["0.499", "499ms", "601", "11m", "600.001", "1.-5", "30S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(kind.expected(), "a time from 500ms to 10m (a number without a unit means seconds)");
    }

    #[test]
    fn sizes_keep_to_their_range() {
        let kind = Kind::Size { min: 1 << 20, max: 4 << 30 };
        assert_eq!(number(kind, "1048576"), Some(1 << 20));
        assert_eq!(number(kind, "2048k"), Some(2 << 20));
        assert_eq!(number(kind, "32M"), Some(32 << 20));
        assert_eq!(number(kind, "4g"), Some(4 << 30));
        for bad in ["5g", "1023k", "k", "m1", "1mm", "1é", "17179869184g", "99999999999999999999g"] {
            assert_eq!(number(kind, bad), None, "{bad:?}");
        }
        assert_eq!(kind.expected(), "a number of bytes from 1m to 4g");
    }

    #[test]
    fn memory_is_bytes_or_a_share() {
        let kind = Kind::Memory { max: 4 << 30 };
        let read = |word| match kind.read(&[word]) {
            Ok(Setting::Memory(memory)) => Some(memory),
            _ => None,
        };
        assert_eq!(read("0"), Some(MemoryLimit::Bytes(0)));
        assert_eq!(read("2m"), Some(MemoryLimit::Bytes(2 << 20)));
        assert_eq!((read("1%"), read("100%")), (Some(MemoryLimit::Percent(1)), Some(MemoryLimit::Percent(100))));
        for bad in ["0%", "101%", "%", "-1%", "5 %", "5%%", "1m%", "1.5%", "5g", "", "99999999999999999999%"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(kind.expected(), "a number of bytes from 0 to 4g, or a share from 1% to 100%");
    }
}
