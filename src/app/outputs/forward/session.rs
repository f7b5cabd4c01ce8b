//! One connection of a forwarder to its target: connects, publishes, and sends the stream.

use std::io;
use std::time::{Duration, Instant};

use super::connect::{connect, host_and_port};
use super::failure::Failure;
use super::forwarder::Forwarder;
use super::target::{Dialer, ForwardState};
use crate::app::rtmp::KEEPALIVE_IDLE;
use crate::app::rtmp::pump::{Handled, Next, Pump, Role, Round};
use crate::app::session::info::FORWARD_ROUTE_PROPERTY;
use crate::app::stream::{Consumer, Source, StartPosition};
use crate::codec::amf0::{Object, Value};
use crate::config::Destination;
use crate::rtmp::client::{Client, info_text};
use crate::rtmp::command::Command;
use crate::rtmp::message::{Message, MessageType};
use crate::rtmp::protocol::{Polled, Protocol};
use crate::rtmp::{self, client};
#[cfg(feature = "ssl")]
use crate::st;
use crate::st::net::TcpStream;
#[cfg(feature = "ssl")]
use crate::st::tls::Connector;

/// Time that the target has from accepting the connection to accepting the publication.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without write progress, or without acknowledgement by the target, after which the connection is closed.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Difference between the server's clock readings and the kernel's time since the last acknowledgement.
const ACK_TOLERANCE: Duration = Duration::from_secs(1);

const MAX_UNSENT: usize = 64 * 1024;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of incomplete messages from the target that may be in memory. Its messages are short.
const MAX_INCOMPLETE: usize = 64 * 1024;

/// E-RTMP, capsEx: reconnect requests (1), multitrack (2), ModEx (4), nanosecond offsets (8).
const CAPS_EX: f64 = 15.0;

struct ForwarderRole<'a> {
    forwarder: &'a Forwarder,
    consumer: &'a Consumer,
    destination: &'a Destination,
    client: Client<TcpStream>,
    drain_deadline: Option<Instant>,
}

/// Publishes the stream on the target until the stream ends, the forwarder is stopped, or the connection fails.
pub(super) fn run(
    dialer: &Dialer,
    forwarder: &Forwarder,
    source: &Source,
    consumer: &Consumer,
    destination: &Destination,
    position: StartPosition,
) -> Result<(), Failure> {
    let (stream, mut client, stream_id) = open(dialer, forwarder, source, destination)?;
    forwarder.check_active()?;
    log::info!("forward connected: address={} handshake={:?}", stream.peer(), client.form());
    consumer.start(stream_id, client.protocol().chunk_size(), position);
    forwarder.set_state(ForwardState::Sending);
    let mut pump = Pump::new(client.protocol(), Some(consumer), &dialer.ctx.admission, SEND_TIMEOUT);
    let mut role = ForwarderRole { forwarder, consumer, destination, client, drain_deadline: None };
    let result = match pump.run(&mut role) {
        // Small messages fill the kernel's buffer soon after the target has vanished: then both limits end at about the same
        // time.
        Err(Failure::NotReading) if stream.unacknowledged().1 + ACK_TOLERANCE >= SEND_TIMEOUT => Err(Failure::Gone),
        result => result,
    };
    match &result {
        // After a redirection, the target must learn of the end of this connection before the next one arrives.
        Ok(()) | Err(Failure::Redirected(_)) => {
            let client = &mut role.client;
            if pump.finish_before_close(client.protocol()).is_ok()
                && client.unpublish(stream_id, &destination.stream).is_ok()
            {
                stream.linger(u64::MAX);
            }
        }
        // Drops what the stream has begun to write.
        Err(_) => consumer.detach(&mut Vec::new()),
    }
    result
}

