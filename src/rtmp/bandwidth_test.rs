//! The messages of bandwidth tests, as the bandcheck vhost of SRS 0.9 to 4.0 and its clients exchange them after `connect`.
//!
//! | step | from | command |
//! |---|---|---|
//! | 1, 2 | server, client | [`START_PLAY`], [`STARTING_PLAY`] |
//! | 3 | server, for `duration_ms` | [`PLAYING`] |
//! | 4, 5 | server, client | [`STOP_PLAY`], [`STOPPED_PLAY`] |
//! | 6, 7 | server, client | [`START_PUBLISH`], [`STARTING_PUBLISH`] |
//! | 8 | client, for `duration_ms` | [`PUBLISHING`] |
//! | 9 | client, except Flash | [`STOP_PUBLISH`] |
//! | 10, 11 | server, client | [`STOP_PUBLISH`], [`STOPPED_PUBLISH`] |
//! | 12, 13 | server, client | [`FINISHED`], [`FINAL`] |
//!
//! A command has the transaction id 0, no command object, and one argument, an object.
//!
//! Both sides skip messages that they do not wait for. Answers of Flash have other objects, so only their names count.

use super::chunk::ChunkStreamId;
use super::command::{Command, without_amf3_marker};
use super::message::{Message, MessageType};
use super::protocol::Protocol;
use crate::codec::amf0::Object;

/// The server is about to send.
pub const START_PLAY: &str = "onSrsBandCheckStartPlayBytes";
/// The client is ready to receive.
pub const STARTING_PLAY: &str = "onSrsBandCheckStartingPlayBytes";
/// Payload of the server.
pub const PLAYING: &str = "onSrsBandCheckPlaying";
/// The server has sent all.
pub const STOP_PLAY: &str = "onSrsBandCheckStopPlayBytes";
/// The client has noticed it.
pub const STOPPED_PLAY: &str = "onSrsBandCheckStoppedPlayBytes";
/// The client shall send.
pub const START_PUBLISH: &str = "onSrsBandCheckStartPublishBytes";
/// The client is about to send.
pub const STARTING_PUBLISH: &str = "onSrsBandCheckStartingPublishBytes";
/// Payload of the client.
pub const PUBLISHING: &str = "onSrsBandCheckPublishing";
/// The client has sent all; and the reply of the server.
pub const STOP_PUBLISH: &str = "onSrsBandCheckStopPublishBytes";
/// The client has noticed the reply.
pub const STOPPED_PUBLISH: &str = "onSrsBandCheckStoppedPublishBytes";
/// The results.
pub const FINISHED: &str = "onSrsBandCheckFinished";
/// The client has the results.
pub const FINAL: &str = "finalClientPacket";

/// The bit rate that stands for "no limit", in kbit/s: clients of SRS divide by the limit and read it as a C int.
pub const NO_LIMIT_KBPS: u64 = 100_000_000;

/// Maximum size of a payload message. In SRS, messages grow without a bound, up to 290 KB at 1 Gbit/s.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// Maximum size of the incomplete messages of a client that publishes, in bytes: enough for the growing messages of SRS at
/// 10 Gbit/s.
pub const MAX_INCOMPLETE: usize = 1 << 20;

/// Length of one property of a payload message, as in SRS.
const PROPERTY: usize = 47;

/// Bytes that a property takes in a message: its name, the marker, two lengths.
const ENCODED_PROPERTY: usize = PROPERTY + 8;

/// Queues a command with this argument on chunk stream 5 and message stream 0, as SRS does.
pub fn send<S>(protocol: &mut Protocol<S>, name: &str, object: Object) {
    protocol.send(ChunkStreamId::STATUS, &message(name, object));
}

fn message(name: &str, object: Object) -> Message {
    let payload = Command::new(name, 0.0).arg(object).write();
    Message { kind: MessageType::COMMAND, timestamp: 0, stream_id: 0, payload }
}

