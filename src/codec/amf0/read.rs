//! The reader of AMF0.

use super::error::Error;
use super::marker;
use super::value::{Object, Value};
use crate::codec::amf::{self, Budget, Cursor, MAX_NESTING, Reader as _, Start, decode_text};
use crate::codec::amf3;

/// Reads one value and moves `input` past it. On error `input` is unchanged.
///
/// Two deviations from the specification are accepted: strings that are not UTF-8 are read as Latin-1, and an ECMA array may
/// end with the input instead of an end marker, as some encoders write it, if its count of members is correct.
pub fn read(input: &mut &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(input);
    let value = reader.read_value(0)?;
    *input = reader.cursor.rest();
    Ok(value)
}

/// Reads all values of the input, such as a command message: its name, transaction id and arguments. The limits apply
/// to all values together. Errors: all of [`Error`]. On error no value is returned.
pub fn read_all(input: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader::new(input);
    let mut values = Vec::new();
    while !reader.cursor.rest().is_empty() {
        values.push(reader.read_value(0)?);
    }
    Ok(values)
}

/// An object or array whose end is not read yet.
enum Container {
    Members { kind: MembersKind, members: Vec<(String, Value)>, key: String },
    Elements { left: u32, elements: Vec<Value> },
}

/// The type of a container with named members.
enum MembersKind {
    Object,
    EcmaArray { claimed: u32 },
    Typed { class: String },
}

impl Container {
    fn members(kind: MembersKind) -> Self {
        Self::Members { kind, members: Vec::new(), key: String::new() }
    }

    fn marker(&self) -> u8 {
        match self {
            Self::Members { kind: MembersKind::Object, .. } => marker::OBJECT,
            Self::Members { kind: MembersKind::EcmaArray { .. }, .. } => marker::ECMA_ARRAY,
            Self::Members { kind: MembersKind::Typed { .. }, .. } => marker::TYPED_OBJECT,
            Self::Elements { .. } => marker::STRICT_ARRAY,
        }
    }
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    budget: Budget,
}

impl amf::Reader for Reader<'_> {
    type Container = Container;
    type Error = Error;

    fn read_start(&mut self, depth: usize) -> Result<Start<Container>, Error> {
        let at = self.cursor.at;
        self.budget.take_values(1).ok_or(Error::TooManyValues { at })?;
        let [marker] = self.cursor.array()?;
        self.cursor.marker = marker;
        let is_container =
            matches!(marker, marker::OBJECT | marker::ECMA_ARRAY | marker::STRICT_ARRAY | marker::TYPED_OBJECT);
        if is_container && depth >= MAX_NESTING {
            return Err(Error::Nesting { at, marker });
        }
        let value = match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.cursor.array()?)),
            marker::BOOLEAN => Value::Boolean(self.cursor.array()? != [0]),
            marker::STRING => Value::String(self.short_text()?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => Value::Reference(u16::from_be_bytes(self.cursor.array()?)),
            marker::DATE => {
                let unix_ms = f64::from_be_bytes(self.cursor.array()?);
                Value::Date { unix_ms, timezone: i16::from_be_bytes(self.cursor.array()?) }
            }
            marker::LONG_STRING => Value::String(self.long_text()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::XmlDocument(self.long_text()?),
            marker::AVMPLUS => self.amf3(depth)?,
            marker::OBJECT => return Ok(Start::Container(Container::members(MembersKind::Object))),
            marker::ECMA_ARRAY => {
                let claimed = u32::from_be_bytes(self.cursor.array()?);
                return Ok(Start::Container(Container::members(MembersKind::EcmaArray { claimed })));
            }
            marker::TYPED_OBJECT => {
                let class = self.short_text()?;
                return Ok(Start::Container(Container::members(MembersKind::Typed { class })));
            }
            marker::STRICT_ARRAY => {
                let left = u32::from_be_bytes(self.cursor.array()?);
                // Each element has at least one byte.
                if usize::try_from(left).map_or(true, |count| count > self.cursor.rest().len()) {
                    return Err(Error::Count { at, count: left });
                }
                return Ok(Start::Container(Container::Elements { left, elements: Vec::new() }));
            }
            _ => return Err(Error::Marker { at, marker }),
        };
        Ok(Start::Complete(value))
    }

    fn read_key(&mut self, container: &mut Container) -> Result<bool, Error> {
        self.cursor.marker = container.marker();
        match container {
            Container::Elements { left: 0, .. } => Ok(false),
            Container::Elements { left, .. } => {
                *left -= 1;
                Ok(true)
            }
            Container::Members { kind, members, key } => {
                if let MembersKind::EcmaArray { claimed } = kind
                    && self.cursor.rest().is_empty()
                    && usize::try_from(*claimed).is_ok_and(|claimed| members.len() == claimed)
                {
                    return Ok(false);
                }
                *key = self.short_text()?;
                // The end is an empty name followed by the marker (2.11). A member may have an empty name.
                if key.is_empty() && self.cursor.rest().first() == Some(&marker::OBJECT_END) {
                    self.cursor.at += 1;
                    return Ok(false);
                }
                Ok(true)
            }
        }
    }

    fn push_value(container: &mut Container, value: Value) {
        match container {
            Container::Members { members, key, .. } => members.push((std::mem::take(key), value)),
            Container::Elements { elements, .. } => elements.push(value),
        }
    }

    fn finish(&self, container: Container) -> Value {
        match container {
            Container::Members { kind, members, .. } => {
                let object = Object::from_members(members);
                match kind {
                    MembersKind::Object => Value::Object(object),
                    MembersKind::EcmaArray { .. } => Value::EcmaArray(object),
                    MembersKind::Typed { class } => Value::TypedObject { class, object },
                }
            }
            Container::Elements { elements, .. } => Value::StrictArray(elements),
        }
    }
}

impl<'a> Reader<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(input), budget: Budget::default() }
    }

    fn amf3(&mut self, depth: usize) -> Result<Value, Error> {
        let at = self.cursor.at;
        let mut rest = self.cursor.rest();
        let value =
            amf3::read_within(&mut rest, depth, &mut self.budget).map_err(|source| Error::Amf3 { at, source })?;
        self.cursor.at += self.cursor.rest().len() - rest.len();
        Ok(value)
    }

    /// Reads a string with a length of 16 bits (1.3.1).
    fn short_text(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.cursor.array()?);
        Ok(decode_text(self.cursor.take(length.into())?))
    }

    /// Reads a string with a length of 32 bits (1.3.1).
    fn long_text(&mut self) -> Result<String, Error> {
        let length = u32::from_be_bytes(self.cursor.array()?);
        // A length above usize::MAX exceeds any input.
        Ok(decode_text(self.cursor.take(usize::try_from(length).unwrap_or(usize::MAX))?))
    }
}
