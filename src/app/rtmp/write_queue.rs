//! Bytes to be written, in order.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Pieces that one system call writes at most.
const PIECES: usize = 64;

/// What a connection is to write next: whole messages, except for what has been written of the first.
#[derive(Default)]
pub(crate) struct Batch(pub(crate) Vec<Bytes>);

impl Batch {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push(bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.0.iter().take(PIECES).map(|piece| IoSlice::new(piece)).collect()
    }

    /// Forgets the first `written` bytes.
    pub(crate) fn advance(&mut self, mut written: usize) {
        let mut whole = 0;
        for piece in &mut self.0 {
            if written < piece.len() {
                piece.advance(written);
                break;
            }
            written -= piece.len();
            whole += 1;
        }
        self.0.drain(..whole);
    }
}
