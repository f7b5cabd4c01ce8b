//! An RTMP client's connection: its steps from open to close, whose order is in [`serve`](super::serve).

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crate::app::context::Context;
use crate::app::events::{Event, GateAction, GateAnswer, GateRequest};
use crate::app::gates;
use crate::app::limits::bandwidth_tests::TestRefusal;
use crate::app::limits::fairness::{self, WorkQuantum};
use crate::app::rtmp::CLOSE_TIMEOUT;
use crate::app::rtmp::errors::setup_error;
use crate::app::rtmp::pump::Pump;
use crate::app::rtmp::test_admission::{self, AdmittedTest};
use crate::app::rtmp::tls::TlsAcceptor;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::session::info::{ClientInfo, FORWARD_ROUTE_PROPERTY, StreamInfo};
use crate::app::session::request::{self, AppRequest, StreamRequest};
use crate::codec::proxy::{self, Header};
use crate::config::{Config, ListenKind, Vhost};
use crate::log::quoted;
use crate::memory::Category;
use crate::rtmp::connect::Connect;
use crate::rtmp::protocol::Protocol;
use crate::rtmp::server::Server as Rtmp;
use crate::rtmp::{self, handshake};
use crate::st::net::TcpStream;

/// Bytes of incomplete messages that a client may have in memory before it publishes: two of the longest commands.
const MAX_INCOMPLETE_COMMANDS: usize = 128 * 1024;

const MAX_URL_IN_REASON: usize = 255;

/// A connection after the handshake, on the heap: a waiting player's stack fits on one page.
pub(super) struct Connection<'a> {
    pub(super) ctx: &'a Context,
    pub(super) client: &'a Arc<Client>,
    pub(super) rtmp: Rtmp<TcpStream>,
    /// The client's last receiveAudio and receiveVideo. They also hold for later playbacks.
    pub(super) wants_audio: bool,
    pub(super) wants_video: bool,
    pub(super) test: Option<Box<AdmittedTest>>,
    quantum: WorkQuantum,
    /// Time without write progress after which the client is closed.
    pub(super) send_timeout: Duration,
    close_status_sent: bool,
}

pub(super) struct Admitted {
    pub(super) app: AppRequest,
    pub(super) info: Arc<ClientInfo>,
}

/// Reads the PROXY header if the peer is a configured balancer, and sets the client's address from it.
#[inline(never)] // Keeps its locals off the stack of a waiting player.
fn read_proxy_header(ctx: &Context, client: &Client) -> Result<(), CloseReason> {
    let mut stream = &client.stream;
    let peer = stream.peer();
    if !ctx.config.get().proxy_protocol.iter().any(|balancer| balancer.contains(peer.ip())) {
        log::info!("client connected: address={peer}");
        return Ok(());
    }
    let mut header = Vec::new();
    let origin = loop {
        match proxy::parse(&header).map_err(|error| CloseReason::Proxy(error.to_string()))? {
            Header::Complete(origin) => break origin,
            Header::Incomplete(missing) => {
                let read = header.len();
                header.resize(read + missing, 0);
                stream.read_exact(&mut header[read..]).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => CloseReason::ByPeer,
                    _ => setup_error(error.into()),
                })?;
            }
        }
    };
    match origin {
        Some(origin) => {
            client.set_remote_addr(origin);
            log::info!("client connected: address={} proxy={peer}", client.address());
        }
        None => log::info!("client connected: address={peer} proxy=local"),
    }
    Ok(())
}

