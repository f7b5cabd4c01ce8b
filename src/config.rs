//! The typed configuration: what the rest of the server sees of a configuration file.
//!
//! The way of a file: `directive` reads the nginx-style text, `schema` checks it against the table of known directives
//! (with their ranges and defaults), the `config` crate merges the sources, and the types here are read from what it
//! gives back. A `Config` is a value: it never changes; a reload makes a new one and compares.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub mod difference;
mod directive;
mod environment;
mod error;
mod forward;
mod include;
mod kind;
mod listen;
mod memory;
mod network;
mod reader;
mod refer;
mod schema;
mod vhost;

pub use error::Error;
pub use forward::{Destination, Names, Target};
pub use listen::{Listen, ListenKind};
pub use memory::Memory;
pub use network::{Action, Network, Rule, Security};
pub use refer::refer_allows;
pub use vhost::{Forward, Hls, HlsOnError, Publish, Vhost};

use difference::{Change, Settings};
use directive::{Directives, position};
use environment::Environment;
use error::Reason;
use reader::{Reader, Section};

/// The vhost that serves the hosts that no other vhost names.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// The warning of a build without `hls` at what needs it. A file that asks for it is no error: srs.conf does.
const NO_HLS: &str =
    "this server was built without HLS and its HTTP server: ignored; build it with ./configure --with-hls";

/// A whole configuration, valid in itself: each value is within its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `listen`: where to serve RTMP; at least one, none twice.
    pub listen: Vec<Listen>,
    /// `max_connections`: clients served at a time; more are refused.
    pub max_connections: usize,
    /// `max_connections_per_address`: the same for the clients of one address; 0 for no limit.
    pub max_connections_per_address: usize,
    /// `max_memory`: what may be held for all clients.
    pub max_memory: Memory,
    /// `max_busy`: the share of its time, in percent, at which the worker counts as overloaded when it stays there; 0 for never.
    pub max_busy: u8,
    /// `handshake_timeout`: the time that a client has for the handshake, that of TLS included.
    pub handshake_timeout: Duration,
    /// `command_timeout`: the time from there to `connect`, and again to `publish` or `play`.
    pub command_timeout: Duration,
    /// `send_timeout`: how long a client may take nothing of what it is sent.
    pub send_timeout: Duration,
    /// `chunk_size`: of the chunks sent, in bytes, for vhosts that do not say their own.
    pub chunk_size: usize,
    /// `proxy_protocol`: whose connections begin with a PROXY header that says whom they come from; empty for none.
    pub proxy_protocol: Vec<Network>,
    /// `daemon`: leave the terminal at the start.
    pub daemon: bool,
    /// `pid`: the file that names the running process; none for `off`.
    pub pid: Option<PathBuf>,
    /// `pithy_print`: how often each stage logs its summary line.
    pub pithy_print: PithyPrint,
    /// `rtmps`: RTMP over TLS.
    pub rtmps: Rtmps,
    /// `http_server`: serves files, those of live streams among them, over HTTP.
    pub http_server: HttpServer,
    /// `srs_log_…`: where the log goes and how much is in it.
    pub log: Log,
    /// `vhost`, by [`Vhost::name`]. Look up with [`Config::vhost`].
    pub vhosts: BTreeMap<String, Arc<Vhost>>,
    /// What the operator should know though it stops nothing, one line each, with file and line; to be logged at start.
    pub warnings: Vec<String>,
    /// The values as the file has them, for [`Config::changes_to`].
    settings: Settings,
}

/// The intervals of the summary lines, one for each stage.
#[derive(Debug, Clone, PartialEq)]
pub struct PithyPrint {
    /// Of publishers.
    pub publish: Duration,
    /// Of players.
    pub play: Duration,
    /// Of forwarders.
    pub forwarder: Duration,
}

/// RTMP over TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct Rtmps {
    /// `enabled`. Never on in a build without `ssl`.
    pub enabled: bool,
    /// `listen`: where; at least one, none twice, and none that is for something else.
    pub listen: Vec<Listen>,
    /// `cert`: a PEM file with the certificate and those that lead from it to a root; relative to the working directory.
    pub cert: PathBuf,
    /// `key`: a PEM file with its private key.
    pub key: PathBuf,
    /// `plain`: take RTMP without TLS on the same addresses.
    pub plain: bool,
}

/// The embedded HTTP server.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpServer {
    /// `enabled`.
    pub enabled: bool,
    /// `listen`: where to serve HTTP; at least one, none twice and none of [`Config::listen`].
    pub listen: Vec<Listen>,
    /// `dir`: the directory of the files; relative to the working directory.
    pub dir: PathBuf,
    /// `page`: there is a page at / that lists what is live and plays it.
    pub page: bool,
    /// `max_connections`: connections served at a time; more are turned away.
    pub max_connections: usize,
    /// `max_connections_per_address`: the same for the connections of one address; 0 for no limit.
    pub max_connections_per_address: usize,
    /// `request_timeout`: how long a request may take from its first byte to its last.
    pub request_timeout: Duration,
    /// `idle_timeout`: how long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// `send_timeout`: how long a client may take nothing of a response.
    pub send_timeout: Duration,
    /// `live_memory`: bytes of live files in memory; what has no room is served from disk.
    pub live_memory: u64,
}

