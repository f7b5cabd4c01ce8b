//! The HTTP API: what an operator sees and steers, compatible with that of SRS.
//!
//! ```text
//! request ─> Guard (secrets, roles) ─> endpoint ─> stats::collect ─> json ─> response
//!                                         └──────> clients (kick), control loop (reload)
//! ```
//!
//! Paths of SRS answer 200 and a `code`, also for errors; our own use the codes of HTTP and `application/problem+json`. Lists are
//! made item by item, with yields in between.

mod auth;
mod json;
mod list;
mod metrics;
mod system;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use self::auth::{Guard, log_change};
use self::json::{
    BAD_RPC, ChangeJson, ClientJson, NO_CLIENT, NO_STREAM, NO_VHOST, Object, RAW_DISABLED, StreamJson, VhostJson,
};
use self::list::{List, Page};
use self::system::{CpuMeter, Readings, ServerTotals, rusages, unix_ms};
use crate::app::context::Context;
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::Response;
use crate::app::http::router::Handler;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::stats::collect;
use crate::app::stats::snapshot::StreamReport;
use crate::app::stream::ClientHandle;
use crate::config::{ApiRole, HttpApi};
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::memory::Category;
use crate::st::{self, Shared};
use bytes::Bytes;

/// Longest name of the function of JSONP.
const MAX_CALLBACK: usize = 64;

/// Names and descriptions of the endpoints, for the list of them.
const ENDPOINTS: &[(&str, &str)] = &[
    ("versions", "the version of the server"),
    ("summaries", "the summary(pid, argv, pwd, cpu, mem) of the server"),
    ("rusages", "the rusage of the server"),
    ("self_proc_stats", "the self process stats"),
    ("system_proc_stats", "the system process stats"),
    ("meminfos", "the meminfo of system"),
    ("authors", "the license, copyright, authors and contributors"),
    ("features", "the supported features of the server"),
    ("requests", "the request itself, for http debug"),
    ("vhosts", "all vhosts or a specified vhost"),
    ("streams", "all streams or a specified stream"),
    ("clients", "all clients or a specified client; DELETE disconnects it"),
    ("raw", "raw api of SRS: rpc=raw, rpc=reload"),
    ("snapshot", "the state of server, vhosts, streams, features and limits in one"),
    ("closes", "the connections closed since the start, by reason"),
    ("reload", "POST: reload the configuration; dry_run=1 shows the plan"),
];

/// The endpoints of the API.
pub(crate) struct ApiHandler {
    ctx: Context,
    guard: Guard,
    cpu: Shared<CpuMeter>,
    /// Makes ids of names: the same name has the same id until the server ends, and nobody can look for two names with one id.
    ids: RandomState,
    server_id: String,
    service_id: String,
    /// Serves `http_server` instead of `http_api`.
    is_guest: bool,
}

/// The parts of a request that the handler of an endpoint needs.
struct Call<'a> {
    request: &'a Request,
    address: std::net::IpAddr,
    role: ApiRole,
}

/// An endpoint's answer.
type Answer = Result<Response, Box<Response>>;

impl ApiHandler {
    /// Creates the handler of `http_api`.
    pub(crate) fn new(ctx: Context) -> Self {
        let ids = RandomState::new();
        let (server_id, service_id) = (make_id("vid-", ids.hash_one("server")), make_id("", ids.hash_one("service")));
        Self { ctx, guard: Guard::new(), cpu: Shared::default(), ids, server_id, service_id, is_guest: false }
    }

    /// Creates the handler of `http_server`, which serves the API only with `api on`.
    pub(crate) fn guest(ctx: Context) -> Self {
        Self { is_guest: true, ..Self::new(ctx) }
    }

    fn answer(&self, request: &Request, exchange: &Exchange<'_, '_>, config: &HttpApi) -> Answer {
        let path = request.path.trim_end_matches('/');
        // Load balancers have no secret.
        match path {
            "healthz" => return Ok(Response::text(Status::Ok, "the server is alive")),
            "readyz" => return Ok(self.readiness()),
            _ => {}
        }
        let address = exchange.peer().ip().to_canonical();
        let role = self.guard.check(request, address, &config.auth, config.crossdomain)?;
        let call = Call { request, address, role };
        let is_read = matches!(request.method, Method::Get | Method::Head);
        if path == "metrics" {
            call.require_read()?;
            let text = metrics::render(&self.ctx);
            return Ok(Response::content(Status::Ok, metrics::CONTENT_TYPE, self.charge(text)));
        }
        let (name, rest) = match path {
            "" | "api" | "api/v1" => ("", ""),
            _ => match path.strip_prefix("api/v1/") {
                Some(path) => path.split_once('/').unwrap_or((path, "")),
                None => return Err(not_found("no such endpoint")),
            },
        };
        if !is_read {
            return self.change(&call, name, rest, config);
        }
        self.read(&call, name, rest, config)
    }

