//! The server side of RTMP: handles the commands of a client, in any order, and queues the replies.

use std::io::{Read, Write};

use bytes::Bytes;

use super::Error;
use super::command::{Command, status};
use super::connect::{Connect, truncate};
use super::handshake::{self, Form};
use super::message::{Message, MessageType, UserControl};
use super::protocol::{MAX_PENDING_REPLIES, Polled, Protocol};
use crate::codec::amf0::{Object, Value};

/// Window Acknowledgement Size and Set Peer Bandwidth, in bytes; the values of the original server.
const WINDOW: u32 = 2_500_000;

/// Maximum number of messages before `connect`; a client sends at most a few (chunk size, window).
const MAX_BEFORE_CONNECT: usize = 16;

/// Maximum length of the stream name in the status of a play, in bytes.
const MAX_DETAILS: usize = 255;

/// Maximum number of consecutive messages without an event before [`Event::Yield`].
const MAX_WITHOUT_EVENT: usize = 64;

/// Maximum number of arguments of an [`Event::Command`]. The others are dropped.
const MAX_COMMAND_ARGS: usize = 16;

/// Name of the server in the reply to `connect`.
const SERVER_NAME: &str = concat!("simple-rtmp-server/", env!("CARGO_PKG_VERSION"));

/// A client's `publish` (section 7.2.2.6).
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// The message stream id.
    pub stream_id: u32,
    /// The stream name with its parameters.
    pub name: String,
}

/// A client's `play` (section 7.2.2.1) or `play2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Play {
    /// The message stream id.
    pub stream_id: u32,
    /// The stream name with its parameters.
    pub name: String,
}

/// A request of a client, or media, that the application must handle.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request to publish.
    Publish(Publish),
    /// A request to play.
    Play(Play),
    /// The end of a publish or play on this message stream; 0 for any stream.
    Stop(u32),
    /// Pause (`true`) or unpause.
    Pause(bool),
    /// Audio on or off.
    ReceiveAudio(bool),
    /// Video on or off.
    ReceiveVideo(bool),
    /// Audio, video or data.
    Media(Message),
    /// A command of a [registered](Server::register_command) name, of at most 64 KiB and 16 arguments. A reply is the
    /// application's.
    Command(Box<Command>),
    /// Many messages without an event were handled, and there may be more. The caller should yield.
    Yield,
}

/// A connection to a client.
pub struct Server<S> {
    protocol: Protocol<S>,
    /// Number of message streams created so far.
    streams: u32,
    /// Names of commands that only the application knows.
    registered: Vec<&'static str>,
    first_unknown: Option<(MessageType, usize)>,
}

impl<S: Read + Write> Server<S> {
    /// Performs the handshake with a client. Fails when the client does not speak RTMP or the connection fails.
    pub fn accept(mut stream: S) -> Result<(Self, Form), Error> {
        let form = handshake::accept(&mut stream)?;
        Ok((Self::new(stream), form))
    }

    /// Blocks until the client sends `connect`. Fails when the first command is not `connect`, or too many other
    /// messages come first.
    pub fn connect(&mut self) -> Result<Connect, Error> {
        for _ in 0..MAX_BEFORE_CONNECT {
            let message = self.protocol.recv_message()?;
            if !matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3) {
                continue;
            }
            let Some(command) = Command::from_message_if_any(&message)? else { continue };
            if command.name == "connect" {
                return Ok(Connect::read(&command));
            }
            return Err(Error::Protocol(format!(
                "the first command is {:?}, not connect",
                truncate(&command.name, 64)
            )));
        }
        Err(Error::Protocol("no connect command".into()))
    }

    /// Writes the queued replies, then blocks until there is an event. Fails when the connection ends or fails, or the
    /// input is not valid RTMP.
    pub fn next_event(&mut self) -> Result<Event, Error> {
        loop {
            if self.protocol.output_len() > MAX_PENDING_REPLIES {
                self.protocol.flush()?;
            }
            if let Some(event) = self.poll_event()? {
                return Ok(event);
            }
            self.protocol.receive()?;
        }
    }

    /// Blocks until all queued replies are written. Fails when the connection fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.protocol.flush()
    }
}

impl<S> Server<S> {
    /// Wraps a connection whose handshake is done.
    pub fn new(stream: S) -> Self {
        Self { protocol: Protocol::new(stream), streams: 0, registered: Vec::new(), first_unknown: None }
    }

    /// Makes commands of this name, which must not be one of RTMP, reach the application as [`Event::Command`]. Without it,
    /// an unknown command gets an empty reply.
    pub fn register_command(&mut self, name: &'static str) {
        self.registered.push(name);
    }

    /// Returns what the decoder keeps of each chunk stream, for a caller that prefetches it.
    pub fn chunk_streams(&self) -> &[impl Sized + use<S>] {
        self.protocol.chunk_streams()
    }

