//! The directives there are: one table that says where each belongs, what it takes, its range and its default, and the
//! check of a file against it.

use std::collections::HashMap;

use super::directive::{Directive, Word};
use super::error::{Problem, Reason, shown};
use super::include::INCLUDE;
use super::kind::{self, Kind, Mismatch};

/// A block in which directives stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    PithyPrint,
    HttpServer,
    Rtmps,
    Vhost,
    Publish,
    Security,
    Forward,
    Hls,
}

impl Place {
    fn phrase(self) -> &'static str {
        match self {
            Place::Root => "at the top of the file",
            Place::PithyPrint => "in pithy_print",
            Place::HttpServer => "in http_server",
            Place::Rtmps => "in rtmps",
            Place::Vhost => "in vhost",
            Place::Publish => "in publish",
            Place::Security => "in security",
            Place::Forward => "in forward",
            Place::Hls => "in hls",
        }
    }
}

/// What stands after the name of a directive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Words and `;`. Without a default, the directive may be absent and the reader says what that means.
    Setting { kind: Kind, default: Option<&'static str> },
    /// `{ … }`
    Block(Place),
    /// The name of a host and `{ … }`
    Named(Place),
    /// Either of the two forms that SRS has had: words and `;`, or `{ … }`. Without a default, as for a setting.
    Either { kind: Kind, default: Option<&'static str>, block: Place },
    /// A directive of other versions that this one does not have yet: accepted in any form, without effect, with a
    /// warning.
    Later,
}

/// A directive that is known.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// What it is, in a few words, for messages. `conf/full.conf` has the whole story.
    pub(super) doc: &'static str,
}

impl Row {
    /// Whether it may stand several times in its block: all of them count.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.shape, Shape::Later | Shape::Setting { kind: Kind::Addresses | Kind::Rule, .. })
    }

    /// A line that is right.
    pub(super) fn example(&self) -> String {
        match self.shape {
            Shape::Setting { default: Some(default), .. } => format!("{} {default};", self.name),
            Shape::Setting { kind: Kind::Hosts, .. } => format!("{} github.com github.io;", self.name),
            Shape::Setting { kind: Kind::Networks, .. } => format!("{} 127.0.0.1;", self.name),
            Shape::Setting { kind: Kind::Rule, .. } => format!("{} publish 127.0.0.1;", self.name),
            Shape::Setting { kind: Kind::Addresses, .. } => format!("{} 1935;", self.name),
            Shape::Setting { kind: Kind::Targets, .. } | Shape::Either { kind: Kind::Targets, .. } => {
                format!("{} 192.168.1.2:1935 rtmp://example.com/live;", self.name)
            }
            Shape::Either { default: Some(default), .. } => format!("{} {default};", self.name),
            Shape::Setting { .. } | Shape::Either { .. } => format!("{} 4096;", self.name),
            Shape::Named(_) => format!("{} {} {{ }}", self.name, super::DEFAULT_VHOST),
            Shape::Block(_) | Shape::Later => format!("{} {{ }}", self.name),
        }
    }

    /// What to say when `words` are not of the directive's kind.
    pub(super) fn mismatch(&self, kind: Kind, words: usize, mismatch: Mismatch) -> Reason {
        let (name, example) = (self.name, self.example());
        match mismatch {
            Mismatch::Count => Reason::Count { name, takes: kind.count(), got: words, example, doc: self.doc },
            Mismatch::Word(given) => Reason::Value { name, expected: kind.expected(), given, example },
            Mismatch::Repeated(again) => Reason::Repeated { name, again },
        }
    }
}

