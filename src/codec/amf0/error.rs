//! The errors of the AMF0 reader.

use crate::codec::amf::{MAX_NESTING, MAX_VALUES, Truncated};
use crate::codec::amf3;

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

impl From<Truncated> for Error {
    fn from(Truncated { at, marker }: Truncated) -> Self {
        Self::Truncated { at, marker }
    }
}
