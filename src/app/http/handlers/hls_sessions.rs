//! Sessions of HLS viewers (`hls { sessions on; }`): viewers are clients as players of RTMP are. Gates are asked, so that
//! callbacks decide about them, and events tell of their begin and end.
//!
//! ```text
//! cam.m3u8 ──> gates ──> master playlist: cam.m3u8?hls_ctx=ID ──> cam-1.ts?hls_ctx=ID … ──> no request for a while: end
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::context::{Context, Feature};
use crate::app::events::{Event, GateAction, GateAnswer, GateRequest};
use crate::app::gates;
use crate::app::http::exchange::Exchange;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::signed_url::without_param;
use crate::app::session::viewers::Viewer;
use crate::app::stream::StreamEvent;
use crate::config::Vhost;
use crate::http::request::Request;
use crate::log::quoted;
use crate::memory::Category;
use crate::st;

/// The parameter of a session, which SRS has too.
pub(super) const SESSION: &str = "hls_ctx";

const SESSION_DIGITS: usize = 32;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time that a viewer may be late with its next request.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Memory of a viewer beside the parameters of its request, in bytes, measured with names of usual length.
const VIEWER_BYTES: usize = 1024;

/// Longest address of a page that is kept, in bytes.
const MAX_PAGE_URL: usize = 1024;

#[derive(Clone)]
pub(crate) struct HlsSessions {
    ctx: Context,
}

impl HlsSessions {
    pub(crate) fn new(ctx: Context) -> Self {
        Self { ctx }
    }

    /// Starts a session for the stream `APP/STREAM`. May wait for gates. Returns the stream that is granted. Errors: the refusal.
    pub(super) fn start(
        &self,
        session: &str,
        request: &Request,
        vhost: &Arc<Vhost>,
        stream: &str,
        exchange: &Exchange<'_, '_>,
    ) -> Result<Arc<StreamInfo>, CloseReason> {
        let since = st::now();
        let charge = Arc::new(self.ctx.memory.charge(Category::Http));
        charge.set(VIEWER_BYTES + 2 * request.query.as_str().len());
        let (app, name) = stream.rsplit_once('/').unwrap_or(("", stream));
        let host = request.headers.get("host").unwrap_or_default();
        let page_url = request.headers.get("referer").filter(|url| url.len() <= MAX_PAGE_URL).unwrap_or_default();
        let client = Arc::new(ClientInfo {
            id: self.ctx.clients.next_number(),
            ip: exchange.peer().ip(),
            vhost: vhost.name.clone(),
            app: app.to_owned(),
            app_params: String::new(),
            tc_url: format!("http://{host}/{app}"),
            page_url: page_url.to_owned(),
            forward_route: String::new(),
            engine: None,
        });
        let requested = Arc::new(StreamInfo {
            vhost: vhost.name.clone(),
            app: app.to_owned(),
            stream: name.to_owned(),
            name: format!("{}/{stream}", vhost.name),
            params: without_param(request.query.as_str(), SESSION),
        });
        self.ctx.events.emit(&Event::Connected(client.clone()));
        let granted = self.ask(&client, &requested, vhost).and_then(|granted| {
            let info = match granted.stream {
                None => requested.clone(),
                Some(name) if is_plain(&name) => Arc::new(StreamInfo {
                    name: format!("{}/{app}/{name}", vhost.name),
                    stream: name,
                    ..StreamInfo::clone(&requested)
                }),
                Some(_) => return Err(CloseReason::Refused("the granted name cannot be that of a stream".to_owned())),
            };
            let viewer = Viewer {
                client: client.clone(),
                requested: requested.name.clone(),
                stream: info.clone(),
                since,
                last: st::now(),
                timeout: timeout(vhost),
                bytes: 0,
                close: None,
                _charge: charge.clone(),
            };
            if self.ctx.viewers.add(session, viewer) {
                return Ok(info);
            }
            Err(CloseReason::Full("too many viewers".to_owned()))
        });
        match &granted {
            Ok(info) => {
                let (address, user_agent) = (exchange.peer(), request.headers.get("user-agent").unwrap_or_default());
                log::info!(
                    "play started: stream={} wire=hls client={} address={address} user_agent={}",
                    info.name,
                    client.id,
                    quoted(user_agent)
                );
                let (stream, client) = (info.clone(), client);
                self.ctx.events.emit(&Event::Stream(StreamEvent::Played { stream, client }));
            }
            Err(reason) => self.emit_closed(&client, reason.clone(), since, 0),
        }
        granted
    }

