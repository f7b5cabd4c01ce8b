//! Action Message Format 0: the values of RTMP commands and of stream metadata (Adobe, "AMF 0 Specification", 2007).
//!
//! [`read`] is for bytes that a stranger sent. What it may cost is bounded by three constants: [`MAX_NESTING`],
//! [`MAX_VALUES`] and, for AMF3 values inside, [`MAX_COPIED`](super::amf3::MAX_COPIED). It works without recursion, so the
//! depth of the input costs heap and not the small stack of a coroutine. This module does not resolve references and
//! does not know what a command means.

mod read;
#[cfg(test)]
mod tests;
mod write;

use super::{amf, amf3};
pub use read::{read, read_all};
pub use write::write;

/// How deep objects and arrays may be nested. Metadata of real encoders needs 3; what reads deeper than that is an attack,
/// and whoever later clones, prints or drops the value does so by recursion.
pub const MAX_NESTING: usize = 16;

/// How many values one call may produce, object members and array elements included. A value takes one byte on the wire
/// and up to 160 in memory (a member of an object, in a vector that has just grown). So one call costs 10 MiB at most,
/// text aside, and text costs twice its bytes at most, whatever the message is. Real metadata has a few dozen values, but
/// the seek index of a recorded file, sent along by some encoders, has two for each keyframe.
pub const MAX_VALUES: usize = 65_536;

/// One AMF0 value (section 2.1).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A double (2.2). Not-a-number and infinities are kept.
    Number(f64),
    /// A boolean (2.3). Any byte but zero is true.
    Boolean(bool),
    /// A string (2.4) or a long string (2.14): the length decides which of them is written.
    String(String),
    /// An anonymous object (2.5).
    Object(Object),
    /// Null (2.7).
    Null,
    /// Undefined (2.8).
    Undefined,
    /// An index into the objects sent before (2.9), not resolved: no RTMP client needs it, and resolving it would let a
    /// few bytes stand for a large tree.
    Reference(u16),
    /// An associative array (2.10), as `onMetaData` uses it. Its count on the wire is a hint and is not kept.
    EcmaArray(Object),
    /// A dense array (2.12).
    StrictArray(Vec<Value>),
    /// A date (2.13).
    Date {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: f64,
        /// Reserved by the specification, which asks for zero; kept as sent.
        timezone: i16,
    },
    /// A value that the sender could not express (2.15).
    Unsupported,
    /// An XML document as text (2.17).
    XmlDocument(String),
    /// An object of a named class (2.18).
    TypedObject {
        /// The name of the class.
        class: String,
        /// Its members.
        object: Object,
    },
}

impl Value {
    /// The text of a [`Value::String`].
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a [`Value::Number`]. It may be negative, infinite or not a number: check it before it is used.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of a [`Value::Boolean`].
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The members of anything that has named members: encoders disagree on which of the three kinds metadata is.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) | Self::EcmaArray(object) | Self::TypedObject { object, .. } => Some(object),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

/// Named members in the order of the wire, which some players rely on.
///
/// A look-up walks the list: objects have a dozen members. Bytes from a peer may hold a name twice, since [`read`] keeps
/// what was sent without a look-up for each member, which would cost the square of the input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    members: Vec<(String, Value)>,
}

impl Object {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Members as they are, duplicates included.
    pub(super) fn from_members(members: Vec<(String, Value)>) -> Self {
        Self { members }
    }

    /// [`insert`](Self::insert), for building an object in one expression.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Sets a member: in its place if the name is there, else at the end.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        match self.members.iter_mut().rev().find(|member| member.0 == key) {
            Some(member) => member.1 = value.into(),
            None => self.members.push((key, value.into())),
        }
    }

    /// The member of that name, the last one if there are more: a later assignment wins, as in ActionScript.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members.iter().rev().find(|member| member.0 == key).map(|member| &member.1)
    }

    /// All members in order, duplicates included.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.members.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many members there are, duplicates included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Why bytes are not AMF0. Positions count from the first byte of the input of the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends inside a value.
    #[error("amf0 input ends at byte {at}, inside the value with marker {marker:#04x}")]
    Truncated {
        /// Where the missing bytes would start.
        at: usize,
        /// The marker of the value or of the innermost object that was being read, 0 if it is missing itself.
        marker: u8,
    },
    /// A marker that is reserved (movie clip, record set), unknown, or not the start of a value.
    #[error("amf0 marker {marker:#04x} at byte {at} is not supported")]
    Marker {
        /// Where the marker is.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// More than [`MAX_NESTING`] objects or arrays inside each other.
    #[error("amf0 value with marker {marker:#04x} at byte {at} is nested deeper than {MAX_NESTING} levels")]
    Nesting {
        /// Where the marker of the first value too deep is.
        at: usize,
        /// That marker.
        marker: u8,
    },
    /// A dense array of more elements than there are bytes left.
    #[error("amf0 array at byte {at} claims {count} elements, more than the bytes that follow")]
    Count {
        /// Where the marker of the array is.
        at: usize,
        /// What the array claims.
        count: u32,
    },
    /// More than [`MAX_VALUES`] values.
    #[error("amf0 input has more than {MAX_VALUES} values at byte {at}")]
    TooManyValues {
        /// Where the first value too many is.
        at: usize,
    },
    /// An AMF3 value inside (section 3.1) is bad.
    #[error("amf3 value at byte {at}: {source}")]
    Amf3 {
        /// Where the AMF3 value starts, after the marker that switches to AMF3. The position in `source` counts from here.
        at: usize,
        /// What is wrong with it.
        source: amf3::Error,
    },
}

impl From<amf::Truncated> for Error {
    fn from(amf::Truncated { at, marker }: amf::Truncated) -> Self {
        Self::Truncated { at, marker }
    }
}

/// Type markers (section 2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML_DOCUMENT: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
    pub(super) const AVMPLUS: u8 = 0x11;
}