const fn setting(place: Place, name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Row {
    Row { place, name, shape: Shape::Setting { kind, default: Some(default) }, doc }
}

/// Without a default.
const fn optional(place: Place, name: &'static str, kind: Kind, doc: &'static str) -> Row {
    Row { place, name, shape: Shape::Setting { kind, default: None }, doc }
}

const fn block(place: Place, name: &'static str, shape: Shape, doc: &'static str) -> Row {
    Row { place, name, shape, doc }
}

const fn later(place: Place, name: &'static str) -> Row {
    Row { place, name, shape: Shape::Later, doc: "not in this version yet" }
}

const fn number(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Number { min, max, unit }
}

const CHUNK: Kind = number(128, 65536, "bytes");
const PITHY: Kind = number(100, 3_600_000, "milliseconds");
const HOUR: Kind = number(1, 3600, "seconds");
const HOUR_OR_NONE: Kind = number(0, 3600, "seconds");
const BACKLOG: Kind = Kind::Bytes { min: 1 << 20, max: 4 << 30 };
const MEMORY: Kind = Kind::Memory { max: 1 << 40 };
const HLS: Shape = Shape::Either { kind: Kind::Switch, default: Some("off"), block: Place::Hls };
const FORWARD: Shape = Shape::Either { kind: Kind::Targets, default: None, block: Place::Forward };
const FRAGMENT: Kind = Kind::Decimal { min: 500, max: 600_000, unit: "seconds" };
const WINDOW: Kind = Kind::Decimal { min: 1000, max: 86_400_000, unit: "seconds" };
const RATIO: Kind = Kind::Decimal { min: 1000, max: 10_000, unit: "" };
const DISPOSE: Kind = number(0, 604_800, "seconds");
const ON_ERROR: Kind = Kind::Choice(&["ignore", "disconnect"]);
const TANKS: Kind = Kind::Choice(&["console", "file"]);
const LEVELS: Kind = Kind::Choice(&["verbose", "info", "trace", "warn", "error"]);

/// Every directive that is known, with its range and its default: the only place where they are written.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    optional(Place::Root, "listen", Kind::Addresses, "where to serve RTMP"),
    setting(Place::Root, "max_connections", number(1, 1_000_000, ""), "1000", "clients at a time"),
    setting(Place::Root, "max_connections_per_address", number(0, 1_000_000, ""), "0", "clients of one address at a time"),
    setting(Place::Root, "max_memory", MEMORY, "30%", "bytes held for clients"),
    setting(Place::Root, "max_busy", number(0, 100, "percent"), "98", "share of its time that the worker may be busy"),
    setting(Place::Root, "handshake_timeout", HOUR, "10", "time for the handshake"),
    setting(Place::Root, "command_timeout", HOUR, "30", "time from there to connect, and to publish or play"),
    setting(Place::Root, "send_timeout", HOUR, "30", "time in which a client takes nothing of what it is sent"),
    setting(Place::Root, "chunk_size", CHUNK, "4096", "size of the chunks sent"),
    setting(Place::Root, "daemon", Kind::Switch, "off", "leave the terminal"),
    setting(Place::Root, "pid", Kind::Path, "off", "file with the number of the process"),
    setting(Place::Root, "srs_log_tank", TANKS, "console", "where the log goes"),
    setting(Place::Root, "srs_log_level", LEVELS, "trace", "least level logged"),
    setting(Place::Root, "srs_log_file", Kind::Path, "./objs/srs.log", "file of the log"),
    optional(Place::Root, "proxy_protocol", Kind::Networks, "balancers that say whom a connection comes from"),
    block(Place::Root, "pithy_print", Shape::Block(Place::PithyPrint), "intervals of the summary lines"),
    block(Place::Root, "rtmps", Shape::Block(Place::Rtmps), "RTMP over TLS"),
    block(Place::Root, "http_server", Shape::Block(Place::HttpServer), "files over HTTP"),
    block(Place::Root, "vhost", Shape::Named(Place::Vhost), "a virtual host"),

    setting(Place::PithyPrint, "publish", PITHY, "1100", "interval for publishers"),
    setting(Place::PithyPrint, "play", PITHY, "1300", "interval for players"),
    setting(Place::PithyPrint, "forwarder", PITHY, "2000", "interval for forwarders"),

    setting(Place::Rtmps, "enabled", Kind::Switch, "off", "whether it serves"),
    setting(Place::Rtmps, "listen", Kind::Addresses, "1936", "where to serve RTMP over TLS"),
    setting(Place::Rtmps, "cert", Kind::Path, "./conf/server.crt", "file of the certificate"),
    setting(Place::Rtmps, "key", Kind::Path, "./conf/server.key", "file of its private key"),
    setting(Place::Rtmps, "plain", Kind::Switch, "off", "whether clients without TLS are served on the same port"),

    setting(Place::HttpServer, "enabled", Kind::Switch, "off", "whether it serves"),
    setting(Place::HttpServer, "listen", Kind::Addresses, "8080", "where to serve HTTP"),
    setting(Place::HttpServer, "dir", Kind::Path, "./objs/nginx/html", "directory of the files"),
    setting(Place::HttpServer, "page", Kind::Switch, "on", "whether / lists what is live"),
    setting(Place::HttpServer, "max_connections", number(1, 1_000_000, ""), "4000", "connections at a time"),
    setting(Place::HttpServer, "max_connections_per_address", number(0, 1_000_000, ""), "0", "connections of one address at a time"),
    setting(Place::HttpServer, "request_timeout", HOUR, "10", "time for a request to come"),
    setting(Place::HttpServer, "idle_timeout", HOUR, "60", "time between two requests"),
    setting(Place::HttpServer, "send_timeout", HOUR, "30", "time in which a client takes nothing of a response"),
    setting(Place::HttpServer, "live_memory", BACKLOG, "536870912", "bytes of live files in memory"),

    setting(Place::Vhost, "enabled", Kind::Switch, "on", "whether the vhost serves"),
    optional(Place::Vhost, "chunk_size", CHUNK, "size of the chunks sent"),
    setting(Place::Vhost, "gop_cache", Kind::Switch, "on", "start players at the last keyframe"),
    setting(Place::Vhost, "queue_length", number(1, 600, "seconds"), "30", "time a player may fall behind"),
    setting(Place::Vhost, "queue_bytes", BACKLOG, "33554432", "bytes a player may fall behind"),
    setting(Place::Vhost, "mw_latency", number(0, 10_000, "milliseconds"), "350", "longest wait for a merged write"),
    setting(Place::Vhost, "mw_adaptive", Kind::Switch, "on", "wait only when the server is busy"),
    setting(Place::Vhost, "min_latency", Kind::Switch, "off", "never wait for a merged write"),
    setting(Place::Vhost, "tcp_nodelay", Kind::Switch, "off", "send small segments at once"),
    block(Place::Vhost, "security", Shape::Block(Place::Security), "which addresses may publish and play"),
    block(Place::Vhost, "publish", Shape::Block(Place::Publish), "limits for publishers"),
    block(Place::Vhost, "forward", FORWARD, "servers that get each published stream too"),
    setting(Place::Vhost, "forward_tls_verify", Kind::Switch, "on", "whether the certificates of rtmps targets count"),
    block(Place::Vhost, "hls", HLS, "HTTP Live Streaming"),
    setting(Place::Vhost, "hls_path", Kind::Path, "./objs/nginx/html", "root of the HLS files"),
    setting(Place::Vhost, "hls_fragment", FRAGMENT, "10", "least length of a segment"),
    setting(Place::Vhost, "hls_window", WINDOW, "60", "time that a playlist spans"),
    setting(Place::Vhost, "hls_td_ratio", RATIO, "1.5", "target duration in fragments"),
    setting(Place::Vhost, "hls_cleanup", Kind::Switch, "on", "remove segments that left the playlist"),
    setting(Place::Vhost, "hls_dispose", DISPOSE, "120", "when a stream that ended is removed"),
    setting(Place::Vhost, "hls_on_error", ON_ERROR, "ignore", "what a failing disk means for the publisher"),
    optional(Place::Vhost, "refer", Kind::Hosts, "hosts whose pages may publish and play"),
    optional(Place::Vhost, "refer_publish", Kind::Hosts, "hosts whose pages may publish"),
    optional(Place::Vhost, "refer_play", Kind::Hosts, "hosts whose pages may play"),

    setting(Place::Publish, "stall_timeout", HOUR, "5", "silence after which the stream may be taken over"),
    setting(Place::Publish, "reconnect_grace", HOUR_OR_NONE, "10", "how long players are not told of a lost publisher"),
    setting(Place::Publish, "max_bitrate", number(0, 100_000_000, "kbit/s"), "0", "bit rate above which a publisher is closed"),
    setting(Place::Publish, "timeout", HOUR, "30", "silence after which a publisher is closed"),

    setting(Place::Forward, "enabled", Kind::Switch, "on", "whether streams are forwarded"),
    optional(Place::Forward, "destination", Kind::Targets, "servers that get each published stream too"),
    setting(Place::Hls, "enabled", Kind::Switch, "off", "whether the vhost's streams are there as HLS"),
    setting(Place::Hls, "hls_path", Kind::Path, "./objs/nginx/html", "root of the HLS files"),
    setting(Place::Hls, "hls_fragment", FRAGMENT, "10", "least length of a segment"),
    setting(Place::Hls, "hls_window", WINDOW, "60", "time that a playlist spans"),
    setting(Place::Hls, "hls_td_ratio", RATIO, "1.5", "target duration in fragments"),
    setting(Place::Hls, "hls_cleanup", Kind::Switch, "on", "remove segments that left the playlist"),
    setting(Place::Hls, "hls_dispose", DISPOSE, "120", "when a stream that ended is removed"),
    setting(Place::Hls, "hls_on_error", ON_ERROR, "ignore", "what a failing disk means for the publisher"),

    setting(Place::Security, "enabled", Kind::Switch, "off", "whether addresses are looked at"),
    optional(Place::Security, "allow", Kind::Rule, "who may publish or play"),
    optional(Place::Security, "deny", Kind::Rule, "who may not"),

    // Strike a line out when its feature arrives.
    later(Place::Root, "heartbeat"),
    later(Place::Root, "http_api"),
    later(Place::Vhost, "bandcheck"),
    later(Place::Vhost, "dvr"),
    later(Place::Vhost, "http_hooks"),
    later(Place::Vhost, "ingest"),
    later(Place::Vhost, "transcode"),
];