impl<'a> Connection<'a> {
    /// Reads the PROXY header and does the TLS and RTMP handshakes.
    #[inline(never)] // As `read_proxy_header`.
    pub(super) fn open(
        ctx: &'a Context,
        tls: &TlsAcceptor,
        client: &'a Arc<Client>,
        kind: ListenKind,
    ) -> Result<(Box<Self>, handshake::Form), CloseReason> {
        let stream = &client.stream;
        let config = ctx.config.get();
        stream.set_write_timeout(Some(config.send_timeout));
        stream.set_time_limit(Some(config.handshake_timeout));
        read_proxy_header(ctx, client)?;
        tls.accept(stream, kind)?;
        stream.count_unsent(|| ctx.memory.charge(Category::Tls));
        let (mut rtmp, form) = Rtmp::accept(stream.clone()).map_err(setup_error)?;
        rtmp.protocol().track_input(client.charge_incoming(&ctx.memory));
        rtmp.protocol().limit_incomplete(MAX_INCOMPLETE_COMMANDS);
        let connection = Self {
            ctx,
            client,
            rtmp,
            wants_audio: true,
            wants_video: true,
            test: None,
            quantum: WorkQuantum::default(),
            send_timeout: config.send_timeout,
            close_status_sent: false,
        };
        Ok((Box::new(connection), form))
    }

    pub(super) fn start_command_timeout(&self) {
        self.client.stream.set_time_limit(Some(self.ctx.config.get().command_timeout));
    }

    #[inline(never)] // As `read_proxy_header`.
    pub(super) fn admit(&mut self, form: handshake::Form, too_many: Option<String>) -> Result<Admitted, CloseReason> {
        let connect = self.rtmp.connect().map_err(setup_error)?;
        if let Some(reason) = too_many.map(CloseReason::Full) {
            return Err(self.reject(connect, "NetConnection.Connect.Rejected", reason));
        }
        let app = match AppRequest::new(&connect, &self.ctx.config.get()) {
            Ok(app) => app,
            Err(error) => {
                let code = match error {
                    request::Error::NoVhost(_) | request::Error::Disabled(_) => "NetConnection.Connect.Rejected",
                    _ => "NetConnection.Connect.InvalidApp",
                };
                let reason = refusal(&error, &self.ctx.config.get(), &connect.tc_url, &connect.app, None);
                return Err(self.reject(connect, code, reason));
            }
        };
        let is_test = app.vhost.bandcheck.enabled;
        let info = Arc::new(ClientInfo {
            id: self.client.number,
            ip: self.client.address().ip(),
            vhost: app.vhost.name.clone(),
            app: app.app.clone(),
            app_params: if is_test { String::new() } else { app.params.clone() },
            tc_url: if is_test { connect.tc_url_without_params().to_owned() } else { connect.tc_url.clone() },
            page_url: connect.page_url.clone(),
            forward_route: connect.text(FORWARD_ROUTE_PROPERTY).to_owned(),
            engine: None,
        });
        let (action, vhost) = (GateAction::Connect, app.vhost.clone());
        let request = GateRequest { action, client: info.clone(), stream: None, vhost, is_granted: false };
        let passed = gates::ask_immediate(self.ctx, &request);
        if let Err(reason) = passed.and_then(|_| self.ask_blocking_gates(&request).map(drop)) {
            return Err(self.reject(connect, "NetConnection.Connect.Rejected", reason));
        }
        if is_test {
            match test_admission::start(self.ctx, self.client, &connect, &app) {
                Ok(test) => self.test = Some(test),
                Err(refusal) => return Err(self.refuse_test(connect, refusal)),
            }
        }
        if app.vhost.tcp_nodelay {
            let _ = self.client.stream.set_nodelay(true);
        }
        log::info!(
            "connect accepted: vhost={} app={} tc_url={} page_url={} flash_ver={} handshake={form:?}",
            app.vhost.name,
            quoted(&app.app),
            quoted(&info.tc_url),
            quoted(&connect.page_url),
            quoted(&connect.flash_ver),
        );
        self.client.set_vhost(&app.vhost);
        match self.test {
            None => self.rtmp.accept_connect(&connect, app.vhost.chunk_size),
            Some(_) => {
                self.rtmp.accept_test(&connect, app.vhost.chunk_size, test_admission::server_data(self.client));
            }
        }
        self.client.set_info(&info);
        self.ctx.events.emit(&Event::Connected(info.clone()));
        Ok(Admitted { app, info })
    }