    /// Answers a request that only reads.
    fn read(&self, call: &Call<'_>, name: &str, rest: &str, config: &HttpApi) -> Answer {
        match (name, rest) {
            ("", _) => Ok(self.json(self.endpoints(&call.request.path))),
            ("versions", "") => Ok(self.data(versions())),
            ("authors", "") => Ok(self.data(
                Object::new().with("license", env!("CARGO_PKG_LICENSE")).with("contributors", env!("CARGO_PKG_NAME")),
            )),
            ("features", "") => Ok(self.data(features())),
            ("requests", "") => Ok(self.data(self.describe(call.request))),
            ("rusages", "") => Ok(self.data(rusages())),
            ("summaries" | "self_proc_stats" | "system_proc_stats" | "meminfos", "") => self.system(name),
            ("vhosts", id) => Ok(self.vhosts(call, id)),
            ("streams", id) => Ok(self.streams(call, id)),
            ("clients", id) => Ok(self.clients(call, id)),
            ("raw", "") => Ok(self.raw(call, config)),
            ("closes", "") => Ok(self.json(self.envelope().with("closes", collect::closes(&self.ctx)))),
            ("snapshot", "") => Ok(self.json(self.envelope().with("data", collect::snapshot(&self.ctx)))),
            _ => Err(not_found("no such endpoint")),
        }
    }

    /// Carries out a request that changes something.
    fn change(&self, call: &Call<'_>, name: &str, rest: &str, config: &HttpApi) -> Answer {
        match (call.request.method, name, rest) {
            (Method::Delete, "clients", id) if !id.is_empty() => {
                call.require(ApiRole::Kick)?;
                Ok(match id.parse().ok().and_then(|id| self.ctx.clients.get(id)) {
                    Some(client) => {
                        self.kick(call, [client]);
                        self.json(self.envelope())
                    }
                    None => error(NO_CLIENT),
                })
            }
            (Method::Post, "clients", "kick") => {
                call.require(ApiRole::Kick)?;
                let Some(ip) = call.query("ip").and_then(|ip| ip.parse::<std::net::IpAddr>().ok()) else {
                    return Err(problem(Status::BadRequest, "the parameter ip must be an address", &[]));
                };
                let clients = self.ctx.clients.all().into_iter();
                let kicked =
                    self.kick(call, clients.filter(|client| client.address().ip().to_canonical() == ip.to_canonical()));
                Ok(self.json(self.envelope().with("kicked", kicked)))
            }
            (Method::Post, "streams", path) if path.ends_with("/kick") => {
                call.require(ApiRole::Kick)?;
                let id = path.strip_suffix("/kick").unwrap_or_default();
                let source = self.ctx.streams.all().into_iter().find(|source| self.is_stream(&source.name(), id));
                let publisher = source.and_then(|source| source.snapshot().publisher);
                match publisher.and_then(|id| self.ctx.clients.get(id)) {
                    Some(client) => {
                        let kicked = self.kick(call, [client]);
                        Ok(self.json(self.envelope().with("kicked", kicked)))
                    }
                    None => Err(not_found("no such stream is published")),
                }
            }
            (Method::Post, "reload", "") => {
                call.require(ApiRole::Admin)?;
                self.reload(call)
            }
            (Method::Post, "raw", "") if config.raw_enabled && call.query("rpc").as_deref() == Some("reload") => {
                call.require(ApiRole::Admin)?;
                if !config.raw_reload {
                    return Ok(error(RAW_DISABLED));
                }
                self.reload(call)
            }
            _ => Err(Box::new(Response::method_not_allowed("GET, HEAD, OPTIONS"))),
        }
    }

    /// Disconnects clients, and returns the number of those that were not asked to leave before.
    fn kick(&self, call: &Call<'_>, clients: impl IntoIterator<Item = Arc<Client>>) -> u64 {
        let mut count = 0;
        for client in clients.into_iter().filter(|client| client.close_requested().is_none()) {
            log_change(call.address, format_args!("disconnect client {}", client.number));
            client.close(CloseReason::Kicked);
            count += 1;
        }
        count
    }

