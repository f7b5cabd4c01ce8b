//! Reading AMF0. One loop and an explicit stack of open containers, so that nesting never uses the call stack.

use super::{Error, MAX_NESTING, MAX_VALUES, Object, Value, marker};
use crate::codec::amf3;

/// Reads one value and moves `input` past it; on error `input` is left as it was.
///
/// Two things are tolerated. Strings that are not UTF-8 are read as Latin-1. An ECMA array may end with the input instead of
/// an end marker, as some encoders write it, if it has as many members as it claims.
///
/// # Errors
/// All of [`Error`].
pub fn read(input: &mut &[u8]) -> Result<Value, Error> {
    let mut reader = Reader { input, at: 0, marker: 0, budget: Budget::default() };
    let value = reader.value()?;
    let rest = reader.rest();
    *input = rest;
    Ok(value)
}

/// Reads values to the end of the input, such as a command message: its name, transaction id and arguments. The limits hold
/// for all of them together.
///
/// # Errors
/// All of [`Error`]. Nothing is returned of an input that ends badly.
pub fn read_all(input: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader { input, at: 0, marker: 0, budget: Budget::default() };
    let mut values = Vec::new();
    while !reader.rest().is_empty() {
        values.push(reader.value()?);
    }
    Ok(values)
}

/// What one call may still spend; AMF3 values inside AMF0 draw on the same one.
#[derive(Debug)]
pub(in crate::codec) struct Budget {
    values: usize,
    copied: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: MAX_VALUES, copied: amf3::MAX_COPIED }
    }
}

impl Budget {
    /// Takes `count` values; `None` if they are not there.
    pub(in crate::codec) fn values(&mut self, count: usize) -> Option<()> {
        self.values = self.values.checked_sub(count)?;
        Some(())
    }

    /// Takes `count` bytes of text copied by reference; `None` if they are not there.
    pub(in crate::codec) fn copied(&mut self, count: usize) -> Option<()> {
        self.copied = self.copied.checked_sub(count)?;
        Some(())
    }
}

/// Text of the wire. The specification says UTF-8, but encoders on a western Windows send Latin-1: what is not UTF-8 is read
/// so. Replacement characters would be shorter to explain, but would make one stream name of two different ones.
pub(in crate::codec) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// What the marker of a value leads to.
enum Start {
    Complete(Value),
    Container(Container),
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

    fn put(&mut self, value: Value) {
        match self {
            Self::Members { members, key, .. } => members.push((std::mem::take(key), value)),
            Self::Elements { elements, .. } => elements.push(value),
        }
    }

    fn marker(&self) -> u8 {
        match self {
            Self::Members { kind: Kind::Object, .. } => marker::OBJECT,
            Self::Members { kind: Kind::EcmaArray { .. }, .. } => marker::ECMA_ARRAY,
            Self::Members { kind: Kind::Typed { .. }, .. } => marker::TYPED_OBJECT,
            Self::Elements { .. } => marker::STRICT_ARRAY,
        }
    }

