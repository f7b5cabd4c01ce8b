//! Values of log lines that may contain blanks.

use std::fmt::{self, Write};

/// Returns a value that is shown in double quotes, with `"` and `\` in it escaped: `reason="the server is full"`.
///
/// Control characters need no care here: the log escapes them in every line.
pub fn quoted<T: fmt::Display>(value: T) -> impl fmt::Display {
    Quoted(value)
}

struct Quoted<T>(T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escaper(&mut *f), "{}", self.0)?;
        f.write_char('"')
    }
}

struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(['"', '\\']) {
            let plain = piece.strip_suffix(['"', '\\']).unwrap_or(piece);
            self.0.write_str(plain)?;
            if let Some(special) = piece[plain.len()..].chars().next() {
                self.0.write_char('\\')?;
                self.0.write_char(special)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted("plain é").to_string(), "\"plain é\"");
        assert_eq!(quoted(r#"a "b" \"#).to_string(), r#""a \"b\" \\""#);
    }
}
