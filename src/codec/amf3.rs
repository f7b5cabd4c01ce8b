//! Action Message Format 3, read only: values that a client with `objectEncoding` 3 sends inside AMF0 (Adobe, "AMF 3
//! Specification", 2013).
//!
//! The result is a [`Value`], so callers do not depend on the format. Values without an AMF0 equivalent become
//! [`Value::Unsupported`]: byte arrays, and references to earlier objects. References are checked but not resolved, because
//! a chain of them could double the result with every two bytes.

mod error;
mod read;
#[cfg(test)]
mod tests;

pub use super::amf::MAX_COPIED;
pub use error::Error;
pub(super) use read::read_within;

use super::amf::Budget;
use super::amf0::Value;

/// Reads one value and moves `input` past it. On error `input` is unchanged. The reference tables start empty.
pub fn read(input: &mut &[u8]) -> Result<Value, Error> {
    read_within(input, 0, &mut Budget::default())
}
