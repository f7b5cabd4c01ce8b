//! The HTTP API: what an operator sees and steers, compatible with that of SRS.
//!
//! ```text
//! request ─> Guard (secrets, roles) ─> endpoint ─> stats::collect ─> json ─> response
//!                                         ├──────> clients (kick), control loop (reload), BanList (a gate)
//!                                         └──────> EventLog (a listener) ─> server-sent events
//! ```
//!
//! Paths of SRS answer 200 and a `code`, also for errors; our own use the codes of HTTP and `application/problem+json`. Lists are
//! made item by item, with yields in between.
//!
//! | file | contents |
//! |---|---|
//! | [`auth`], [`call`] | secrets and roles; what endpoints need of a request |
//! | [`core`], [`answer`], [`json`] | ids and envelopes; errors; the types of the JSON |
//! | [`about`], [`build`], [`lists`], [`system`] | endpoints that read |
//! | [`control`], [`bans`] | endpoints that change something |
//! | [`recordings`], [`tickets`] | recordings and their files; links to these for those who cannot send a secret |
//! | [`events`], [`event_log`] | server-sent events |
//! | [`history`], [`offenders`] | the last hour of the server; addresses that cause trouble |
//! | [`metrics`] | the text for Prometheus |

mod about;
mod answer;
mod auth;
mod bans;
mod build;
mod call;
mod control;
mod core;
mod event_log;
mod events;
mod history;
mod json;
mod last_reload;
mod list;
mod lists;
mod metrics;
mod offenders;
mod recordings;
mod system;
mod tickets;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::answer::{Answer, jsonp, method_not_allowed, not_found, unavailable};
use self::auth::Guard;
use self::bans::BanList;
use self::call::Call;
use self::core::Core;
use self::event_log::EventLog;
use self::history::History;
use self::last_reload::LastReload;
use self::offenders::Offenders;
use self::system::{CpuMeter, Readings, ServerTotals, rusages};
use crate::app::context::{Context, Feature};
use crate::app::events::{Gate, Listener};
use crate::app::http::End;
use crate::app::http::disk::Disk;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::Response;
use crate::app::http::router::Handler;
use crate::app::stats::snapshot::Section;
use crate::config::{ApiAuth, Config, HttpApi};
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::st::{self, Shared};
use bytes::Bytes;

/// The API, for all its handlers: a feature that listens to events and keeps out who is banned.
pub(crate) struct Api {
    core: Core,
    guard: Guard,
    bans: Arc<BanList>,
    events: Arc<EventLog>,
    offenders: Arc<Offenders>,
    history: Arc<History>,
    requests: AtomicU64,
    cpu: Shared<CpuMeter>,
    last_reload: Shared<LastReload>,
    disk: Disk,
}

pub(crate) struct ApiHandler {
    api: Arc<Api>,
    part: Part,
}

/// The block of listeners that a handler serves, and what it serves there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Api,
    /// `http_server`, if it has `api on`.
    Guest,
    /// `exporter`: only the metrics.
    Exporter,
}

impl Api {
    pub(crate) fn new(ctx: Context) -> Self {
        let offenders = Arc::<Offenders>::default();
        Self {
            guard: Guard::new(offenders.clone()),
            bans: Arc::default(),
            events: Arc::new(EventLog::new(ctx.clone(), offenders.clone())),
            offenders,
            history: Arc::default(),
            requests: AtomicU64::new(0),
            cpu: Shared::default(),
            last_reload: Shared::default(),
            disk: Disk::new(),
            core: Core::new(ctx),
        }
    }

    /// Returns whether a request has a login or a token of the API; false if the API needs none.
    pub(crate) fn has_login(&self, request: &Request, address: IpAddr) -> bool {
        let config = self.core.ctx.config.get();
        let HttpApi { auth, crossdomain, .. } = &config.http_api;
        auth.needs_secret()
            && auth::has_credentials(request)
            && self.guard.check(request, address, auth, *crossdomain).is_ok()
    }

