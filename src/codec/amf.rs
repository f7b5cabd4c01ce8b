//! Common parts of the AMF0 and AMF3 readers: the position in the input, the limits, and a loop that reads nested values
//! without recursion.

use super::amf0::Value;

/// Maximum nesting of objects and arrays. Metadata of real encoders needs 3. The limit also bounds the recursion of clone,
/// print and drop.
pub const MAX_NESTING: usize = 16;

/// Maximum number of values of one call, including object members and array elements. A value takes at least one byte on the
/// wire and up to 160 in memory (a member of an object, in a vector that has just grown). So one call allocates at most
/// 10 MiB, plus at most twice the bytes of all texts. Real metadata has a few dozen values, but the seek index of a recorded
/// file, which some encoders send, has two for each keyframe.
pub const MAX_VALUES: usize = 65_536;

/// Maximum size of the texts that one call copies by reference, in bytes. A reference of one byte stands for a whole string
/// or for the names of a whole class; clients use references for short names.
pub const MAX_COPIED: usize = 1 << 20;

/// The remaining limits of one call, shared by AMF0 and the AMF3 values inside it.
#[derive(Debug)]
pub(super) struct Budget {
    values: usize,
    copied: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: MAX_VALUES, copied: MAX_COPIED }
    }
}

impl Budget {
    /// Subtracts `count` values; `None` if fewer remain.
    pub(super) fn take_values(&mut self, count: usize) -> Option<()> {
        self.values = self.values.checked_sub(count)?;
        Some(())
    }

    /// Subtracts `count` bytes of text copied by reference; `None` if fewer remain.
    pub(super) fn take_copied(&mut self, count: usize) -> Option<()> {
        self.copied = self.copied.checked_sub(count)?;
        Some(())
    }
}

/// Decodes a text. The specification says UTF-8, but encoders on a western Windows send Latin-1, so bytes that are not UTF-8
/// are read as Latin-1. Replacement characters would turn two different stream names into the same one.
pub(super) fn decode_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// The input ends inside a value.
pub(super) struct Truncated {
    /// The position of the first missing byte.
    pub(super) at: usize,
    /// The marker of the incomplete value, 0 if the marker is missing.
    pub(super) marker: u8,
}

/// A position in the input.
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    /// The number of bytes read so far.
    pub(super) at: usize,
    /// The marker of the current value, for errors.
    pub(super) marker: u8,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, marker: 0 }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let bytes = self.rest().first_chunk().ok_or(self.truncated())?;
        self.at += N;
        Ok(*bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let bytes = self.rest().get(..count).ok_or(self.truncated())?;
        self.at += count;
        Ok(bytes)
    }

    fn truncated(&self) -> Truncated {
        Truncated { at: self.at, marker: self.marker }
    }
}

/// The result of reading the start of a value.
pub(super) enum Start<C> {
    Complete(Value),
    /// An object or array whose end is not read yet.
    Container(C),
}

/// A reader of one format. [`Reader::read_value`] is a loop over an explicit stack of open containers.
pub(super) trait Reader {
    /// An object or array whose end is not read yet.
    type Container;
    type Error;

    /// Reads a marker and the bytes after it, up to the first inner value. `depth` is the number of open containers.
    fn read_start(&mut self, depth: usize) -> Result<Start<Self::Container>, Self::Error>;

    /// Reads the bytes before the next value of a container, such as its name. Returns false at the end of the container.
    fn read_key(&mut self, container: &mut Self::Container) -> Result<bool, Self::Error>;

    /// Adds the value whose key was read to a container.
    fn push_value(container: &mut Self::Container, value: Value);

    /// Converts a complete container to a value.
    fn finish(&self, container: Self::Container) -> Value;

    /// Reads a value that is inside `depth` containers, with all its inner values.
    fn read_value(&mut self, depth: usize) -> Result<Value, Self::Error> {
        let mut open = Vec::new();
        loop {
            let mut done = match self.read_start(depth + open.len())? {
                Start::Complete(value) => Some(value),
                Start::Container(container) => {
                    open.push(container);
                    None
                }
            };
            // A value can be the last of its container, and that container the last of the next one.
            loop {
                let Some(mut top) = open.pop() else {
                    match done {
                        Some(value) => return Ok(value),
                        None => break,
                    }
                };
                if let Some(value) = done.take() {
                    Self::push_value(&mut top, value);
                }
                if self.read_key(&mut top)? {
                    open.push(top);
                    break;
                }
                done = Some(self.finish(top));
            }
        }
    }
}
