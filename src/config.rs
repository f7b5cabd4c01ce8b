//! The configuration: from a file in nginx style to typed values.
//!
//! ```text
//! file ──> directive (grammar) ──> include ──> check (against `table`) ──> format ──┐
//! SRS_* variables ──> environment ──────────────────────────────────────────────────┴─> merge (config crate) ──> reader
//! reader ──> Config; two Configs ──> plan (changes, and when each takes effect)
//! table ──> reference (conf/full.conf)
//! ```
//!
//! A [`Config`] is an immutable value; a reload creates a new one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod api_token;
mod bandcheck;
mod cell;
mod check;
mod directive;
mod dvr;
mod environment;
mod error;
mod exporter;
mod format;
mod forward;
mod hook_url;
mod hooks;
mod http_api;
mod http_remux;
mod http_server;
mod include;
mod kind;
mod listen;
mod log;
mod memory;
mod mount;
mod names;
mod network;
pub mod plan;
mod reader;
mod refer;
mod reference;
mod reload;
mod rtmps;
mod schema;
mod security;
mod srs;
mod stream_keys;
mod suggest;
mod table;
mod transcode;
mod units;
mod vhost;

pub use api_token::{ApiRole, ApiToken, Secret};
pub use bandcheck::Bandcheck;
pub use cell::{ConfigCell, ConfigSetter};
pub use dvr::{Dvr, DvrFormat, DvrPlan, TimeJitter};
pub use error::Error;
pub use exporter::Exporter;
pub use forward::{Destination, StreamNames, Target};
pub use hook_url::HookUrl;
pub use hooks::{HookFormat, HttpHooks};
pub use http_api::{ApiAuth, ApiHttps, HttpApi};
pub use http_remux::HttpRemux;
pub use http_server::HttpServer;
pub use listen::{Listen, ListenKind};
pub use log::{Log, LogLevel, LogTank, PithyPrint};
pub use memory::MemoryLimit;
pub use mount::{Mount, MountFormat};
pub use names::DEFAULT_VHOST;
pub use network::{Action, Network, Rule};
pub use plan::EffectiveValue;
pub use refer::refer_allows;
pub use reference::reference;
pub use rtmps::Rtmps;
pub use security::Security;
pub use stream_keys::{StreamKey, StreamKeys};
pub use transcode::{Engine, Exec, FreeOption, Ladder, Supervision, Transcode};
pub use vhost::{Forward, Hls, HlsOnError, Publish, Vhost};

use environment::Environment;
use error::{Reason, position};
use format::Directives;
use include::read_error;
use names::canonical;
use plan::{Change, Settings};
use reader::{Reader, Section};

/// A valid configuration: each value is within its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `listen`: addresses of RTMP; at least one, without duplicates.
    pub listen: Vec<Listen>,
    /// `max_connections`: clients served at a time.
    pub max_connections: usize,
    /// `max_connections_per_address`: the same per client address; 0 means no limit.
    pub max_connections_per_address: usize,
    /// `max_memory`: memory that may be held for all clients.
    pub max_memory: MemoryLimit,
    /// `max_busy`: CPU share of RTMP work, in percent, above which the server is overloaded; 0 means never.
    pub max_busy: u8,
    /// `handshake_timeout`: time for the handshake, including that of TLS.
    pub handshake_timeout: Duration,
    /// `command_timeout`: time from there to `connect`, and again to `publish` or `play`.
    pub command_timeout: Duration,
    /// `send_timeout`: time without progress of sending after which a client is disconnected.
    pub send_timeout: Duration,
    /// `default_app`: application of clients that name none.
    pub default_app: String,
    /// `chunk_size`: size of the chunks sent, in bytes, for vhosts without their own.
    pub chunk_size: usize,
    /// `proxy_protocol`: load balancers whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<Network>,
    /// `daemon`: detach from the terminal at the start.
    pub daemon: bool,
    /// `pid`: file with the process id; none for `off`.
    pub pid: Option<PathBuf>,
    /// `ff_log_dir`: directory of the log files of ffmpeg and of commands; `/dev/null` for none.
    pub ff_log_dir: PathBuf,
    /// `ff_log_level`: level of ffmpeg's own log.
    pub ff_log_level: &'static str,
    /// `max_processes`: engines and commands that run at a time.
    pub max_processes: usize,
    /// `pithy_print`: intervals of the summary lines.
    pub pithy_print: PithyPrint,
    /// `rtmps`: RTMP over TLS.
    pub rtmps: Rtmps,
    /// `http_server`: the HTTP server.
    pub http_server: HttpServer,
    /// `http_api`: the HTTP API.
    pub http_api: HttpApi,
    /// `exporter`: metrics on an address of their own.
    pub exporter: Exporter,
    /// `srs_log_…`: destination and level of the log.
    pub log: Log,
    /// `vhost`, by [`Vhost::name`]. Look up with [`Config::vhost`].
    pub vhosts: BTreeMap<String, Arc<Vhost>>,
    /// Warnings for the log, one line each, with file and line.
    pub warnings: Vec<String>,
    /// The effective values, for [`Config::changes_to`].
    settings: Settings,
}

