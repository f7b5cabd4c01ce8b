//! An RTMP client's connection, from handshake to close.
//!
//! | step | function | result |
//! |---|---|---|
//! | PROXY header, TLS, handshake | [`Connection::open`] | chunks can be read and written |
//! | `connect` | [`Connection::admit`] | vhost, page URL and forward route, or a rejection |
//! | `publish` | [`Connection::serve_publisher`] | media messages for the stream |
//! | `play` | [`Connection::serve_player`] | batches of the stream for the client |
//! | close | [`Connection::send_close_status`] | the status that names the reason; then the connection lingers |
//!
//! A connection publishes one stream or plays one stream at a time. A `play` during playback, on any message stream,
//! ends that playback with NetStream.Play.Stop and starts the new one. `play` from a publisher and `publish` from a
//! player are refused, and what runs continues. Clients that need two streams open two connections.

mod play;
mod publish;

use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crate::app::limits::fairness::{self, WorkQuantum};
use crate::app::outputs::forward::route::{self, Route};
use crate::app::rtmp::CLOSE_TIMEOUT;
use crate::app::server::Server;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::session::request::{self, AppRequest, StreamRequest};
use crate::codec::proxy::{self, Header};
use crate::config::{Action, ListenKind, refer_allows};
use crate::log::quoted;
use crate::memory::Category;
use crate::rtmp::server::{Connect, Event, Server as Rtmp};
use crate::rtmp::{self, handshake};
use crate::st::net::TcpStream;

/// Bytes of incomplete messages that a client may have in memory before it publishes: two of the longest commands.
const MAX_INCOMPLETE_COMMANDS: usize = 128 * 1024;

/// A connection after the handshake, on the heap: a waiting player's stack fits on two pages.
struct Connection<'a> {
    server: &'a Server,
    client: &'a Arc<Client>,
    rtmp: Rtmp<TcpStream>,
    /// The client's last receiveAudio and receiveVideo. They also hold for later playbacks.
    wants_audio: bool,
    wants_video: bool,
    quantum: WorkQuantum,
    /// Time without write progress after which the client is closed.
    send_timeout: Duration,
    close_status_sent: bool,
}

struct Admitted {
    app: AppRequest,
    page_url: String,
    /// The servers that the client's stream has passed, if the client is a forwarder.
    route: Route,
}

/// Serves a client until its connection ends. `too_many` is the reason to reject it, if the server is full.
pub(crate) fn serve(server: &Server, client: &Arc<Client>, kind: ListenKind, too_many: Option<String>) {
    let reason = match run(server, client, kind, too_many) {
        Ok(never) => match never {},
        Err(reason) => client.close_requested().unwrap_or(reason),
    };
    server.record_close(client, &reason);
}

fn run(
    server: &Server,
    client: &Arc<Client>,
    kind: ListenKind,
    too_many: Option<String>,
) -> Result<Infallible, CloseReason> {
    let (mut connection, form) = Connection::open(server, client, kind)?;
    let result = connection.run(form, too_many);
    if let Some(reason) = client.close_requested() {
        connection.send_close_status(0, "NetConnection.Connect.Closed", &reason);
    }
    result
}

