//! What is different between two configurations, and whom each change touches: the plan of a reload.
//!
//! It is computed over the table of directives, from the values as they count (defaults included, `32m` equal to `33554432`), so
//! a directive cannot be forgotten: each row of the table needs a line in [`rule`], which says when a change of it takes effect
//! and for whom, and a test holds that. Whoever adds a directive
//!
//! 1. adds its row to `schema::TABLE` and its line to [`rule`] below;
//! 2. reads it where it counts from `Server::config()`, or from the source's vhost, at the time when it counts: then a reload needs
//!    no more than to swap the configuration. What holds a setting for long is told in `app::reload`, where all such are;
//! 3. says in `conf/full.conf` when a change takes effect, if that is not at once.

use std::collections::BTreeMap;
use std::fmt;

use super::forward::Target;
use super::kind::Setting;
use super::listen::Listen;
use super::reader::Section;
use super::schema::{Place, Row, Shape, TABLE};

/// When a change takes effect, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At once, for these.
    Now(&'static str),
    /// For what begins after the reload; what runs goes on as it began.
    Next(&'static str),
    /// Not by a reload: only when the server is started again, for this reason.
    Restart(&'static str),
}

use Reload::{Next, Now, Restart};

/// The rule of each directive. A block has the rule of being added or removed as a whole.
fn rule(place: Place, name: &str) -> Option<Reload> {
    const STREAMS: Reload = Now("running streams of the vhost");
    const REQUESTS: Reload = Next("those who connect, publish or play from now on");
    Some(match (place, name) {
        (Place::Root, "listen") => Now("those who connect from now on; clients of a removed address stay"),
        (Place::Root, "max_connections") => Next("those who connect from now on; nobody is closed"),
        (Place::Root, "max_connections_per_address" | "handshake_timeout" | "command_timeout" | "send_timeout") => {
            Next("those who connect from now on; nobody is closed")
        }
        (Place::Root, "max_memory" | "max_busy") => Now("all clients"),
        (Place::Rtmps, "enabled" | "listen" | "cert" | "key" | "plain") => {
            Now("those who connect over TLS from now on")
        }
        (Place::Root, "chunk_size") => Now("running streams of the vhosts without their own chunk_size"),
        (Place::Root, "srs_log_tank" | "srs_log_level" | "srs_log_file") => Now("the log"),
        (Place::Root, "daemon") => Restart("a process cannot leave its terminal while it has threads"),
        (Place::Root, "pid") => Restart("the file is what other programs know the running server by"),
        (Place::Root, "vhost") => Now("its clients are told and closed when it is removed; nobody when it is added"),
        (Place::PithyPrint, "publish" | "play" | "forwarder") => Now("the log"),
        (Place::HttpServer, "enabled" | "listen") => Now("those who connect over HTTP from now on"),
        (Place::HttpServer, "dir" | "page") => Now("HTTP requests from now on"),
        (Place::HttpServer, "live_memory") => Now("the segments that end from now on"),
        (
            Place::HttpServer,
            "max_connections" | "max_connections_per_address" | "request_timeout" | "idle_timeout" | "send_timeout",
        ) => Next("those who connect over HTTP from now on"),
        (Place::Vhost, "enabled") => Now("all clients of the vhost are told and closed when it is off"),
        (
            Place::Vhost,
            "chunk_size" | "gop_cache" | "queue_length" | "queue_bytes" | "mw_latency" | "mw_adaptive" | "min_latency",
        ) => STREAMS,
        (Place::Vhost, "tcp_nodelay") => Next("those who connect from now on"),
        (Place::Root, "proxy_protocol") => Next("those who connect from now on"),
        (Place::Security, _) => REQUESTS,
        (Place::Vhost, "refer" | "refer_publish" | "refer_play") => REQUESTS,
        (Place::Vhost, "forward" | "forward_tls_verify") | (Place::Forward, _) => Now("running streams of the vhost"),
        (Place::Hls, _)
        | (
            Place::Vhost,
            "hls" | "hls_path" | "hls_fragment" | "hls_window" | "hls_td_ratio" | "hls_cleanup" | "hls_dispose"
            | "hls_on_error",
        ) => STREAMS,
        (Place::Publish, "stall_timeout" | "max_bitrate" | "reconnect_grace" | "timeout") => {
            Now("running publishers of the vhost")
        }
        _ => return None,
    })
}

/// What [`rule`] cannot know, since it depends on the values: an address that stays keeps its socket, and that stays as it was opened.
fn exception(old: &Setting, new: &Setting) -> Option<Reload> {
    let (Setting::Addresses(old), Setting::Addresses(new)) = (old, new) else { return None };
    let stays = |listen: &&Listen| new.iter().any(|other| other.address == listen.address);
    if old.iter().filter(stays).all(|listen| new.contains(listen)) {
        return None;
    }
    Some(if old.len() == new.len() && old.iter().all(|listen| stays(&listen)) {
        Restart("a socket that is open cannot be given \"reuseport\", nor lose it")
    } else {
        Now("those who connect from now on; \"reuseport\" of an address that stays counts from the next start")
    })
}

/// The values that count, by where they stand: `gop_cache in vhost a.b`. Directives without a value stand as absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Settings(BTreeMap<String, Entry>);

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    setting: Option<Setting>,
    text: String,
    reload: Option<Reload>,
    /// A block with a name, which may be added and removed.
    is_named: bool,
}

impl Settings {
    /// Takes the values of a whole configuration.
    pub(super) fn of(root: Section<'_>) -> Settings {
        let mut settings = Settings::default();
        settings.collect(root, "");
        settings
    }

    fn collect(&mut self, section: Section<'_>, within: &str) {
        for row in TABLE.iter().filter(|row| row.place == section.place()) {
            match row.shape {
                Shape::Block(_) => self.collect(section.block(row.name), &format!(" in {}{within}", row.name)),
                Shape::Either { .. } if section.is_block(row.name) => {
                    self.collect(section.block(row.name), &format!(" in {}{within}", row.name));
                }
                Shape::Named(_) => {
                    for (name, inner) in section.named(row.name) {
                        let what = format!("{} {name}", row.name);
                        self.insert(row, format!("{what}{within}"), None, String::new(), true);
                        self.collect(inner, &format!(" in {what}{within}"));
                    }
                }
                Shape::Setting { .. } | Shape::Either { .. } => {
                    let (setting, text) = section.effective(row);
                    // A plan goes to the log, and keys of platforms stand in targets.
                    let text = match &setting {
                        Some(Setting::Targets(targets)) => {
                            targets.iter().map(Target::shown).collect::<Vec<_>>().join(" ")
                        }
                        _ => text,
                    };
                    self.insert(row, format!("{}{within}", row.name), setting, text, false);
                }
                Shape::Later => {}
            }
        }
    }

    fn insert(&mut self, row: &Row, at: String, setting: Option<Setting>, text: String, is_named: bool) {
        let entry = Entry { setting, text, reload: rule(row.place, row.name), is_named };
        self.0.insert(at, entry);
    }
}

/// A directive that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The directive and where it stands, e.g. `gop_cache in vhost a.b`.
    pub at: String,
    /// The values before and after, as written but for the keys in targets of `forward`; empty for a block.
    pub values: Option<(String, String)>,
    /// What happens to it.
    pub kind: ChangeKind,
    /// When it takes effect, and for whom.
    pub reload: Reload,
}

