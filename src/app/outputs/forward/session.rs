//! One connection of a forwarder to its target.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connecting::{connect, host_and_port};
use super::forwarder::Forwarder;
use super::{State, route};
use crate::app::limits::fairness::{self, MUCH, Slice, Turn};
use crate::app::rtmp::write_queue::Batch;
use crate::app::server::Server;
use crate::app::stream::{Begin, Consumer, Source};
use crate::codec::amf0::{Object, Value};
use crate::config::Destination;
use crate::rtmp::client::{Client, information};
use crate::rtmp::command::Command;
use crate::rtmp::message::{Message, MessageType};
use crate::rtmp::protocol::MAX_ANSWERS;
use crate::rtmp::protocol::Polled;
use crate::rtmp::{self, client};
use crate::st;
use crate::st::net::TcpStream;
#[cfg(feature = "ssl")]
use crate::st::tls::Connector;

/// How long the target may take from accepting the connection to letting us publish.
const START: Duration = Duration::from_secs(10);

/// How long the target may take nothing of what it is sent.
const SEND: Duration = Duration::from_secs(30);

/// How long what is left of a stream that has ended may take.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the target may take to hear that the stream has ended, and to close.
const FAREWELL: Duration = Duration::from_secs(1);

/// After how much silence the kernel asks whether the target is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Reads in a row after which the target gets what it is owed.
const READS: usize = 4;

/// How much of a target's messages may have come while none of them is complete, in bytes: it has short things to say.
const MAX_INCOMING: usize = 64 * 1024;

/// E-RTMP, capsEx: reconnect requests (1), multitrack (2), ModEx (4), nanosecond offsets (8).
const CAPABILITIES: f64 = 15.0;

/// Why a connection to a target failed or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is nothing more to send")]
    Over,
    #[error("cannot resolve {host}: {error}")]
    Name { host: String, error: String },
    #[error("cannot connect to {address}: {error}")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("{address} is this server itself, and would get its own stream back")]
    Itself { address: SocketAddr },
    #[error("{0}")]
    Rtmp(rtmp::Error),
    #[error("the target does not answer")]
    NoAnswer,
    #[error("the target takes nothing of what it is sent")]
    NotReading,
    #[error("the target says {code}: {description}")]
    Refused { code: String, description: String },
    #[error("the target closed the connection")]
    Closed,
    #[error("the target sends its publisher elsewhere, again")]
    Redirected(Box<Destination>),
}

impl Failure {
    /// Whether trying again would come to the same.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Itself { .. })
    }
}

impl From<rtmp::Error> for Failure {
    fn from(error: rtmp::Error) -> Self {
        match error {
            rtmp::Error::Io(io) => io.into(),
            rtmp::Error::Closed => Self::Closed,
            other => Self::Rtmp(other),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Rtmp(rtmp::Error::Io(error)),
        }
    }
}

/// A connection on which the stream is published.
struct Session<'a> {
    forwarder: &'a Forwarder,
    consumer: &'a Consumer,
    destination: &'a Destination,
    stream: TcpStream,
    client: Client<TcpStream>,
    stream_id: u32,
    batch: Batch,
    /// Bytes of answers among it.
    answers: usize,
    slice: Slice,
    turn: Turn,
}

/// Publishes the stream on the target until the stream ends, the target is no longer wanted, or the connection fails.
pub(super) fn run(
    server: &Server,
    forwarder: &Forwarder,
    source: &Source,
    consumer: &Consumer,
    destination: &Destination,
    begin: Begin,
) -> Result<(), Failure> {
    let (stream, mut client, stream_id) = start(server, forwarder, source, destination)?;
    forwarder.go_on()?;
    log::info!("publishing on {}, handshake {:?}", stream.peer(), client.form());
    consumer.begin(stream_id, client.protocol().chunk_size(), begin);
    forwarder.enter(State::Sending);
    let batch = Batch::default();
    let (slice, turn) = (Slice::default(), Turn::new(Instant::now(), 0));
    let mut session =
        Session { forwarder, consumer, destination, stream, client, stream_id, batch, answers: 0, slice, turn };
    let result = session.send_media();
    consumer.hold(&mut session.batch.0);
    match &result {
        Ok(()) => session.farewell(),
        // It is to be told that this connection is over before the next one comes.
        Err(Failure::Redirected(_)) => session.farewell(),
        Err(_) => {}
    }
    result
}