    fn reload(&self, call: &Call<'_>) -> Answer {
        let dry_run = call.query("dry_run").is_some_and(|value| value != "0");
        if !dry_run {
            log_change(call.address, "reload");
        }
        match self.ctx.reloads.submit(dry_run) {
            Some(Ok(changes)) => {
                let changes: Vec<_> = changes.iter().map(ChangeJson::from).collect();
                Ok(self.json(self.envelope().with("dry_run", dry_run).with("changes", changes)))
            }
            Some(Err(problems)) => Err(problem(
                Status::UnprocessableContent,
                "the configuration is invalid; nothing has changed",
                &problems,
            )),
            None => Err(problem(Status::ServiceUnavailable, "too many reloads, or the server is stopping", &[])),
        }
    }

    fn readiness(&self) -> Response {
        match self.ctx.admission.check() {
            Ok(()) => Response::text(Status::Ok, "the server accepts streams"),
            Err(reason) => Response::text(Status::ServiceUnavailable, &reason.to_string()),
        }
    }

    fn system(&self, name: &str) -> Answer {
        let at = st::now();
        let Ok(readings) = st::offload(move || Readings::read(at)) else {
            return Err(problem(Status::ServiceUnavailable, "the server is busy", &[]));
        };
        let cpu = self.cpu.with(|cpu| {
            cpu.update(&readings);
            *cpu
        });
        Ok(self.data(match name {
            "self_proc_stats" => readings.self_proc_stats(&cpu),
            "system_proc_stats" => readings.system_proc_stats(&cpu),
            "meminfos" => readings.meminfos(),
            _ => readings.summaries(&cpu, &self.totals()),
        }))
    }

    fn totals(&self) -> ServerTotals {
        let stats = &self.ctx.stats;
        let groups = [&stats.play, &stats.publish, &stats.forward].map(|group| group.total().bytes);
        ServerTotals {
            uptime_s: st::now().saturating_duration_since(stats.started_at).as_secs(),
            bytes_in: groups.iter().map(|bytes| bytes.received).sum(),
            bytes_out: groups.iter().map(|bytes| bytes.sent).sum(),
            connections: self.ctx.clients.len() as u64,
        }
    }

    fn vhosts(&self, call: &Call<'_>, id: &str) -> Response {
        let clients = collect::clients(&self.ctx);
        let streams = collect::streams(&self.ctx, &clients);
        let vhosts = collect::vhosts(&self.ctx, &streams, &clients);
        let json = |vhost| VhostJson::new(vhost, self.id(&vhost.name));
        if !id.is_empty() {
            return match vhosts.iter().find(|vhost| vhost.name == id || self.id(&vhost.name) == id) {
                Some(vhost) => self.json(self.envelope().with("vhost", json(vhost))),
                None => error(NO_VHOST),
            };
        }
        let mut list = List::new(Page::read(&call.request.query));
        vhosts.iter().for_each(|vhost| list.push(|| json(vhost)));
        self.list("vhosts", list)
    }

    fn streams(&self, call: &Call<'_>, id: &str) -> Response {
        let clients = collect::clients(&self.ctx);
        let streams = collect::streams(&self.ctx, &clients);
        let now_ms = unix_ms();
        let json = |stream| StreamJson::new(stream, self.id(&stream.name), self.id(&stream.vhost), now_ms);
        if !id.is_empty() {
            return match streams.iter().find(|stream| self.is_stream(&stream.name, id)) {
                Some(stream) => self.json(self.envelope().with("stream", json(stream))),
                None => error(NO_STREAM),
            };
        }
        let filters = ["vhost", "app", "stream"].map(|name| call.query(name));
        let [vhost, app, name] = &filters;
        let is_wanted = |stream: &StreamReport| {
            self.is_vhost(vhost, &stream.vhost)
                && is_equal(app, &stream.app)
                && name.as_deref().is_none_or(|name| stream.stream == name || self.is_stream(&stream.name, name))
        };
        let mut list = List::new(Page::read(&call.request.query));
        streams.iter().filter(|stream| is_wanted(stream)).for_each(|stream| list.push(|| json(stream)));
        self.list("streams", list)
    }

