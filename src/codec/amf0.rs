//! Action Message Format 0: the values of RTMP commands and of stream metadata (Adobe, "AMF 0 Specification", 2007).
//!
//! [`read`] accepts untrusted bytes. Its cost is bounded by three constants: [`MAX_NESTING`], [`MAX_VALUES`] and, for AMF3
//! values inside, [`MAX_COPIED`](super::amf3::MAX_COPIED). It is not recursive, so deep input uses heap and not the small
//! stack of a coroutine. References are not resolved, and commands are not interpreted.

mod read;
#[cfg(test)]
mod tests;
mod write;

use super::{amf, amf3};
pub use read::{read, read_all};
pub use write::write;

/// Maximum nesting of objects and arrays. Metadata of real encoders needs 3. The limit also bounds the recursion of clone,
/// print and drop.
pub const MAX_NESTING: usize = 16;

/// Maximum number of values of one call, including object members and array elements. A value takes at least one byte on the
/// wire and up to 160 in memory (a member of an object, in a vector that has just grown). So one call allocates at most
/// 10 MiB, plus at most twice the bytes of all texts. Real metadata has a few dozen values, but the seek index of a recorded
/// file, which some encoders send, has two for each keyframe.
pub const MAX_VALUES: usize = 65_536;

/// One AMF0 value (section 2.1).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A double (2.2). Not-a-number and infinities are kept.
    Number(f64),
    /// A boolean (2.3). Any byte except zero is true.
    Boolean(bool),
    /// A string (2.4) or a long string (2.14); the length determines which one is written.
    String(String),
    /// An anonymous object (2.5).
    Object(Object),
    /// Null (2.7).
    Null,
    /// Undefined (2.8).
    Undefined,
    /// An index of an earlier object (2.9). It is not resolved: no RTMP client needs it, and a few bytes could expand to a
    /// large tree.
    Reference(u16),
    /// An associative array (2.10), used by `onMetaData`. Its count on the wire is a hint and is not stored.
    EcmaArray(Object),
    /// A dense array (2.12).
    StrictArray(Vec<Value>),
    /// A date (2.13).
    Date {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: f64,
        /// Reserved and zero in the specification; stored as sent.
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
    /// Returns the text of a [`Value::String`].
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the number of a [`Value::Number`]. It can be negative, infinite or not a number, so check it before use.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the value of a [`Value::Boolean`].
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// Returns the members of any value with named members. Encoders use all three types for metadata.
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

/// Named members in the order of the wire. Some players depend on the order.
///
/// A lookup is a linear search, because objects have about a dozen members. An object from a peer can contain a name twice:
/// [`read`] appends members without a lookup, which would have quadratic cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    members: Vec<(String, Value)>,
}

impl Object {
    /// Creates an object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an object from these members, including duplicates.
    pub(super) fn from_members(members: Vec<(String, Value)>) -> Self {
        Self { members }
    }

    /// Inserts a member as [`insert`](Self::insert) does, and returns the object.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Replaces the member of this name, or appends it.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        match self.members.iter_mut().rev().find(|member| member.0 == key) {
            Some(member) => member.1 = value.into(),
            None => self.members.push((key, value.into())),
        }
    }

    /// Returns the member of this name. Of duplicates the last one is returned, as in ActionScript.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members.iter().rev().find(|member| member.0 == key).map(|member| &member.1)
    }

    /// Iterates over all members in order, including duplicates.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.members.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the number of members, including duplicates.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns true if there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Malformed AMF0. Positions are relative to the first input byte of the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends inside a value.
    #[error("amf0 input ends at byte {at}, inside the value with marker {marker:#04x}")]
    Truncated {
        /// The position of the first missing byte.
        at: usize,
        /// The marker of the incomplete value or of the innermost object, 0 if the marker is missing.
        marker: u8,
    },
    /// A reserved (movie clip, record set) or unknown marker, or one that does not start a value.
    #[error("amf0 marker {marker:#04x} at byte {at} is not supported")]
    Marker {
        /// The position of the marker.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// More than [`MAX_NESTING`] nested objects or arrays.
    #[error("amf0 value with marker {marker:#04x} at byte {at} is nested deeper than {MAX_NESTING} levels")]
    Nesting {
        /// The position of the marker of the first value above the limit.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// A dense array with more elements than remaining bytes.
    #[error("amf0 array at byte {at} claims {count} elements, more than the bytes that follow")]
    Count {
        /// The position of the marker of the array.
        at: usize,
        /// The claimed number of elements.
        count: u32,
    },
    /// More than [`MAX_VALUES`] values.
    #[error("amf0 input has more than {MAX_VALUES} values at byte {at}")]
    TooManyValues {
        /// The position of the first value above the limit.
        at: usize,
    },
    /// A malformed AMF3 value inside AMF0 (section 3.1).
    #[error("amf3 value at byte {at}: {source}")]
    Amf3 {
        /// The position of the AMF3 value, after the marker that switches to AMF3. Positions in `source` are relative to it.
        at: usize,
        /// The error of the AMF3 value.
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