/// Goes all the way to the target's word that the stream may come, on which only so many are at a time.
#[inline(never)] // As `publish`.
fn start(
    server: &Server,
    forwarder: &Forwarder,
    source: &Source,
    destination: &Destination,
) -> Result<(TcpStream, Client<TcpStream>, u32), Failure> {
    let _place = forwarder.take_place(&server.forwards.starts, &host_and_port(destination))?;
    forwarder.enter(State::Connecting);
    let stream = connect(server, forwarder, source, destination)?;
    forwarder.attach(&stream);
    // From here on, the end of the stream ends whatever is waited for.
    forwarder.go_on()?;
    stream.set_nodelay(true)?;
    stream.set_keepalive(KEEPALIVE)?;
    stream.set_time_limit(Some(START));
    if destination.tls {
        encrypt(&stream, destination, forwarder.target().tls_verify)?;
    }
    let (client, stream_id) = publish(&stream, source, forwarder, destination).map_err(in_start)?;
    stream.set_time_limit(None);
    Ok((stream, client, stream_id))
}

/// Puts the connection under TLS. Whom the system trusts is read anew each time, so that a change takes effect.
#[cfg(feature = "ssl")]
fn encrypt(stream: &TcpStream, destination: &Destination, verify: bool) -> Result<(), Failure> {
    let connector = st::offload(move || if verify { Connector::system() } else { Connector::trusting_everybody() });
    let connector = connector.map_err(io::Error::other)?.map_err(io::Error::other)?;
    stream.connect_tls(&connector, &destination.host).map_err(|error| in_start(error.into()))
}

#[cfg(not(feature = "ssl"))]
fn encrypt(_: &TcpStream, _: &Destination, _: bool) -> Result<(), Failure> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS").into())
}

/// Says what an encoder says, up to the target's word that the stream may come.
#[inline(never)] // What it needs is not to be on the stack of a forwarder that waits.
fn publish(
    stream: &TcpStream,
    source: &Source,
    forwarder: &Forwarder,
    destination: &Destination,
) -> Result<(Client<TcpStream>, u32), rtmp::Error> {
    let mut client = Client::handshake(stream.clone(), true)?.with_chunk_size(source.chunk_size());
    client.protocol().limit_incoming(MAX_INCOMING);
    let any = Object::new().with("*", client::CAN_FORWARD);
    let more = Object::new()
        .with(route::KEY, forwarder.target().route.to_string())
        .with("fourCcList", Value::StrictArray(vec!["*".into()]))
        .with("videoFourCcInfoMap", any.clone())
        .with("audioFourCcInfoMap", any)
        .with("capsEx", CAPABILITIES);
    client.connect(&destination.app, &destination.tc_url, &more)?;
    let stream_id = client.publish(&destination.stream)?;
    Ok((client, stream_id))
}

fn in_start(error: rtmp::Error) -> Failure {
    match error {
        rtmp::Error::Io(io) if io.kind() == io::ErrorKind::TimedOut => Failure::NoAnswer,
        other => other.into(),
    }
}

