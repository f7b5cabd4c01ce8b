//! What a line says: no longer than it may be, and with nothing in it that misleads.

use std::fmt::{self, Write as _};

/// The longest line, in bytes as it is shown: what clients say of themselves is quoted, and is to fill neither the memory while it
/// waits nor the disk.
const MAX: usize = 2048;

/// The text, cut and escaped.
pub(super) fn shown(text: fmt::Arguments<'_>) -> String {
    let mut line = Line(String::new());
    // Fails when the line is full.
    let _ = line.write_fmt(text);
    line.0
}

struct Line(String);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() <= MAX && !text.chars().any(misleads) {
            self.0.push_str(text);
            return Ok(());
        }
        text.chars().try_for_each(|character| {
            if misleads(character) { self.push(character.escape_default()) } else { self.push([character]) }
        })
    }
}

impl Line {
    fn push(&mut self, shown: impl IntoIterator<Item = char> + Clone) -> fmt::Result {
        let len: usize = shown.clone().into_iter().map(char::len_utf8).sum();
        if self.0.len() + len > MAX {
            self.0.push('…');
            return Err(fmt::Error);
        }
        self.0.extend(shown);
        Ok(())
    }
}

/// Whether a character is shown as something else than itself where it stands: control characters, line and paragraph separators,
/// and what changes the direction of text (Unicode's "Trojan Source" characters).
fn misleads(character: char) -> bool {
    let of_direction = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{feff}'];
    character.is_control()
        || of_direction.contains(&character)
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_as_they_are_shown() {
        for long in ["x".repeat(2 * MAX), "é".repeat(MAX), "\0".repeat(MAX), "\u{202e}".repeat(MAX)] {
            let line = shown(format_args!("a{long}{long:?}"));
            assert!((MAX - 8..=MAX).contains(&(line.len() - '…'.len_utf8())), "{}", line.len());
            assert!(line.starts_with('a') && line.ends_with('…') && line.capacity() <= 2 * MAX);
        }
        let fits = "x".repeat(MAX);
        assert_eq!(shown(format_args!("{fits}")), fits);
        assert_eq!(shown(format_args!("{}", "short")), "short");
    }

    #[test]
    fn what_makes_a_line_look_like_another_is_escaped() {
        let escaped = |text: &str| shown(format_args!("{text}"));
        assert_eq!(escaped("plain é"), "plain é");
        assert_eq!(escaped("a\n[2026-01-01]\x1b[2J"), "a\\n[2026-01-01]\\u{1b}[2J");
        assert_eq!(escaped("a\u{202e}gpj\u{2028}b"), "a\\u{202e}gpj\\u{2028}b");
    }
}
