//! Targets of forwarding that a backend names (`backend` of `forward`).

use std::sync::Arc;
use std::time::Duration;

use super::HttpCallbacks;
use super::answer;
use super::hook::{Detail, Hook, Subject};
use super::questions::Question;
use crate::app::events::Event;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::config::{Target, Vhost};
use crate::log::quoted;
use crate::st::{self, LowClass};

const RETRY_PAUSE: Duration = Duration::from_secs(5);

impl HttpCallbacks {
    /// Asks for the targets of a stream, in a coroutine of its own, until there is an answer or the publication has ended.
    pub(super) fn ask_targets(&self, stream: &Arc<StreamInfo>, client: &Arc<ClientInfo>) {
        let config = self.ctx.config.get();
        if config.vhosts.get(&stream.vhost).is_none_or(|vhost| vhost.forward.backend.is_empty()) {
            return;
        }
        let (callbacks, stream, client) = (self.clone(), stream.clone(), client.clone());
        let name = stream.name.clone();
        let asking = move || {
            while callbacks.is_publishing(&client, &stream) {
                let config = callbacks.ctx.config.get();
                let Some(vhost) = config.vhosts.get(&stream.vhost).filter(|vhost| !vhost.forward.backend.is_empty())
                else {
                    return;
                };
                if let Some(targets) = callbacks.targets(vhost, &stream, &client) {
                    if callbacks.is_publishing(&client, &stream) {
                        let targets = Arc::new(targets);
                        let (stream, client) = (stream.clone(), client.clone());
                        callbacks.ctx.events.emit(&Event::ForwardTargets { stream, client, targets });
                    }
                    return;
                }
                st::sleep(RETRY_PAUSE);
            }
        };
        if let Err(error) = st::spawn_low_priority(LowClass::Requests, "on_forward", 0, asking) {
            log::error!("on_forward not asked, no memory for a coroutine: stream={name} error={}", quoted(error));
        }
    }

    fn is_publishing(&self, client: &ClientInfo, stream: &StreamInfo) -> bool {
        let client = self.ctx.clients.get(client.id).filter(|client| client.is_publishing());
        client.and_then(|client| client.stream_info()).is_some_and(|info| info.name == stream.name)
    }

    /// Asks all backends. Returns none if one gave no answer.
    fn targets(&self, vhost: &Vhost, stream: &StreamInfo, client: &ClientInfo) -> Option<Vec<Target>> {
        let hooks = &vhost.http_hooks;
        let subject = Subject { client: Some(client), stream: Some(stream), detail: Detail::None };
        let message = self.message(Hook::Forward, hooks, &subject);
        let mut targets = Vec::new();
        for url in &vhost.forward.backend {
            let deadline = st::now() + hooks.timeout * 2;
            let question = Question { hook: Hook::Forward, url, hooks, message: &message, deadline };
            let backend = self.backend(url);
            let reply = match self.request(&question) {
                Ok(reply) => reply,
                Err(error) => {
                    if backend.may_log_failure() {
                        let url = url.redacted();
                        log::warn!("on_forward failed, asked again: url={url} error={}", quoted(error));
                    }
                    return None;
                }
            };
            let Some(urls) = answer::read_targets(reply.status, &reply.body) else {
                backend.log_invalid_answer(Hook::Forward, url, &reply);
                continue;
            };
            for text in urls {
                match Target::parse(&text) {
                    Some(target) => targets.push(target),
                    None => log::warn!(
                        "on_forward target not valid: stream={} target={}",
                        stream.name,
                        quoted(Target::redact_word(&text))
                    ),
                }
            }
        }
        Some(targets)
    }
}
