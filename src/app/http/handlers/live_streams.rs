//! Live streams over HTTP: endless FLV files (HTTP-FLV), transport streams, MP3 and AAC, and the same over WebSocket.
//!
//! ```text
//! request ─> Target: vhost, application, stream ─> gates ─> join the stream ─> wait for a publisher ─> Viewer::run
//! ```
//!
//! A viewer is a player. Its connection ends with the stream.

mod target;
mod viewer;

use std::sync::Arc;
use std::time::Duration;

use self::target::Target;
use self::viewer::{Session, Viewer};
use crate::app::context::Context;
use crate::app::events::{Event, GateAction, GateRequest};
use crate::app::gates;
use crate::app::http::End;
use crate::app::http::exchange::Exchange;
use crate::app::http::response::Response;
use crate::app::http::router::Handler;
use crate::app::session::client::ClientKind;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::app::session::request::{AppRequest, StreamRequest};
use crate::app::stats::reporter::MessageCounts;
use crate::app::stream::{Consumer, Framing, Source, ViewerWire};
use crate::config::{Config, Vhost};
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::http::websocket::accept_key;
use crate::log::quoted;
use crate::rtmp::connect::Connect;
use crate::st;

/// Retry time in seconds for viewers that are not admitted: an overload lasts for seconds at least.
const RETRY_AFTER: u64 = 5;

/// Time after which the kernel asks whether a viewer that is sent nothing is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Bytes that a client may send before its stream starts.
const MAX_EARLY_INPUT: usize = 16 * 1024;

/// Header line for nginx, which then hands on each piece at once. Without it, viewers behind it get seconds at a time.
const NO_BUFFERING: (&str, &str) = ("X-Accel-Buffering", "no");

pub(crate) struct LiveStreamHandler {
    ctx: Context,
}

struct RequestedStream {
    request: StreamRequest,
    app: String,
    info: Arc<StreamInfo>,
}

impl LiveStreamHandler {
    pub(crate) fn new(ctx: Context) -> Self {
        Self { ctx }
    }

    /// Answers a HEAD: whether the stream is there now. Nobody is told of it, and callbacks are not asked.
    fn head(&self, target: &Target, client: &Arc<ClientInfo>, app: &AppRequest) -> Result<Response, CloseReason> {
        self.ask_connect(client, &app.vhost)?;
        let wanted = self.ask_immediate(target, client, app)?;
        let source = self.ctx.streams.get_or_create(&wanted.request.name, &wanted.request.vhost);
        if !source.is_live() {
            return Ok(not_published());
        }
        let (name, value) = NO_BUFFERING;
        Ok(Response::stream_until_close(target.content_type(), |_| Ok(())).with(name, value))
    }