impl Config {
    /// Loads a file, the files it includes, and the environment variables `SRS_…`. Fails when a file cannot be read or is
    /// invalid; the error has one line per problem, with file and line.
    pub fn load(path: &Path) -> Result<Config, Error> {
        Config::load_with(path, std::env::vars_os())
    }

    /// Loads a file with these environment variables. Errors: as [`Config::load`].
    pub fn load_with(path: &Path, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, Error> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| {
            let hint = if e.kind() == ErrorKind::NotFound { "; name one with -c FILE" } else { "" };
            Error::of_problem(file.clone(), Reason::Unreadable(read_error(&e) + hint))
        })?;
        Config::parse_with(&file, include::text(&file, &bytes)?, variables)
    }

    /// Parses the text of a file, without any environment. `file_name` is for messages, and for the paths of `include`.
    /// Fails when the text is invalid, see [`Config::load`].
    pub fn parse(file_name: &str, text: &str) -> Result<Config, Error> {
        Config::parse_with(file_name, text, [])
    }

    fn parse_with(
        file_name: &str,
        text: &str,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, Error> {
        let convert = |e| reader::from_crate(file_name, e);
        let file = ::config::File::from_str(text, Directives { file: file_name.to_owned() });
        let file = ::config::Config::builder().add_source(file).build().map_err(convert)?;
        let table = file.cache.clone().into_table().map_err(convert)?;
        let vhosts = Section::root(&table).named("vhost");
        let mut vhosts: Vec<&str> = vhosts.into_iter().map(|(name, _)| name).collect();
        if vhosts.is_empty() {
            vhosts.push(DEFAULT_VHOST);
        }
        let environment = Environment::read(variables, &vhosts)?;
        let mut reader = Reader::default();
        for (variable, text) in &environment.warnings {
            reader.warn(variable.clone(), text);
        }
        let merged = ::config::Config::builder().add_source(file).add_source(environment).build();
        let table = merged.and_then(|c| c.cache.into_table()).map_err(convert)?;
        let config = Config::read(&mut reader, Section::root(&table), file_name);
        reader.finish()?;
        Ok(config)
    }

    /// Returns the vhost of a host: the one of that name (in any case), else [`DEFAULT_VHOST`], else none.
    ///
    /// Returns a vhost with `enabled off` too: its clients are refused and not sent to the default one.
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        self.vhosts.get(&canonical(name)).or_else(|| self.vhosts.get(DEFAULT_VHOST))
    }

    /// Returns the plan of a reload from this configuration to `new`.
    pub fn changes_to(&self, new: &Config) -> Vec<Change> {
        plan::changes(&self.settings, &new.settings)
    }

    /// Returns all values in force with their origins, defaults included. Secrets and keys in URLs are hidden.
    pub fn effective(&self) -> Vec<EffectiveValue> {
        self.settings.values()
    }

    /// Returns all addresses to listen on, of all protocols.
    pub fn listeners(&self) -> Vec<Listen> {
        let mut all = self.listen.clone();
        if self.rtmps.enabled {
            let kind = ListenKind::Rtmps { plain: self.rtmps.plain };
            all.extend(self.rtmps.listen.iter().map(|listen| Listen { kind, ..*listen }));
        }
        if self.http_server.enabled {
            all.extend(self.http_server.listen.iter().map(|listen| Listen { kind: ListenKind::Http, ..*listen }));
        }
        if self.http_api.enabled {
            all.extend(self.http_api.listen.iter().map(|listen| Listen { kind: ListenKind::HttpApi, ..*listen }));
        }
        if self.http_api.https.enabled {
            let https = &self.http_api.https.listen;
            all.extend(https.iter().map(|listen| Listen { kind: ListenKind::HttpsApi, ..*listen }));
        }
        if self.exporter.enabled {
            all.extend(self.exporter.listen.iter().map(|listen| Listen { kind: ListenKind::Exporter, ..*listen }));
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
        let used: Vec<_> =
            rtmp.into_iter().chain(http_server.listen.iter().copied().filter(|_| http_server.enabled)).collect();
        let http_api = HttpApi::read(reader, root.block("http_api"), &used, file_name);
        let of_api = http_api.listen.iter().filter(|_| http_api.enabled);
        let of_api = of_api.chain(http_api.https.listen.iter().filter(|_| http_api.https.enabled)).copied();
        let used: Vec<_> = used.into_iter().chain(of_api).collect();
        let exporter = Exporter::read(reader, root.block("exporter"), &used, &http_api.auth, file_name);
        if http_server.enabled && http_server.api {
            let at = || root.block("http_server").position("api").unwrap_or(file_name).to_owned();
            http_api.auth.check(reader, &http_server.listen, at);
        }
        let mut vhosts = BTreeMap::new();
        for (name, section) in root.named("vhost") {
            vhosts.insert(name.to_owned(), Arc::new(Vhost::read(reader, section, name, chunk_size)));
        }
        if vhosts.is_empty() {
            let text = "no vhost: all hosts are served with the default settings, as by \"vhost __defaultVhost__ { }\"";
            reader.warn(position(file_name, 1), text);
            let section = Section::empty(schema::BlockKind::Vhost);
            vhosts.insert(DEFAULT_VHOST.to_owned(), Arc::new(Vhost::read(reader, section, DEFAULT_VHOST, chunk_size)));
        }
        reader.warn_unsupported(root);
        let daemon = reader.switch(root, "daemon");
        let log = Log::read(reader, root);
        if daemon && log.tank == LogTank::Console {
            let at = root.position("daemon").unwrap_or(file_name).to_owned();
            reader.warn(at, "a daemon has no console: the log is lost; add \"srs_log_tank file;\"");
        }
        let mut settings = Settings::of(root);
        for vhost in vhosts.values() {
            if let Some(keys) = &vhost.security.stream_keys {
                settings
                    .add_hidden(&format!("stream_keys in security in vhost {}", vhost.name), keys.version().expose());
            }
        }
        Config {
            listen,
            max_connections: reader.size(root, "max_connections"),
            max_connections_per_address: reader.size(root, "max_connections_per_address"),
            max_memory: reader.memory(root, "max_memory"),
            max_busy: u8::try_from(reader.size(root, "max_busy")).unwrap_or(100),
            handshake_timeout: reader.duration(root, "handshake_timeout"),
            command_timeout: reader.duration(root, "command_timeout"),
            send_timeout: reader.duration(root, "send_timeout"),
            default_app: reader.text(root, "default_app").unwrap_or_default(),
            chunk_size,
            proxy_protocol: reader.networks(root, "proxy_protocol"),
            daemon,
            pid: Some(reader.path(root, "pid")).filter(|path| path != Path::new("off")),
            ff_log_dir: reader.path(root, "ff_log_dir"),
            ff_log_level: reader.choice(root, "ff_log_level"),
            max_processes: reader.size(root, "max_processes"),
            pithy_print: PithyPrint::read(reader, root.block("pithy_print")),
            rtmps,
            http_server,
            http_api,
            exporter,
            log,
            vhosts,
            warnings: reader.take_warnings(),
            settings,
        }
    }
}

#[cfg(test)]
mod tests;