/// Names that other versions give to directives of the root, and the names here.
pub(super) const ALIASES: &[(&str, &str)] = &[("http_stream", "http_server")];

/// The row of a directive in a block.
pub(super) fn find(place: Place, name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.place == place && row.name == name)
}

/// Everything that is wrong with a file, in its order.
pub(super) fn check(tree: &[Directive]) -> Vec<Problem> {
    let mut check = Check { problems: Vec::new() };
    check.block(Place::Root, tree);
    check.problems
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn report(&mut self, at: &Word, reason: Reason) {
        self.problems.push(Problem { at: at.position(), reason });
    }

    fn block(&mut self, place: Place, block: &[Directive]) {
        let mut seen = HashMap::new();
        for directive in block {
            let line = &directive.name;
            let Some(row) = find(place, &directive.name.text) else {
                self.report(line, unknown(place, &directive.name.text));
                continue;
            };
            if let Some(after) = swallowed(place, directive) {
                self.report(after, Reason::MissingSemicolon(after.text.clone()));
                continue;
            }
            if !row.may_repeat() {
                let what = identity(row, directive);
                if let Some(&first) = seen.get(&what) {
                    let first = place_of(first, line);
                    self.report(line, Reason::Duplicate { what, first });
                } else {
                    seen.insert(what, line);
                }
            }
            self.directive(row, directive);
        }
    }

    fn directive(&mut self, row: &'static Row, directive: &Directive) {
        let line = &directive.name;
        let words: Vec<&str> = directive.args.iter().map(|word| word.text.as_str()).collect();
        let (name, doc) = (row.name, row.doc);
        match (row.shape, &directive.block) {
            (Shape::Later, _) => {}
            (Shape::Setting { .. }, Some(_)) => {
                self.report(line, Reason::UnwantedBlock { name, example: row.example() })
            }
            (Shape::Setting { kind, .. } | Shape::Either { kind, .. }, None) => {
                if let Err(mismatch) = kind.read(&words) {
                    self.report(line, row.mismatch(kind, words.len(), mismatch));
                }
            }
            (Shape::Block(_) | Shape::Named(_), None) => {
                self.report(line, Reason::NoBlock { name, example: row.example() })
            }
            (Shape::Block(inner) | Shape::Either { block: inner, .. }, Some(block)) => {
                if !words.is_empty() {
                    self.report(line, Reason::UnwantedValue { name, example: row.example() });
                }
                self.block(inner, block);
            }
            (Shape::Named(inner), Some(block)) => {
                match words.as_slice() {
                    [host] if *host == super::DEFAULT_VHOST || kind::host(host).is_some() => {}
                    [host] => self.report(line, row.mismatch(Kind::Hosts, 1, Mismatch::Word((*host).to_owned()))),
                    _ => {
                        let takes = "one name";
                        self.report(line, Reason::Count { name, takes, got: words.len(), example: row.example(), doc });
                    }
                }
                self.block(inner, block);
            }
        }
    }
}

