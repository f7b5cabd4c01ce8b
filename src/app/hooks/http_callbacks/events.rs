//! Events: sent to backends after the fact.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::HttpCallbacks;
use super::form;
use super::hook::{Detail, Hook, Subject};
use super::message::{Message, with_flag};
use super::questions::UnansweredQuestion;
use super::queue::Job;
use super::sessions::{EndEvent, key};
use super::spool::{Entry, Receipt};
use crate::app::events::HlsSegment;
use crate::app::session::bandwidth_report::BandwidthReport;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{Config, HookFormat, HookUrl, HttpHooks};
use crate::http::uri::percent_encode;

const SERVER_KEY: &str = "server";

struct Event<'a> {
    hook: Hook,
    vhost: &'a str,
    hooks: &'a HttpHooks,
    key: &'a str,
    session: &'a str,
    url: &'a HookUrl,
    text: &'a str,
}

impl Event<'_> {
    fn entry(&self, is_end: bool) -> Entry {
        let [hook, vhost, key, session] = [self.hook.name(), self.vhost, self.key, self.session].map(str::to_owned);
        Entry { hook, vhost, key, session, url: self.url.to_string(), body: self.text.to_owned(), is_end }
    }
}

impl HttpCallbacks {
    pub(super) fn message(&self, hook: Hook, hooks: &HttpHooks, subject: &Subject<'_>) -> Message {
        Message::post(self.text(hook, hooks, subject), hooks.format, hooks.secret.as_ref())
    }

    fn text(&self, hook: Hook, hooks: &HttpHooks, subject: &Subject<'_>) -> String {
        match hooks.format {
            HookFormat::Json => self.bodies.write(hook, subject),
            HookFormat::Form => form::write(&self.bodies, hook, subject),
        }
    }

    /// Queues an event for the backends of its vhost. May be called while a panic unwinds.
    pub(super) fn queue_end(&self, end: &EndEvent) {
        let config = self.ctx.config.get();
        let vhost = config.vhosts.get(&end.vhost).filter(|vhost| vhost.http_hooks.enabled);
        if let Some(hooks) = vhost.map(|vhost| &vhost.http_hooks).filter(|hooks| !end.hook.urls(hooks).is_empty()) {
            let detail = if end.hook == Hook::Close { Detail::Traffic(end.traffic) } else { Detail::None };
            let subject = Subject { client: Some(&end.client), stream: end.stream.as_deref(), detail };
            let text = self.text(end.hook, hooks, &subject);
            let session = &self.bodies.session_id(end.client.id);
            for (index, url) in end.hook.urls(hooks).iter().enumerate() {
                let (hook, key) = (end.hook, &end.key);
                let event = Event { hook, vhost: &end.vhost, hooks, key, session, url, text: &text };
                self.push(&event, end.ends.get(index));
            }
        }
        end.ends.iter().for_each(Receipt::settle);
    }

    /// Queues an event about a stream. May be called while a panic unwinds.
    pub(super) fn queue_stream_event(&self, hook: Hook, client: &ClientInfo, stream: &StreamInfo, detail: Detail<'_>) {
        let config = self.ctx.config.get();
        let vhost = config.vhosts.get(&stream.vhost).filter(|vhost| vhost.http_hooks.enabled);
        let Some(hooks) = vhost.map(|vhost| &vhost.http_hooks).filter(|hooks| !hook.urls(hooks).is_empty()) else {
            return;
        };
        let text = self.text(hook, hooks, &Subject { client: Some(client), stream: Some(stream), detail });
        let session = &self.bodies.session_id(client.id);
        for url in hook.urls(hooks) {
            let event = Event { hook, vhost: &stream.vhost, hooks, key: &stream.name, session, url, text: &text };
            self.push(&event, None);
        }
    }

    pub(super) fn queue_bandwidth_result(&self, report: &BandwidthReport) {
        let config = self.ctx.config.get();
        let Some(vhost) = config.vhosts.get(&report.vhost).filter(|vhost| vhost.http_hooks.enabled) else { return };
        let (hooks, key) = (&vhost.http_hooks, format!("client {}", report.client_id));
        if hooks.on_bandwidth.is_empty() {
            return;
        }
        let text = self.bodies.write_result(report);
        let session = &self.bodies.session_id(report.client_id);
        for url in &hooks.on_bandwidth {
            let (hook, hooks) = (Hook::Bandwidth, &HttpHooks { format: HookFormat::Json, ..hooks.clone() });
            self.push(&Event { hook, vhost: &report.vhost, hooks, key: &key, session, url, text: &text }, None);
        }
    }

