//! Questions: the gate of clients that publish and play.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::HttpCallbacks;
use super::answer::{self, Answer, Grant};
use super::backend::RequestError;
use super::hook::{About, Detail, Hook};
use super::sessions::key;
use super::spool::Receipt;
use crate::app::events::{Gate, GateAction, GateAnswer, GateRequest};
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{HookFormat, HookUrl, HttpHooks};
use crate::log::quoted;
use crate::st;

/// Pause before a failed question is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for all questions about one request of a client. It is shorter than the time that a connection waits for a gate.
const MAX_DECISION_TIME: Duration = Duration::from_secs(50);

/// A question to one backend.
pub(super) struct Question<'a> {
    pub(super) hook: Hook,
    pub(super) url: &'a HookUrl,
    pub(super) hooks: &'a HttpHooks,
    pub(super) message: &'a super::message::Message,
    pub(super) deadline: Instant,
}

impl HttpCallbacks {
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
        let about = About { client: Some(client), stream: Some(stream), detail: Detail::None };
        let message = self.message(hook, hooks, &about);
        let key = key(hook, client, stream);
        urls.iter().try_fold(Grant::default(), |granted, url| {
            // The end of the publication before belongs before this question.
            self.backend(url).wait_delivered(&key, hooks.timeout);
            let question = Question { hook, url, hooks, message: &message, deadline };
            let grant = match self.decide(&question) {
                Ok(answer) => answer.map_err(CloseReason::Hook),
                Err(_) if hooks.allow_on_failure => Ok(Grant::default()),
                Err(_) => Err(CloseReason::Hook("the callback backend is not available".to_owned())),
            };
            grant.map(|grant| granted.merge(grant))
        })
    }

    /// Asks one backend. Returns what it grants, or the reason of its refusal. Fails when it gave no answer in all
    /// attempts, which is logged.
    pub(super) fn decide(&self, question: &Question<'_>) -> Result<Result<Grant, String>, RequestError> {
        let Question { hook, url, hooks, .. } = *question;
        let backend = self.backend(url);
        let reply = match self.request(question) {
            Ok(reply) => reply,
            Err(error) => {
                let decision = if hooks.allow_on_failure { "allow" } else { "deny" };
                if backend.may_log_failure() {
                    let (name, url) = (hook.name(), url.redacted());
                    log::warn!(
                        "callback failed: hook={name} url={url} error={} on_hook_failure={decision}",
                        quoted(&error)
                    );
                }
                return Err(error);
            }
        };
        let answer = match hooks.format {
            HookFormat::Json => answer::read(reply.status, &reply.body),
            HookFormat::Form => answer::read_status(reply.status, reply.location.as_deref()),
        };
        Ok(match answer {
            Answer::Allowed(grant) => Ok(grant),
            Answer::Refused(why) => Err(why),
            Answer::NotUnderstood => {
                backend.log_strange_answer(hook, url, &reply);
                Err("refused by the callback backend".to_owned())
            }
        })
    }

    /// Sends a question until there is an answer. Errors: that of the last attempt.
    pub(super) fn request(&self, question: &Question<'_>) -> Result<super::exchange::Reply, RequestError> {
        let Question { url, hooks, message, deadline, .. } = *question;
        let backend = self.backend(url);
        let mut attempts = 0;
        loop {
            let left = deadline.saturating_duration_since(st::now());
            let error = match backend.request(url, message, hooks.timeout.min(left)) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            attempts += 1;
            if attempts > hooks.retry || matches!(error, RequestError::Down(_)) || st::now() >= deadline {
                return Err(error);
            }
            st::sleep(RETRY_PAUSE);
        }
    }
}

/// Guard that ends the question about a client when it is dropped, also by a panic.
struct Asking<'a> {
    callbacks: &'a HttpCallbacks,
    client: u64,
    allowed: Option<(Hook, Arc<StreamInfo>)>,
    /// The end of what is allowed, in spool files.
    ends: Vec<Receipt>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let (client, allowed, ends) = (self.client, self.allowed.take(), std::mem::take(&mut self.ends));
        let told = self.callbacks.sessions.try_with(|sessions| sessions.finish(client, allowed, ends));
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
        let urls = [&hooks.on_connect, &hooks.on_close, &hooks.on_update].into_iter().chain(own);
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
        let mut asking = Asking { callbacks: self, client: client.id, allowed: None, ends: Vec::new() };
        if must_connect {
            self.ask(Hook::Connect, hooks, client, stream, deadline)?;
            let ends = self.keep_end(Hook::Close, hooks, client, stream);
            self.sessions.with(|sessions| sessions.set_connected(client.id, ends));
        }
        let Grant { stream: name, expires_after, max_bitrate } = self.ask(hook, hooks, client, stream, deadline)?;
        // From now on the requested name, which may be a secret key, is not used any more.
        let stream = name.as_deref().map_or_else(|| stream.clone(), |name| renamed(stream, name));
        let end = if hook == Hook::Publish { Hook::Unpublish } else { Hook::Stop };
        asking.ends = self.keep_end(end, hooks, client, &stream);
        asking.allowed = Some((hook, stream));
        if let Some(time) = expires_after {
            self.expiry.set(client.id, st::now() + time);
        }
        if !hooks.on_update.is_empty() {
            self.recheck.add(client, hooks.recheck);
        }
        Ok(GateAnswer { stream: name, params: None, max_bitrate })
    }
}

/// Returns the description of the stream under its public name.
fn renamed(stream: &StreamInfo, name: &str) -> Arc<StreamInfo> {
    let StreamInfo { vhost, app, params, .. } = stream.clone();
    Arc::new(StreamInfo { name: format!("{vhost}/{app}/{name}"), vhost, app, stream: name.to_owned(), params })
}
