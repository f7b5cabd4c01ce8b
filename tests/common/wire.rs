//! An RTMP client for what other clients do not show or cannot be made to send. It shares no code with the server, so that an
//! error in the server's protocol code cannot hide.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::amf::{Amf, amf_payload, amf_values};
use crate::common::chunks::{ChunkDecoder, Message, encode};
use crate::common::flv::{AUDIO, DATA, Tag, VIDEO};
use crate::common::process::eventually;

const HANDSHAKE: usize = 1536;
const OUT_CHUNK_SIZE: usize = 60_000;
/// Time limit for an answer of the server, also on a machine with much other work. Shorter than the time that a client has for
/// its commands, so that a refusal is not taken for the end of that time.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

const SET_CHUNK_SIZE: u8 = 1;
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW_SIZE: u8 = 5;
const COMMAND: u8 = 20;

/// A command that the server sent.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) transaction: f64,
    /// Values after the transaction id.
    pub(crate) arguments: Vec<Amf>,
}

impl Command {
    /// Returns the information object of an `onStatus`, a `_result` or an `_error`.
    fn information(&self) -> Option<&Amf> {
        self.arguments.get(1)
    }

    /// Returns the `code` of the information object; empty if there is none.
    pub(crate) fn code(&self) -> &str {
        self.information().map_or("", |object| object.get_text("code"))
    }

    /// Returns the `description` of the information object; empty if there is none.
    pub(crate) fn description(&self) -> &str {
        self.information().map_or("", |object| object.get_text("description"))
    }
}

/// A byte stream below RTMP: a socket, or TLS over one.
pub(crate) trait Transport: Read + Write + Send {
    /// Sets the time limit of a read.
    fn set_read_timeout(&self, limit: Duration);
}

impl Transport for TcpStream {
    fn set_read_timeout(&self, limit: Duration) {
        TcpStream::set_read_timeout(self, Some(limit)).expect("a socket option");
    }
}

/// One RTMP connection.
pub(crate) struct Wire {
    socket: Box<dyn Transport>,
    port: u16,
    chunks: ChunkDecoder,
    received: u32,
    acknowledged: u32,
    window: u32,
    transaction: f64,
    /// Received audio, video and data messages, in order.
    pub(crate) tags: Vec<Tag>,
    /// Received commands, in order. A wait removes the command that it returns.
    pub(crate) commands: Vec<Command>,
    /// Received user control events: type and data.
    pub(crate) events: Vec<(u16, Vec<u8>)>,
    /// The server has closed the connection.
    pub(crate) closed: bool,
}

impl Wire {
    /// Connects with the simple handshake.
    pub(crate) fn connect(port: u16) -> Wire {
        Wire::connect_as(port, &[])
    }

    /// Connects as a load balancer does: sends `pieces` of a PROXY header one by one before the handshake.
    pub(crate) fn connect_as(port: u16, pieces: &[&[u8]]) -> Wire {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        socket.set_nodelay(true).expect("a socket option");
        for piece in pieces {
            socket.write_all(piece).expect("a header is taken");
            std::thread::sleep(Duration::from_millis(5));
        }
        socket.set_write_timeout(Some(ANSWER_TIMEOUT)).expect("a socket option");
        Wire::over(Box::new(socket), port)
    }

    /// Performs the simple handshake over a connection to `port`.
    pub(crate) fn over(mut socket: Box<dyn Transport>, port: u16) -> Wire {
        socket.set_read_timeout(ANSWER_TIMEOUT);
        let mut c1: Vec<u8> = (0..HANDSHAKE).map(|at| (at % 251).to_le_bytes()[0]).collect();
        c1[..8].fill(0);
        socket.write_all(&[3]).expect("c0");
        socket.write_all(&c1).expect("c1");
        let mut answer = vec![0; 1 + 2 * HANDSHAKE];
        socket.read_exact(&mut answer).expect("s0, s1 and s2");
        assert_eq!(answer[0], 3, "the version in s0");
        assert_eq!(answer[1 + HANDSHAKE + 8..], c1[8..], "s2 is the echo of c1");
        socket.write_all(&answer[1..=HANDSHAKE]).expect("c2");
        socket.set_read_timeout(Duration::from_millis(20));
        let mut wire = Wire {
            socket,
            port,
            chunks: ChunkDecoder::new(),
            received: 0,
            acknowledged: 0,
            window: u32::MAX,
            transaction: 0.0,
            tags: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            closed: false,
        };
        wire.send(2, SET_CHUNK_SIZE, 0, 0, &u32::try_from(OUT_CHUNK_SIZE).expect("small").to_be_bytes(), 128);
        wire
    }

