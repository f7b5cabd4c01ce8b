//! Commands: calls by name, with a transaction id if an answer is expected (section 7.2).

use bytes::Bytes;

use super::Error;
use super::message::{Message, MessageType};
use crate::codec::amf0::{self, Object, Value};

/// The longest command, in bytes; real ones have some hundred.
const MAX_COMMAND: usize = 64 * 1024;

/// A command message.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What is called, or `_result`, `_error`, `onStatus`.
    pub name: String,
    /// 0: no answer is expected.
    pub transaction: f64,
    /// The command object; null for most.
    pub object: Value,
    /// What follows it.
    pub args: Vec<Value>,
}

impl Command {
    /// A command without object or arguments.
    pub fn new(name: &str, transaction: f64) -> Self {
        Self { name: name.into(), transaction, object: Value::Null, args: Vec::new() }
    }

    /// The same with a command object.
    #[must_use]
    pub fn object(mut self, object: impl Into<Value>) -> Self {
        self.object = object.into();
        self
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Value>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Reads a command from a peer's message.
    ///
    /// # Errors
    /// When it is longer than 64 KiB, and as [`Command::read`].
    pub fn of(message: &Message) -> Result<Self, Error> {
        let length = message.payload.len();
        if length > MAX_COMMAND {
            return Err(Error::Protocol(format!("a command of {length} bytes, more than {MAX_COMMAND}")));
        }
        Self::read(message.kind, &message.payload)
    }

    /// Reads a command from a message of type 20 (AMF0) or 17, which has a byte before the same.
    ///
    /// # Errors
    /// When it is no AMF0 or does not begin with a name. A missing transaction id is taken for 0.
    pub fn read(kind: MessageType, payload: &[u8]) -> Result<Self, Error> {
        let mut values = amf0::read_all(without_amf3_marker(kind, payload))
            .map_err(|error| Error::Amf { what: "command", error })?
            .into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(Error::Protocol("a command without a name".into()));
        };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction, object, args: values.collect() })
    }

    /// The payload of a message of type 20.
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

    /// The text of an argument, "" if it is none.
    pub fn text(&self, arg: usize) -> &str {
        self.args.get(arg).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number of an argument, if it is one.
    pub fn number(&self, arg: usize) -> Option<f64> {
        self.args.get(arg).and_then(Value::as_number)
    }
}

/// The AMF0 in a message of an AMF3 type (15 and 17): behind a byte that says which version follows.
pub fn without_amf3_marker(kind: MessageType, payload: &[u8]) -> &[u8] {
    match (kind, payload) {
        (MessageType::COMMAND_AMF3 | MessageType::DATA_AMF3, [0, rest @ ..]) => rest,
        _ => payload,
    }
}

/// The information object of `onStatus`, `_result` and `_error` (section 7.2.2).
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
    fn amf3_commands_have_a_byte_before() {
        let command = Command::new("createStream", 2.0);
        let payload = [&[0][..], &command.write()].concat();
        assert_eq!(Command::read(MessageType::COMMAND_AMF3, &payload).unwrap(), command);
    }

    #[test]
    fn commands_that_are_none() {
        assert!(Command::read(MessageType::COMMAND, &[]).is_err());
        assert!(Command::read(MessageType::COMMAND, &[5]).is_err(), "null for a name");
        assert!(Command::read(MessageType::COMMAND, &[2, 0, 9, b'x']).is_err(), "cut short");
        let only_a_name = Command::read(MessageType::COMMAND, &[2, 0, 1, b'x']).unwrap();
        assert_eq!((only_a_name.transaction, only_a_name.object), (0.0, Value::Null));
    }
}
