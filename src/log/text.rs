//! The text of a line: bounded and escaped.

use std::fmt::{self, Write as _};

/// Longest text in bytes, after escaping: lines contain names chosen by clients, which must fill neither the queue nor the disk.
const MAX_BYTES: usize = 2048;

/// Returns the text, truncated and escaped.
pub(super) fn sanitized(text: fmt::Arguments<'_>) -> String {
    let mut line = Line(String::new());
    // Fails when the line is full.
    let _ = line.write_fmt(text);
    line.0
}

struct Line(String);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() <= MAX_BYTES && !text.chars().any(needs_escape) {
            self.0.push_str(text);
            return Ok(());
        }
        text.chars().try_for_each(|character| {
            if needs_escape(character) { self.push(character.escape_default()) } else { self.push([character]) }
        })
    }
}

impl Line {
    fn push(&mut self, characters: impl IntoIterator<Item = char> + Clone) -> fmt::Result {
        let len: usize = characters.clone().into_iter().map(char::len_utf8).sum();
        if self.0.len() + len > MAX_BYTES {
            self.0.push('…');
            return Err(fmt::Error);
        }
        self.0.extend(characters);
        Ok(())
    }
}

/// Returns whether a character must be escaped: control characters, line and paragraph separators, and characters that change the
/// direction of text (Unicode's "Trojan Source" characters).
fn needs_escape(character: char) -> bool {
    let direction_marks = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{feff}'];
    character.is_control()
        || direction_marks.contains(&character)
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_as_they_are_shown() {
        for long in
            ["x".repeat(2 * MAX_BYTES), "é".repeat(MAX_BYTES), "\0".repeat(MAX_BYTES), "\u{202e}".repeat(MAX_BYTES)]
        {
            let line = sanitized(format_args!("a{long}{long:?}"));
            assert!((MAX_BYTES - 8..=MAX_BYTES).contains(&(line.len() - '…'.len_utf8())), "{}", line.len());
            assert!(line.starts_with('a') && line.ends_with('…') && line.capacity() <= 2 * MAX_BYTES);
        }
        let fits = "x".repeat(MAX_BYTES);
        assert_eq!(sanitized(format_args!("{fits}")), fits);
        assert_eq!(sanitized(format_args!("{}", "short")), "short");
    }

    #[test]
    fn what_makes_a_line_look_like_another_is_escaped() {
        let escaped = |text: &str| sanitized(format_args!("{text}"));
        assert_eq!(escaped("plain é"), "plain é");
        assert_eq!(escaped("a\n[2026-01-01]\x1b[2J"), "a\\n[2026-01-01]\\u{1b}[2J");
        assert_eq!(escaped("a\u{202e}gpj\u{2028}b"), "a\\u{202e}gpj\\u{2028}b");
    }
}
