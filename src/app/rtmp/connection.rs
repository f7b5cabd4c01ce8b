//! A client's life, from handshake to close.
//!
//! A connection does one thing at a time: it publishes one stream or plays one. `play` while it plays, on whatever message stream,
//! ends what it played (the client is told NetStream.Play.Stop of that) and begins anew; `play` of a publisher and `publish` of a
//! player are refused, and what goes on goes on. Who wants two streams opens two connections, as all players do.

mod play;
mod publish;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crate::app::limits::fairness::{self, Slice};
use crate::app::outputs::forward::route::{self, Route};
use crate::app::server::Server;
use crate::app::session::client::Client;
use crate::app::session::close::CloseReason;
use crate::app::session::request::{self, AppRequest, StreamRequest};
use crate::codec::proxy::{self, Header};
use crate::config::{Action, ListenKind, refer_allows};
use crate::memory::Part;
use crate::rtmp::server::{Connect, Event, Server as Rtmp};
use crate::rtmp::{self, handshake};
use crate::st::net::TcpStream;

/// What may have come of messages that are not complete of a client that has not published, in bytes: of two of the longest commands.
const MAX_COMMANDS: usize = 128 * 1024;

/// How long a client that was refused is listened to, so that what it was told arrives, see [`TcpStream::linger`].
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection to a client.
struct Connection<'a> {
    server: &'a Server,
    client: &'a Arc<Client>,
    rtmp: Rtmp<TcpStream>,
    /// What the client has said that it wants to get, whether it played already or not.
    wants_audio: bool,
    wants_video: bool,
    slice: Slice,
    /// How long it may take nothing of what it is sent.
    send_timeout: Duration,
    /// It has been told why it is to go.
    has_parted: bool,
}

/// A client that has been let in.
struct Admitted {
    app: AppRequest,
    /// The page that the client is on, as it says.
    page_url: String,
    /// The servers that its streams came over, if it is a forwarder of one.
    route: Route,
}

/// Serves a client until it is gone. `kind`: what it is expected to speak. `too_many`: why it is to be turned away, if it is.
pub(crate) fn serve(server: &Server, client: &Arc<Client>, kind: ListenKind, too_many: Option<String>) {
    let reason = match converse(server, client, kind, too_many) {
        Ok(never) => match never {},
        Err(reason) => client.told().unwrap_or(reason),
    };
    server.account(client, &reason);
}

/// Ends, with the reason, when the connection does.
enum Never {}

fn converse(
    server: &Server,
    client: &Arc<Client>,
    kind: ListenKind,
    too_many: Option<String>,
) -> Result<Never, CloseReason> {
    let (mut connection, form) = Connection::open(server, client, kind)?;
    let result = connection.converse(form, too_many);
    if let Some(reason) = client.told() {
        connection.part(0, "NetConnection.Connect.Closed", &reason);
    }
    result
}

/// Learns where the client comes from: from its balancer, if it has one.
#[inline(never)] // What it needs is not to be on the stack of a player that waits.
fn greet(server: &Server, client: &Client) -> Result<(), CloseReason> {
    let mut stream = &client.stream;
    let peer = stream.peer();
    if !server.config().proxy_protocol.iter().any(|balancer| balancer.contains(peer.ip())) {
        log::info!("client {peer} connected");
        return Ok(());
    }
    let mut header = Vec::new();
    let origin = loop {
        match proxy::parse(&header).map_err(|error| CloseReason::Proxy(error.to_string()))? {
            Header::Whole(origin) => break origin,
            Header::Needs(more) => {
                let read = header.len();
                header.resize(read + more, 0);
                stream.read_exact(&mut header[read..]).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => CloseReason::ByPeer,
                    _ => in_start(error.into()),
                })?;
            }
        }
    };
    match origin {
        Some(origin) => {
            client.comes_from(origin);
            log::info!("client {} connected through {peer}", client.address());
        }
        None => log::info!("client {peer} connected, a balancer that names nobody"),
    }
    Ok(())
}