/// Where `first` stands, for whoever reads of `second`.
fn place_of(first: &Word, second: &Word) -> String {
    if first.file == second.file {
        format!("line {}", first.line)
    } else {
        format!("line {} of {}", first.line, first.file)
    }
}

/// What may stand only once in a block: a directive, or a vhost of a name.
fn identity(row: &Row, directive: &Directive) -> String {
    match (row.shape, directive.args.first()) {
        (Shape::Named(_), Some(host)) => format!("{} {}", row.name, shown(&super::canonical(&host.text))),
        _ => shown(row.name),
    }
}

/// Finds the `;` that was forgotten at the end of a line: the next line begins with the name of a directive, which the
/// grammar alone cannot tell from one more word. Gives the word after which it is missing.
fn swallowed(place: Place, directive: &Directive) -> Option<&Word> {
    let before = std::iter::once(&directive.name).chain(&directive.args);
    let mut pairs = before.zip(&directive.args);
    let is_directive = |name: &str| name == INCLUDE || find(place, name).is_some();
    let begins_line =
        |(before, word): &(&Word, &Word)| word.line > before.line && !word.quoted && is_directive(&word.text);
    pairs.find(begins_line).map(|(before, _)| before)
}

/// Says where a directive belongs if it is known elsewhere, else which known one is meant.
fn unknown(place: Place, name: &str) -> Reason {
    let elsewhere: Vec<_> = TABLE.iter().filter(|row| row.name == name).map(|row| row.place.phrase()).collect();
    if !elsewhere.is_empty() {
        return Reason::Misplaced { name: name.to_owned(), right: elsewhere.join(" or "), wrong: place.phrase() };
    }
    let here = nearest(name, |row| row.place == place).map(|row| format!("did you mean \"{}\"?", row.name));
    let hint = here
        .or_else(|| nearest(name, |_| true).map(|row| format!("did you mean \"{}\" {}?", row.name, row.place.phrase())))
        .unwrap_or_else(|| "conf/full.conf shows all there are".to_owned());
    Reason::Unknown { name: name.to_owned(), place: place.phrase(), hint }
}