    pub(super) fn yield_if_used_up(&mut self) {
        self.quantum.yield_if_used_up(fairness::work_units(self.rtmp.protocol()));
    }

    /// Removes the token of an engine from the name of a stream. Returns the client as the engine that it is, if it is one.
    #[inline(never)] // As `read_proxy_header`.
    pub(super) fn identify(&self, admitted: &Admitted, name: &mut String) -> Option<Box<Admitted>> {
        let local = self.client.stream.local_addr().ok();
        let engine = self.ctx.engines.identify(name, self.client.address().ip(), local)?;
        self.client.set_engine(&engine);
        let info = ClientInfo { engine: Some(engine), ..(*admitted.info).clone() };
        Some(Box::new(Admitted { app: admitted.app.clone(), info: Arc::new(info) }))
    }

    pub(super) fn resolve(&self, admitted: &Admitted, name: &str) -> Result<StreamRequest, CloseReason> {
        let config = self.ctx.config.get();
        let request = admitted.app.stream(name, &config);
        let request =
            request.map_err(|error| refusal(&error, &config, &admitted.info.tc_url, &admitted.app.app, Some(name)))?;
        if request.vhost.bandcheck.enabled {
            return Err(CloseReason::Refused(format!("vhost {} is for bandwidth tests only", request.vhost.name)));
        }
        Ok(request)
    }

    pub(super) fn ask_blocking_gates(&mut self, request: &GateRequest) -> Result<GateAnswer, CloseReason> {
        let (stream, protocol) = (&self.client.stream, self.rtmp.protocol());
        gates::ask_blocking(self.ctx, self.client, request, &mut || read_early_input(stream, protocol))
    }

    fn reject(&mut self, connect: Connect, code: &str, reason: CloseReason) -> CloseReason {
        self.rtmp.reject_connect(&connect, code, &reason.to_string());
        // The connect object can be megabytes, which no memory tracker counts.
        drop(connect);
        self.graceful_close();
        reason
    }

    /// Refuses a bandwidth test. A client that came too early is told in the form of SRS.
    fn refuse_test(&mut self, connect: Connect, refusal: TestRefusal) -> CloseReason {
        const CODE: &str = "NetConnection.Connect.Rejected";
        match refusal {
            TestRefusal::Wait(_) => self.refuse(0, CODE, CloseReason::Busy(refusal.to_string())),
            _ => self.reject(connect, CODE, CloseReason::Refused(refusal.to_string())),
        }
    }

    pub(super) fn refuse(&mut self, stream_id: u32, code: &str, reason: CloseReason) -> CloseReason {
        self.rtmp.send_stream_error(stream_id, code, &reason.to_string());
        self.graceful_close();
        reason
    }

    /// Sends the reason of a close that the server requested, unless a close status was sent already.
    pub(super) fn send_close_status(&mut self, stream_id: u32, code: &str, reason: &CloseReason) {
        if !self.close_status_sent {
            self.refuse(stream_id, code, reason.clone());
        }
    }

    /// Finishes the message that `pump` is writing, and sends the reason of the close after it.
    #[inline(never)] // Keeps its buffer off the stack of a waiting player.
    pub(super) fn close_stream(&mut self, pump: &mut Pump<'_>, stream_id: u32, code: &str, reason: &CloseReason) {
        if pump.finish_before_close(self.rtmp.protocol()).is_ok() {
            self.send_close_status(stream_id, code, reason);
        }
        self.close_status_sent = true;
    }

    /// Flushes the queued replies, and lingers so that the client can read them (see [`TcpStream::linger`]).
    fn graceful_close(&mut self) {
        self.close_status_sent = true;
        // The input may be the reason for the close.
        self.rtmp.protocol().discard_input();
        let stream = &self.client.stream;
        stream.resume();
        stream.set_time_limit(Some(CLOSE_TIMEOUT));
        if self.rtmp.flush().is_ok() {
            stream.linger(u64::MAX);
        }
    }
}