/// Where the log goes and how much is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// `srs_log_tank`.
    pub tank: LogTank,
    /// `srs_log_level`: this level and what is graver.
    pub level: LogLevel,
    /// `srs_log_file`: used when the tank is [`LogTank::File`]; relative to the working directory.
    pub file: PathBuf,
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTank {
    /// To standard output.
    Console,
    /// To [`Log::file`].
    File,
}

/// The levels by the names that SRS gives them, from the most talkative: `Trace` is the normal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Verbose,
    /// More detail than usual.
    Info,
    /// The normal level: connections and summaries.
    Trace,
    /// What may need attention.
    Warn,
    /// What failed.
    Error,
}

impl Config {
    /// Reads a file, what it includes, and the variables `SRS_…` of the environment.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or anything in it is wrong. The text of the error names each problem with file and
    /// line.
    pub fn load(path: &Path) -> Result<Config, Error> {
        Config::load_with(path, std::env::vars_os())
    }

    /// The same with these variables for the environment.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_with(path: &Path, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, Error> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| {
            let hint = if e.kind() == ErrorKind::NotFound { "; name one with -c FILE" } else { "" };
            Error::one(file.clone(), Reason::Unreadable(unreadable(&e) + hint))
        })?;
        Config::parse_with(&file, include::text(&file, &bytes)?, variables)
    }

    /// Reads the text of a file, without any environment. `file_name` is for messages, and for the paths of `include`.
    ///
    /// # Errors
    ///
    /// When anything in the text is wrong, see [`Config::load`].
    pub fn parse(file_name: &str, text: &str) -> Result<Config, Error> {
        Config::parse_with(file_name, text, [])
    }

    fn parse_with(
        file_name: &str,
        text: &str,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, Error> {
        let ours = |e| reader::from_crate(file_name, e);
        let file = ::config::File::from_str(text, Directives { file: file_name.to_owned() });
        let file = ::config::Config::builder().add_source(file).build().map_err(ours)?;
        let table = file.cache.clone().into_table().map_err(ours)?;
        let vhosts = Section::root(&table).named("vhost");
        let vhosts: Vec<&str> = vhosts.into_iter().map(|(name, _)| name).collect();
        let environment = Environment::read(variables, &vhosts)?;
        let mut reader = Reader::default();
        for (variable, text) in &environment.warnings {
            reader.warn(variable.clone(), text);
        }
        let merged = ::config::Config::builder().add_source(file).add_source(environment).build();
        let table = merged.and_then(|c| c.cache.into_table()).map_err(ours)?;
        let config = Config::read(&mut reader, Section::root(&table), file_name);
        reader.finish()?;
        Ok(config)
    }

    /// The vhost that serves a host: the one of that name (in any case), else [`DEFAULT_VHOST`], else none.
    ///
    /// A vhost with `enabled off` is found too: its clients are refused, they do not go to the default one.
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        self.vhosts.get(&canonical(name)).or_else(|| self.vhosts.get(DEFAULT_VHOST))
    }

    /// What is different in another configuration: the plan of a reload that would put it in the place of this one.
    pub fn changes_to(&self, new: &Config) -> Vec<Change> {
        difference::between(&self.settings, &new.settings)
    }

    /// Every address that is listened on, for whatever protocol.
    pub fn listeners(&self) -> Vec<Listen> {
        let mut all = self.listen.clone();
        if self.rtmps.enabled {
            let kind = ListenKind::Rtmps { plain: self.rtmps.plain };
            all.extend(self.rtmps.listen.iter().map(|listen| Listen { kind, ..*listen }));
        }
        #[cfg(feature = "hls")]
        if self.http_server.enabled {
            all.extend(self.http_server.listen.iter().map(|listen| Listen { kind: ListenKind::Http, ..*listen }));
        }
        all
    }

    fn read(reader: &mut Reader, root: Section<'_>, file_name: &str) -> Config {
        let chunk_size = reader.size(root, "chunk_size");
        let listen = reader.addresses(root, "listen");
        if !root.has("listen") {
            reader.problem(position(file_name, 1), Reason::NoListen);
        }
        let rtmps = Rtmps::read(reader, root.block("rtmps"), &listen, file_name);
        let rtmp: Vec<_> = listen.iter().chain(rtmps.listen.iter().filter(|_| rtmps.enabled)).copied().collect();
        let http_server = HttpServer::read(reader, root.block("http_server"), &rtmp, file_name);
        let mut vhosts = BTreeMap::new();
        for (name, section) in root.named("vhost") {
            vhosts.insert(name.to_owned(), Arc::new(Vhost::read(reader, section, name, chunk_size)));
        }
        if vhosts.is_empty() {
            let example = "every client will be refused; e.g. \"vhost __defaultVhost__ { }\" serves them all";
            reader.warn(position(file_name, 1), &format!("there is no vhost: {example}"));
        }
        reader.warn_of_later(root);
        let daemon = reader.switch(root, "daemon");
        let log = Log::read(reader, root);
        if daemon && log.tank == LogTank::Console {
            let at = root.position("daemon").unwrap_or(file_name).to_owned();
            reader.warn(at, "a daemon has no console, so nobody sees the log; say \"srs_log_tank file;\" too");
        }
        Config {
            listen,
            max_connections: reader.size(root, "max_connections"),
            max_connections_per_address: reader.size(root, "max_connections_per_address"),
            max_memory: reader.memory(root, "max_memory"),
            max_busy: u8::try_from(reader.size(root, "max_busy")).unwrap_or(100),
            handshake_timeout: reader.seconds(root, "handshake_timeout"),
            command_timeout: reader.seconds(root, "command_timeout"),
            send_timeout: reader.seconds(root, "send_timeout"),
            chunk_size,
            proxy_protocol: reader.networks(root, "proxy_protocol"),
            daemon,
            pid: Some(reader.path(root, "pid")).filter(|path| path != Path::new("off")),
            pithy_print: PithyPrint::read(reader, root.block("pithy_print")),
            rtmps,
            http_server,
            log,
            vhosts,
            warnings: reader.take_warnings(),
            settings: Settings::of(root),
        }
    }
}

