//! HTTP callbacks (`http_hooks`): backends are asked before clients publish and play, and told when they have stopped.
//!
//! ```text
//! publish, play ── Gate::check ──> Sessions, BodyWriter ──> Backend::request ──> Answer
//! PublisherLost, Stopped, Closed ── Listener ──> Sessions, BodyWriter ──> Backend::push ── lanes ──> Backend::request
//! Backend: Breaker, connections (st::net, TLS) ──> exchange (HTTP) ──> program of the operator
//! ```
//!
//! A question runs in the coroutine that the connection makes for a gate; a client that leaves meanwhile is noticed. Events wait
//! in bounded queues, so that no backend delays the worker or a client.

mod answer;
mod backend;
mod body;
mod breaker;
mod exchange;
mod expiry;
mod sessions;
mod tls_roots;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use self::answer::{Answer, Grant};
use self::backend::{Backend, Job, RequestError, Totals};
use self::body::{BodyWriter, Hook, Traffic};
use self::expiry::Expiry;
use self::sessions::{Sessions, Told, key};
use self::tls_roots::TlsRoots;
use crate::app::context::{Context, Feature};
use crate::app::events::{Event, Gate, GateAction, GateAnswer, GateRequest, Listener};
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::stats::snapshot::Section;
use crate::app::stream::StreamEvent;
use crate::config::{Config, HookUrl, HttpHooks};
use crate::log::quoted;
use crate::st::{self, Shared};

/// Pause before a failed question is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for all questions about one request of a client. It is shorter than the time that a connection waits for a gate.
const MAX_DECISION_TIME: Duration = Duration::from_secs(50);

/// Interval at which the end of the server checks whether all events are told.
const FLUSH_POLL: Duration = Duration::from_millis(10);

/// The feature.
pub(crate) struct HttpCallbacks {
    ctx: Context,
    sessions: Shared<Sessions>,
    /// By origin.
    backends: Shared<HashMap<String, Arc<Backend>>>,
    bodies: BodyWriter,
    roots: TlsRoots,
    expiry: Expiry,
}

impl HttpCallbacks {
    /// Creates the feature without clients.
    pub(crate) fn new(ctx: Context) -> Self {
        Self {
            ctx,
            sessions: Shared::default(),
            backends: Shared::default(),
            bodies: BodyWriter::new(),
            roots: TlsRoots::default(),
            expiry: Expiry::default(),
        }
    }

    fn backend(&self, url: &HookUrl) -> Arc<Backend> {
        let origin = url.origin();
        self.backends.with(|backends| {
            let backend = backends.entry(origin);
            backend.or_insert_with_key(|origin| Arc::new(Backend::new(origin.clone(), self.roots.clone()))).clone()
        })
    }

    /// Asks all backends of a callback, one after the other, until one refuses.
    fn ask(
        &self,
        hook: Hook,
        hooks: &HttpHooks,
        client: &Arc<ClientInfo>,
        stream: &Arc<StreamInfo>,
        deadline: Instant,
    ) -> Result<Grant, CloseReason> {
        let urls = hook.urls(hooks);
        if urls.is_empty() {
            return Ok(Grant::default());
        }
        let body = self.bodies.write(hook, client, Some(stream), Traffic::default());
        let key = key(hook, client, stream);
        urls.iter().try_fold(Grant::default(), |granted, url| {
            self.ask_one(hook, url, hooks, &body, &key, deadline).map(|grant| granted.and(grant))
        })
    }

    fn ask_one(
        &self,
        hook: Hook,
        url: &HookUrl,
        hooks: &HttpHooks,
        body: &str,
        key: &str,
        deadline: Instant,
    ) -> Result<Grant, CloseReason> {
        let backend = self.backend(url);
        // The end of the publication before belongs before this question.
        backend.wait_delivered(key, hooks.timeout);
        let mut attempts = 0;
        let error = loop {
            let left = deadline.saturating_duration_since(st::now());
            let error = match backend.request(url, body, hooks.timeout.min(left)) {
                Ok(reply) => {
                    return match answer::read(reply.status, &reply.body) {
                        Answer::Allowed(grant) => Ok(grant),
                        Answer::Refused(why) => Err(CloseReason::Hook(why)),
                        Answer::NotUnderstood => {
                            backend.log_strange_answer(hook, url, &reply);
                            Err(CloseReason::Hook("refused by the callback backend".to_owned()))
                        }
                    };
                }
                Err(error) => error,
            };
            attempts += 1;
            if attempts > hooks.retry || matches!(error, RequestError::Down(_)) || st::now() >= deadline {
                break error;
            }
            st::sleep(RETRY_PAUSE);
        };
        let (name, url) = (hook.name(), url.redacted());
        let decision = if hooks.allow_on_failure { "allow" } else { "deny" };
        if backend.may_log_failure() {
            log::warn!("callback failed: hook={name} url={url} error={} on_hook_failure={decision}", quoted(error));
        }
        match hooks.allow_on_failure {
            true => Ok(Grant::default()),
            false => Err(CloseReason::Hook("the callback backend is not available".to_owned())),
        }
    }