impl<'a> Connection<'a> {
    /// Hears who is there and in what it speaks, up to the end of the handshake. What a connection is made of is put on the heap: a
    /// stack takes whole pages, and what players wait with fits on two.
    #[inline(never)] // As `greet`.
    fn open(
        server: &'a Server,
        client: &'a Arc<Client>,
        kind: ListenKind,
    ) -> Result<(Box<Self>, handshake::Form), CloseReason> {
        let stream = &client.stream;
        let config = server.config();
        stream.set_write_timeout(Some(config.send_timeout));
        stream.set_time_limit(Some(config.handshake_timeout));
        greet(server, client)?;
        server.rtmps.secure(stream, kind)?;
        stream.count_unsent(|| server.account.hold(Part::Tls));
        let (mut rtmp, form) = Rtmp::accept(stream.clone()).map_err(in_start)?;
        rtmp.protocol().count_incoming(client.hold_incoming(&server.account));
        rtmp.protocol().limit_incoming(MAX_COMMANDS);
        let connection = Self {
            server,
            client,
            rtmp,
            wants_audio: true,
            wants_video: true,
            slice: Slice::default(),
            send_timeout: config.send_timeout,
            has_parted: false,
        };
        Ok((Box::new(connection), form))
    }

    fn converse(&mut self, form: handshake::Form, too_many: Option<String>) -> Result<Never, CloseReason> {
        // For `connect`; the time for `publish` or `play` begins when the client is in.
        self.limit_commands();
        let admitted = self.admit(form, too_many)?;
        self.limit_commands();
        loop {
            self.take_turns();
            let mut event = Some(self.rtmp.next_event().map_err(in_start)?);
            // What a client does may end in what it does next: playing in playing something else.
            while let Some(now) = event.take() {
                event = match now {
                    Event::Publish(publish) => {
                        let next = self.publishing(&admitted, &publish)?;
                        self.limit_commands();
                        next
                    }
                    Event::Play(play) => {
                        let next = self.playing(&admitted, &play)?;
                        self.limit_commands();
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
                    // There is nothing to stop, to pause, or to take media for.
                    _ => None,
                };
            }
        }
    }

    /// From now on, the client has so much time to say what it wants.
    fn limit_commands(&self) {
        self.client.stream.set_time_limit(Some(self.server.config().command_timeout));
    }

    /// Hears what the client connects to and lets it in, or tells it why not.
    #[inline(never)] // What it needs is not to be on the stack of a player that waits.
    fn admit(&mut self, form: handshake::Form, too_many: Option<String>) -> Result<Admitted, CloseReason> {
        let connect = self.rtmp.connect().map_err(in_start)?;
        if let Some(reason) = too_many.map(CloseReason::Full).or_else(|| self.server.objection()) {
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
        let refer = &app.vhost.refer;
        if !refer_allows(refer, &connect.page_url) {
            let why = format!("refer of the vhost does not allow pages of {:?}", connect.page_url);
            return Err(self.reject(connect, "NetConnection.Connect.Rejected", CloseReason::Refused(why)));
        }
        if app.vhost.tcp_nodelay {
            // A socket that does not take the option costs some latency, no more.
            let _ = self.client.stream.set_nodelay(true);
        }
        log::info!(
            "connect app {:?} of vhost {}, tcUrl {:?}, pageUrl {:?}, flashVer {:?}, handshake {form:?}",
            app.app,
            app.vhost.name,
            connect.tc_url,
            connect.page_url,
            connect.flash_ver,
        );
        self.client.set_vhost(&app.vhost);
        self.rtmp.accept_connect(&connect, app.vhost.chunk_size);
        let route = Route::read(connect.text(route::KEY));
        Ok(Admitted { app, page_url: connect.page_url, route })
    }

    /// Takes what the client has sent, some 32 KiB at most. `None`: nothing yet.
    fn feed(&mut self) -> io::Result<Option<Result<(), rtmp::Error>>> {
        let protocol = self.rtmp.protocol();
        self.client.stream.try_read_with(|bytes| match bytes {
            [] => Err(rtmp::Error::Closed),
            bytes => protocol.feed(bytes),
        })
    }

    /// Lets others run when the client has kept its coroutine busy for long.
    fn take_turns(&mut self) {
        self.slice.look(fairness::work(self.rtmp.protocol()));
    }

    /// What a `publish` or `play` asks for, unless a name is wrong or the page may not have it.
    fn resolve(&self, admitted: &Admitted, name: &str, is_publish: bool) -> Result<StreamRequest, CloseReason> {
        let request = admitted
            .app
            .stream(name, &self.server.config())
            .map_err(|error| CloseReason::Refused(error.to_string()))?;
        let vhost = &request.vhost;
        let own = if is_publish { ("refer_publish", &vhost.refer_publish) } else { ("refer_play", &vhost.refer_play) };
        let page_url = &admitted.page_url;
        // `refer` once more: the vhost may be another than that of the connection.
        for (directive, list) in [("refer", &vhost.refer), own] {
            if !refer_allows(list, page_url) {
                let why = format!("{directive} of the vhost does not allow pages of {page_url:?}");
                return Err(CloseReason::Refused(why));
            }
        }
        // Also of those who came in before.
        if let Some(reason) = self.server.objection() {
            return Err(reason);
        }
        let (action, verb) = if is_publish { (Action::Publish, "publish") } else { (Action::Play, "play") };
        let address = self.client.address().ip();
        if !vhost.security.allows(action, address) {
            return Err(CloseReason::Denied(format!("security of the vhost does not let {address} {verb}")));
        }
        Ok(request)
    }

    /// Tells a client why it is not let in.
    fn reject(&mut self, connect: Connect, code: &str, reason: CloseReason) -> CloseReason {
        self.rtmp.reject_connect(&connect, code, &reason.to_string());
        // Its object may be megabytes, which are in no account.
        drop(connect);
        self.farewell();
        reason
    }

    /// Tells a client what is wrong with its stream.
    fn refuse(&mut self, stream_id: u32, code: &str, reason: CloseReason) -> CloseReason {
        self.rtmp.refuse(stream_id, code, &reason.to_string());
        self.farewell();
        reason
    }

    /// Tells a client that somebody else ends its connection, and why, unless it has been told.
    fn part(&mut self, stream_id: u32, code: &str, reason: &CloseReason) {
        if !self.has_parted {
            self.refuse(stream_id, code, reason.clone());
        }
    }

    /// Sends what is still to be said, and gives it time to arrive.
    fn farewell(&mut self) {
        self.has_parted = true;
        // It may be why it has to go.
        self.rtmp.protocol().forget_incoming();
        let stream = &self.client.stream;
        stream.resume();
        stream.set_time_limit(Some(FAREWELL));
        if self.rtmp.flush().is_ok() {
            stream.linger(u64::MAX);
        }
    }
}

/// What an error means while a client has not begun to publish or play.
pub(crate) fn in_start(error: rtmp::Error) -> CloseReason {
    match &error {
        rtmp::Error::Io(io) if io.kind() == io::ErrorKind::TimedOut => CloseReason::SlowStart,
        _ => close_reason(error),
    }
}

/// What an error means afterwards.
fn close_reason(error: rtmp::Error) -> CloseReason {
    match error {
        rtmp::Error::Closed => CloseReason::ByPeer,
        rtmp::Error::Io(io) => network(&io),
        other => CloseReason::Protocol(other.to_string()),
    }
}

fn network(error: &io::Error) -> CloseReason {
    match error.kind() {
        // Many players leave like this.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::ByPeer,
        io::ErrorKind::TimedOut => CloseReason::NotReading,
        _ => CloseReason::Network(error.to_string()),
    }
}