/// Reads the PROXY header if the peer is a configured balancer, and sets the client's address from it.
#[inline(never)] // Keeps its locals off the stack of a waiting player.
fn read_proxy_header(server: &Server, client: &Client) -> Result<(), CloseReason> {
    let mut stream = &client.stream;
    let peer = stream.peer();
    if !server.config().proxy_protocol.iter().any(|balancer| balancer.contains(peer.ip())) {
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
    fn open(
        server: &'a Server,
        client: &'a Arc<Client>,
        kind: ListenKind,
    ) -> Result<(Box<Self>, handshake::Form), CloseReason> {
        let stream = &client.stream;
        let config = server.config();
        stream.set_write_timeout(Some(config.send_timeout));
        stream.set_time_limit(Some(config.handshake_timeout));
        read_proxy_header(server, client)?;
        server.tls_acceptor.accept(stream, kind)?;
        stream.count_unsent(|| server.memory.charge(Category::Tls));
        let (mut rtmp, form) = Rtmp::accept(stream.clone()).map_err(setup_error)?;
        rtmp.protocol().track_input(client.charge_incoming(&server.memory));
        rtmp.protocol().limit_incomplete(MAX_INCOMPLETE_COMMANDS);
        let connection = Self {
            server,
            client,
            rtmp,
            wants_audio: true,
            wants_video: true,
            quantum: WorkQuantum::default(),
            send_timeout: config.send_timeout,
            close_status_sent: false,
        };
        Ok((Box::new(connection), form))
    }

    fn run(&mut self, form: handshake::Form, too_many: Option<String>) -> Result<Infallible, CloseReason> {
        // The limit applies to `connect`, and then again to `publish` or `play`.
        self.start_command_timeout();
        let admitted = self.admit(form, too_many)?;
        self.start_command_timeout();
        loop {
            self.yield_if_used_up();
            let mut event = Some(self.rtmp.next_event().map_err(setup_error)?);
            // Publishing and playing can end with the client's next event, such as another `play`.
            while let Some(current) = event.take() {
                event = match current {
                    Event::Publish(publish) => {
                        let next = self.serve_publisher(&admitted, &publish)?;
                        self.start_command_timeout();
                        next
                    }
                    Event::Play(play) => {
                        let next = self.serve_player(&admitted, &play)?;
                        self.start_command_timeout();
                        next
                    }
                    Event::ReceiveAudio(wanted) => {
                        self.wants_audio = wanted;
                        None
                    }
                    Event::ReceiveVideo(wanted) => {
                        self.wants_video = wanted;
                        None
                    }
                    _ => None,
                };
            }
        }
    }

    fn start_command_timeout(&self) {
        self.client.stream.set_time_limit(Some(self.server.config().command_timeout));
    }

    /// Reads `connect`, checks it, and accepts or rejects the client.
    #[inline(never)] // As `read_proxy_header`.
    fn admit(&mut self, form: handshake::Form, too_many: Option<String>) -> Result<Admitted, CloseReason> {
        let connect = self.rtmp.connect().map_err(setup_error)?;
        if let Some(reason) = too_many.map(CloseReason::Full).or_else(|| self.server.admission_error()) {
            return Err(self.reject(connect, "NetConnection.Connect.Rejected", reason));
        }
        let app = match AppRequest::new(&connect, &self.server.config()) {
            Ok(app) => app,
            Err(error) => {
                let code = match error {
                    request::Error::NoVhost(_) | request::Error::Disabled(_) => "NetConnection.Connect.Rejected",
                    _ => "NetConnection.Connect.InvalidApp",
                };
                return Err(self.reject(connect, code, CloseReason::Refused(error.to_string())));
            }
        };
        if !refer_allows(&app.vhost.refer, &connect.page_url) {
            let reason = page_refused("refer", &connect.page_url);
            return Err(self.reject(connect, "NetConnection.Connect.Rejected", reason));
        }
        if app.vhost.tcp_nodelay {
            let _ = self.client.stream.set_nodelay(true);
        }
        log::info!(
            "connect accepted: vhost={} app={} tc_url={} page_url={} flash_ver={} handshake={form:?}",
            app.vhost.name,
            quoted(&app.app),
            quoted(&connect.tc_url),
            quoted(&connect.page_url),
            quoted(&connect.flash_ver),
        );
        self.client.set_vhost(&app.vhost);
        self.rtmp.accept_connect(&connect, app.vhost.chunk_size);
        let route = Route::parse(connect.text(route::CONNECT_PROPERTY));
        Ok(Admitted { app, page_url: connect.page_url, route })
    }

    /// Reads up to 32 KiB from the socket into the protocol, without waiting. Returns `None` if nothing has arrived.
    fn read_socket(&mut self) -> io::Result<Option<Result<(), rtmp::Error>>> {
        let protocol = self.rtmp.protocol();
        self.client.stream.try_read_with(|bytes| match bytes {
            [] => Err(rtmp::Error::Closed),
            bytes => protocol.feed(bytes),
        })
    }

    fn yield_if_used_up(&mut self) {
        self.quantum.yield_if_used_up(fairness::work_units(self.rtmp.protocol()));
    }

    /// Resolves the stream name of a `publish` or `play`, and checks `refer`, `security` and the server's load.
    fn resolve(&self, admitted: &Admitted, name: &str, is_publish: bool) -> Result<StreamRequest, CloseReason> {
        let request = admitted
            .app
            .stream(name, &self.server.config())
            .map_err(|error| CloseReason::Refused(error.to_string()))?;
        let vhost = &request.vhost;
        let own = if is_publish { ("refer_publish", &vhost.refer_publish) } else { ("refer_play", &vhost.refer_play) };
        // `refer` again: the stream's vhost can differ from the connection's.
        for (directive, list) in [("refer", &vhost.refer), own] {
            if !refer_allows(list, &admitted.page_url) {
                return Err(page_refused(directive, &admitted.page_url));
            }
        }
        // The load can have changed since `connect`.
        if let Some(reason) = self.server.admission_error() {
            return Err(reason);
        }
        let (action, verb) = if is_publish { (Action::Publish, "publish") } else { (Action::Play, "play") };
        let address = self.client.address().ip();
        if !vhost.security.allows(action, address) {
            let why = format!("security of vhost {} does not allow {address} to {verb}", vhost.name);
            return Err(CloseReason::Denied(why));
        }
        Ok(request)
    }

    fn reject(&mut self, connect: Connect, code: &str, reason: CloseReason) -> CloseReason {
        self.rtmp.reject_connect(&connect, code, &reason.to_string());
        // The connect object can be megabytes, which no memory tracker counts.
        drop(connect);
        self.graceful_close();
        reason
    }

    fn refuse(&mut self, stream_id: u32, code: &str, reason: CloseReason) -> CloseReason {
        self.rtmp.send_stream_error(stream_id, code, &reason.to_string());
        self.graceful_close();
        reason
    }

    /// Sends the reason of a close that the server requested, unless a close status was sent already.
    fn send_close_status(&mut self, stream_id: u32, code: &str, reason: &CloseReason) {
        if !self.close_status_sent {
            self.refuse(stream_id, code, reason.clone());
        }
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

fn page_refused(directive: &str, page_url: &str) -> CloseReason {
    CloseReason::Refused(format!("{directive} of the vhost does not allow the page {page_url:?}"))
}

/// Maps an error before the client publishes or plays to a close reason: a timeout is a slow start.
pub(crate) fn setup_error(error: rtmp::Error) -> CloseReason {
    match &error {
        rtmp::Error::Io(io) if io.kind() == io::ErrorKind::TimedOut => CloseReason::SlowStart,
        _ => close_reason(error),
    }
}

fn close_reason(error: rtmp::Error) -> CloseReason {
    match error {
        rtmp::Error::Closed => CloseReason::ByPeer,
        rtmp::Error::Io(io) => io_close_reason(&io),
        other => CloseReason::Protocol(other.to_string()),
    }
}

fn io_close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        // Many players close without a shutdown.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::ByPeer,
        io::ErrorKind::TimedOut => CloseReason::NotReading,
        _ => CloseReason::Network(error.to_string()),
    }
}