    /// Queues an event for the backends of its vhost. May be called while a panic unwinds.
    fn tell(&self, told: &Told) {
        let config = self.ctx.config.get();
        let Some(vhost) = config.vhosts.get(&told.vhost).filter(|vhost| vhost.http_hooks.enabled) else { return };
        let urls = told.hook.urls(&vhost.http_hooks);
        if urls.is_empty() {
            return;
        }
        let body = self.bodies.write(told.hook, &told.client, told.stream.as_deref(), told.traffic);
        for url in urls {
            let (hook, key, timeout) = (told.hook, told.key.clone(), vhost.http_hooks.timeout);
            self.backend(url).push(Job { hook, key, url: url.clone(), body: body.clone(), timeout });
        }
    }

    fn tell_end(&self, client: u64, hook: Hook) {
        self.expiry.remove(client);
        if let Some(told) = self.sessions.try_with(|sessions| sessions.stop(client, hook)).flatten() {
            self.tell(&told);
        }
    }
}

/// Ends the question about a client when it is dropped, also by a panic.
struct Asking<'a> {
    callbacks: &'a HttpCallbacks,
    client: u64,
    allowed: Option<(Hook, Arc<StreamInfo>)>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let (client, allowed) = (self.client, self.allowed.take());
        let told = self.callbacks.sessions.try_with(|sessions| sessions.finish(client, allowed));
        told.iter().flatten().for_each(|told| self.callbacks.tell(told));
    }
}

impl Gate for HttpCallbacks {
    fn name(&self) -> &'static str {
        "http_hooks"
    }

    fn may_block(&self, request: &GateRequest) -> bool {
        let hooks = &request.vhost.http_hooks;
        let own = match request.action {
            // The stream, which the backends want to know, is not known yet.
            GateAction::Connect => return false,
            GateAction::Publish => [&hooks.on_publish, &hooks.on_unpublish],
            GateAction::Play => [&hooks.on_play, &hooks.on_stop],
        };
        let urls = [&hooks.on_connect, &hooks.on_close].into_iter().chain(own);
        hooks.enabled && urls.into_iter().any(|urls| !urls.is_empty())
    }

    fn check(&self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let Some(stream) = request.stream.as_ref().filter(|_| self.may_block(request)) else {
            return Ok(GateAnswer::default());
        };
        let (hooks, client) = (&request.vhost.http_hooks, &request.client);
        let hook = if request.action == GateAction::Publish { Hook::Publish } else { Hook::Play };
        let deadline = st::now() + MAX_DECISION_TIME;
        let must_connect = self.sessions.with(|sessions| sessions.start(hook, client, stream));
        let mut asking = Asking { callbacks: self, client: client.id, allowed: None };
        if must_connect {
            self.ask(Hook::Connect, hooks, client, stream, deadline)?;
            self.sessions.with(|sessions| sessions.set_connected(client.id));
        }
        let Grant { stream: name, expires_after, max_bitrate } = self.ask(hook, hooks, client, stream, deadline)?;
        // From now on the requested name, which may be a secret key, is not used any more.
        let stream = name.as_deref().map_or_else(|| stream.clone(), |name| renamed(stream, name));
        asking.allowed = Some((hook, stream));
        if let Some(time) = expires_after {
            self.expiry.set(client.id, st::now() + time);
        }
        Ok(GateAnswer { stream: name, max_bitrate })
    }
}

impl Listener for HttpCallbacks {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Stream(StreamEvent::PublisherLost { client, .. }) => self.tell_end(client.id, Hook::Publish),
            Event::Stream(StreamEvent::Stopped { client, .. }) => self.tell_end(client.id, Hook::Play),
            Event::Closed { client, bytes_in, bytes_out, .. } => {
                self.expiry.remove(client.id);
                let traffic = Traffic { sent: *bytes_out, received: *bytes_in };
                let told = self.sessions.try_with(|sessions| sessions.close(client.id, traffic));
                told.iter().flatten().for_each(|told| self.tell(told));
            }
            _ => {}
        }
    }
}