    /// Queues the questions without an answer that `on_hook_failure` has decided: the backends learn of these clients after the
    /// fact. May be called while a panic unwinds.
    pub(super) fn queue_unanswered(
        &self,
        key: &str,
        client: &ClientInfo,
        hooks: &HttpHooks,
        unanswered: Vec<UnansweredQuestion>,
    ) {
        let session = &self.bodies.session_id(client.id);
        for UnansweredQuestion { hook, vhost, url, text } in unanswered {
            let text = &with_flag(&text, hooks.format, "unanswered");
            self.push(&Event { hook, vhost: &vhost, hooks, key, session, url: &url, text }, None);
        }
    }

    fn push(&self, event: &Event<'_>, settles: Option<&Receipt>) {
        let spool = event.hooks.spool.as_deref().and_then(|path| self.spools.get(path));
        let receipt = spool.and_then(|spool| spool.add(event.entry(false), settles));
        self.queue(event, receipt);
    }

    fn queue(&self, event: &Event<'_>, receipt: Option<Receipt>) {
        let Event { hook, hooks, key, url, text, .. } = *event;
        let message = Message::post(text.to_owned(), hooks.format, hooks.secret.as_ref());
        let (key, url) = (key.to_owned(), url.clone());
        let job = Job { hook, key, message, format: hooks.format, timeout: hooks.timeout, receipt, url };
        self.backend(&job.url).push(job);
    }

    /// Writes the end of a client that is in to the spool file, in case that the process dies.
    pub(super) fn spool_end(
        &self,
        hook: Hook,
        hooks: &HttpHooks,
        client: &ClientInfo,
        stream: &StreamInfo,
    ) -> Vec<Receipt> {
        let urls = hook.urls(hooks);
        let spool = hooks.spool.as_deref().filter(|_| !urls.is_empty()).and_then(|path| self.spools.get(path));
        let Some(spool) = spool else { return Vec::new() };
        let named = (hook != Hook::Close).then_some(stream);
        let subject = Subject { client: Some(client), stream: named, detail: Detail::None };
        let text = match hooks.format {
            HookFormat::Json => self.bodies.write_end(hook, &subject),
            HookFormat::Form => form::write(&self.bodies, hook, &subject),
        };
        let asked = if hook == Hook::Unpublish { Hook::Publish } else { Hook::Play };
        let key = key(asked, client, stream);
        let session = &self.bodies.session_id(client.id);
        let event = |url| Event { hook, vhost: &stream.vhost, hooks, key: &key, session, url, text: &text };
        urls.iter().filter_map(|url| spool.add(event(url).entry(true), None)).collect()
    }

    pub(super) fn replay(&self, config: &Config) {
        let (mut count, mut lost) = (0, 0);
        let mut entries = self.spools.take_entries();
        // The end of a connection was kept before that of the stream, whose name was not known yet. It is told after it, in
        // order.
        let is_close = |entry: &Entry| entry.hook == Hook::Close.name();
        entries.sort_by_key(|(_, entry)| is_close(entry));
        let of_streams = entries.iter().filter(|(_, entry)| !is_close(entry));
        let keys: HashMap<_, _> = of_streams.map(|(_, entry)| (entry.session.clone(), entry.key.clone())).collect();
        for (receipt, entry) in entries {
            let key = keys.get(&entry.session).filter(|_| is_close(&entry)).unwrap_or(&entry.key);
            let vhost = config.vhosts.get(&entry.vhost).filter(|vhost| vhost.enabled && vhost.http_hooks.enabled);
            let known = vhost.zip(Hook::of(&entry.hook)).and_then(|(vhost, hook)| {
                let url = hook.urls(&vhost.http_hooks).iter().find(|url| url.to_string() == entry.url)?;
                Some((vhost, hook, url))
            });
            let Some((vhost, hook, url)) = known else {
                receipt.settle();
                lost += 1;
                continue;
            };
            let hooks = &vhost.http_hooks;
            let body = if entry.is_end { self.bodies.with_time(&entry.body) } else { entry.body.clone() };
            let text = with_flag(&body, hooks.format, "replayed");
            let (vhost, session) = (&entry.vhost, &entry.session);
            let event = Event { hook, vhost, hooks, key, session, url, text: &text };
            self.queue(&event, Some(receipt));
            count += 1;
        }
        if count > 0 {
            log::info!("callbacks replayed from the spool: count={count}");
        }
        if lost > 0 {
            log::warn!("callbacks of the spool dropped, their URLs are not configured any more: count={lost}");
        }
    }

