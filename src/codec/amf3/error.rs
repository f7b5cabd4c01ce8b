//! The errors of the AMF3 reader.

use crate::codec::amf::{MAX_COPIED, MAX_NESTING, MAX_VALUES, Truncated};

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

impl From<Truncated> for Error {
    fn from(Truncated { at, marker }: Truncated) -> Self {
        Self::Truncated { at, marker }
    }
}