/// The known name that takes the fewest changes to reach, if it is near: a change for every three letters.
fn nearest(name: &str, among: impl Fn(&Row) -> bool) -> Option<&'static Row> {
    let limit = |row: &Row| (row.name.len() / 3).max(1);
    // Lengths first, so that a hostile name of a megabyte costs nothing.
    let alike = TABLE.iter().filter(|row| among(row) && row.name.len().abs_diff(name.len()) <= limit(row));
    let rated = alike.map(|row| (distance(&name.to_ascii_lowercase(), row.name), row));
    rated.filter(|(d, row)| *d <= limit(row)).min_by_key(|(d, _)| *d).map(|(_, row)| row)
}

/// How many insertions, removals, replacements and swaps of neighbours lead from `a` to `b` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_changes() {
        for (a, b, d) in [
            ("", "abc", 3),
            ("gop_cach", "gop_cache", 1),
            ("lisetn", "listen", 1),
            ("abc", "abc", 0),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn every_default_and_every_example_is_right() {
        for row in TABLE {
            if let Shape::Setting { kind, default } | Shape::Either { kind, default, .. } = row.shape {
                let example = row.example();
                let words: Vec<_> = example.trim_end_matches(';').split(' ').skip(1).collect();
                assert!(kind.read(&words).is_ok(), "{example}");
                assert!(default.is_none_or(|d| kind.read(&[d]).is_ok()), "{}", row.name);
            }
            assert!(!row.doc.is_empty());
        }
    }

    #[test]
    fn names_are_plain_and_stand_once_in_a_block() {
        for (i, row) in TABLE.iter().enumerate() {
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            assert!(TABLE[..i].iter().all(|other| (other.place, other.name) != (row.place, row.name)), "{}", row.name);
        }
    }
}