    /// Connects and plays `live/<stream>`.
    pub(crate) fn player(port: u16, stream: &str) -> Wire {
        Wire::connect(port).into_player(stream)
    }

    /// Plays `live/<stream>` on this connection.
    pub(crate) fn into_player(mut self, stream: &str) -> Wire {
        let wire = &mut self;
        wire.connect_app("live");
        let id = wire.create_stream();
        wire.play(id, stream);
        wire.wait_status("NetStream.Play.Start");
        self
    }

    /// Connects and publishes `live/<stream>` on message stream 1.
    pub(crate) fn publisher(port: u16, stream: &str) -> Wire {
        let mut wire = Wire::connect(port);
        wire.connect_app("live");
        let id = wire.create_stream();
        assert_eq!(id, 1, "the first message stream");
        wire.publish(id, stream);
        wire.wait_status("NetStream.Publish.Start");
        wire
    }

    /// Publishes `live/<stream>` as soon as the name is free: the server may not have noticed yet that the previous publisher
    /// left.
    pub(crate) fn next_publisher(port: u16, stream: &str) -> Wire {
        eventually("the name is free", ANSWER_TIMEOUT, || {
            let mut wire = Wire::connect(port);
            wire.connect_app("live");
            let id = wire.create_stream();
            wire.publish(id, stream);
            let answer = wire.wait_command("an onStatus", |command| command.name == "onStatus");
            (answer.code() == "NetStream.Publish.Start").then_some(wire)
        })
    }

    /// Sends `connect` and waits for its success.
    pub(crate) fn connect_app(&mut self, app: &str) -> Command {
        let answer = self.try_connect_app(app, &[]);
        assert_eq!((answer.name.as_str(), answer.code()), ("_result", "NetConnection.Connect.Success"), "{answer:?}");
        answer
    }

    /// Sends `connect` with additional properties and returns the answer.
    pub(crate) fn try_connect_app(&mut self, app: &str, more: &[(&str, Amf)]) -> Command {
        let mut properties = vec![
            ("app".to_owned(), Amf::text(app)),
            ("flashVer".to_owned(), Amf::text("LNX 9,0,124,2")),
            ("tcUrl".to_owned(), Amf::String(format!("rtmp://127.0.0.1:{}/{app}", self.port))),
            ("objectEncoding".to_owned(), Amf::Number(0.0)),
        ];
        for (name, value) in more {
            properties.retain(|(property, _)| property != name);
            properties.push(((*name).to_owned(), value.clone()));
        }
        self.call(0, "connect", &[Amf::Object(properties)])
    }