impl PithyPrint {
    fn read(reader: &mut Reader, section: Section<'_>) -> PithyPrint {
        PithyPrint {
            publish: reader.millis(section, "publish"),
            play: reader.millis(section, "play"),
            forwarder: reader.millis(section, "forwarder"),
        }
    }
}

impl Rtmps {
    fn read(reader: &mut Reader, section: Section<'_>, plain: &[Listen], file_name: &str) -> Rtmps {
        let rtmps = Rtmps {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            cert: reader.path(section, "cert"),
            key: reader.path(section, "key"),
            plain: reader.switch(section, "plain"),
        };
        if rtmps.enabled {
            let at = |name| section.position(name).unwrap_or(file_name).to_owned();
            let is_taken = |listen: &&Listen| plain.iter().any(|plain| plain.address == listen.address);
            if let Some(both) = rtmps.listen.iter().find(is_taken) {
                reader.problem(at("listen"), Reason::ListensPlain(both.address));
            }
            if !cfg!(feature = "ssl") {
                reader.problem(at("enabled"), Reason::NoSsl);
            }
        }
        rtmps
    }
}

impl HttpServer {
    fn read(reader: &mut Reader, section: Section<'_>, rtmp: &[Listen], file_name: &str) -> HttpServer {
        let http_server = HttpServer {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            dir: reader.path(section, "dir"),
            page: reader.switch(section, "page"),
            max_connections: reader.size(section, "max_connections"),
            max_connections_per_address: reader.size(section, "max_connections_per_address"),
            request_timeout: reader.seconds(section, "request_timeout"),
            idle_timeout: reader.seconds(section, "idle_timeout"),
            send_timeout: reader.seconds(section, "send_timeout"),
            live_memory: reader.number(section, "live_memory"),
        };
        if http_server.enabled {
            let at = |name| section.position(name).unwrap_or(file_name).to_owned();
            let is_taken = |listen: &&Listen| rtmp.iter().any(|rtmp| rtmp.address == listen.address);
            if let Some(both) = http_server.listen.iter().find(is_taken) {
                reader.problem(at("listen"), Reason::ListensTwice(both.address));
            } else if !cfg!(feature = "hls") {
                reader.warn(at("enabled"), NO_HLS);
            }
        }
        http_server
    }

    /// How many bytes of live files are to be in memory, for them to be served from there.
    pub fn live_limit(&self) -> u64 {
        if self.enabled { self.live_memory } else { 0 }
    }
}

impl Log {
    fn read(reader: &mut Reader, root: Section<'_>) -> Log {
        Log {
            tank: match reader.choice(root, "srs_log_tank") {
                "file" => LogTank::File,
                _ => LogTank::Console,
            },
            level: match reader.choice(root, "srs_log_level") {
                "verbose" => LogLevel::Verbose,
                "info" => LogLevel::Info,
                "warn" => LogLevel::Warn,
                "error" => LogLevel::Error,
                _ => LogLevel::Trace,
            },
            file: reader.path(root, "srs_log_file"),
        }
    }
}

/// The key of a vhost: host names are the same in any case, and IPv6 addresses in any spelling.
fn canonical(name: &str) -> String {
    if name.eq_ignore_ascii_case(DEFAULT_VHOST) {
        return DEFAULT_VHOST.to_owned();
    }
    kind::host(name).unwrap_or_else(|| name.to_lowercase())
}

/// Why a file cannot be read, and what would be right.
fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied; let the user that runs the server read it".to_owned(),
        ErrorKind::IsADirectory => "this is a directory; name a file in it".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