    fn close(self) -> Value {
        match self {
            Self::Members { kind, members, .. } => {
                let object = Object::from_members(members);
                match kind {
                    Kind::Object => Value::Object(object),
                    Kind::EcmaArray { .. } => Value::EcmaArray(object),
                    Kind::Typed { class } => Value::TypedObject { class, object },
                }
            }
            Self::Elements { elements, .. } => Value::StrictArray(elements),
        }
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    /// The marker of what is being read, for errors.
    marker: u8,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn value(&mut self) -> Result<Value, Error> {
        let mut open: Vec<Container> = Vec::new();
        loop {
            let mut done = match self.start(open.len())? {
                Start::Complete(value) => Some(value),
                Start::Container(container) => {
                    open.push(container);
                    None
                }
            };
            // A value may be the last of its container, and that the last of the next one.
            loop {
                let Some(mut top) = open.pop() else {
                    match done {
                        Some(value) => return Ok(value),
                        None => break,
                    }
                };
                if let Some(value) = done.take() {
                    top.put(value);
                }
                if self.expects_value(&mut top)? {
                    open.push(top);
                    break;
                }
                done = Some(top.close());
            }
        }
    }

    /// Reads a marker and what follows up to the first inner value. `depth` counts the containers around it.
    fn start(&mut self, depth: usize) -> Result<Start, Error> {
        let at = self.at;
        self.budget.values(1).ok_or(Error::TooManyValues { at })?;
        let [marker] = self.array()?;
        self.marker = marker;
        let is_container =
            matches!(marker, marker::OBJECT | marker::ECMA_ARRAY | marker::STRICT_ARRAY | marker::TYPED_OBJECT);
        if is_container && depth >= MAX_NESTING {
            return Err(Error::Nesting { at, marker });
        }
        let value = match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            marker::BOOLEAN => Value::Boolean(self.array()? != [0]),
            marker::STRING => Value::String(self.short_text()?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => Value::Reference(u16::from_be_bytes(self.array()?)),
            marker::DATE => {
                let unix_ms = f64::from_be_bytes(self.array()?);
                Value::Date { unix_ms, timezone: i16::from_be_bytes(self.array()?) }
            }
            marker::LONG_STRING => Value::String(self.long_text()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::XmlDocument(self.long_text()?),
            marker::AVMPLUS => self.amf3(depth)?,
            marker::OBJECT => return Ok(Start::Container(Container::members(Kind::Object))),
            marker::ECMA_ARRAY => {
                let claimed = u32::from_be_bytes(self.array()?);
                return Ok(Start::Container(Container::members(Kind::EcmaArray { claimed })));
            }
            marker::TYPED_OBJECT => {
                let class = self.short_text()?;
                return Ok(Start::Container(Container::members(Kind::Typed { class })));
            }
            marker::STRICT_ARRAY => {
                let left = u32::from_be_bytes(self.array()?);
                // An element takes a byte at least.
                if usize::try_from(left).map_or(true, |count| count > self.rest().len()) {
                    return Err(Error::Count { at, count: left });
                }
                return Ok(Start::Container(Container::Elements { left, elements: Vec::new() }));
            }
            _ => return Err(Error::Marker { at, marker }),
        };
        Ok(Start::Complete(value))
    }

    /// Reads up to the next value of a container, its name for example; false if the container ends here.
    fn expects_value(&mut self, container: &mut Container) -> Result<bool, Error> {
        self.marker = container.marker();
        match container {
            Container::Elements { left: 0, .. } => Ok(false),
            Container::Elements { left, .. } => {
                *left -= 1;
                Ok(true)
            }
            Container::Members { kind, members, key } => {
                if let Kind::EcmaArray { claimed } = kind
                    && self.rest().is_empty()
                    && usize::try_from(*claimed).is_ok_and(|claimed| members.len() == claimed)
                {
                    return Ok(false);
                }
                *key = self.short_text()?;
                // Only an empty name and the marker together are the end (2.11): an array may have a member without a name.
                if key.is_empty() && self.rest().first() == Some(&marker::OBJECT_END) {
                    self.at += 1;
                    return Ok(false);
                }
                Ok(true)
            }
        }
    }

    fn amf3(&mut self, depth: usize) -> Result<Value, Error> {
        let at = self.at;
        let mut rest = self.rest();
        let value =
            amf3::read_within(&mut rest, depth, &mut self.budget).map_err(|source| Error::Amf3 { at, source })?;
        self.at = self.input.len() - rest.len();
        Ok(value)
    }

    /// A string with a length of 16 bits (1.3.1).
    fn short_text(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.array()?);
        Ok(text(self.take(length.into())?))
    }

    /// A string with a length of 32 bits (1.3.1).
    fn long_text(&mut self) -> Result<String, Error> {
        let length = u32::from_be_bytes(self.array()?);
        // A length that this machine cannot count is not there either.
        Ok(text(self.take(usize::try_from(length).unwrap_or(usize::MAX))?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.rest().first_chunk().ok_or(self.truncated())?;
        self.at += N;
        Ok(*bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let bytes = self.rest().get(..count).ok_or(self.truncated())?;
        self.at += count;
        Ok(bytes)
    }

    fn truncated(&self) -> Error {
        Error::Truncated { at: self.at, marker: self.marker }
    }
}