/// Connects, and returns when the target has accepted the publication. Holds a permit to connect meanwhile.
#[inline(never)] // As `publish`.
fn open(
    dialer: &Dialer,
    forwarder: &Forwarder,
    source: &Source,
    destination: &Destination,
) -> Result<(TcpStream, Client<TcpStream>, u32), Failure> {
    let _permit = forwarder.acquire(&dialer.connecting, &host_and_port(destination))?;
    forwarder.set_state(ForwardState::Connecting);
    let stream = connect(dialer, forwarder, source, destination)?;
    forwarder.set_connection(&stream);
    // From here on, the end of the stream interrupts every wait on the connection.
    forwarder.check_active()?;
    stream.set_nodelay(true)?;
    stream.set_keepalive(KEEPALIVE_IDLE)?;
    stream.set_ack_timeout(SEND_TIMEOUT)?;
    // Bytes that wait stay in the packet log, where they count as memory, delay and drops.
    stream.set_unsent_limit(MAX_UNSENT)?;
    stream.set_time_limit(Some(SETUP_TIMEOUT));
    if destination.tls {
        encrypt(&stream, destination, forwarder.target().tls_verify)?;
    }
    let (client, stream_id) = publish(&stream, source, forwarder, destination).map_err(setup_error)?;
    stream.set_time_limit(None);
    Ok((stream, client, stream_id))
}

/// Does the TLS handshake. Reads the system's trusted certificates each time, so that changes take effect.
#[cfg(feature = "ssl")]
fn encrypt(stream: &TcpStream, destination: &Destination, verify: bool) -> Result<(), Failure> {
    let connector = st::offload(move || if verify { Connector::system() } else { Connector::without_verification() });
    let connector = connector.map_err(io::Error::other)?.map_err(io::Error::other)?;
    stream.connect_tls(&connector, &destination.host).map_err(|error| setup_error(error.into()))
}

#[cfg(not(feature = "ssl"))]
fn encrypt(_: &TcpStream, _: &Destination, _: bool) -> Result<(), Failure> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS").into())
}

/// Does the RTMP handshake and sends the commands of an encoder, until the target accepts the publication.
#[inline(never)] // Keeps its locals off the stack of a waiting forwarder.
fn publish(
    stream: &TcpStream,
    source: &Source,
    forwarder: &Forwarder,
    destination: &Destination,
) -> Result<(Client<TcpStream>, u32), rtmp::Error> {
    let mut client = Client::handshake(stream.clone(), true)?.with_chunk_size(source.chunk_size());
    client.protocol().limit_incomplete(MAX_INCOMPLETE);
    let any = Object::new().with("*", client::CAN_FORWARD);
    let more = Object::new()
        .with(FORWARD_ROUTE_PROPERTY, forwarder.target().route.to_string())
        .with("fourCcList", Value::StrictArray(vec!["*".into()]))
        .with("videoFourCcInfoMap", any.clone())
        .with("audioFourCcInfoMap", any)
        .with("capsEx", CAPS_EX);
    client.connect(&destination.app, &destination.tc_url, &more)?;
    let stream_id = client.publish(&destination.stream)?;
    Ok((client, stream_id))
}

fn setup_error(error: rtmp::Error) -> Failure {
    match error {
        rtmp::Error::Io(io) if io.kind() == io::ErrorKind::TimedOut => Failure::NoAnswer,
        other => other.into(),
    }
}

impl Role for ForwarderRole<'_> {
    type End = ();
    type Error = Failure;

    fn not_reading() -> Failure {
        Failure::NotReading
    }

    fn protocol(&mut self) -> &mut Protocol<TcpStream> {
        self.client.protocol()
    }

    fn start_round(&mut self, now: Instant) -> Result<Option<()>, Failure> {
        let is_late = self.drain_deadline.is_some_and(|deadline| now >= deadline);
        Ok((is_late || self.forwarder.is_stopped()).then_some(()))
    }

    fn handle_next(&mut self) -> Result<Handled<()>, Failure> {
        match self.client.protocol().poll_message()? {
            Polled::Message(message) => handle_command(&message, self.destination)?,
            Polled::Yield => {}
            Polled::Empty => return Ok(Handled::NoMessage),
        }
        Ok(Handled::Message)
    }

    fn finish_round(&mut self, round: &Round) -> Result<Next<()>, Failure> {
        if !self.consumer.stream_ended() {
            return Ok(Next::Wait(None));
        }
        self.forwarder.set_state(ForwardState::Ending);
        if round.all_sent && self.consumer.is_finished() {
            return Ok(Next::End(()));
        }
        Ok(Next::Wait(Some(*self.drain_deadline.get_or_insert_with(|| round.now + DRAIN_TIMEOUT))))
    }

    fn has_media(&self, _: bool) -> bool {
        self.consumer.stats().sent > 0
    }
}

