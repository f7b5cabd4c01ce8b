//! Action Message Format 3, read only: values that a client with `objectEncoding` 3 sends inside AMF0 (Adobe, "AMF 3
//! Specification", 2013).
//!
//! The result is a [`Value`], so callers do not depend on the format. Values without an AMF0 equivalent become
//! [`Value::Unsupported`]: byte arrays, and references to earlier objects. References are checked but not resolved, because
//! a chain of them could double the result with every two bytes.

mod read;
#[cfg(test)]
mod tests;

use super::amf;
use super::amf0::{MAX_NESTING, MAX_VALUES, Value};
pub(super) use read::read_within;

/// Maximum size of the texts that one call copies by reference, in bytes. A reference of one byte stands for a whole string
/// or for the names of a whole class; clients use references for short names.
pub const MAX_COPIED: usize = 1 << 20;

/// Malformed or unsupported AMF3. Positions are relative to the first byte of the AMF3 value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ends inside a value.
    #[error("amf3 input ends at byte {at}, inside the value with marker {marker:#04x}")]
    Truncated {
        /// The position of the first missing byte.
        at: usize,
        /// The marker of the incomplete value, 0 if the marker is missing.
        marker: u8,
    },
    /// An unknown or unsupported marker: vectors and dictionaries.
    #[error("amf3 marker {marker:#04x} at byte {at} is not supported")]
    Marker {
        /// The position of the marker.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// An externalizable object (3.12): only its class can determine its end.
    #[error("amf3 object at byte {at} is externalizable")]
    Externalizable {
        /// The position of the object header.
        at: usize,
    },
    /// More than [`MAX_NESTING`] nested objects or arrays, including the AMF0 containers around the value.
    #[error("amf3 value with marker {marker:#04x} at byte {at} is nested deeper than {MAX_NESTING} levels")]
    Nesting {
        /// The position of the marker of the first value above the limit.
        at: usize,
        /// The marker.
        marker: u8,
    },
    /// An array or a class with more members than remaining bytes.
    #[error("amf3 count {count} at byte {at} is more than the bytes that follow")]
    Count {
        /// The position of the count.
        at: usize,
        /// The claimed count.
        count: u32,
    },
    /// More than [`MAX_VALUES`] values.
    #[error("amf3 input has more than {MAX_VALUES} values at byte {at}")]
    TooManyValues {
        /// The position of the first value above the limit.
        at: usize,
    },
    /// A reference to a missing string, object or class.
    #[error("amf3 reference {index} at byte {at} refers to nothing")]
    Reference {
        /// The position of the reference.
        at: usize,
        /// The index.
        index: u32,
    },
    /// References that copy more than [`MAX_COPIED`] bytes.
    #[error("amf3 references copy more than {MAX_COPIED} bytes at byte {at}")]
    TooManyCopies {
        /// The position of the reference above the limit.
        at: usize,
    },
}

impl From<amf::Truncated> for Error {
    fn from(amf::Truncated { at, marker }: amf::Truncated) -> Self {
        Self::Truncated { at, marker }
    }
}

/// Reads one value and moves `input` past it. On error `input` is unchanged. The reference tables start empty.
///
/// # Errors
/// All of [`Error`].
pub fn read(input: &mut &[u8]) -> Result<Value, Error> {
    read_within(input, 0, &mut amf::Budget::default())
}
