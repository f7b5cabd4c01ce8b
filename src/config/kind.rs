//! The kinds of value a directive can have: how each is read from the words of the file, and what is said when it
//! cannot be.

use std::net::Ipv6Addr;

use super::forward::Target;
use super::listen::Listen;
use super::memory::Memory;
use super::network::{Action, Network, Rule};

/// What the words after a directive's name must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `on` or `off`.
    Switch,
    /// One whole number, both ends included. `unit` reads as in "of seconds", and is empty for a count.
    Number { min: u64, max: u64, unit: &'static str },
    /// A number with up to three decimals, both ends included; `min` and `max` count thousandths. `unit` as above.
    Decimal { min: u64, max: u64, unit: &'static str },
    /// A number of bytes, with the suffixes k, m and g for powers of 1024; both ends included.
    Bytes { min: u64, max: u64 },
    /// A number of bytes as above, or a whole number of percent of the memory that there is, from 1 to 100.
    Memory { max: u64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The path of a file.
    Path,
    /// One or more `port`, `addr:port` or `[addr]:port`, none of them twice, each with the words that are for it.
    Addresses,
    /// One or more names of hosts.
    Hosts,
    /// One or more `host[:port]` or `rtmp://…`, none of them twice.
    Targets,
    /// One or more addresses or networks of them, or `all`.
    Networks,
    /// `publish` or `play`, and whom: an address, a network or `all`. The directive may stand as often as needed.
    Rule,
}

/// A value that has been read and is within its range.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Setting {
    Switch(bool),
    Number(u64),
    /// In thousandths.
    Decimal(u64),
    Memory(Memory),
    Choice(&'static str),
    Path(String),
    Addresses(Vec<Listen>),
    Hosts(Vec<String>),
    Targets(Vec<Target>),
    Networks(Vec<Network>),
    Rule(Rule),
}

/// Why words are not of a kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mismatch {
    /// Too few or too many of them.
    Count,
    /// This one is not what was expected.
    Word(String),
    /// This one is there twice.
    Repeated(String),
}

impl Kind {
    /// Reads the words after a directive's name.
    pub(super) fn read(self, words: &[&str]) -> Result<Setting, Mismatch> {
        match (self, words) {
            (_, []) => Err(Mismatch::Count),
            (Kind::Addresses, _) => Listen::read(words).map(Setting::Addresses),
            (Kind::Hosts, _) => {
                words.iter().map(|w| host(w).ok_or_else(|| wrong(w))).collect::<Result<_, _>>().map(Setting::Hosts)
            }
            (Kind::Targets, _) => targets(words).map(Setting::Targets),
            (Kind::Networks, _) => words.iter().map(|w| network(w)).collect::<Result<_, _>>().map(Setting::Networks),
            (Kind::Rule, [action, whom]) => {
                let action = match *action {
                    "publish" => Action::Publish,
                    "play" => Action::Play,
                    _ => return Err(wrong(action)),
                };
                network(whom).map(|network| Setting::Rule(Rule { action, network }))
            }
            (Kind::Rule, _) => Err(Mismatch::Count),
            (_, [word]) => self.read_one(word).ok_or_else(|| wrong(word)),
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
            Kind::Number { min, max, .. } => digits(word).filter(|n| (min..=max).contains(n)).map(Setting::Number),
            Kind::Decimal { min, max, .. } => {
                thousandths(word).filter(|n| (min..=max).contains(n)).map(Setting::Decimal)
            }
            Kind::Bytes { min, max } => bytes(word).filter(|n| (min..=max).contains(n)).map(Setting::Number),
            Kind::Memory { max } => match word.strip_suffix('%') {
                Some(share) => digits(share).filter(|n| (1..=100).contains(n)).map(|n| Memory::Percent(n as u8)),
                None => bytes(word).filter(|n| *n <= max).map(Memory::Bytes),
            }
            .map(Setting::Memory),
            Kind::Choice(choices) => choices.iter().find(|c| **c == word).map(|c| Setting::Choice(c)),
            Kind::Path => Some(word).filter(|w| !w.is_empty()).map(|w| Setting::Path(w.to_owned())),
            Kind::Addresses | Kind::Hosts | Kind::Targets | Kind::Networks | Kind::Rule => None,
        }
    }

    /// Whether a directive that stands again is a value of its own, and not more words of the same.
    pub(super) fn counts_apart(self) -> bool {
        matches!(self, Kind::Rule)
    }

    /// How many words it takes, for "takes …".
    pub(super) fn count(self) -> &'static str {
        match self {
            Kind::Addresses | Kind::Hosts | Kind::Targets | Kind::Networks => "one value or more",
            Kind::Rule => "two values",
            _ => "one value",
        }
    }

    /// What a word must be, for "must be …".
    pub(super) fn expected(self) -> String {
        match self {
            Kind::Switch => "on or off".to_owned(),
            Kind::Number { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Kind::Number { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
            Kind::Decimal { min, max, unit } => {
                let of = if unit.is_empty() { "" } else { " of " };
                format!("a number{of}{unit} from {} to {}", decimal(min), decimal(max))
            }
            Kind::Bytes { min, max } => format!("a number of bytes from {} to {}", suffixed(min), suffixed(max)),
            Kind::Memory { max } => {
                format!("a number of bytes from 0 to {}, or a share from 1% to 100%", suffixed(max))
            }
            Kind::Choice([all @ .., last]) => format!("{} or {last}", all.join(", ")),
            Kind::Choice([]) | Kind::Path => "the path of a file".to_owned(),
            Kind::Addresses => {
                "a port from 1 to 65535, or an address and a port, with \"reuseport\" after it or not".to_owned()
            }
            Kind::Hosts => "the name of a host, without scheme, port and path".to_owned(),
            Kind::Targets => "a host, a host and a port, or rtmp://HOST[:PORT][/APP[/STREAM]][?PARAMETERS]".to_owned(),
            Kind::Networks => "an address, a network such as 10.0.0.0/8, or all".to_owned(),
            Kind::Rule => "publish or play, then an address, a network such as 10.0.0.0/8, or all".to_owned(),
        }
    }
}

fn network(word: &str) -> Result<Network, Mismatch> {
    Network::parse(word).ok_or_else(|| wrong(word))
}

fn wrong(word: &str) -> Mismatch {
    Mismatch::Word(word.to_owned())
}

/// A number in decimal digits and nothing else: `str::parse` would also take a plus sign.
pub(super) fn digits(word: &str) -> Option<u64> {
    if word.bytes().all(|b| b.is_ascii_digit()) { word.parse().ok() } else { None }
}

fn bytes(word: &str) -> Option<u64> {
    let (number, unit) = match word.as_bytes().last()? {
        b'k' | b'K' => (&word[..word.len() - 1], 1 << 10),
        b'm' | b'M' => (&word[..word.len() - 1], 1 << 20),
        b'g' | b'G' => (&word[..word.len() - 1], 1 << 30),
        _ => (word, 1),
    };
    digits(number)?.checked_mul(unit)
}

/// A number with up to three decimals, in thousandths.
fn thousandths(word: &str) -> Option<u64> {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let scale = [100, 10, 1][fraction.len() - 1];
    digits(whole)?.checked_mul(1000)?.checked_add(digits(fraction)? * scale)
}

fn decimal(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn suffixed(n: u64) -> String {
    match n {
        n if n > 0 && n % (1 << 30) == 0 => format!("{}g", n >> 30),
        n if n > 0 && n % (1 << 20) == 0 => format!("{}m", n >> 20),
        n => n.to_string(),
    }
}

fn targets(words: &[&str]) -> Result<Vec<Target>, Mismatch> {
    let mut all: Vec<Target> = Vec::with_capacity(words.len());
    for word in words {
        let target = Target::parse(word).ok_or_else(|| wrong(&Target::shown_word(word)))?;
        if all.contains(&target) {
            return Err(Mismatch::Repeated(target.shown()));
        }
        all.push(target);
    }
    Ok(all)
}

/// The name of a host in lower case, or an address. IPv6 addresses lose their brackets, since a host taken from a URL
/// has none.
pub(super) fn host(word: &str) -> Option<String> {
    let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')).unwrap_or(word);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Some(address.to_string());
    }
    let label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    word.split('.').all(label).then(|| word.to_lowercase())
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
        let kind = Kind::Number { min: 1, max: 600, unit: "seconds" };
        assert_eq!(number(kind, "1"), Some(1));
        assert_eq!(number(kind, "600"), Some(600));
        for bad in ["0", "601", "+5", "-5", "5s", "", " 5", "1.5", "99999999999999999999999"] {
            assert_eq!(number(kind, bad), None, "{bad:?}");
        }
        assert_eq!(kind.expected(), "a whole number of seconds from 1 to 600");
    }

    #[test]
    fn decimals_have_three_places() {
        let kind = Kind::Decimal { min: 500, max: 600_000, unit: "seconds" };
        let read = |word| match kind.read(&[word]) {
            Ok(Setting::Decimal(n)) => Some(n),
            _ => None,
        };
        for (word, n) in [("0.5", 500), ("10", 10_000), ("2.002", 2002), ("600.000", 600_000)] {
            assert_eq!(read(word), Some(n), "{word}");
        }
        for bad in ["0.499", "600.001", ".5", "5.", "1.0000", "+1", "-1", "1.5s", "1.-5", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(kind.expected(), "a number of seconds from 0.5 to 600");
    }

    #[test]
    fn bytes_take_suffixes() {
        let kind = Kind::Bytes { min: 1 << 20, max: 4 << 30 };
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
        assert_eq!(read("0"), Some(Memory::Bytes(0)));
        assert_eq!(read("2m"), Some(Memory::Bytes(2 << 20)));
        assert_eq!((read("1%"), read("100%")), (Some(Memory::Percent(1)), Some(Memory::Percent(100))));
        for bad in ["0%", "101%", "%", "-1%", "5 %", "5%%", "1m%", "1.5%", "5g", "", "99999999999999999999%"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(kind.expected(), "a number of bytes from 0 to 4g, or a share from 1% to 100%");
    }

    #[test]
    fn hosts_are_names_alone() {
        assert_eq!(host("GitHub.com"), Some("github.com".to_owned()));
        assert_eq!(host("[0:0::1]"), Some("::1".to_owned()));
        assert_eq!(host("10.0.0.1"), Some("10.0.0.1".to_owned()));
        for bad in ["http://github.com", "github.com:80", ".github.com", "github.com/", "a..b", "", "*", "a b"] {
            assert_eq!(host(bad), None, "{bad:?}");
        }
    }
}