/// Handles a message of the target: errors, redirections and `close` end the connection, everything else is ignored.
fn handle_command(message: &Message, destination: &Destination) -> Result<(), Failure> {
    if !matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3) {
        return Ok(());
    }
    let Some(command) = Command::from_message_if_any(message)? else { return Ok(()) };
    let text = |key| info_text(&command, key).unwrap_or_default();
    match command.name.as_str() {
        "onStatus" if text("code") == "NetConnection.Connect.ReconnectRequest" => {
            let url = Some(text("tcUrl")).filter(|url| !url.is_empty());
            let redirected = url.and_then(|url| destination.redirected(url));
            Err(Failure::Redirected(Box::new(redirected.unwrap_or_else(|| destination.clone()))))
        }
        "onStatus" if text("level") == "error" => {
            Err(Failure::Refused { code: text("code").to_owned(), description: text("description").to_owned() })
        }
        "close" => Err(Failure::Closed),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{StreamNames, Target};
    use crate::rtmp::command::status;

    fn destination() -> Destination {
        let names = StreamNames { vhost: "v", app: "live", stream: "s", params: "" };
        Target::parse("rtmp://first/live").unwrap().resolve(names)
    }

    fn handle(command: &Command) -> Result<(), Failure> {
        let payload = command.write();
        handle_command(&Message { kind: MessageType::COMMAND, timestamp: 0, stream_id: 1, payload }, &destination())
    }

    fn on_status(information: Object) -> Command {
        Command::new("onStatus", 0.0).arg(information)
    }

    #[test]
    fn a_target_may_send_its_publisher_elsewhere() {
        let request = status("status", "NetConnection.Connect.ReconnectRequest", "going down");
        let there = |information: &Object| match handle(&on_status(information.clone())) {
            Err(Failure::Redirected(there)) => (there.host.clone(), there.app.clone()),
            other => panic!("{other:?}"),
        };
        assert_eq!(there(&request), ("first".to_owned(), "live".to_owned()), "without a URL, to the same place");
        let elsewhere = request.clone().with("tcUrl", "rtmp://second:1936/other");
        assert_eq!(there(&elsewhere), ("second".to_owned(), "other".to_owned()));
        let nonsense = request.with("tcUrl", "file:///etc/passwd");
        assert_eq!(there(&nonsense).0, "first");
    }

    #[test]
    fn errors_end_the_connection_and_the_rest_does_not() {
        let error = handle(&on_status(status("error", "NetStream.Publish.BadName", "taken"))).unwrap_err();
        assert_eq!(error.to_string(), "the target reported NetStream.Publish.BadName: taken");
        assert!(matches!(handle(&Command::new("close", 0.0)), Err(Failure::Closed)));
        for harmless in [
            on_status(status("status", "NetStream.Publish.Start", "again")),
            Command::new("onBWDone", 0.0),
            Command::new("_result", 4.0),
            Command::new("onStatus", 0.0),
        ] {
            assert!(handle(&harmless).is_ok(), "{harmless:?}");
        }
        let junk = Message { kind: MessageType::COMMAND, timestamp: 0, stream_id: 1, payload: vec![9, 9].into() };
        assert!(handle_command(&junk, &destination()).is_err());
    }
}