    /// Sends `createStream` and returns the id of the message stream.
    pub(crate) fn create_stream(&mut self) -> u32 {
        let answer = self.call(0, "createStream", &[Amf::Null]);
        assert_eq!(answer.name, "_result", "{answer:?}");
        let Some(&Amf::Number(id)) = answer.arguments.get(1) else { panic!("no stream id in {answer:?}") };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be a small whole number"
        )]
        let whole = id as u32;
        assert!((f64::from(whole) - id).abs() < f64::EPSILON, "the stream id {id}");
        whole
    }

    /// Sends `play`.
    pub(crate) fn play(&mut self, id: u32, stream: &str) {
        self.command(id, "play", 0.0, &[Amf::Null, Amf::text(stream), Amf::Number(-2000.0)]);
    }

    /// Sends `publish`.
    pub(crate) fn publish(&mut self, id: u32, stream: &str) {
        self.command(id, "publish", 0.0, &[Amf::Null, Amf::text(stream), Amf::text("live")]);
    }

    /// Sends a command with a transaction id and waits for its answer.
    pub(crate) fn call(&mut self, id: u32, name: &str, arguments: &[Amf]) -> Command {
        self.transaction += 1.0;
        let transaction = self.transaction;
        self.command(id, name, transaction, arguments);
        self.wait_command(&format!("an answer to {name}"), |command| {
            matches!(command.name.as_str(), "_result" | "_error")
                && (command.transaction - transaction).abs() < f64::EPSILON
        })
    }

    /// Sends a command.
    pub(crate) fn command(&mut self, id: u32, name: &str, transaction: f64, arguments: &[Amf]) {
        let mut payload = amf_payload(&[Amf::text(name), Amf::Number(transaction)]);
        payload.extend_from_slice(&amf_payload(arguments));
        self.send(3, COMMAND, id, 0, &payload, OUT_CHUNK_SIZE);
    }

    /// Sends a tag on message stream 1.
    pub(crate) fn send_tag(&mut self, tag: &Tag) {
        let csid = match tag.kind {
            AUDIO => 4,
            VIDEO => 6,
            _ => 5,
        };
        self.send(csid, tag.kind, 1, tag.timestamp, &tag.payload, OUT_CHUNK_SIZE);
    }

    /// Sends a message of any type on message stream 1.
    pub(crate) fn send_raw(&mut self, kind: u8, payload: &[u8]) {
        self.send(3, kind, 1, 0, payload, OUT_CHUNK_SIZE);
    }

    /// Sends a video message on message stream 1 without its last byte.
    pub(crate) fn send_most_of_video(&mut self, payload: &[u8]) {
        let mut out = encode(6, VIDEO, 1, 0, payload, OUT_CHUNK_SIZE);
        out.pop();
        self.write(&out);
    }

    fn send(&mut self, csid: u8, kind: u8, stream: u32, timestamp: u32, payload: &[u8], chunk_size: usize) {
        let out = encode(csid, kind, stream, timestamp, payload, chunk_size);
        self.write(&out);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.socket.write_all(bytes).is_err() {
            self.closed = true;
        }
    }

    /// Waits for a command and removes it from `commands`.
    pub(crate) fn wait_command(&mut self, what: &str, wanted: impl Fn(&Command) -> bool) -> Command {
        self.wait(what, ANSWER_TIMEOUT, |wire| {
            let at = wire.commands.iter().position(&wanted)?;
            Some(wire.commands.remove(at))
        })
    }

    /// Waits for an `onStatus` with this code and removes it from `commands`.
    pub(crate) fn wait_status(&mut self, code: &str) -> Command {
        self.wait_command(code, |command| command.name == "onStatus" && command.code() == code)
    }

    /// Waits until `count` audio and video frames have been received since the connection began.
    pub(crate) fn wait_frames(&mut self, count: usize) {
        self.wait(&format!("{count} frames"), ANSWER_TIMEOUT, |wire| (wire.frames().count() >= count).then_some(()));
    }

    /// Returns the received audio and video frames.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(|tag| tag.is_frame())
    }

    /// Waits until the server closes the connection.
    pub(crate) fn wait_closed(&mut self, limit: Duration) {
        self.wait("the server closes the connection", limit, |wire| wire.closed.then_some(()));
    }

    /// Reads until `ready` returns a value. Panics after `limit`, or if the server closes the connection first.
    pub(crate) fn wait<T>(&mut self, what: &str, limit: Duration, mut ready: impl FnMut(&mut Wire) -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            assert!(!self.closed, "the server closed the connection before: {what}; received: {:?}", self.commands);
            assert!(
                Instant::now() < deadline,
                "not within {limit:?}: {what}; received: {:?}, {:?}",
                self.commands,
                self.tags
            );
            self.read_once();
        }
    }

    /// Reads for `time`.
    pub(crate) fn receive_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && !self.closed {
            self.read_once();
        }
    }

    /// Reads once; waits up to 20 ms for input.
    fn read_once(&mut self) {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.chunks.push(&buffer[..count]);
                self.received = self.received.wrapping_add(u32::try_from(count).expect("small"));
                self.acknowledge();
                while let Some(message) = self.chunks.next() {
                    self.on_message(message);
                }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => self.closed = true,
        }
    }

    fn acknowledge(&mut self) {
        if self.received.wrapping_sub(self.acknowledged) >= self.window / 2 {
            self.acknowledged = self.received;
            self.send(2, ACKNOWLEDGEMENT, 0, 0, &self.received.to_be_bytes(), 128);
        }
    }

    fn on_message(&mut self, message: Message) {
        let Message { kind, timestamp, payload } = message;
        let number = |payload: &[u8]| u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
        match kind {
            SET_CHUNK_SIZE => {
                self.chunks.set_chunk_size(usize::try_from(number(&payload)).expect("a chunk size"));
            }
            WINDOW_SIZE => self.window = number(&payload),
            USER_CONTROL => {
                let event = u16::from_be_bytes([payload[0], payload[1]]);
                if event == 6 {
                    let mut pong = payload.clone();
                    pong[1] = 7;
                    self.send(2, USER_CONTROL, 0, 0, &pong, 128);
                }
                self.events.push((event, payload[2..].to_vec()));
            }
            COMMAND => {
                let mut values = amf_values(&payload).into_iter();
                let (Some(Amf::String(name)), Some(Amf::Number(transaction))) = (values.next(), values.next()) else {
                    panic!("a command without name and transaction id: {payload:02x?}");
                };
                self.commands.push(Command { name, transaction, arguments: values.collect() });
            }
            AUDIO | VIDEO | DATA => self.tags.push(Tag { kind, timestamp, payload }),
            _ => {}
        }
    }
}
