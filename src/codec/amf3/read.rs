//! The reader of AMF3.

use super::error::Error;
use crate::codec::amf::{self, Budget, Cursor, MAX_NESTING, Reader as _, Start, decode_text};
use crate::codec::amf0::{Object, Value};

/// Reads a value as [`read`](super::read) does, inside `depth` AMF0 containers and within their remaining limits.
pub(in crate::codec) fn read_within(input: &mut &[u8], depth: usize, budget: &mut Budget) -> Result<Value, Error> {
    let mut reader = Reader { cursor: Cursor::new(input), budget, strings: Vec::new(), traits: Vec::new(), objects: 0 };
    let value = reader.read_value(depth)?;
    *input = reader.cursor.rest();
    Ok(value)
}

/// Type markers (section 3.1).
mod marker {
    pub(super) const UNDEFINED: u8 = 0x00;
    pub(super) const NULL: u8 = 0x01;
    pub(super) const FALSE: u8 = 0x02;
    pub(super) const TRUE: u8 = 0x03;
    pub(super) const INTEGER: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const STRING: u8 = 0x06;
    pub(super) const XML_DOCUMENT: u8 = 0x07;
    pub(super) const DATE: u8 = 0x08;
    pub(super) const ARRAY: u8 = 0x09;
    pub(super) const OBJECT: u8 = 0x0a;
    pub(super) const XML: u8 = 0x0b;
    pub(super) const BYTE_ARRAY: u8 = 0x0c;
}

/// The traits of a class (3.12).
struct Traits<'a> {
    class: &'a [u8],
    dynamic: bool,
    names: Vec<&'a [u8]>,
}

/// An object or array whose end is not read yet.
enum Container {
    /// Named members, then `left` elements.
    Array { named: bool, left: usize, members: Vec<(String, Value)>, key: String, elements: Vec<Value> },
    /// The members named by the class, of which `next` were started, then the dynamic members.
    Object { traits: usize, next: usize, members: Vec<(String, Value)>, key: String },
}

struct Reader<'a, 'b> {
    cursor: Cursor<'a>,
    budget: &'b mut Budget,
    /// Earlier strings and classes. They borrow from the input, so the tables contain no copies.
    strings: Vec<&'a [u8]>,
    traits: Vec<Traits<'a>>,
    /// Number of earlier objects. They are not stored, because references are not resolved.
    objects: usize,
}

impl amf::Reader for Reader<'_, '_> {
    type Container = Container;
    type Error = Error;

    fn read_start(&mut self, depth: usize) -> Result<Start<Container>, Error> {
        let at = self.cursor.at;
        self.budget.take_values(1).ok_or(Error::TooManyValues { at })?;
        let [marker] = self.cursor.array()?;
        self.cursor.marker = marker;
        if matches!(marker, marker::ARRAY | marker::OBJECT) && depth >= MAX_NESTING {
            return Err(Error::Nesting { at, marker });
        }
        let value = match marker {
            marker::UNDEFINED => Value::Undefined,
            marker::NULL => Value::Null,
            marker::FALSE => Value::Boolean(false),
            marker::TRUE => Value::Boolean(true),
            marker::INTEGER => Value::Number(self.integer()?.into()),
            marker::DOUBLE => Value::Number(f64::from_be_bytes(self.cursor.array()?)),
            marker::STRING => {
                let string = self.string()?;
                Value::String(decode_text(string))
            }
            marker::DATE => match self.object_header()? {
                None => Value::Unsupported,
                Some(_) => Value::Date { unix_ms: f64::from_be_bytes(self.cursor.array()?), timezone: 0 },
            },
            marker::XML_DOCUMENT | marker::XML => match self.object_header()? {
                None => Value::Unsupported,
                Some(length) => Value::XmlDocument(decode_text(self.cursor.take(length)?)),
            },
            marker::BYTE_ARRAY => {
                if let Some(length) = self.object_header()? {
                    self.cursor.take(length)?;
                }
                Value::Unsupported
            }
            marker::ARRAY => return self.start_array(),
            marker::OBJECT => return self.start_object(),
            _ => return Err(Error::Marker { at, marker }),
        };
        Ok(Start::Complete(value))
    }

    fn read_key(&mut self, container: &mut Container) -> Result<bool, Error> {
        match container {
            Container::Array { named, left, key, .. } => {
                self.cursor.marker = marker::ARRAY;
                if *named {
                    *key = decode_text(self.string()?);
                    *named = !key.is_empty();
                }
                if *named {
                    return Ok(true);
                }
                let more = *left > 0;
                *left = left.saturating_sub(1);
                Ok(more)
            }
            Container::Object { traits, next, key, .. } => {
                self.cursor.marker = marker::OBJECT;
                let Some(shape) = self.traits.get(*traits) else { return Ok(false) };
                if let Some(name) = shape.names.get(*next) {
                    *next += 1;
                    *key = decode_text(name);
                    return Ok(true);
                }
                if !shape.dynamic {
                    return Ok(false);
                }
                *key = decode_text(self.string()?);
                Ok(!key.is_empty())
            }
        }
    }