    /// Reports that the server has started: to all URLs of `new` at the start, else to those that `old` has not.
    pub(super) fn queue_server_start(&self, new: &Config, old: &Config, is_start: bool) {
        let urls = |config: &Config| -> Vec<(String, HookUrl)> {
            let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled && vhost.http_hooks.enabled);
            let of_vhost = |name: &str, urls: &[HookUrl]| {
                urls.iter().map(|url| (name.to_owned(), url.clone())).collect::<Vec<_>>()
            };
            vhosts.flat_map(|vhost| of_vhost(&vhost.name, &vhost.http_hooks.on_server_start)).collect()
        };
        let old_urls = if is_start { Vec::new() } else { urls(old) };
        let mut known: Vec<HookUrl> = old_urls.into_iter().map(|(_, url)| url).collect();
        for (vhost, url) in urls(new) {
            if known.contains(&url) {
                continue;
            }
            let Some(hooks) = new.vhosts.get(&vhost).map(|vhost| &vhost.http_hooks) else { continue };
            let streams = self.ctx.streams.published().into_iter().map(|stream| Value::from(stream.name)).collect();
            let fields = [("version", Value::from(env!("CARGO_PKG_VERSION"))), ("streams", Value::Array(streams))];
            let subject = Subject { client: None, stream: None, detail: Detail::Fields(&fields) };
            let text = self.text(Hook::ServerStart, hooks, &subject);
            let event = Event {
                hook: Hook::ServerStart,
                vhost: &vhost,
                hooks,
                key: SERVER_KEY,
                session: "",
                url: &url,
                text: &text,
            };
            self.push(&event, None);
            known.push(url);
        }
    }

    pub(super) fn notify_segment(&self, segment: &HlsSegment) {
        let config = self.ctx.config.get();
        let Some(vhost) = config.vhosts.get(&segment.stream.vhost).filter(|vhost| vhost.http_hooks.enabled) else {
            return;
        };
        let urls = &vhost.http_hooks.on_hls_notify;
        let mut random = [0; 8];
        if urls.is_empty() || getrandom::fill(&mut random).is_err() {
            return;
        }
        let chosen = &urls[(u64::from_le_bytes(random) % urls.len() as u64) as usize];
        let Some(url) = self.notify_url(chosen, segment) else {
            log::debug!("callback skipped, its URL is not valid: url={}", chosen.redacted());
            return;
        };
        let (key, timeout) = (segment.stream.name.clone(), NOTIFY_TIMEOUT.max(vhost.http_hooks.timeout));
        let (message, format) = (Message::get(), HookFormat::Form);
        let job = Job { hook: Hook::HlsNotify, key, message, format, timeout, receipt: None, url };
        self.backend(chosen).push(job);
    }

    fn notify_url(&self, url: &HookUrl, segment: &HlsSegment) -> Option<HookUrl> {
        let (server, service) = self.bodies.names();
        let param = super::body::param(&segment.client, Some(&segment.stream));
        let text = [
            ("[server_id]", server),
            ("[service_id]", service),
            ("[app]", &percent_encode(&segment.stream.app)),
            ("[stream]", &percent_encode(&segment.stream.stream)),
            ("[ts_url]", &percent_encode(&segment.path)),
            ("[param]", &param),
        ]
        .into_iter()
        .fold(url.to_string(), |text, (name, value)| text.replace(name, value));
        HookUrl::parse(&text).filter(|replaced| replaced.origin() == url.origin())
    }

    /// Reports that a client no longer does what `hook` allowed.
    pub(super) fn end_action(&self, client: u64, hook: Hook) {
        self.cancel_timers(client);
        if let Some(end) = self.sessions.try_with(|sessions| sessions.stop(client, hook)).flatten() {
            self.queue_end(&end);
        }
    }

    /// Forgets the times at which something is due about a client. May be called while a panic unwinds.
    pub(super) fn cancel_timers(&self, client: u64) {
        self.expiry.remove(client);
        self.recheck.remove(client);
    }
}

/// Time for one `on_hls_notify`, at least: the server behind the URL may fetch the segment first.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);
