//! The server's side of the conversation: which calls a client may make, in what order it likes, and what it is answered.

use std::io::{Read, Write};

use bytes::Bytes;

use super::Error;
use super::chunk::ChunkStreamId;
use super::command::{Command, status};
use super::handshake::{self, Form};
use super::message::{Message, MessageType, UserControl};
use super::protocol::{MAX_ANSWERS, Polled, Protocol};
use crate::codec::amf0::{self, Object, Value};

/// Window Acknowledgement Size and Set Peer Bandwidth, in bytes; what the original sends.
const WINDOW: u32 = 2_500_000;

/// Messages before `connect` that are passed over; a client sends at most a few (chunk size, window).
const MAX_BEFORE_CONNECT: usize = 16;

/// The longest text of a `connect` that is kept, in bytes: enough for any URL.
const MAX_TEXT: usize = 4096;

/// The longest name that is said again to who plays it, in bytes.
const MAX_DETAILS: usize = 255;

/// E-RTMP: a FourCC is of four characters, or "*" for any. A list of more than so many, or of anything else, is not said again.
const FOUR_CC: usize = 4;
const MAX_CODECS: usize = 64;

/// E-RTMP: what this server does with a codec is to forward it, whatever it is (FourCcInfoMask.CanForward).
const CAN_FORWARD: f64 = 4.0;

/// E-RTMP, capsEx: multitrack (2), ModEx (4) and nanosecond offsets (8) pass through untouched; reconnect requests (1) are not
/// sent.
const CAPABILITIES: u32 = 2 | 4 | 8;

/// A client's `connect` (section 7.2.1.1).
#[derive(Debug, Clone, Default)]
pub struct Connect {
    /// The application, with its parameters.
    pub app: String,
    /// The URL that the client was given, up to the application.
    pub tc_url: String,
    /// The page that the client's player is on.
    pub page_url: String,
    /// What the client says that it is.
    pub flash_ver: String,
    /// 0 for AMF0, 3 for AMF3.
    pub object_encoding: f64,
    transaction: f64,
    /// The object as it came, for what E-RTMP puts into it.
    object: Object,
}

/// A client's `publish` (section 7.2.2.6).
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// The message stream that it publishes on.
    pub stream_id: u32,
    /// The stream's name, with its parameters.
    pub name: String,
}

/// A client's `play` (section 7.2.2.1) or `play2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Play {
    /// The message stream that it plays on.
    pub stream_id: u32,
    /// The stream's name, with its parameters.
    pub name: String,
}

/// What a client does that the server's application has to know of.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It wants to publish.
    Publish(Publish),
    /// It wants to play.
    Play(Play),
    /// It ends what it did on a stream, in words; 0 for whatever it does.
    Stop(u32),
    /// It pauses (`true`) or goes on.
    Pause(bool),
    /// It wants audio, or not.
    ReceiveAudio(bool),
    /// It wants video, or not.
    ReceiveVideo(bool),
    /// Audio, video or data.
    Media(Message),
    /// Nothing for a while, though it says much: time to see to others.
    More,
}

/// Messages in a row that are no event, after which the one who asked for events has [`Event::More`].
const MAX_UNSEEN: usize = 64;

/// A connection to a client.
pub struct Server<S> {
    protocol: Protocol<S>,
    /// Message streams created so far.
    streams: u32,
}

impl<S: Read + Write> Server<S> {
    /// Shakes hands with a client.
    ///
    /// # Errors
    /// When the client speaks no RTMP or the connection fails.
    pub fn accept(mut stream: S) -> Result<(Self, Form), Error> {
        let form = handshake::accept(&mut stream)?;
        Ok((Self::new(stream), form))
    }

    /// Blocks until the client says what it connects to.
    ///
    /// # Errors
    /// When it says anything else first.
    pub fn connect(&mut self) -> Result<Connect, Error> {
        for _ in 0..MAX_BEFORE_CONNECT {
            let message = self.protocol.recv_message()?;
            if !matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3) {
                continue;
            }
            let command = Command::of(&message)?;
            if command.name == "connect" {
                return Ok(Connect::read(&command));
            }
            return Err(Error::Protocol(format!("the first command is {:?}, not connect", cut(&command.name, 64))));
        }
        Err(Error::Protocol("no connect command".into()))
    }

    /// Blocks until the client does something. What is queued is sent first.
    ///
    /// # Errors
    /// When the connection ends or fails, or what comes is no RTMP.
    pub fn next_event(&mut self) -> Result<Event, Error> {
        loop {
            if self.protocol.output_len() > MAX_ANSWERS {
                self.protocol.flush()?;
            }
            if let Some(event) = self.poll_event()? {
                return Ok(event);
            }
            self.protocol.receive()?;
        }
    }

    /// Blocks until all answers are written.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.protocol.flush()
    }
}

impl<S> Server<S> {
    /// A connection whose handshake is done.
    pub fn new(stream: S) -> Self {
        Self { protocol: Protocol::new(stream), streams: 0 }
    }

    /// The protocol below.
    pub fn protocol(&mut self) -> &mut Protocol<S> {
        &mut self.protocol
    }