fn read_early_input(stream: &TcpStream, protocol: &mut Protocol<TcpStream>) -> Result<bool, CloseReason> {
    let fed = stream.try_read_with(|bytes| match bytes {
        [] => Err(rtmp::Error::Closed),
        bytes => protocol.feed(bytes),
    });
    match fed? {
        Some(result) => Ok(result.map(|()| true)?),
        None => Ok(false),
    }
}

/// Returns the reason for the refusal of a URL, with the URL but without parameters, which can be secret. The reason is logged:
/// the URL is left out if any vhost has secret keys as stream names, since the place of the key in it is not known.
fn refusal(error: &request::Error, config: &Config, tc_url: &str, app: &str, stream: Option<&str>) -> CloseReason {
    let has_keys = |vhost: &Arc<Vhost>| {
        vhost.security.stream_keys.is_some() || vhost.http_hooks.enabled && !vhost.http_hooks.on_publish.is_empty()
    };
    if config.vhosts.values().any(has_keys) {
        return CloseReason::Refused(error.to_string());
    }
    let shown = |text: &str| {
        let without_params = text.split('?').next().unwrap_or_default();
        without_params.chars().filter(|c| !c.is_control()).take(MAX_URL_IN_REASON).collect::<String>()
    };
    let stream = stream.map(|stream| format!(" stream={}", shown(stream))).unwrap_or_default();
    CloseReason::Refused(format!("{error} (the client sent tcUrl={} app={}{stream})", shown(tc_url), shown(app)))
}

pub(super) fn gate_request(
    action: GateAction,
    admitted: &Admitted,
    stream: &Arc<StreamInfo>,
    vhost: &Arc<Vhost>,
) -> GateRequest {
    let (client, stream, vhost) = (admitted.info.clone(), Some(stream.clone()), vhost.clone());
    GateRequest { action, client, stream, vhost, is_granted: false }
}

pub(super) fn stream_info(request: &StreamRequest) -> Arc<StreamInfo> {
    Arc::new(StreamInfo {
        vhost: request.vhost.name.clone(),
        app: request.app.clone(),
        stream: request.stream.clone(),
        name: request.name.clone(),
        params: request.params.clone(),
    })
}

/// A stream that a client may publish or play as far as the gates have decided.
pub(super) struct CheckedRequest {
    pub(super) request: StreamRequest,
    pub(super) info: Arc<StreamInfo>,
    pub(super) gate_request: GateRequest,
    pub(super) max_bitrate: Option<u64>,
}

pub(super) fn ask_immediate(
    ctx: &Context,
    action: GateAction,
    admitted: &Admitted,
    request: StreamRequest,
) -> Result<CheckedRequest, CloseReason> {
    let info = stream_info(&request);
    let gate_request = gate_request(action, admitted, &info, &request.vhost);
    let granted = gates::ask_immediate(ctx, &gate_request)?;
    let passed = CheckedRequest { request, info, gate_request, max_bitrate: granted.max_bitrate };
    passed.rename(ctx, granted)
}

impl CheckedRequest {
    /// Takes the granted name, and asks the immediate gates again: a forwarded stream may come back under its public name.
    pub(super) fn rename(self, ctx: &Context, granted: GateAnswer) -> Result<Self, CloseReason> {
        let max_bitrate = self.max_bitrate.into_iter().chain(granted.max_bitrate).min();
        let Some(name) = granted.stream else { return Ok(Self { max_bitrate, ..self }) };
        let renamed = self.request.renamed(&name, granted.params.as_deref());
        let request = renamed.map_err(|error| CloseReason::Refused(error.to_string()))?;
        let info = stream_info(&request);
        let gate_request = GateRequest { stream: Some(info.clone()), is_granted: true, ..self.gate_request };
        gates::ask_immediate(ctx, &gate_request)?;
        Ok(Self { request, info, gate_request, max_bitrate })
    }
}
