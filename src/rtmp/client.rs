//! The client side of RTMP: publishes to another server, or plays from one.

use std::io::{Read, Write};

use super::Error;
use super::chunk::ChunkStreamId;
use super::command::Command;
use super::handshake::{self, Form};
use super::message::{Message, MessageType};
use super::protocol::Protocol;
use crate::codec::amf0::{Object, Value};

/// Chunk size for sending, in bytes: large, because no urgent message has to interleave.
const CHUNK_SIZE: usize = 60_000;

/// E-RTMP: this peer can forward a codec (FourCcInfoMask.CanForward).
pub const CAN_FORWARD: f64 = 4.0;

/// A connection to a server.
pub struct Client<S> {
    protocol: Protocol<S>,
    form: Form,
    transaction: f64,
    chunk_size: usize,
}

impl<S: Read + Write> Client<S> {
    /// Performs the handshake with a server, in the complex form if `complex` and the server supports it. Fails when
    /// the server does not speak RTMP or the connection fails.
    pub fn handshake(mut stream: S, complex: bool) -> Result<Self, Error> {
        let form = handshake::connect(&mut stream, complex)?;
        Ok(Self { protocol: Protocol::new(stream), form, transaction: 0.0, chunk_size: CHUNK_SIZE })
    }

    /// Sets the chunk size for sending, 128 to 65536 bytes. Call it before [`Client::connect`].
    #[must_use]
    pub fn with_chunk_size(self, chunk_size: usize) -> Self {
        Self { chunk_size, ..self }
    }

    /// Returns the form of the handshake.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Returns the protocol layer.
    pub fn protocol(&mut self) -> &mut Protocol<S> {
        &mut self.protocol
    }

    /// Connects to an application and returns the server's reply. `more` is added to the command object. Errors:
    /// [`Error::Protocol`] with the server's description when the server rejects the connection.
    pub fn connect(&mut self, app: &str, tc_url: &str, more: &Object) -> Result<Command, Error> {
        let mut object = Object::new()
            .with("app", app)
            .with("type", "nonprivate")
            .with("flashVer", "FMLE/3.0 (compatible; simple-rtmp-server)")
            .with("tcUrl", tc_url);
        for (key, value) in more.iter() {
            object.insert(key, value.clone());
        }
        self.protocol.set_chunk_size(self.chunk_size);
        self.call(0, Command::new("connect", 0.0).object(object))
    }

    /// Creates a message stream and publishes `name` on it, with the commands that ffmpeg and FMLE send. Returns the
    /// message stream id. Errors: as [`Client::connect`].
    pub fn publish(&mut self, name: &str) -> Result<u32, Error> {
        for call in ["releaseStream", "FCPublish"] {
            self.transaction += 1.0;
            self.protocol.send_command(0, &Command::new(call, self.transaction).arg(name));
        }
        let stream_id = self.create_stream()?;
        self.transaction += 1.0;
        let publish = Command::new("publish", self.transaction).arg(name).arg("live");
        self.protocol.send_command(stream_id, &publish);
        self.wait_for_status("NetStream.Publish.Start")?;
        Ok(stream_id)
    }

    /// Creates a message stream and plays `name` on it. Returns the message stream id. Errors: as [`Client::connect`].
    pub fn play(&mut self, name: &str) -> Result<u32, Error> {
        let stream_id = self.create_stream()?;
        self.transaction += 1.0;
        let play = Command::new("play", self.transaction).arg(name).arg(-2000.0);
        self.protocol.send_command(stream_id, &play);
        self.wait_for_status("NetStream.Play.Start")?;
        Ok(stream_id)
    }

    /// Ends a publication with the commands that ffmpeg sends. The connection stays open. Fails when the connection
    /// fails.
    pub fn unpublish(&mut self, stream_id: u32, name: &str) -> Result<(), Error> {
        self.transaction += 2.0;
        self.protocol.send_command(0, &Command::new("FCUnpublish", self.transaction - 1.0).arg(name));
        self.protocol.send_command(0, &Command::new("deleteStream", self.transaction).arg(f64::from(stream_id)));
        self.protocol.flush()
    }

    /// Sends audio, video or data, and blocks until it is written. Fails when the connection fails.
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        let csid = match message.kind {
            MessageType::AUDIO => ChunkStreamId::AUDIO,
            MessageType::VIDEO => ChunkStreamId::VIDEO,
            _ => ChunkStreamId::DATA,
        };
        self.protocol.send(csid, message);
        self.protocol.flush()
    }

    /// Blocks until a message arrives. Fails when the connection ends or fails.
    pub fn recv(&mut self) -> Result<Message, Error> {
        self.protocol.recv_message()
    }

    fn create_stream(&mut self) -> Result<u32, Error> {
        let reply = self.call(0, Command::new("createStream", 0.0))?;
        match reply.number(0) {
            Some(id) if id >= 1.0 => Ok(id as u32),
            _ => Err(Error::Protocol("the reply to createStream has no stream id".into())),
        }
    }

    /// Sends a command with the next transaction id and waits for the reply.
    fn call(&mut self, stream_id: u32, mut command: Command) -> Result<Command, Error> {
        self.transaction += 1.0;
        command.transaction = self.transaction;
        self.protocol.send_command(stream_id, &command);
        loop {
            let reply = self.recv_command()?;
            if reply.transaction == command.transaction && reply.name == "_result" {
                return Ok(reply);
            }
            if reply.transaction == command.transaction && reply.name == "_error" {
                return Err(rejected(&command.name, &reply));
            }
        }
    }

    fn wait_for_status(&mut self, code: &str) -> Result<(), Error> {
        loop {
            let command = self.recv_command()?;
            match command.name.as_str() {
                "onStatus" if info_text(&command, "code") == Some(code) => return Ok(()),
                "onStatus" if info_text(&command, "level") == Some("error") => return Err(rejected(code, &command)),
                // Some servers reject a publish with _error instead of onStatus.
                "_error" if command.transaction == self.transaction => return Err(rejected(code, &command)),
                _ => {}
            }
        }
    }

    fn recv_command(&mut self) -> Result<Command, Error> {
        loop {
            let message = self.protocol.recv_message()?;
            if matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3)
                && let Some(command) = Command::from_message_if_any(&message)?
            {
                return Ok(command);
            }
        }
    }
}

/// Returns a text of the information object of a reply or an `onStatus`.
pub fn info_text<'a>(reply: &'a Command, key: &str) -> Option<&'a str> {
    let information = reply.args.first().and_then(Value::as_object).or_else(|| reply.object.as_object());
    information.and_then(|object| object.get(key)).and_then(Value::as_str)
}

fn rejected(request: &str, reply: &Command) -> Error {
    let text = |key| info_text(reply, key).unwrap_or("?");
    Error::Protocol(format!("{request} was refused: {}: {}", text("code"), text("description")))
}
