//! What the readers of AMF0 and AMF3 have in common: where they are in the input, what they may spend, and how they come through
//! values inside values without using the call stack.

use super::amf0::{MAX_VALUES, Value};
use super::amf3::MAX_COPIED;

/// What one call may still spend; AMF3 values inside AMF0 draw on the same one.
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
    /// Takes `count` values; `None` if they are not there.
    pub(super) fn values(&mut self, count: usize) -> Option<()> {
        self.values = self.values.checked_sub(count)?;
        Some(())
    }

    /// Takes `count` bytes of text copied by reference; `None` if they are not there.
    pub(super) fn copied(&mut self, count: usize) -> Option<()> {
        self.copied = self.copied.checked_sub(count)?;
        Some(())
    }
}

/// Text of the wire. The specification says UTF-8, but encoders on a western Windows send Latin-1: what is not UTF-8 is read
/// so. Replacement characters would be shorter to explain, but would make one stream name of two different ones.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// The input ends before what was to be read.
pub(super) struct Truncated {
    /// Where the missing bytes would start.
    pub(super) at: usize,
    /// The marker of the value that was being read, 0 if it is missing itself.
    pub(super) marker: u8,
}

/// A place in the input.
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    /// Bytes read so far.
    pub(super) at: usize,
    /// The marker of what is being read, for errors.
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

/// What the marker of a value leads to.
pub(super) enum Start<C> {
    Complete(Value),
    /// An object or array, whose end has not been read yet.
    Container(C),
}

/// A reader of one of the formats. [`Reader::value`] is one loop over an explicit stack of open containers.
pub(super) trait Reader {
    /// An object or array whose end has not been read yet.
    type Container;
    type Error;

    /// Reads a marker and what follows up to the first inner value. `depth` counts the containers around it.
    fn start(&mut self, depth: usize) -> Result<Start<Self::Container>, Self::Error>;

    /// Reads up to the next value of a container, its name for example; false if the container ends here.
    fn expects_value(&mut self, container: &mut Self::Container) -> Result<bool, Self::Error>;

    /// Gives a container the value that it expected.
    fn put(container: &mut Self::Container, value: Value);

    /// What a container has become at its end.
    fn close(&self, container: Self::Container) -> Value;

    /// Reads a value that is inside of `depth` containers, with all that is in it.
    fn value(&mut self, depth: usize) -> Result<Value, Self::Error> {
        let mut open = Vec::new();
        loop {
            let mut done = match self.start(depth + open.len())? {
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
                    Self::put(&mut top, value);
                }
                if self.expects_value(&mut top)? {
                    open.push(top);
                    break;
                }
                done = Some(self.close(top));
            }
        }
    }
}