    /// The next event of the bytes that the protocol was fed with.
    ///
    /// # Errors
    /// When what was fed is no RTMP.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        for _ in 0..MAX_UNSEEN {
            match self.protocol.poll_message()? {
                Polled::Message(message) => {
                    if let Some(event) = self.on_message(message)? {
                        return Ok(Some(event));
                    }
                }
                Polled::More => return Ok(Some(Event::More)),
                Polled::Empty => return Ok(None),
            }
        }
        Ok(Some(Event::More))
    }

    /// Lets the client in. `chunk_size` is that of all that is sent to it.
    pub fn accept_connect(&mut self, connect: &Connect, chunk_size: usize) {
        self.protocol.set_window(WINDOW);
        self.protocol.set_peer_bandwidth(WINDOW);
        self.protocol.set_chunk_size(chunk_size);
        let properties = Object::new().with("fmsVer", "FMS/3,5,3,888").with("capabilities", 127.0).with("mode", 1.0);
        let properties = connect.enhanced(properties);
        let information = status("status", "NetConnection.Connect.Success", "Connection succeeded.")
            .with("objectEncoding", connect.object_encoding)
            .with("data", Object::new().with("version", "3,5,3,888").with("server", SERVER_NAME));
        let result = Command::new("_result", connect.transaction).object(properties).arg(information);
        self.protocol.send_command(0, &result);
        self.protocol.send_command(0, &Command::new("onBWDone", 0.0));
    }

    /// Turns the client away, with the reason in words. `code` as in `NetConnection.Connect.Rejected`.
    pub fn reject_connect(&mut self, connect: &Connect, code: &str, why: &str) {
        let error = Command::new("_error", connect.transaction).arg(status("error", code, why));
        self.protocol.send_command(0, &error);
        self.protocol.send_command(0, &Command::new("close", 0.0));
    }

    /// Tells the client that it may send its stream.
    pub fn start_publish(&mut self, publish: &Publish) {
        let start = status("status", "NetStream.Publish.Start", "Started publishing stream.");
        self.protocol.send_command(publish.stream_id, &Command::new("onFCPublish", 0.0).arg(start));
        let start =
            status("status", "NetStream.Publish.Start", "Started publishing stream.").with("clientid", "ASAICiss");
        self.on_status(publish.stream_id, start);
    }

    /// Tells the client that the stream begins (section 7.2.2.1).
    pub fn start_play(&mut self, play: &Play) {
        let id = play.stream_id;
        self.protocol.user_control(UserControl::StreamBegin(id));
        let name = cut(&play.name, MAX_DETAILS);
        let playing = |code: &str, what: &str| status("status", code, what).with("details", name);
        self.on_status(id, playing("NetStream.Play.Reset", "Playing and resetting stream."));
        self.on_status(id, playing("NetStream.Play.Start", "Started playing stream."));
        self.data(id, &[Value::from("|RtmpSampleAccess"), Value::from(true), Value::from(true)]);
        let begins = Object::new().with("code", "NetStream.Data.Start");
        self.data(id, &[Value::from("onStatus"), Value::from(begins)]);
    }

    /// Tells the client that its stream has ended.
    pub fn stop_publish(&mut self, stream_id: u32) {
        self.on_status(stream_id, status("status", "NetStream.Unpublish.Success", "Stopped publishing stream."));
    }

    /// Tells the client that its play has ended.
    pub fn stop_play(&mut self, stream_id: u32) {
        self.protocol.user_control(UserControl::StreamEof(stream_id));
        self.on_status(stream_id, status("status", "NetStream.Play.Stop", "Stopped playing stream."));
    }

    /// Tells the client that its pause is in effect, or over.
    pub fn paused(&mut self, stream_id: u32, paused: bool) {
        if paused {
            self.on_status(stream_id, status("status", "NetStream.Pause.Notify", "Paused stream."));
            self.protocol.user_control(UserControl::StreamEof(stream_id));
        } else {
            self.on_status(stream_id, status("status", "NetStream.Unpause.Notify", "Unpaused stream."));
            self.protocol.user_control(UserControl::StreamBegin(stream_id));
        }
    }

    /// Tells the client what went wrong with its stream. `code` as in `NetStream.Publish.BadName`.
    pub fn refuse(&mut self, stream_id: u32, code: &str, why: &str) {
        self.on_status(stream_id, status("error", code, why));
    }

    /// Answers a call, or says that it is one for the application.
    fn on_message(&mut self, message: Message) -> Result<Option<Event>, Error> {
        match message.kind {
            MessageType::AUDIO | MessageType::VIDEO | MessageType::DATA | MessageType::DATA_AMF3 => {
                Ok(Some(Event::Media(message)))
            }
            MessageType::COMMAND | MessageType::COMMAND_AMF3 => {
                let command = Command::of(&message)?;
                Ok(self.on_command(message.stream_id, &command))
            }
            // Shared objects and whatever else there may be.
            _ => Ok(None),
        }
    }

    fn on_command(&mut self, stream_id: u32, command: &Command) -> Option<Event> {
        let name = || command.text(0).to_owned();
        match command.name.as_str() {
            "createStream" => {
                self.streams = self.streams.wrapping_add(1);
                self.answer(command, Value::from(f64::from(self.streams)));
            }
            "publish" => {
                // publish(false) ends what was published.
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
            // The stream is named by the argument, on whatever stream the command comes.
            "deleteStream" => return Some(Event::Stop(command.number(0).unwrap_or_default() as u32)),
            "pause" | "pauseRaw" => {
                return Some(Event::Pause(command.args.first().and_then(Value::as_bool).unwrap_or(true)));
            }
            "receiveAudio" | "receiveVideo" => {
                let wanted = command.args.first().and_then(Value::as_bool).unwrap_or(true);
                let is_audio = command.name == "receiveAudio";
                return Some(if is_audio { Event::ReceiveAudio(wanted) } else { Event::ReceiveVideo(wanted) });
            }
            "seek" => self.refuse(stream_id, "NetStream.Seek.Failed", "A live stream cannot be sought in."),
            "releaseStream" | "FCPublish" => self.answer(command, Value::Undefined),
            "FCUnpublish" => {
                let ended = status("status", "NetStream.Unpublish.Success", "Stopped publishing stream.");
                self.protocol.send_command(stream_id, &Command::new("onFCUnpublish", 0.0).arg(ended));
                self.answer(command, Value::Undefined);
                // It comes on the connection, not on the stream that it ends.
                return Some(Event::Stop(0));
            }
            "FCSubscribe" => {
                self.answer(command, Value::Undefined);
                let subscribed = status("status", "NetStream.Play.Start", "Subscribed to stream.");
                self.protocol.send_command(0, &Command::new("onFCSubscribe", 0.0).arg(subscribed));
            }
            "getStreamLength" => self.answer(command, Value::from(0.0)),
            // The answers to our own calls, of which none expects one.
            "_result" | "_error" | "onStatus" => {}
            // _checkbw, and whatever else a client may call.
            _ => self.answer(command, Value::Null),
        }
        None
    }

    /// Answers a call that expects an answer.
    fn answer(&mut self, command: &Command, result: Value) {
        if command.transaction > 0.0 {
            self.protocol.send_command(0, &Command::new("_result", command.transaction).arg(result));
        }
    }

    fn on_status(&mut self, stream_id: u32, information: Object) {
        self.protocol.send_command(stream_id, &Command::new("onStatus", 0.0).arg(information));
    }

    fn data(&mut self, stream_id: u32, values: &[Value]) {
        let mut payload = Vec::new();
        values.iter().for_each(|value| amf0::write(&mut payload, value));
        let message = Message { kind: MessageType::DATA, timestamp: 0, stream_id, payload: payload.into() };
        self.protocol.send(ChunkStreamId::STATUS, &message);
    }
}