/// What happens to a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has another value.
    Set,
    /// A block is there now.
    Added,
    /// A block is no longer there.
    Removed,
}

/// The line of a plan.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        match (self.kind, &self.values) {
            (ChangeKind::Added, _) => write!(f, ": added")?,
            (ChangeKind::Removed, _) => write!(f, ": removed")?,
            (ChangeKind::Set, Some((old, new))) if old == new => write!(f, ": {new}, in what is not shown")?,
            (ChangeKind::Set, Some((old, new))) => write!(f, ": {old} -> {new}")?,
            (ChangeKind::Set, None) => {}
        }
        match self.reload {
            Now(whom) => write!(f, "; at once: {whom}"),
            Next(whom) => write!(f, "; {whom}"),
            Restart(why) => write!(f, "; takes effect when the server is started again: {why}"),
        }
    }
}

/// The changes that lead from `old` to `new`, in the order of their names.
pub(super) fn between(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut blocks: Vec<String> = Vec::new();
    let names: std::collections::BTreeSet<_> = old.0.keys().chain(new.0.keys()).collect();
    let mut add = |at: &String, kind, values, entry: &Entry| {
        let settings =
            old.0.get(at).zip(new.0.get(at)).and_then(|(old, new)| old.setting.as_ref().zip(new.setting.as_ref()));
        let exception = settings.and_then(|(old, new)| exception(old, new));
        // A directive without a rule does not get past the tests; it would be taken at the next start.
        let reload = exception.or(entry.reload).unwrap_or(Restart("it has no rule"));
        changes.push(Change { at: at.clone(), values, kind, reload });
    };
    // Blocks first: what is in one that comes or goes is not worth a line.
    for at in &names {
        match (old.0.get(*at), new.0.get(*at)) {
            (Some(entry), None) if entry.is_named => {
                add(at, ChangeKind::Removed, None, entry);
                blocks.push(format!(" in {at}"));
            }
            (None, Some(entry)) if entry.is_named => {
                add(at, ChangeKind::Added, None, entry);
                blocks.push(format!(" in {at}"));
            }
            _ => {}
        }
    }
    for at in names {
        if blocks.iter().any(|block| at.ends_with(block.as_str())) {
            continue;
        }
        let text = |entry: Option<&Entry>| match entry {
            Some(Entry { text, .. }) if !text.is_empty() => text.clone(),
            _ => "(absent)".to_owned(),
        };
        let (before, after) = (old.0.get(at), new.0.get(at));
        // What is of several lines is compared as it is written.
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
mod tests {
    use super::*;
    use crate::config::Config;

    fn plan(old: &str, new: &str) -> Vec<String> {
        let [old, new] = [old, new].map(|text| Config::parse("a.conf", text).unwrap_or_else(|error| panic!("{error}")));
        old.changes_to(&new).iter().map(Change::to_string).collect()
    }

    #[test]
    fn every_directive_has_a_rule_for_reload() {
        for row in TABLE.iter().filter(|row| !matches!(row.shape, Shape::Later | Shape::Block(_))) {
            assert!(
                rule(row.place, row.name).is_some(),
                "\"{}\" {:?} has no line in rule() of config/difference.rs: say whom a change of it touches",
                row.name,
                row.place
            );
        }
    }

    #[test]
    fn the_same_in_other_words_is_no_difference() {
        let old = "listen 1935; vhost a.b { queue_bytes 32m; publish { timeout 30; } }";
        let new = "# other\nlisten 0.0.0.0:1935;\nmax_connections 1000;\nvhost A.B { gop_cache on; }";
        assert_eq!(plan(old, new), Vec::<String>::new());
    }

    #[test]
    fn a_line_says_what_changes_and_for_whom() {
        assert_eq!(
            plan(
                "listen 1935; vhost a.b { gop_cache on; refer x.y; publish { timeout 5; } } vhost gone { gop_cache off; }",
                "listen 1935 1936; vhost a.b { gop_cache off; } vhost here { gop_cache off; }"
            ),
            [
                "vhost gone: removed; at once: its clients are told and closed when it is removed; nobody when it is added",
                "vhost here: added; at once: its clients are told and closed when it is removed; nobody when it is added",
                "gop_cache in vhost a.b: on -> off; at once: running streams of the vhost",
                "listen: 1935 -> 1935 1936; at once: those who connect from now on; clients of a removed address stay",
                "refer in vhost a.b: x.y -> (absent); those who connect, publish or play from now on",
                "timeout in publish in vhost a.b: 5 -> 30; at once: running publishers of the vhost",
            ]
        );
        let allow = |whom: &str| format!("listen 1; vhost a {{ security {{ allow publish {whom}; deny play all; }} }}");
        assert_eq!(
            plan(&allow("10.0.0.1"), &allow("10.0.0.2")),
            [
                "allow in security in vhost a: publish 10.0.0.1 -> publish 10.0.0.2; those who connect, publish or play from \
                 now on"
            ]
        );
    }

    #[test]
    fn reuseport_of_an_address_that_stays_waits_for_a_start() {
        let now = "at once: those who connect from now on; ";
        assert_eq!(
            plan("listen 1935 1936;", "listen 1936 1935 reuseport;"),
            [
                "listen: 1935 1936 -> 1936 1935 reuseport; takes effect when the server is started again: a socket that is open \
                 cannot be given \"reuseport\", nor lose it"
            ]
        );
        assert_eq!(
            plan("listen 1935 reuseport;", "listen 1935 1936;"),
            [format!(
                "listen: 1935 reuseport -> 1935 1936; {now}\"reuseport\" of an address that stays counts from the next start"
            )]
        );
        assert_eq!(
            plan("listen 1935;", "listen 1936 reuseport;"),
            [format!("listen: 1935 -> 1936 reuseport; {now}clients of a removed address stay")]
        );
    }

    #[test]
    fn keys_of_targets_are_not_shown() {
        let config = |targets: &str| format!("listen 1; vhost a {{ forward {targets}; }}");
        let block = |targets: &str| format!("listen 1; vhost a {{ forward {{ destination {targets}; }} }}");
        let whom = "at once: running streams of the vhost";
        assert_eq!(
            plan(&config("slave:1936"), &config("slave:1936 rtmp://h/live2/secret?k=secret rtmp://h/a/[stream]")),
            [format!("forward in vhost a: slave:1936 -> slave:1936 rtmp://h/live2/…?… rtmp://h/a/[stream]; {whom}")]
        );
        assert_eq!(
            plan(&block("rtmps://h:1/a/b/secret"), &block("rtmps://h:1/a/b/other")),
            [format!("destination in forward in vhost a: rtmps://h:1/a/b/…, in what is not shown; {whom}")]
        );
        assert_eq!(
            plan(&config("rtmp://h/a/secret"), &config("rtmp://h/a?[param]")),
            [format!("forward in vhost a: rtmp://h/a/… -> rtmp://h/a?…; {whom}")]
        );
    }
}
