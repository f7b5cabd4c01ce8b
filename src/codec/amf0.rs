//! Action Message Format 0: the values of RTMP commands and of stream metadata (Adobe, "AMF 0 Specification", 2007).
//!
//! [`read`] accepts untrusted bytes. Its cost is bounded by three constants: [`MAX_NESTING`], [`MAX_VALUES`] and, for AMF3
//! values inside, [`MAX_COPIED`](super::amf3::MAX_COPIED). It is not recursive, so deep input uses heap and not the small
//! stack of a coroutine. References are not resolved, and commands are not interpreted.

mod error;
mod marker;
mod read;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use super::amf::{MAX_NESTING, MAX_VALUES};
pub use error::Error;
pub use read::{read, read_all};
pub use value::{Object, Value};
pub use write::write;
