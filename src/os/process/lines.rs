//! The last lines of a stream of bytes.

use std::collections::VecDeque;

/// Lines that are kept, and their longest length in bytes.
const MAX_LINES: usize = 8;
const MAX_LINE: usize = 400;

/// The last lines of a stream of bytes. Programs rewrite a line of the terminal after `\r`, which ends a line here too.
#[derive(Debug, Default)]
pub(super) struct LastLines {
    lines: VecDeque<Vec<u8>>,
    open: Vec<u8>,
}

impl LastLines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (content, ends) = match piece.split_last() {
                Some((b'\n' | b'\r', content)) => (content, true),
                _ => (piece, false),
            };
            let room = MAX_LINE.saturating_sub(self.open.len());
            self.open.extend_from_slice(&content[..content.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
    }

    /// Returns the lines, the oldest first.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.end_line();
        self.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.open);
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = LastLines::default();
        pieces.iter().for_each(|piece| lines.push(piece));
        lines.finish()
    }

    #[test]
    fn lines_end_anywhere_and_the_last_ones_stay() {
        assert_eq!(last(&[b"a\nb", b"c\r\n", b"\n  \nlast"]), ["a", "bc", "last"]);
        let many: String = (0..20).map(|n| format!("{n}\r")).collect();
        assert_eq!(last(&[many.as_bytes()]), ["12", "13", "14", "15", "16", "17", "18", "19"]);
        assert_eq!(last(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_end_is_bounded_and_any_bytes_are_text() {
        let long = last(&[&[b'x'; 100_000], &[b'y'; 100_000]]);
        assert_eq!((long.len(), long[0].len()), (1, MAX_LINE));
        assert_eq!(last(&[b"\xff\xfe\n"]), ["\u{fffd}\u{fffd}"]);
    }
}
