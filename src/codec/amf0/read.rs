//! Reading AMF0.

use super::{Error, MAX_NESTING, Object, Value, marker};
use crate::codec::amf::{Budget, Cursor, Reader as _, Start, text};
use crate::codec::{amf, amf3};

/// Reads one value and moves `input` past it; on error `input` is left as it was.
///
/// Two things are tolerated. Strings that are not UTF-8 are read as Latin-1. An ECMA array may end with the input instead of
/// an end marker, as some encoders write it, if it has as many members as it claims.
///
/// # Errors
/// All of [`Error`].
pub fn read(input: &mut &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(input);
    let value = reader.value(0)?;
    *input = reader.cursor.rest();
    Ok(value)
}

/// Reads values to the end of the input, such as a command message: its name, transaction id and arguments. The limits hold
/// for all of them together.
///
/// # Errors
/// All of [`Error`]. Nothing is returned of an input that ends badly.
pub fn read_all(input: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader::new(input);
    let mut values = Vec::new();
    while !reader.cursor.rest().is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

/// An object or array whose end has not been read yet.
enum Container {
    Members { kind: Kind, members: Vec<(String, Value)>, key: String },
    Elements { left: u32, elements: Vec<Value> },
}

/// Which of the containers with named members this is.
enum Kind {
    Object,
    EcmaArray { claimed: u32 },
    Typed { class: String },
}

impl Container {
    fn members(kind: Kind) -> Self {
        Self::Members { kind, members: Vec::new(), key: String::new() }
    }

    fn marker(&self) -> u8 {
        match self {
            Self::Members { kind: Kind::Object, .. } => marker::OBJECT,
            Self::Members { kind: Kind::EcmaArray { .. }, .. } => marker::ECMA_ARRAY,
            Self::Members { kind: Kind::Typed { .. }, .. } => marker::TYPED_OBJECT,
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

    fn start(&mut self, depth: usize) -> Result<Start<Container>, Error> {
        let at = self.cursor.at;
        self.budget.values(1).ok_or(Error::TooManyValues { at })?;
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
            marker::OBJECT => return Ok(Start::Container(Container::members(Kind::Object))),
            marker::ECMA_ARRAY => {
                let claimed = u32::from_be_bytes(self.cursor.array()?);
                return Ok(Start::Container(Container::members(Kind::EcmaArray { claimed })));
            }
            marker::TYPED_OBJECT => {
                let class = self.short_text()?;
                return Ok(Start::Container(Container::members(Kind::Typed { class })));
            }
            marker::STRICT_ARRAY => {
                let left = u32::from_be_bytes(self.cursor.array()?);
                // An element takes a byte at least.
                if usize::try_from(left).map_or(true, |count| count > self.cursor.rest().len()) {
                    return Err(Error::Count { at, count: left });
                }
                return Ok(Start::Container(Container::Elements { left, elements: Vec::new() }));
            }
            _ => return Err(Error::Marker { at, marker }),
        };
        Ok(Start::Complete(value))
    }

    fn expects_value(&mut self, container: &mut Container) -> Result<bool, Error> {
        self.cursor.marker = container.marker();
        match container {
            Container::Elements { left: 0, .. } => Ok(false),
            Container::Elements { left, .. } => {
                *left -= 1;
                Ok(true)
            }
            Container::Members { kind, members, key } => {
                if let Kind::EcmaArray { claimed } = kind
                    && self.cursor.rest().is_empty()
                    && usize::try_from(*claimed).is_ok_and(|claimed| members.len() == claimed)
                {
                    return Ok(false);
                }
                *key = self.short_text()?;
                // Only an empty name and the marker together are the end (2.11): an array may have a member without a name.
                if key.is_empty() && self.cursor.rest().first() == Some(&marker::OBJECT_END) {
                    self.cursor.at += 1;
                    return Ok(false);
                }
                Ok(true)
            }
        }
    }

    fn put(container: &mut Container, value: Value) {
        match container {
            Container::Members { members, key, .. } => members.push((std::mem::take(key), value)),
            Container::Elements { elements, .. } => elements.push(value),
        }
    }

    fn close(&self, container: Container) -> Value {
        match container {
            Container::Members { kind, members, .. } => {
                let object = Object::from_members(members);
                match kind {
                    Kind::Object => Value::Object(object),
                    Kind::EcmaArray { .. } => Value::EcmaArray(object),
                    Kind::Typed { class } => Value::TypedObject { class, object },
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

    /// A string with a length of 16 bits (1.3.1).
    fn short_text(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.cursor.array()?);
        Ok(text(self.cursor.take(length.into())?))
    }

    /// A string with a length of 32 bits (1.3.1).
    fn long_text(&mut self) -> Result<String, Error> {
        let length = u32::from_be_bytes(self.cursor.array()?);
        // A length that this machine cannot count is not there either.
        Ok(text(self.cursor.take(usize::try_from(length).unwrap_or(usize::MAX))?))
    }
}
