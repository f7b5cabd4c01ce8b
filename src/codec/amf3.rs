//! Action Message Format 3, read only: the values that a client with `objectEncoding` 3 puts into AMF0 (Adobe, "AMF 3
//! Specification", 2013).
//!
//! Values come out as [`Value`], so that nothing above needs to know which format a client chose. What AMF0 cannot
//! express comes out as [`Value::Unsupported`]: byte arrays, and references to objects sent before, which are checked
//! but not resolved, since a chain of them could double the result with each two bytes.

mod read;
#[cfg(test)]
mod tests;

use super::amf;
use super::amf0::{MAX_NESTING, MAX_VALUES, Value};
pub(super) use read::read_within;

/// How many bytes of text one call may copy by reference. A reference of one byte stands for a whole string or for the names
/// of a whole class; clients use it for short names.
pub const MAX_COPIED: usize = 1 << 20;

/// Why bytes are not AMF3, or not AMF3 that is read here. Positions count from the first byte of the AMF3 value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends inside a value.
    #[error("amf3 input ends at byte {at}, inside the value with marker {marker:#04x}")]
    Truncated {
        /// Where the missing bytes would start.
        at: usize,
        /// The marker of the value that was being read, 0 if it is missing itself.
        marker: u8,
    },
    /// A marker that is unknown or not read here: vectors and dictionaries.
    #[error("amf3 marker {marker:#04x} at byte {at} is not supported")]
    Marker {
        /// Where the marker is.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// An object that writes itself (3.12, externalizable): only its own class knows where it ends.
    #[error("amf3 object at byte {at} is externalizable")]
    Externalizable {
        /// Where the header of the object is.
        at: usize,
    },
    /// More than [`MAX_NESTING`] objects or arrays inside each other, those of AMF0 around it included.
    #[error("amf3 value with marker {marker:#04x} at byte {at} is nested deeper than {MAX_NESTING} levels")]
    Nesting {
        /// Where the marker of the first value too deep is.
        at: usize,
        /// That marker.
        marker: u8,
    },
    /// An array or a class of more members than there are bytes left.
    #[error("amf3 count {count} at byte {at} is more than the bytes that follow")]
    Count {
        /// Where the count is.
        at: usize,
        /// What it claims.
        count: u32,
    },
    /// More than [`MAX_VALUES`] values.
    #[error("amf3 input has more than {MAX_VALUES} values at byte {at}")]
    TooManyValues {
        /// Where the first value too many is.
        at: usize,
    },
    /// A reference to a string, object or class that was not sent.
    #[error("amf3 reference {index} at byte {at} refers to nothing")]
    Reference {
        /// Where the reference is.
        at: usize,
        /// Its index.
        index: u32,
    },
    /// References that copy more than [`MAX_COPIED`] bytes.
    #[error("amf3 references copy more than {MAX_COPIED} bytes at byte {at}")]
    TooManyCopies {
        /// Where the reader was.
        at: usize,
    },
}

impl From<amf::Truncated> for Error {
    fn from(amf::Truncated { at, marker }: amf::Truncated) -> Self {
        Self::Truncated { at, marker }
    }
}

/// Reads one value and moves `input` past it; on error `input` is left as it was. Reference tables start empty.
///
/// # Errors
/// All of [`Error`].
pub fn read(input: &mut &[u8]) -> Result<Value, Error> {
    read_within(input, 0, &mut amf::Budget::default())
}