impl Feature for HttpCallbacks {
    fn name(&self) -> &'static str {
        "http_hooks"
    }

    fn start(&self) -> io::Result<()> {
        let (expiry, clients) = (self.expiry.clone(), self.ctx.clients.clone());
        st::spawn_supervised("callback expiry", move || expiry.run(&clients))
    }

    /// Forgets the backends that the new configuration does not name, and the events that wait for them.
    fn reconfigure(&self, _: &Config, new: &Config) {
        let vhosts = new.vhosts.values().filter(|vhost| vhost.enabled && vhost.http_hooks.enabled);
        let hooks = [Hook::Connect, Hook::Close, Hook::Publish, Hook::Unpublish, Hook::Play, Hook::Stop];
        let urls = vhosts.flat_map(|vhost| hooks.iter().flat_map(|hook| hook.urls(&vhost.http_hooks)));
        let wanted: Vec<_> = urls.map(HookUrl::origin).collect();
        let removed: Vec<_> = self.backends.with(|backends| {
            backends.extract_if(|origin, _| !wanted.contains(origin)).map(|(_, backend)| backend).collect()
        });
        removed.iter().for_each(|backend| log_lost(backend, "the backend was removed from the configuration"));
    }

    /// Tells the backends of the end of every client, and waits until they have been told.
    fn flush(&self, deadline: Instant) {
        for id in self.sessions.with(|sessions| sessions.clients()) {
            let client = self.ctx.clients.all().into_iter().find(|client| client.number == id);
            let traffic = client.map_or(Traffic::default(), |client| Traffic {
                sent: client.stream.bytes_sent(),
                received: client.stream.bytes_received(),
            });
            let told = self.sessions.with(|sessions| sessions.close(id, traffic));
            told.iter().for_each(|told| self.tell(told));
        }
        let backends: Vec<_> = self.backends.with(|backends| backends.values().cloned().collect());
        backends.iter().for_each(|backend| backend.start_flush());
        while backends.iter().any(|backend| backend.queued() > 0) && st::now() < deadline {
            st::sleep(FLUSH_POLL);
        }
        backends.iter().for_each(|backend| log_lost(backend, "the server stops"));
    }

    fn snapshot(&self) -> Option<Section> {
        let backends: Vec<_> = self.backends.with(|backends| backends.values().cloned().collect());
        let all: Vec<_> = backends.iter().map(|backend| (backend.origin(), backend.totals())).collect();
        let sum = |number: fn(&Totals) -> u64| all.iter().map(|(_, totals)| number(totals)).sum();
        let mut section = Section::new("http_hooks")
            .with("requests_total", "Requests to backends.", sum(|totals| totals.requests))
            .with("failures_total", "Requests without a usable answer.", sum(|totals| totals.failures))
            .with("milliseconds_total", "Time of all requests that were answered.", sum(|totals| totals.milliseconds))
            .with("lost_total", "Events that were not delivered.", sum(|totals| totals.lost))
            .with("queued", "Events that wait for a backend.", sum(|totals| totals.queued))
            .with("backends_down", "Backends that do not answer.", sum(|totals| totals.is_down.into()));
        section.items = all.iter().map(|(origin, totals)| report(origin, totals)).collect();
        Some(section)
    }

    fn listener(self: Arc<Self>) -> Option<Arc<dyn Listener>> {
        Some(self)
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        Some(self)
    }
}

/// Returns what the API shows of a backend.
fn report(origin: &str, totals: &Totals) -> Map<String, Value> {
    [
        ("backend", Value::from(origin)),
        ("down", totals.is_down.into()),
        ("requests", totals.requests.into()),
        ("failures", totals.failures.into()),
        ("milliseconds", totals.milliseconds.into()),
        ("queued", totals.queued.into()),
        ("lost", totals.lost.into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Returns the description of the stream under its public name.
fn renamed(stream: &StreamInfo, name: &str) -> Arc<StreamInfo> {
    let StreamInfo { vhost, app, params, .. } = stream.clone();
    Arc::new(StreamInfo { name: format!("{vhost}/{app}/{name}"), vhost, app, stream: name.to_owned(), params })
}

/// Drops the events that wait for a backend, and logs their number.
fn log_lost(backend: &Backend, reason: &str) {
    let count = backend.clear();
    if count > 0 {
        log::warn!("callbacks lost: backend={} count={count} reason={}", backend.origin(), quoted(reason));
    }
}
