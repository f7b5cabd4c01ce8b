//! Commands: remote calls by name, with a transaction id if a reply is expected (section 7.2).

use bytes::Bytes;

use super::Error;
use super::message::{Message, MessageType};
use crate::codec::amf0::{self, Object, Value};

/// Maximum size of a command, in bytes; real commands have a few hundred.
const MAX_COMMAND: usize = 64 * 1024;

/// A command message.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The name of the call, or `_result`, `_error`, `onStatus`.
    pub name: String,
    /// The transaction id; 0 if no reply is expected.
    pub transaction: f64,
    /// The command object; null in most commands.
    pub object: Value,
    /// The arguments after the command object.
    pub args: Vec<Value>,
}

impl Command {
    /// Creates a command without object and arguments.
    pub fn new(name: &str, transaction: f64) -> Self {
        Self { name: name.into(), transaction, object: Value::Null, args: Vec::new() }
    }

    /// Sets the command object.
    #[must_use]
    pub fn object(mut self, object: impl Into<Value>) -> Self {
        self.object = object.into();
        self
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Value>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Decodes a command from a message of a peer. Fails when the message is longer than 64 KiB, and as
    /// [`Command::read`].
    pub fn from_message(message: &Message) -> Result<Self, Error> {
        let length = message.payload.len();
        if length > MAX_COMMAND {
            return Err(Error::Protocol(format!("a command of {length} bytes, more than {MAX_COMMAND}")));
        }
        Self::read(message.kind, &message.payload)
    }

    /// Does the same as [`Command::from_message`], and returns `None` if the message is empty. Some clients send such
    /// messages. Errors: as [`Command::from_message`].
    pub fn from_message_if_any(message: &Message) -> Result<Option<Self>, Error> {
        if without_amf3_marker(message.kind, &message.payload).is_empty() {
            return Ok(None);
        }
        Self::from_message(message).map(Some)
    }

    /// Decodes a command from a message of type 20 (AMF0) or 17 (AMF0 after one byte). A missing transaction id is read
    /// as 0. Fails when the payload is not AMF0 or does not start with a name.
    pub fn read(kind: MessageType, payload: &[u8]) -> Result<Self, Error> {
        let mut values = amf0::read_all(without_amf3_marker(kind, payload))
            .map_err(|error| Error::Amf { message: "command", error })?
            .into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(Error::Protocol("a command without a name".into()));
        };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction, object, args: values.collect() })
    }

    /// Encodes the command as the payload of a message of type 20.
    pub fn write(&self) -> Bytes {
        let mut out = Vec::new();
        amf0::write(&mut out, &Value::from(self.name.as_str()));
        amf0::write(&mut out, &Value::Number(self.transaction));
        amf0::write(&mut out, &self.object);
        for arg in &self.args {
            amf0::write(&mut out, arg);
        }
        out.into()
    }

    /// Returns the text of an argument, or "" if it is not a text.
    pub fn text(&self, arg: usize) -> &str {
        self.args.get(arg).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the number of an argument, if it is a number.
    pub fn number(&self, arg: usize) -> Option<f64> {
        self.args.get(arg).and_then(Value::as_number)
    }
}

/// Returns the AMF0 part of a message of an AMF3 type (15 and 17), which follows a byte with the AMF version.
pub fn without_amf3_marker(kind: MessageType, payload: &[u8]) -> &[u8] {
    match (kind, payload) {
        (MessageType::COMMAND_AMF3 | MessageType::DATA_AMF3, [0, rest @ ..]) => rest,
        _ => payload,
    }
}

/// Creates the information object of `onStatus`, `_result` and `_error` (section 7.2.2).
pub fn status(level: &str, code: &str, description: &str) -> Object {
    Object::new().with("level", level).with("code", code).with("description", description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_round_trip() {
        let command = Command::new("publish", 5.0).arg("livestream").arg("live");
        assert_eq!(Command::read(MessageType::COMMAND, &command.write()).unwrap(), command);
        assert_eq!((command.text(0), command.text(7)), ("livestream", ""));
    }

    #[test]
    fn amf3_commands_start_with_a_version_byte() {
        let command = Command::new("createStream", 2.0);
        let payload = [&[0][..], &command.write()].concat();
        assert_eq!(Command::read(MessageType::COMMAND_AMF3, &payload).unwrap(), command);
    }

    #[test]
    fn malformed_commands_are_errors() {
        assert!(Command::read(MessageType::COMMAND, &[]).is_err());
        assert!(Command::read(MessageType::COMMAND, &[5]).is_err(), "null instead of a name");
        assert!(Command::read(MessageType::COMMAND, &[2, 0, 9, b'x']).is_err(), "truncated");
        let only_a_name = Command::read(MessageType::COMMAND, &[2, 0, 1, b'x']).unwrap();
        assert_eq!((only_a_name.transaction, only_a_name.object), (0.0, Value::Null));
    }
}
