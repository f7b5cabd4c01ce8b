//! The values of AMF0.

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
/// [`read`](super::read) appends members without a lookup, which would have quadratic cost.
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
    pub(in crate::codec) fn from_members(members: Vec<(String, Value)>) -> Self {
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
