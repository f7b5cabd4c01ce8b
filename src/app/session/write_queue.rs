//! The queue of encoded bytes that a connection writes next.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

const MAX_SLICES: usize = 64;

/// The messages in order. All are whole, except that the first may be partly written.
#[derive(Default)]
pub(crate) struct WriteQueue(pub(crate) Vec<Bytes>);

impl WriteQueue {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push(bytes);
        }
    }

    /// Releases the memory of an empty queue.
    pub(crate) fn release(&mut self) {
        if self.0.capacity() > 0 {
            self.0 = Vec::new();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.0.iter().take(MAX_SLICES).map(|piece| IoSlice::new(piece)).collect()
    }

    pub(crate) fn advance(&mut self, mut written: usize) {
        let mut complete = 0;
        for piece in &mut self.0 {
            if written < piece.len() {
                piece.advance(written);
                break;
            }
            written -= piece.len();
            complete += 1;
        }
        self.0.drain(..complete);
    }
}