impl Session<'_> {
    fn send_media(&mut self) -> Result<(), Failure> {
        let stream = self.stream.clone();
        let mut progress = Instant::now();
        let mut end = None;
        st::trim_stack();
        loop {
            if self.forwarder.is_stopped() {
                return Ok(());
            }
            let mut is_heard = self.hear()?;
            let work = fairness::work(self.client.protocol());
            self.turn.look(Instant::now(), work, MUCH, self.consumer.stats().sent > 0);
            if self.batch.is_empty() {
                progress = Instant::now();
                // It was not listened to for these.
                is_heard &= self.answers <= MAX_ANSWERS;
                self.answers = 0;
                let chunk_size = self.consumer.fill(&mut self.batch.0);
                // Answers come behind it.
                self.client.protocol().assume_chunk_size(chunk_size);
            }
            let mut deadline = (!self.batch.is_empty()).then(|| progress + SEND);
            if self.consumer.is_ending() {
                self.forwarder.enter(State::Ending);
                let end = *end.get_or_insert_with(|| Instant::now() + DRAIN);
                if self.batch.is_empty() && self.consumer.is_over() || Instant::now() >= end {
                    return Ok(());
                }
                deadline = Some(end);
            }
            if !self.batch.is_empty() {
                let written = stream.try_write_vectored(&self.batch.slices())?;
                if written > 0 {
                    self.batch.advance(written);
                    progress = Instant::now();
                    stream.take_turns();
                    continue;
                }
            }
            // It may say so much that nobody ever waits for it.
            let may_be_late = !is_heard || stream.wait(deadline).timed_out;
            if may_be_late && !self.batch.is_empty() && progress.elapsed() >= SEND {
                return Err(Failure::NotReading);
            }
        }
    }

    /// Takes what the target says, and obeys. Whether that was all.
    fn hear(&mut self) -> Result<bool, Failure> {
        // One that does not take its answers is not asked for more to answer.
        let is_deaf = self.answers > MAX_ANSWERS;
        let mut is_heard = is_deaf;
        for _ in 0..if is_deaf { 0 } else { READS } {
            loop {
                match self.client.protocol().poll_message()? {
                    Polled::Message(message) => obey(&message, self.destination)?,
                    Polled::More => {}
                    Polled::Empty => break,
                }
                self.slice.look(fairness::work(self.client.protocol()));
            }
            let protocol = self.client.protocol();
            let read = self.stream.try_read_with(|bytes| match bytes {
                [] => Err(rtmp::Error::Closed),
                bytes => protocol.feed(bytes),
            });
            match read? {
                None => {
                    is_heard = true;
                    break;
                }
                Some(fed) => fed?,
            }
            self.stream.take_turns();
            if self.client.protocol().output_len() > MAX_ANSWERS {
                break;
            }
        }
        let protocol = self.client.protocol();
        if protocol.has_output() {
            let answers = protocol.take_output();
            self.consumer.hold(&mut self.batch.0);
            self.answers += answers.len();
            self.batch.push(answers);
        }
        Ok(is_heard)
    }

    /// Ends the publication in words, and gives them time to arrive.
    fn farewell(&mut self) {
        let stream = &self.stream;
        stream.resume();
        stream.set_time_limit(Some(FAREWELL));
        let mut writer = stream;
        let is_written = self.batch.0.drain(..).all(|piece| writer.write_all(&piece).is_ok());
        if is_written && self.client.unpublish(self.stream_id, &self.destination.stream).is_ok() {
            stream.linger(u64::MAX);
        }
    }
}

/// What a message of the target means for the connection.
fn obey(message: &Message, destination: &Destination) -> Result<(), Failure> {
    if !matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3) {
        return Ok(());
    }
    let command = Command::of(message)?;
    let text = |key| information(&command, key).unwrap_or_default();
    match command.name.as_str() {
        "onStatus" if text("code") == "NetConnection.Connect.ReconnectRequest" => {
            let there = Some(text("tcUrl")).filter(|url| !url.is_empty());
            let there = there.and_then(|url| destination.redirected(url));
            Err(Failure::Redirected(Box::new(there.unwrap_or_else(|| destination.clone()))))
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
    use crate::config::{Names, Target};
    use crate::rtmp::command::status;

    fn destination() -> Destination {
        let names = Names { vhost: "v", app: "live", stream: "s", params: "" };
        Target::parse("rtmp://first/live").unwrap().resolve(names)
    }

    fn told(command: &Command) -> Result<(), Failure> {
        let payload = command.write();
        obey(&Message { kind: MessageType::COMMAND, timestamp: 0, stream_id: 1, payload }, &destination())
    }

    fn on_status(information: Object) -> Command {
        Command::new("onStatus", 0.0).arg(information)
    }

    #[test]
    fn a_target_may_send_its_publisher_elsewhere() {
        let request = status("status", "NetConnection.Connect.ReconnectRequest", "going down");
        let there = |information: &Object| match told(&on_status(information.clone())) {
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
        let error = told(&on_status(status("error", "NetStream.Publish.BadName", "taken"))).unwrap_err();
        assert_eq!(error.to_string(), "the target says NetStream.Publish.BadName: taken");
        assert!(matches!(told(&Command::new("close", 0.0)), Err(Failure::Closed)));
        for harmless in [
            on_status(status("status", "NetStream.Publish.Start", "again")),
            Command::new("onBWDone", 0.0),
            Command::new("_result", 4.0),
            Command::new("onStatus", 0.0),
        ] {
            assert!(told(&harmless).is_ok(), "{harmless:?}");
        }
        let junk = Message { kind: MessageType::COMMAND, timestamp: 0, stream_id: 1, payload: vec![9, 9].into() };
        assert!(obey(&junk, &destination()).is_err());
    }
}