    fn answer(&self, request: &Request, exchange: &Exchange<'_, '_>, config: &HttpApi) -> Answer {
        let path = request.path.trim_end_matches('/');
        // Load balancers have no secret.
        let is_read = matches!(request.method, Method::Get | Method::Head);
        match path {
            "healthz" | "readyz" if !is_read => return Err(method_not_allowed("GET, HEAD")),
            "healthz" => return Ok(Response::text(Status::Ok, "the server is alive")),
            "readyz" => return Ok(self.readiness()),
            _ => {}
        }
        let address = exchange.peer().ip().to_canonical();
        if path == "api/v1/session" && !auth::has_credentials(request) && config.auth.needs_secret() {
            return Ok(self.session(None, config));
        }
        if is_read
            && config.auth.needs_secret()
            && let Some(answer) = recordings::read_by_ticket(&self.core, &self.disk, (request, address), config)
        {
            return answer;
        }
        let role = self.guard.check(request, address, &config.auth, config.crossdomain)?;
        let call = Call { request, address, role };
        if path == "metrics" {
            if !call.is_read() {
                return Err(method_not_allowed("GET, HEAD"));
            }
            let cpu_share = self.readings().map_or(0.0, |(_, cpu)| cpu.own());
            let text = metrics::render(&self.core, cpu_share);
            return Ok(Response::content(Status::Ok, metrics::CONTENT_TYPE, self.core.charge(text)));
        }
        let (name, rest) = match path {
            "" | "api" | "api/v1" => ("", ""),
            _ => match path.strip_prefix("api/v1/") {
                Some(path) => path.split_once('/').unwrap_or((path, "")),
                None => return Err(not_found("no such endpoint")),
            },
        };
        if !call.is_read() {
            return control::change(&self.core, &self.bans, &self.last_reload, &call, (name, rest), config);
        }
        self.read(&call, name, rest, config)
    }

    fn read(&self, call: &Call<'_>, name: &str, rest: &str, config: &HttpApi) -> Answer {
        let core = &self.core;
        match (name, rest) {
            ("", _) => Ok(about::endpoints(core, &call.request.path)),
            ("versions", "") => Ok(core.data(about::versions())),
            ("authors", "") => Ok(core.data(about::authors())),
            ("features", "") => Ok(core.data(core.build.features())),
            ("requests", "") => Ok(core.data(about::request(call.request))),
            ("rusages", "") => Ok(core.data(rusages())),
            ("summaries" | "self_proc_stats" | "system_proc_stats" | "meminfos", "") => self.system(name),
            ("vhosts", id) => Ok(lists::vhosts(core, call, id)),
            ("streams", id) => Ok(lists::streams(core, call, id)),
            ("clients", id) => Ok(lists::clients(core, call, id)),
            ("raw", "") => Ok(about::raw(core, call, config, &self.last_reload)),
            ("forwarders", "") => lists::forwarders(core, call),
            ("processes", "") => lists::processes(core, call),
            ("recordings", rest) => recordings::read(core, &self.disk, call, rest),
            ("reload", "") => Err(method_not_allowed("POST")),
            ("history", "") => Ok(self.history.answer(core)),
            ("offenders", "") => Ok(lists::offenders(core, call, &self.offenders)),
            ("openapi.json", "") => Ok(Response::json(Bytes::from_static(about::OPENAPI.as_bytes()))),
            ("closes", "") => Ok(lists::closes(core, &self.events)),
            ("events", "") => events::events(core, &self.events, call),
            ("bans", "") => Ok(control::bans(core, &self.bans)),
            ("config", "") => lists::config(core, call),
            ("snapshot", "") => Ok(lists::snapshot(core)),
            ("session", "") => Ok(self.session(Some(call), config)),
            _ => Err(not_found("no such endpoint")),
        }
    }

    /// Returns whether a secret is needed, and the role of the one that was sent.
    fn session(&self, call: Option<&Call<'_>>, config: &HttpApi) -> Response {
        let auth = if config.auth.needs_secret() { "secrets" } else { "none" };
        let role = call.map(|call| call.role.name());
        self.core.json(self.core.envelope().with("role", role).with("auth", auth))
    }

    fn readiness(&self) -> Response {
        match self.core.ctx.admission.check() {
            Ok(()) => Response::text(Status::Ok, "the server accepts streams"),
            Err(reason) => Response::text(Status::ServiceUnavailable, &reason.to_string()),
        }
    }

    /// Reads `/proc`. `None`: there is no thread for it. May wait.
    fn readings(&self) -> Option<(Readings, CpuMeter)> {
        let at = st::now();
        let readings = st::offload(move || Readings::read(at)).ok()?;
        let cpu = self.cpu.with(|cpu| {
            cpu.update(&readings);
            *cpu
        });
        Some((readings, cpu))
    }

