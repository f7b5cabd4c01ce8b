//! The clients that backends are asked about from time to time (`on_update`).

use std::sync::Arc;
use std::time::Duration;

use super::HttpCallbacks;
use super::hook::{Detail, Hook, Subject};
use super::questions::Question;
use crate::app::session::close::CloseReason;
use crate::app::session::info::ClientInfo;
use crate::st::{self, LowClass, Shared};

const CHECK_INTERVAL: Duration = Duration::from_millis(500);

const MAX_CONCURRENT_QUESTIONS: usize = 64;

impl HttpCallbacks {
    /// Asks about clients that are due, for ever. Sleeps while there are none.
    pub(super) fn run_recheck(&self) {
        let recheck = &self.recheck;
        loop {
            while recheck.clients.with(|clients| clients.is_empty()) {
                recheck.added.wait();
            }
            let free = MAX_CONCURRENT_QUESTIONS.saturating_sub(recheck.running.with(|running| *running));
            for (client, time) in recheck.take_due(st::now(), free) {
                let (callbacks, running) = (self.clone(), RunningQuestion::start(&recheck.running));
                // Without memory for a coroutine, the closure is dropped; the client is asked about the next time.
                let _ = st::spawn_low_priority(LowClass::Requests, "callback recheck", client.id, move || {
                    let _running = running;
                    callbacks.update(&client, time);
                });
            }
            st::sleep(CHECK_INTERVAL);
        }
    }

    /// Asks about a client, and disconnects it if a backend refuses. A backend that does not answer refuses nobody.
    fn update(&self, client: &Arc<ClientInfo>, time: Duration) {
        let allowed = self.sessions.with(|sessions| sessions.allowed(client.id).cloned());
        let Some((hook, stream)) = allowed else { return };
        let config = self.ctx.config.get();
        let Some(vhost) = config.vhosts.get(&stream.vhost).filter(|vhost| vhost.http_hooks.enabled) else { return };
        let hooks = &vhost.http_hooks;
        let detail = Detail::Update { is_publishing: hook == Hook::Publish, seconds: time.as_secs() };
        let subject = Subject { client: Some(client), stream: Some(&stream), detail };
        let message = self.message(Hook::Update, hooks, &subject);
        for url in &hooks.on_update {
            let deadline = st::now() + hooks.timeout;
            let question = Question { hook: Hook::Update, url, hooks, message: &message, deadline };
            match self.decide(&question) {
                Ok(Err(why)) => {
                    self.ctx.disconnect(client.id, CloseReason::Hook(why));
                    return;
                }
                Ok(Ok(grant)) => {
                    if let Some(time) = grant.expires_after {
                        self.expiry.set(client.id, st::now() + time);
                    }
                }
                Err(_) => {}
            }
        }
    }
}

/// Guard that counts a question until it is dropped.
struct RunningQuestion(Shared<usize>);

impl RunningQuestion {
    fn start(running: &Shared<usize>) -> Self {
        running.with(|running| *running += 1);
        Self(running.clone())
    }
}

impl Drop for RunningQuestion {
    fn drop(&mut self) {
        self.0.try_with(|running| *running -= 1);
    }
}