    fn push_value(container: &mut Container, value: Value) {
        match container {
            Container::Array { named: false, elements, .. } => elements.push(value),
            Container::Array { members, key, .. } | Container::Object { members, key, .. } => {
                members.push((std::mem::take(key), value));
            }
        }
    }

    fn finish(&self, container: Container) -> Value {
        match container {
            Container::Array { members, elements, .. } if members.is_empty() => Value::StrictArray(elements),
            Container::Array { mut members, elements, .. } => {
                members.extend(elements.into_iter().enumerate().map(|(index, value)| (index.to_string(), value)));
                Value::EcmaArray(Object::from_members(members))
            }
            Container::Object { traits, members, .. } => {
                let object = Object::from_members(members);
                match self.traits.get(traits).map(|shape| decode_text(shape.class)) {
                    Some(class) if !class.is_empty() => Value::TypedObject { class, object },
                    _ => Value::Object(object),
                }
            }
        }
    }
}

impl<'a> Reader<'a, '_> {
    /// Reads the header of an array (3.11), up to its named members.
    fn start_array(&mut self) -> Result<Start<Container>, Error> {
        let at = self.cursor.at;
        let Some(left) = self.object_header()? else { return Ok(Start::Complete(Value::Unsupported)) };
        self.check_count(at, left)?;
        let (members, elements) = (Vec::new(), Vec::new());
        Ok(Start::Container(Container::Array { named: true, left, members, key: String::new(), elements }))
    }

    /// Reads the header of an object (3.12): a reference, a class by reference, or a class with its member names.
    fn start_object(&mut self) -> Result<Start<Container>, Error> {
        let at = self.cursor.at;
        let header = self.u29()?;
        if header & 1 == 0 {
            self.check_object(at, header >> 1)?;
            return Ok(Start::Complete(Value::Unsupported));
        }
        self.objects += 1;
        let traits = if header & 2 == 0 {
            let index = header >> 2;
            let traits = index_of(index);
            let shape = self.traits.get(traits).ok_or(Error::Reference { at, index })?;
            // The class name and the member names are copied again.
            let copied = shape.class.len() + shape.names.iter().map(|name| name.len()).sum::<usize>();
            self.budget.take_copied(copied).ok_or(Error::TooManyCopies { at })?;
            traits
        } else if header & 4 == 0 {
            self.read_traits(at, header)?;
            self.traits.len() - 1
        } else {
            return Err(Error::Externalizable { at });
        };
        Ok(Start::Container(Container::Object { traits, next: 0, members: Vec::new(), key: String::new() }))
    }

    fn read_traits(&mut self, at: usize, header: u32) -> Result<(), Error> {
        let count = index_of(header >> 4);
        let class = self.string()?;
        self.check_count(at, count)?;
        // A name takes as much memory as a value.
        self.budget.take_values(count).ok_or(Error::TooManyValues { at })?;
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.string()?);
        }
        self.traits.push(Traits { class, dynamic: header & 8 != 0, names });
        Ok(())
    }

    /// Reads a string (1.3.2): its length and bytes, or a reference. The empty string is not in the table.
    fn string(&mut self) -> Result<&'a [u8], Error> {
        let at = self.cursor.at;
        let header = self.u29()?;
        let number = header >> 1;
        if header & 1 == 0 {
            let string = *self.strings.get(index_of(number)).ok_or(Error::Reference { at, index: number })?;
            self.budget.take_copied(string.len()).ok_or(Error::TooManyCopies { at })?;
            return Ok(string);
        }
        let string = self.cursor.take(index_of(number))?;
        if !string.is_empty() {
            self.strings.push(string);
        }
        Ok(string)
    }

    /// Reads the length or count of a value that can be referenced; `None` for a reference.
    fn object_header(&mut self) -> Result<Option<usize>, Error> {
        let at = self.cursor.at;
        let header = self.u29()?;
        if header & 1 == 0 {
            self.check_object(at, header >> 1)?;
            return Ok(None);
        }
        self.objects += 1;
        Ok(Some(index_of(header >> 1)))
    }

    fn check_object(&self, at: usize, index: u32) -> Result<(), Error> {
        if index_of(index) < self.objects { Ok(()) } else { Err(Error::Reference { at, index }) }
    }

    /// Checks a claimed count: each item has at least one byte.
    fn check_count(&self, at: usize, count: usize) -> Result<(), Error> {
        if count <= self.cursor.rest().len() {
            return Ok(());
        }
        Err(Error::Count { at, count: u32::try_from(count).unwrap_or(u32::MAX) })
    }

    /// Reads a signed integer of 29 bits (3.6).
    fn integer(&mut self) -> Result<i32, Error> {
        let shifted = (self.u29()? << 3).cast_signed();
        Ok(shifted >> 3)
    }

    /// Reads an unsigned integer of 29 bits in one to four bytes (1.3.1): seven bits of each byte, eight of the fourth.
    fn u29(&mut self) -> Result<u32, Error> {
        let mut number = 0;
        for _ in 0..3 {
            let [byte] = self.cursor.array()?;
            number = number << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        let [byte] = self.cursor.array()?;
        Ok(number << 8 | u32::from(byte))
    }
}

/// Converts a number to an index. A number above usize::MAX becomes usize::MAX, which exceeds any table and any input.
fn index_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