    fn system(&self, name: &str) -> Answer {
        let Some((readings, cpu)) = self.readings() else {
            return Err(unavailable("the server is busy"));
        };
        Ok(self.core.data(match name {
            "self_proc_stats" => readings.self_proc_stats(&cpu),
            "system_proc_stats" => readings.system_proc_stats(&cpu),
            "meminfos" => readings.meminfos(),
            _ => readings.summaries(&cpu, &self.totals()),
        }))
    }

    fn totals(&self) -> ServerTotals {
        let ctx = &self.core.ctx;
        let groups = [&ctx.stats.play, &ctx.stats.publish, &ctx.stats.forward].map(|group| group.total().bytes);
        ServerTotals {
            uptime_s: st::now().saturating_duration_since(ctx.stats.started_at).as_secs(),
            bytes_in: groups.iter().map(|bytes| bytes.received).sum(),
            bytes_out: groups.iter().map(|bytes| bytes.sent).sum(),
            connections: ctx.clients.len() as u64,
        }
    }
}

impl Feature for Api {
    fn name(&self) -> &'static str {
        "api"
    }

    fn start(&self) -> io::Result<()> {
        let (ctx, history) = (self.core.ctx.clone(), self.history.clone());
        st::spawn_supervised("api history", move || {
            history.sample(&ctx);
            st::sleep(history::FIRST_INTERVAL);
            loop {
                if event_log::is_api_enabled(&ctx.config.get()) {
                    history.sample(&ctx);
                } else {
                    history.clear();
                }
                st::sleep(history::INTERVAL);
            }
        })
    }

    fn reconfigure(&self, _: &Config, _: &Config) {
        self.events.record_reload();
    }

    fn snapshot(&self) -> Option<Section> {
        Some(
            Section::new("api")
                .with("requests_total", "Requests to the API.", self.requests.load(Ordering::Relaxed))
                .with("wrong_secrets_total", "Requests with a wrong secret.", self.guard.failure_count())
                .with("event_readers", "Readers of events.", self.events.reader_count())
                .with("events_total", "Events recorded.", self.events.range().0)
                .with("bans", "Bans in force.", self.bans.all().len() as u64),
        )
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self.events.clone())
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        Some(self.bans.clone())
    }
}

impl ApiHandler {
    pub(crate) fn new(api: Arc<Api>) -> Self {
        Self { api, part: Part::Api }
    }

    /// Creates the handler of `http_server`, which serves the API only with `api on`.
    pub(crate) fn guest(api: Arc<Api>) -> Self {
        Self { api, part: Part::Guest }
    }

    pub(crate) fn exporter(api: Arc<Api>) -> Self {
        Self { api, part: Part::Exporter }
    }
}

impl Handler for ApiHandler {
    fn methods(&self) -> &'static [Method] {
        &[Method::Get, Method::Head, Method::Post, Method::Delete, Method::Options]
    }

    #[inline(never)] // Keeps its locals off the stack of a connection that waits.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.api.core.ctx.config.get();
        match self.part {
            Part::Guest if !config.http_server.api => return Ok(None),
            Part::Exporter if request.path.trim_end_matches('/') != "metrics" => return Ok(None),
            _ => {}
        }
        self.api.requests.fetch_add(1, Ordering::Relaxed);
        let is_open = self.part == Part::Exporter && config.exporter.is_local() && config.http_api.auth.needs_secret();
        let open = is_open.then(|| HttpApi { auth: ApiAuth::Loopback, ..config.http_api.clone() });
        let api = open.as_ref().unwrap_or(&config.http_api);
        let response = match request.method {
            Method::Options if api.crossdomain => Response::content(Status::Ok, "text/plain", Bytes::new()),
            Method::Options => *method_not_allowed("GET, HEAD, POST, DELETE"),
            _ => self.api.answer(request, exchange, api).unwrap_or_else(|refused| *refused),
        };
        let response = match request.query.get("callback") {
            Some(callback) if api.crossdomain && request.method == Method::Get => jsonp(response, &callback),
            _ => response,
        };
        Ok(Some(for_browsers(request, response, api)))
    }
}

fn for_browsers(request: &Request, response: Response, config: &HttpApi) -> Response {
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

#[cfg(test)]
mod tests;