    fn clients(&self, call: &Call<'_>, id: &str) -> Response {
        let id_of = |name: &str| if name.is_empty() { String::new() } else { self.id(name) };
        if !id.is_empty() {
            return match id.parse().ok().and_then(|id| collect::client(&self.ctx, id)) {
                Some(client) => {
                    let client = ClientJson::new(&client, id_of(&client.vhost), id_of(&client.stream_name));
                    self.json(self.envelope().with("client", client))
                }
                None => error(NO_CLIENT),
            };
        }
        let filters = ["vhost", "app", "stream", "ip", "type"].map(|name| call.query(name));
        let [vhost, app, stream, ip, r#type] = &filters;
        let mut list = List::new(Page::read(&call.request.query));
        for client in &collect::clients(&self.ctx) {
            let is_wanted = self.is_vhost(vhost, &client.vhost)
                && is_equal(app, &client.app)
                && stream
                    .as_deref()
                    .is_none_or(|stream| client.stream == stream || self.is_stream(&client.stream_name, stream))
                && ip.as_deref().is_none_or(|ip| client.ip.to_string() == ip);
            if is_wanted && r#type.as_deref().is_none_or(|wanted| ClientJson::type_of(client.state) == wanted) {
                list.push(|| ClientJson::new(client, id_of(&client.vhost), id_of(&client.stream_name)));
            }
        }
        self.list("clients", list)
    }

    fn raw(&self, call: &Call<'_>, config: &HttpApi) -> Response {
        if !config.raw_enabled || call.query("rpc").as_deref() != Some("raw") {
            return error(if config.raw_enabled { BAD_RPC } else { RAW_DISABLED });
        }
        let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
        let raw_api = Object::new()
            .with("enabled", config.raw_enabled)
            .with("allow_reload", config.raw_reload)
            .with("allow_query", false)
            .with("allow_update", false);
        let http_api = Object::new()
            .with("enabled", config.enabled)
            .with("listen", listen.join(" "))
            .with("crossdomain", config.crossdomain)
            .with_object("raw_api", raw_api);
        self.json(Object::new().with("code", 0).with_object("http_api", http_api))
    }

    fn endpoints(&self, path: &str) -> Object {
        let describe =
            |all: &[(&str, &str)]| all.iter().fold(Object::new(), |urls, (name, text)| urls.with(name, text));
        let urls = match path.trim_end_matches('/') {
            "" => describe(&[("api", "the api root"), ("metrics", "metrics for Prometheus"), ("healthz", "liveness")]),
            "api" => describe(&[("v1", "the api version 1.0")]),
            _ => describe(ENDPOINTS),
        };
        self.envelope().with_object("urls", urls)
    }

    fn describe(&self, request: &Request) -> Object {
        let query = request.query.as_str();
        let uri = if query.is_empty() { format!("/{}", request.path) } else { format!("/{}?{query}", request.path) };
        let is_secret =
            |name: &str| ["authorization", "cookie", "proxy-authorization"].contains(&name.to_lowercase().as_str());
        let headers = request.headers.iter().fold(Object::new(), |headers, (name, value)| {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            if is_secret(&name) { headers } else { headers.with(&name, value) }
        });
        let server = Object::new().with("sigature", env!("CARGO_PKG_NAME")).with("version", env!("CARGO_PKG_VERSION"));
        Object::new()
            .with("uri", uri)
            .with("path", format!("/{}", request.path))
            .with("METHOD", request.method.name())
            .with_object("headers", headers)
            .with_object("server", server.with("time", unix_ms()))
    }

    /// Returns whether `id` is that of the stream `name`, or its name, with or without its vhost.
    fn is_stream(&self, name: &str, id: &str) -> bool {
        let rest = name.split_once('/').map_or("", |(_, rest)| rest);
        !id.is_empty() && (name == id || rest == id || (id.starts_with("vid-") && self.id(name) == id))
    }

    fn is_vhost(&self, wanted: &Option<String>, name: &str) -> bool {
        wanted.as_deref().is_none_or(|wanted| name == wanted || self.id(name) == wanted)
    }

    fn id(&self, name: &str) -> String {
        make_id("vid-", self.ids.hash_one(name))
    }

    fn envelope(&self) -> Object {
        Object::new()
            .with("code", 0)
            .with("server", &self.server_id)
            .with("service", &self.service_id)
            .with("pid", std::process::id().to_string())
    }

    fn data(&self, data: Object) -> Response {
        self.json(self.envelope().with_object("data", data))
    }

    fn list(&self, name: &str, list: List) -> Response {
        let total = list.total();
        self.json(self.envelope().with_json(name, &list.finish()).with("total", total))
    }

    fn json(&self, object: Object) -> Response {
        Response::json(self.charge(object.finish()))
    }

    fn charge(&self, text: String) -> Bytes {
        self.ctx.memory.charge_bytes(Category::Http, text.into())
    }

