//! `http_server`: the embedded HTTP server.

use std::path::PathBuf;
use std::time::Duration;

use super::error::Reason;
use super::listen::Listen;
use super::reader::{Reader, Section};

/// The warning of a build without the feature `http`. No error, since srs.conf uses it.
const NO_HTTP: &str = "this server was built without its HTTP server: ignored; build it with ./configure --with-http";

/// The embedded HTTP server.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpServer {
    /// `enabled`.
    pub enabled: bool,
    /// `listen`: addresses; at least one, without duplicates, none used for other protocols.
    pub listen: Vec<Listen>,
    /// `dir`: directory of the files; relative to the working directory.
    pub dir: PathBuf,
    /// `page`: serve the console page at /.
    pub page: bool,
    /// `api`: serve the API of `http_api` too.
    pub api: bool,
    /// `max_connections`: connections served at a time.
    pub max_connections: usize,
    /// `max_connections_per_address`: the same per client address; 0 means no limit.
    pub max_connections_per_address: usize,
    /// `request_timeout`: time from the first byte of a request to its last.
    pub request_timeout: Duration,
    /// `idle_timeout`: time between two requests.
    pub idle_timeout: Duration,
    /// `send_timeout`: time without progress of a response.
    pub send_timeout: Duration,
    /// `live_memory`: maximum bytes of live files in memory; other files are served from disk.
    pub live_memory: u64,
}

impl HttpServer {
    pub(super) fn read(reader: &mut Reader, section: Section<'_>, rtmp: &[Listen], file_name: &str) -> HttpServer {
        let mut http_server = HttpServer {
            enabled: reader.switch(section, "enabled"),
            listen: reader.addresses(section, "listen"),
            dir: reader.path(section, "dir"),
            page: reader.switch(section, "page"),
            api: reader.switch(section, "api"),
            max_connections: reader.size(section, "max_connections"),
            max_connections_per_address: reader.size(section, "max_connections_per_address"),
            request_timeout: reader.duration(section, "request_timeout"),
            idle_timeout: reader.duration(section, "idle_timeout"),
            send_timeout: reader.duration(section, "send_timeout"),
            live_memory: reader.number(section, "live_memory"),
        };
        if http_server.enabled {
            let at = |name| section.position(name).unwrap_or(file_name).to_owned();
            let is_used = |listen: &&Listen| rtmp.iter().any(|rtmp| rtmp.address == listen.address);
            if let Some(used) = http_server.listen.iter().find(is_used) {
                reader.problem(at("listen"), Reason::PortOfRtmp(used.address));
            } else if !cfg!(feature = "http") {
                reader.warn(at("enabled"), NO_HTTP);
                http_server.enabled = false;
            }
        }
        http_server
    }

    /// Returns the maximum bytes of live files in memory; 0 while the server is off.
    pub fn live_limit(&self) -> u64 {
        if self.enabled { self.live_memory } else { 0 }
    }
}