/// The beginning of a text, at most `max` bytes of it.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// What the server calls itself in the reply to `connect`.
const SERVER_NAME: &str = concat!("simple-rtmp-server/", env!("CARGO_PKG_VERSION"));

/// The payload of an `onStatus` that players get within a stream, when its publisher comes or goes.
pub fn stream_status(code: &str, description: &str) -> Bytes {
    Command::new("onStatus", 0.0).arg(status("status", code, description)).write()
}

impl Connect {
    /// What a client connects to that says no more than it has to.
    pub fn new(app: &str, tc_url: &str) -> Self {
        Self { app: app.into(), tc_url: tc_url.into(), ..Self::default() }
    }

    /// A text of the client's object that has no field here; "" when it is none.
    pub fn text(&self, key: &str) -> &str {
        cut(self.object.get(key).and_then(Value::as_str).unwrap_or_default(), MAX_TEXT)
    }

    fn read(command: &Command) -> Self {
        let object = command.object.as_object().cloned().unwrap_or_default();
        let text = |key| cut(object.get(key).and_then(Value::as_str).unwrap_or_default(), MAX_TEXT).to_owned();
        Self {
            app: text("app"),
            tc_url: text("tcUrl"),
            page_url: text("pageUrl"),
            flash_ver: text("flashVer"),
            object_encoding: object.get("objectEncoding").and_then(Value::as_number).unwrap_or(0.0),
            transaction: command.transaction,
            object,
        }
    }

    /// Adds what E-RTMP ("Enhancing NetConnection connect Command") has a server say that forwards any codec, to a client that
    /// spoke of it.
    fn enhanced(&self, mut properties: Object) -> Object {
        if let Some(list @ Value::StrictArray(codecs)) = self.object.get("fourCcList")
            && codecs.len() <= MAX_CODECS
            && codecs.iter().all(|codec| codec.as_str().is_some_and(|codec| codec.len() <= FOUR_CC))
        {
            properties.insert("fourCcList", list.clone());
        }
        for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
            if self.object.get(map).is_some() {
                properties.insert(map, Object::new().with("*", CAN_FORWARD));
            }
        }
        if let Some(capabilities) = self.object.get("capsEx").and_then(Value::as_number) {
            // A float-to-integer cast saturates, so any number is harmless.
            properties.insert("capsEx", f64::from(capabilities as u32 & CAPABILITIES));
        }
        properties
    }
}

#[cfg(test)]
mod tests;
