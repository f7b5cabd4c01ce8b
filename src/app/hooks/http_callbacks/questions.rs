//! Questions: the gate of clients that publish and play.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::HttpCallbacks;
use super::answer::{self, Answer, Grant};
use super::backend::RequestError;
use super::hook::{Detail, Hook, Subject};
use super::sessions::key;
use super::spool::Receipt;
use crate::app::events::{Gate, GateAction, GateAnswer, GateRequest};
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{HookFormat, HookUrl, HttpHooks};
use crate::log::quoted;
use crate::st;

const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for all questions about one request of a client. It is shorter than the time that a connection waits for a gate.
const MAX_DECISION_TIME: Duration = Duration::from_secs(50);

pub(super) struct Question<'a> {
    pub(super) hook: Hook,
    pub(super) url: &'a HookUrl,
    pub(super) hooks: &'a HttpHooks,
    pub(super) message: &'a super::message::Message,
    pub(super) deadline: Instant,
}

/// A question that no backend has answered, and that `on_hook_failure` has decided for the client.
pub(super) struct UnansweredQuestion {
    pub(super) hook: Hook,
    pub(super) vhost: String,
    pub(super) url: HookUrl,
    /// The body, with the `event_id` that the backend may have seen.
    pub(super) text: String,
}

/// The request of a client on which backends decide.
struct Decision<'a> {
    hooks: &'a HttpHooks,
    client: &'a Arc<ClientInfo>,
    stream: &'a Arc<StreamInfo>,
    key: &'a str,
    deadline: Instant,
}

impl HttpCallbacks {
    /// Asks all backends of a callback one by one, until one refuses. Returns what they grant, and the unanswered questions.
    fn ask(&self, hook: Hook, decision: &Decision<'_>) -> Result<(Grant, Vec<UnansweredQuestion>), CloseReason> {
        let Decision { hooks, client, stream, key, deadline } = *decision;
        let (mut granted, mut unanswered) = (Grant::default(), Vec::new());
        let urls = hook.urls(hooks);
        if urls.is_empty() {
            return Ok((granted, unanswered));
        }
        let subject = Subject { client: Some(client), stream: Some(stream), detail: Detail::None };
        let message = self.message(hook, hooks, &subject);
        for url in urls {
            let question = Question { hook, url, hooks, message: &message, deadline };
            // The end of the publication before belongs before this question.
            let answer = match self.backend(url).wait_delivered(key, hooks.timeout) {
                Ok(()) => self.decide(&question),
                Err(error) => {
                    self.log_failure(&question, &error);
                    Err(error)
                }
            };
            match answer {
                Ok(Ok(grant)) => granted = granted.merge(grant),
                Ok(Err(why)) => return Err(CloseReason::Hook(why)),
                Err(_) if hooks.allow_on_failure => {
                    let (vhost, url, text) = (stream.vhost.clone(), url.clone(), message.text().to_owned());
                    unanswered.push(UnansweredQuestion { hook, vhost, url, text });
                }
                Err(_) => return Err(CloseReason::Hook("the callback backend is not available".to_owned())),
            }
        }
        Ok((granted, unanswered))
    }

    fn log_failure(&self, question: &Question<'_>, error: &RequestError) {
        let Question { hook, url, hooks, .. } = *question;
        let decision = if hooks.allow_on_failure { "allow" } else { "deny" };
        if self.backend(url).may_log_failure() {
            let (name, url) = (hook.name(), url.redacted());
            log::warn!("callback failed: hook={name} url={url} error={} on_hook_failure={decision}", quoted(error));
        }
    }

    /// Asks one backend. Returns what it grants, or why it refuses. Fails when all attempts got no answer, which is logged.
    pub(super) fn decide(&self, question: &Question<'_>) -> Result<Result<Grant, String>, RequestError> {
        let Question { hook, url, hooks, .. } = *question;
        let backend = self.backend(url);
        let reply = match self.request(question) {
            Ok(reply) => reply,
            Err(error) => {
                self.log_failure(question, &error);
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
                backend.log_invalid_answer(hook, url, &reply);
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
struct DecisionGuard<'a> {
    callbacks: &'a HttpCallbacks,
    client: &'a ClientInfo,
    hooks: &'a HttpHooks,
    key: String,
    allowed: Option<(Hook, Arc<StreamInfo>)>,
    ends: Vec<Receipt>,
    unanswered: Vec<UnansweredQuestion>,
}

impl DecisionGuard<'_> {
    fn queue_unanswered(&mut self) {
        let unanswered = std::mem::take(&mut self.unanswered);
        self.callbacks.queue_unanswered(&self.key, self.client, self.hooks, unanswered);
    }
}

impl Drop for DecisionGuard<'_> {
    fn drop(&mut self) {
        self.queue_unanswered();
        let (client, allowed, ends) = (self.client.id, self.allowed.take(), std::mem::take(&mut self.ends));
        let ends = self.callbacks.sessions.try_with(|sessions| sessions.finish(client, allowed, ends));
        ends.iter().flatten().for_each(|end| self.callbacks.queue_end(end));
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
        let key_of = |stream: &StreamInfo| key(hook, client, stream);
        let must_connect = self.sessions.with(|sessions| sessions.start(hook, client, stream));
        let mut guard = DecisionGuard {
            callbacks: self,
            client,
            hooks,
            key: key_of(stream),
            allowed: None,
            ends: Vec::new(),
            unanswered: Vec::new(),
        };
        let decision = Decision { hooks, client, stream, key: &key_of(stream), deadline };
        if must_connect {
            guard.unanswered = self.ask(Hook::Connect, &decision)?.1;
            let ends = self.spool_end(Hook::Close, hooks, client, stream);
            self.sessions.with(|sessions| sessions.set_connected(client.id, ends));
        }
        let (Grant { stream: name, expires_after, max_bitrate }, unanswered) = self.ask(hook, &decision)?;
        guard.unanswered.extend(unanswered);
        // From now on the requested name, which may be a secret key, is not used any more.
        let stream = name.as_deref().map_or_else(|| stream.clone(), |name| renamed(stream, name));
        guard.key = key_of(&stream);
        guard.queue_unanswered();
        let end = if hook == Hook::Publish { Hook::Unpublish } else { Hook::Stop };
        guard.ends = self.spool_end(end, hooks, client, &stream);
        guard.allowed = Some((hook, stream));
        if let Some(time) = expires_after {
            self.expiry.set(client.id, st::now() + time);
        }
        if !hooks.on_update.is_empty() {
            self.recheck.add(client, hooks.recheck);
        }
        Ok(GateAnswer { stream: name, params: None, max_bitrate })
    }
}

fn renamed(stream: &StreamInfo, name: &str) -> Arc<StreamInfo> {
    let StreamInfo { vhost, app, params, .. } = stream.clone();
    Arc::new(StreamInfo { name: format!("{vhost}/{app}/{name}"), vhost, app, stream: name.to_owned(), params })
}