    /// Returns the protocol layer.
    pub fn protocol(&mut self) -> &mut Protocol<S> {
        &mut self.protocol
    }

    /// Returns type and payload length of the first message that was passed over because of its type.
    pub fn first_unknown(&self) -> Option<(MessageType, usize)> {
        self.first_unknown
    }

    /// Returns the next event of the input fed to the protocol. `None`: more input is needed. Fails when the input is
    /// not valid RTMP.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        for _ in 0..MAX_WITHOUT_EVENT {
            match self.protocol.poll_message()? {
                Polled::Message(message) if message.kind.is_media() => return Ok(Some(Event::Media(message))),
                Polled::Message(message) => {
                    if let Some(event) = self.on_message(message)? {
                        return Ok(Some(event));
                    }
                }
                Polled::Yield => return Ok(Some(Event::Yield)),
                Polled::Empty => return Ok(None),
            }
        }
        Ok(Some(Event::Yield))
    }

    /// Accepts the `connect` of the client. `chunk_size` is for sending, in bytes.
    pub fn accept_connect(&mut self, connect: &Connect, chunk_size: usize) {
        let data = Object::new().with("version", "3,5,3,888").with("server", SERVER_NAME);
        self.accept_with(connect, chunk_size, data);
        self.protocol.send_command(0, &Command::new("onBWDone", 0.0));
    }

    /// Accepts the `connect` of a client that tests the bandwidth, as SRS does: with more about the server in `data`, and
    /// without `onBWDone`.
    pub fn accept_test(&mut self, connect: &Connect, chunk_size: usize, data: Object) {
        self.accept_with(connect, chunk_size, data);
    }

    fn accept_with(&mut self, connect: &Connect, chunk_size: usize, data: Object) {
        self.protocol.set_window(WINDOW);
        self.protocol.set_peer_bandwidth(WINDOW);
        self.protocol.set_chunk_size(chunk_size);
        let properties = Object::new().with("fmsVer", "FMS/3,5,3,888").with("capabilities", 127.0).with("mode", 1.0);
        let properties = connect.add_enhanced_properties(properties);
        let information = status("status", "NetConnection.Connect.Success", "Connection succeeded.")
            .with("objectEncoding", connect.object_encoding)
            // The clients of SRS read no other type.
            .with("data", Value::EcmaArray(data));
        let result = Command::new("_result", connect.transaction).object(properties).arg(information);
        self.protocol.send_command(0, &result);
    }

    /// Rejects the `connect` of the client. `code` is for example `NetConnection.Connect.Rejected`.
    pub fn reject_connect(&mut self, connect: &Connect, code: &str, description: &str) {
        let error = Command::new("_error", connect.transaction).arg(status("error", code, description));
        self.protocol.send_command(0, &error);
        self.protocol.send_command(0, &Command::new("close", 0.0));
    }

    /// Queues the status that accepts a publish.
    pub fn start_publish(&mut self, publish: &Publish) {
        let start = status("status", "NetStream.Publish.Start", "Started publishing stream.");
        self.protocol.send_command(publish.stream_id, &Command::new("onFCPublish", 0.0).arg(start));
        let start =
            status("status", "NetStream.Publish.Start", "Started publishing stream.").with("clientid", "ASAICiss");
        self.send_status(publish.stream_id, start);
    }

    /// Queues the status that accepts a play (section 7.2.2.1). No data messages: ffmpeg takes `NetStream.Data.Start`, which
    /// Flash Media Server sends, for a data stream of unknown codec, so that `-map 0` fails.
    pub fn start_play(&mut self, play: &Play) {
        let id = play.stream_id;
        self.protocol.user_control(UserControl::StreamBegin(id));
        let name = truncate(&play.name, MAX_DETAILS);
        let playing = |code: &str, description: &str| status("status", code, description).with("details", name);
        self.send_status(id, playing("NetStream.Play.Reset", "Playing and resetting stream."));
        self.send_status(id, playing("NetStream.Play.Start", "Started playing stream."));
    }

    /// Queues the status that ends a publish.
    pub fn stop_publish(&mut self, stream_id: u32) {
        self.send_status(stream_id, status("status", "NetStream.Unpublish.Success", "Stopped publishing stream."));
    }

    /// Queues the status that ends a play.
    pub fn stop_play(&mut self, stream_id: u32) {
        self.protocol.user_control(UserControl::StreamEof(stream_id));
        self.send_status(stream_id, status("status", "NetStream.Play.Stop", "Stopped playing stream."));
    }

    /// Queues the status that confirms a pause or its end.
    pub fn send_pause_status(&mut self, stream_id: u32, paused: bool) {
        if paused {
            self.send_status(stream_id, status("status", "NetStream.Pause.Notify", "Paused stream."));
            self.protocol.user_control(UserControl::StreamEof(stream_id));
        } else {
            self.send_status(stream_id, status("status", "NetStream.Unpause.Notify", "Unpaused stream."));
            self.protocol.user_control(UserControl::StreamBegin(stream_id));
        }
    }

    /// Queues an error status for a stream. `code` is for example `NetStream.Publish.BadName`.
    pub fn send_stream_error(&mut self, stream_id: u32, code: &str, description: &str) {
        self.send_status(stream_id, status("error", code, description));
    }

    /// Replies to a command, or returns the event that the application must handle.
    #[inline(never)] // Keeps its large locals off the way of media.
    fn on_message(&mut self, message: Message) -> Result<Option<Event>, Error> {
        match message.kind {
            MessageType::COMMAND | MessageType::COMMAND_AMF3 => match Command::from_message_if_any(&message)? {
                Some(command) => Ok(self.on_command(message.stream_id, command)),
                None => Ok(None),
            },
            // Shared objects and unknown types.
            kind => {
                self.first_unknown.get_or_insert((kind, message.payload.len()));
                Ok(None)
            }
        }
    }

    fn on_command(&mut self, stream_id: u32, mut command: Command) -> Option<Event> {
        let name = || command.text(0).to_owned();
        match command.name.as_str() {
            "createStream" => {
                self.streams = self.streams.wrapping_add(1);
                self.reply(&command, Value::from(f64::from(self.streams)));
            }
            "publish" => {
                // publish(false) ends the publication.
                if command.args.first().is_some_and(|arg| arg.as_bool() == Some(false)) {
                    return Some(Event::Stop(stream_id));
                }
                return Some(Event::Publish(Publish { stream_id, name: name() }));
            }
            "play" => {
                if command.args.first().is_some_and(|arg| arg.as_bool() == Some(false)) {
                    return Some(Event::Stop(stream_id));
                }
                return Some(Event::Play(Play { stream_id, name: name() }));
            }
            "play2" => {
                let parameters = command.args.first().and_then(Value::as_object);
                let name = parameters.and_then(|object| object.get("streamName")).and_then(Value::as_str);
                return name.map(|name| Event::Play(Play { stream_id, name: name.to_owned() }));
            }
            "closeStream" => return Some(Event::Stop(stream_id)),
            // The argument is the stream to end; the stream of the command does not matter.
            "deleteStream" => return Some(Event::Stop(command.number(0).unwrap_or_default() as u32)),
            "pause" | "pauseRaw" => {
                return Some(Event::Pause(command.args.first().and_then(Value::as_bool).unwrap_or(true)));
            }
            "receiveAudio" | "receiveVideo" => {
                let wanted = command.args.first().and_then(Value::as_bool).unwrap_or(true);
                let is_audio = command.name == "receiveAudio";
                return Some(if is_audio { Event::ReceiveAudio(wanted) } else { Event::ReceiveVideo(wanted) });
            }
            "seek" => {
                self.send_stream_error(stream_id, "NetStream.Seek.Failed", "A live stream does not support seek.")
            }
            "releaseStream" | "FCPublish" => self.reply(&command, Value::Undefined),
            "FCUnpublish" => {
                let information = status("status", "NetStream.Unpublish.Success", "Stopped publishing stream.");
                self.protocol.send_command(stream_id, &Command::new("onFCUnpublish", 0.0).arg(information));
                self.reply(&command, Value::Undefined);
                // FCUnpublish arrives on the connection, not on the stream that it ends.
                return Some(Event::Stop(0));
            }
            "FCSubscribe" => {
                self.reply(&command, Value::Undefined);
                let information = status("status", "NetStream.Play.Start", "Subscribed to stream.");
                self.protocol.send_command(0, &Command::new("onFCSubscribe", 0.0).arg(information));
            }
            "getStreamLength" => self.reply(&command, Value::from(0.0)),
            // Replies to commands of this server, which expects none.
            "_result" | "_error" | "onStatus" => {}
            name if self.registered.contains(&name) => {
                command.args.truncate(MAX_COMMAND_ARGS);
                return Some(Event::Command(Box::new(command)));
            }
            // _checkbw and unknown commands.
            _ => self.reply(&command, Value::Null),
        }
        None
    }

    /// Queues a `_result` if the command expects a reply.
    fn reply(&mut self, command: &Command, result: Value) {
        if command.transaction > 0.0 {
            self.protocol.send_command(0, &Command::new("_result", command.transaction).arg(result));
        }
    }

    fn send_status(&mut self, stream_id: u32, information: Object) {
        self.protocol.send_command(stream_id, &Command::new("onStatus", 0.0).arg(information));
    }
}

/// Encodes the `onStatus` that players of a stream get when its publisher comes or goes.
pub fn encode_stream_status(code: &str, description: &str) -> Bytes {
    Command::new("onStatus", 0.0).arg(status("status", code, description)).write()
}

#[cfg(test)]
mod tests;