    /// Adds what pages of other sites need, or turns the answer into a script for JSONP.
    fn for_browsers(&self, request: &Request, response: Response, config: &HttpApi) -> Response {
        let response = response.private();
        if !config.crossdomain || request.headers.get("origin").is_none() {
            return response;
        }
        response
            .with("Access-Control-Allow-Origin", "*")
            .with("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE, OPTIONS")
            .with("Access-Control-Allow-Headers", "*, Authorization")
            .with("Access-Control-Expose-Headers", "*")
            .with("Vary", "Origin")
    }
}

impl Handler for ApiHandler {
    fn methods(&self) -> &'static [Method] {
        &[Method::Get, Method::Head, Method::Post, Method::Delete, Method::Options]
    }

    #[inline(never)] // Keeps its locals off the stack of a connection that waits.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.ctx.config.get();
        if self.is_guest && !config.http_server.api {
            return Ok(None);
        }
        let api = &config.http_api;
        let response = match request.method {
            Method::Options if api.crossdomain => Response::content(Status::Ok, "text/plain", Bytes::new()),
            Method::Options => Response::method_not_allowed("GET, HEAD, POST, DELETE"),
            _ => self.answer(request, exchange, api).unwrap_or_else(|refused| *refused),
        };
        let response = match request.query.get("callback") {
            Some(callback) if api.crossdomain && request.method == Method::Get => jsonp(response, &callback),
            _ => response,
        };
        Ok(Some(self.for_browsers(request, response, api)))
    }
}

impl Call<'_> {
    fn query(&self, name: &str) -> Option<String> {
        self.request.query.get(name).filter(|value| !value.is_empty())
    }

    fn require(&self, role: ApiRole) -> Result<(), Box<Response>> {
        if self.role >= role {
            return Ok(());
        }
        let text = format!("this needs the role {}, and yours is {}", role.name(), self.role.name());
        Err(problem(Status::Forbidden, &text, &[]))
    }

    fn require_read(&self) -> Result<(), Box<Response>> {
        match self.request.method {
            Method::Get | Method::Head => Ok(()),
            _ => Err(Box::new(Response::method_not_allowed("GET, HEAD"))),
        }
    }
}

fn make_id(prefix: &str, mut hash: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut id = prefix.to_owned();
    while hash > 0 {
        id.push(DIGITS[(hash % 36) as usize].into());
        hash /= 36;
    }
    id
}

fn is_equal(wanted: &Option<String>, value: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == value)
}

/// Returns an error as SRS sends it: with the status 200.
fn error(code: u32) -> Response {
    Response::json(Object::new().with("code", code).finish().into())
}

/// Returns an error as RFC 9457 describes it.
fn problem(status: Status, detail: &str, errors: &[String]) -> Box<Response> {
    let body = Object::new().with("title", status.reason()).with("status", status.code()).with("detail", detail);
    let body = if errors.is_empty() { body } else { body.with("errors", errors) };
    Box::new(Response::content(status, "application/problem+json", body.finish().into()))
}

fn not_found(detail: &str) -> Box<Response> {
    problem(Status::NotFound, detail, &[])
}

fn versions() -> Object {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    Object::new()
        .with("major", part(env!("CARGO_PKG_VERSION_MAJOR")))
        .with("minor", part(env!("CARGO_PKG_VERSION_MINOR")))
        .with("revision", part(env!("CARGO_PKG_VERSION_PATCH")))
        .with("version", env!("CARGO_PKG_VERSION"))
}

fn features() -> Object {
    // The names of SRS. A feature that it has and this server has not is false.
    let all = [
        ("ssl", cfg!(feature = "ssl")),
        ("hls", cfg!(feature = "hls")),
        ("hds", false),
        ("callback", true),
        ("api", true),
        ("httpd", true),
        ("dvr", false),
        ("transcode", false),
        ("ingest", false),
        ("stat", true),
        ("caster", false),
        ("complex_send", true),
        ("tcp_nodelay", true),
        ("so_sendbuf", false),
        ("mr", true),
    ];
    let features = all.iter().fold(Object::new(), |features, (name, is_present)| features.with(name, is_present));
    Object::new().with_object("features", features)
}

/// Returns a JSON answer as a script that calls `callback` with it. Others, and invalid names, are refused.
fn jsonp(response: Response, callback: &str) -> Response {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if callback.is_empty() || callback.len() > MAX_CALLBACK || !callback.bytes().all(is_valid) {
        return *problem(Status::BadRequest, "the name of the callback is invalid", &[]);
    }
    match response.body_bytes() {
        Some(json) if response.head.status == Status::Ok => {
            // A line separator ends a line in an old script, but not in JSON.
            let json = String::from_utf8_lossy(&json).replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
            Response::content(Status::Ok, "text/javascript", format!("{callback}({json})").into())
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests;