/// Returns the name of a command without decoding what follows it, which may be long. `None` for other messages.
pub fn name(message: &Message) -> Option<&str> {
    if !matches!(message.kind, MessageType::COMMAND | MessageType::COMMAND_AMF3) {
        return None;
    }
    let [2, high, low, rest @ ..] = without_amf3_marker(message.kind, &message.payload) else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// Source of payload messages, each two properties longer than the one before, up to a limit.
pub struct Payload {
    name: &'static str,
    limit: usize,
    properties: usize,
    object: Object,
    text: Text,
    /// The message of the maximum size, once it is reached.
    longest: Option<Message>,
}

impl Payload {
    /// Creates the first message of this name. No message will be longer than `limit` or [`MAX_PAYLOAD`], but the first one has
    /// a property in any case.
    pub fn new(name: &'static str, limit: usize) -> Self {
        let limit = limit.min(MAX_PAYLOAD);
        Self { name, limit, properties: 0, object: Object::new(), text: Text(0x9e37_79b9_7f4a_7c15), longest: None }
    }

    /// Queues the next message.
    pub fn send<S>(&mut self, protocol: &mut Protocol<S>) {
        let message = match &self.longest {
            Some(longest) => longest.clone(),
            None => self.grow(),
        };
        protocol.send(ChunkStreamId::STATUS, &message);
    }

    fn grow(&mut self) -> Message {
        let added = if self.properties == 0 { 1 } else { 2 };
        for _ in 0..added {
            self.object.insert(self.properties.to_string(), self.text.next_property());
            self.properties += 1;
        }
        let message = message(self.name, self.object.clone());
        if message.payload.len() + 2 * ENCODED_PROPERTY > self.limit {
            self.object = Object::new();
            self.longest = Some(message.clone());
        }
        message
    }
}

/// Text without patterns, so that links which compress do not seem faster than they are.
struct Text(u64);

impl Text {
    fn next_property(&mut self) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digit = |_| {
            // xorshift64.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            char::from(DIGITS[(self.0 >> 58) as usize])
        };
        (0..PROPERTY).map(digit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::amf0::Value;

    fn sent(limit: usize, count: usize) -> Vec<Command> {
        let mut payload = Payload::new(PLAYING, limit);
        (0..count)
            .map(|_| {
                let mut sender = Protocol::new(());
                sender.set_chunk_size(65000);
                payload.send(&mut sender);
                let mut receiver = Protocol::new(());
                receiver.feed(&sender.take_output()).unwrap();
                let message = receiver.next_message().unwrap().unwrap();
                assert!(message.payload.len() <= limit.clamp(120, MAX_PAYLOAD), "{}", message.payload.len());
                assert_eq!(name(&message), Some(PLAYING));
                assert_eq!((message.kind, message.stream_id), (MessageType::COMMAND, 0));
                Command::from_message(&message).unwrap()
            })
            .collect()
    }

    #[test]
    fn message_k_has_2k_minus_1_texts_until_the_limit() {
        let all = sent(MAX_PAYLOAD, 400);
        for (k, command) in (1..).zip(&all[..100]) {
            let object = command.args[0].as_object().unwrap();
            let texts: Vec<_> =
                object.iter().map(|(key, value)| (key.to_owned(), value.as_str().unwrap().len())).collect();
            assert_eq!(texts, (0..2 * k - 1).map(|n: usize| (n.to_string(), 47)).collect::<Vec<_>>());
            assert_eq!((command.transaction, &command.object, command.args.len()), (0.0, &Value::Null, 1));
        }
        assert_eq!(all[399], all[398], "the longest one is repeated");
        assert_eq!(sent(1, 3)[2], sent(1, 1)[0], "a small limit leaves one text");
    }

    #[test]
    fn only_the_name_of_a_command_is_read() {
        let named = |kind, payload: &[u8]| {
            let message = Message { kind, timestamp: 0, stream_id: 0, payload: payload.to_vec().into() };
            name(&message).map(str::to_owned)
        };
        assert_eq!(named(MessageType::COMMAND, b"\x02\0\x01abroken").as_deref(), Some("a"));
        assert_eq!(named(MessageType::COMMAND_AMF3, b"\0\x02\0\x01a").as_deref(), Some("a"));
        for bad in [&b""[..], b"\x02", b"\x02\0\x09a", b"\x05", b"\x02\0\x01\xff"] {
            assert_eq!(named(MessageType::COMMAND, bad), None, "{bad:?}");
        }
        assert_eq!(named(MessageType::DATA, b"\x02\0\x01a"), None);
    }
}