    fn ask(
        &self,
        client: &Arc<ClientInfo>,
        stream: &Arc<StreamInfo>,
        vhost: &Arc<Vhost>,
    ) -> Result<GateAnswer, CloseReason> {
        let (client, stream, vhost) = (client.clone(), Some(stream.clone()), vhost.clone());
        let question = GateRequest { action: GateAction::Play, client, stream, vhost, is_granted: false };
        let granted = gates::ask_immediate(&self.ctx, &question)?;
        let mut waiting = self.ctx.events.gates().iter().filter(|gate| gate.may_block(&question));
        waiting.try_fold(granted, |granted, gate| gate.check(&question).map(|answer| granted.merge(answer)))
    }

    fn run(&self) {
        loop {
            st::sleep(CHECK_INTERVAL);
            self.ctx.viewers.reap(st::now()).into_iter().for_each(|viewer| self.end(viewer));
        }
    }

    fn end(&self, viewer: Viewer) {
        let Viewer { client, stream, since, bytes, close, .. } = viewer;
        log::info!("play stopped: stream={} wire=hls client={} bytes={bytes}", stream.name, client.id);
        self.ctx.events.emit(&Event::Stream(StreamEvent::Stopped { stream, client: client.clone() }));
        self.emit_closed(&client, close.unwrap_or(CloseReason::ByPeer), since, bytes);
    }

    fn emit_closed(&self, client: &Arc<ClientInfo>, reason: CloseReason, since: Instant, bytes_out: u64) {
        let (client, lasted) = (client.clone(), st::now().saturating_duration_since(since));
        self.ctx.events.emit(&Event::Closed { client, reason, lasted, bytes_in: 0, bytes_out });
    }
}

impl Feature for HlsSessions {
    fn name(&self) -> &'static str {
        "hls_sessions"
    }

    fn start(&self) -> io::Result<()> {
        let sessions = self.clone();
        st::spawn_supervised("hls sessions", move || sessions.run())
    }

    /// Ends all sessions, so that the backends of callbacks are told.
    fn flush(&self, _: Instant) {
        self.ctx.viewers.take_all().into_iter().for_each(|viewer| self.end(viewer));
    }
}

/// Returns a new session, which nobody can guess. None without random numbers.
pub(super) fn new_session() -> Option<String> {
    let mut random = [0; SESSION_DIGITS / 2];
    getrandom::fill(&mut random).ok()?;
    Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn is_session(text: &str) -> bool {
    text.len() == SESSION_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the time without a request after which a viewer has left: players ask for the playlist once in each target duration.
fn timeout(vhost: &Vhost) -> Duration {
    let target = vhost.hls.fragment.as_millis() as u64 * vhost.hls.td_ratio / 1000;
    Duration::from_millis(2 * target) + MAX_DELAY
}

/// Returns whether a name is that of a file in the same directory.
fn is_plain(name: &str) -> bool {
    let bad_part = |part: &str| part.is_empty() || part == "." || part.contains("..");
    !name.contains(['?', '\\', '#']) && !name.split('/').any(bad_part) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_32_digits() {
        let (one, two) = (new_session().unwrap(), new_session().unwrap());
        assert!(is_session(&one) && is_session(&two) && one != two);
        for bad in ["", "0123", "0123456789abcdef0123456789abcdeF", "0123456789abcdef0123456789abcde\u{e9}"] {
            assert!(!is_session(bad), "{bad}");
        }
    }

    #[test]
    fn a_granted_name_stays_in_its_application() {
        assert!(is_plain("cam") && is_plain("a/b") && is_plain("cam.2"));
        for bad in ["", "../x", "a//b", "a?b", "a\\b", "a\nb", "./a"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