    /// Answers a GET: asks the gates, joins the stream, and waits for its publisher. Returns `None` if there is none.
    fn play(
        &self,
        request: &Request,
        target: &Target,
        app: &AppRequest,
        info: &Arc<ClientInfo>,
        session: &Session,
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<Option<Response>, CloseReason> {
        let (ctx, client) = (&self.ctx, &session.client);
        self.ask_connect(info, &app.vhost)?;
        client.set_vhost(&app.vhost);
        client.set_info(info);
        ctx.events.emit(&Event::Connected(info.clone()));
        let wanted = self.ask_immediate(target, info, app)?;
        let question = question(GateAction::Play, info, Some(&wanted.info), &wanted.request.vhost);
        let granted = gates::ask_blocking(ctx, client, &question, &mut || exchange.read_early(MAX_EARLY_INPUT))?;
        let wanted = match granted.stream {
            None => wanted,
            Some(name) => wanted.renamed(&name, granted.params.as_deref())?,
        };
        let RequestedStream { request: stream, info: stream_info, .. } = wanted;
        let remux = &stream.vhost.http_remux;
        let accept = accept_key(&request.headers);
        let wire = ViewerWire {
            wire: target.wire(),
            framing: if accept.is_some() { Framing::WebSocket } else { Framing::Plain },
            has_audio: remux.has_audio,
            has_video: remux.has_video,
        };
        log::info!(
            "play started: stream={} wire={} address={} user_agent={}",
            stream.name,
            target.wire_name(accept.is_some()),
            client.address(),
            quoted(request.headers.get("user-agent").unwrap_or_default()),
        );
        let source = ctx.streams.get_or_create(&stream.name, &stream.vhost);
        let consumer = Arc::new(source.join_viewer(client.clone(), wire, stream_info.clone(), info.clone()));
        client.set_consumer(&consumer, &stream_info);
        client.set_stream_vhost(Some(&stream.vhost));
        if !self.wait_for_publisher(&source, &consumer, session, remux.wait, exchange)?
            || !target.supports(source.snapshot().codecs.audio)
        {
            return Ok(None);
        }
        // As for players of RTMP.
        let _ = client.stream.set_nodelay(stream.vhost.tcp_nodelay);
        let _ = client.stream.set_keepalive(KEEPALIVE_IDLE);
        let counted = consumer.clone();
        let registration = client.register(&ctx.stats.play, move || {
            let stats = counted.stats();
            MessageCounts { passed: stats.sent, dropped: stats.dropped }
        });
        let send_timeout = ctx.config.get().http_server.send_timeout;
        let viewer = Viewer::new(session.clone(), consumer, stream.name, wire.framing, send_timeout, registration);
        let response = match accept {
            Some(key) => Response::upgrade("websocket", |writer| viewer.run(writer)).with("Sec-WebSocket-Accept", key),
            None => Response::stream_until_close(target.content_type(), |writer| viewer.run(writer)),
        };
        let (name, value) = NO_BUFFERING;
        Ok(Some(response.with(name, value)))
    }

    /// Returns whether the stream that a request names is published, before gates may rename it.
    fn is_live(&self, target: &Target, app: &AppRequest, config: &Config) -> bool {
        let request = app.stream(&target.stream_with_params(), config);
        request.is_ok_and(|request| self.ctx.streams.find(&request.name).is_some_and(|source| source.is_live()))
    }

    fn ask_connect(&self, client: &Arc<ClientInfo>, vhost: &Arc<Vhost>) -> Result<(), CloseReason> {
        gates::ask_immediate(&self.ctx, &question(GateAction::Connect, client, None, vhost)).map(drop)
    }

    fn ask_immediate(
        &self,
        target: &Target,
        client: &Arc<ClientInfo>,
        app: &AppRequest,
    ) -> Result<RequestedStream, CloseReason> {
        let refused = |error: crate::app::session::request::Error| CloseReason::Refused(error.to_string());
        let request = app.stream(&target.stream_with_params(), &self.ctx.config.get()).map_err(refused)?;
        if !request.vhost.http_remux.enabled {
            return Err(CloseReason::Refused(format!("vhost {} has no http_remux", request.vhost.name)));
        }
        let wanted = RequestedStream::new(request, app.app.clone());
        let question = question(GateAction::Play, client, Some(&wanted.info), &wanted.request.vhost);
        let granted = gates::ask_immediate(&self.ctx, &question)?;
        match granted.stream {
            None => Ok(wanted),
            Some(name) => wanted.renamed(&name, granted.params.as_deref()),
        }
    }

    /// Waits until the stream is published. Returns false if nobody does in time.
    fn wait_for_publisher(
        &self,
        source: &Source,
        consumer: &Consumer,
        session: &Session,
        limit: Duration,
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<bool, CloseReason> {
        let deadline = st::now() + limit;
        while !source.is_live() {
            if let Some(reason) = session.client.close_requested() {
                return Err(reason);
            }
            if st::now() >= deadline || consumer.stream_ended() {
                return Ok(false);
            }
            exchange.read_early(MAX_EARLY_INPUT)?;
            // Catches up, so that the next batch wakes this coroutine.
            consumer.fill(&mut Vec::new());
            session.client.stream.wait(Some(deadline));
        }
        Ok(true)
    }
}

impl Handler for LiveStreamHandler {
    #[inline(never)] // Keeps its locals off the stack of a viewer.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_, '_>) -> Result<Option<Response>, End> {
        let config = self.ctx.config.get();
        let Some(target) = Target::find(request, &config) else { return Ok(None) };
        let connect = Connect::new(&target.app, &target.tc_url());
        let app = match AppRequest::new(&connect, &config) {
            Ok(app) => app,
            Err(error) => return Ok(Some(Response::text(Status::NotFound, &error.to_string()))),
        };
        let client = Arc::new(ClientInfo {
            id: exchange.number(),
            ip: exchange.peer().ip(),
            vhost: app.vhost.name.clone(),
            app: app.app.clone(),
            app_params: String::new(),
            tc_url: connect.tc_url.clone(),
            page_url: target.page_url.clone(),
            forward_route: String::new(),
            engine: None,
        });
        if !target.waits && !self.is_live(&target, &app, &config) {
            return Ok(None);
        }
        if request.method == Method::Head {
            return Ok(Some(self.head(&target, &client, &app).unwrap_or_else(|reason| refusal(&reason))));
        }
        let session =
            Session::new(&self.ctx, self.ctx.clients.add_viewer(exchange.number(), exchange.stream(), ClientKind::Flv));
        // After each of these responses the connection closes: a client plays once.
        let refused = match self.play(request, &target, &app, &client, &session, exchange) {
            Ok(Some(response)) => return Ok(Some(response)),
            Ok(None) => {
                session.end(&CloseReason::Refused("nobody publishes the stream".to_owned()));
                not_published()
            }
            Err(reason) => {
                session.end(&reason);
                if matches!(reason, CloseReason::ByPeer | CloseReason::Network(_)) {
                    return Err(End::ByPeer);
                }
                refusal(&reason)
            }
        };
        Ok(Some(Response { close: true, ..refused }))
    }
}

impl RequestedStream {
    fn new(request: StreamRequest, app: String) -> Self {
        let info = Arc::new(StreamInfo {
            vhost: request.vhost.name.clone(),
            app: app.clone(),
            stream: request.stream.clone(),
            name: request.name.clone(),
            params: request.params.clone(),
        });
        Self { request, app, info }
    }

    fn renamed(self, name: &str, params: Option<&str>) -> Result<Self, CloseReason> {
        let renamed = self.request.renamed(name, params);
        Ok(Self::new(renamed.map_err(|error| CloseReason::Refused(error.to_string()))?, self.app))
    }
}

fn question(
    action: GateAction,
    client: &Arc<ClientInfo>,
    stream: Option<&Arc<StreamInfo>>,
    vhost: &Arc<Vhost>,
) -> GateRequest {
    let (client, stream, vhost) = (client.clone(), stream.cloned(), vhost.clone());
    GateRequest { action, client, stream, vhost, is_granted: false }
}

fn not_published() -> Response {
    Response::text(Status::NotFound, "nobody publishes this stream")
}

fn refusal(reason: &CloseReason) -> Response {
    match reason {
        CloseReason::Memory(_) | CloseReason::Overload(_) | CloseReason::Full(_) | CloseReason::ServerStopped => {
            Response::text(Status::ServiceUnavailable, &reason.to_string()).with("Retry-After", RETRY_AFTER)
        }
        _ => Response::text(Status::Forbidden, &reason.to_string()),
    }
}
