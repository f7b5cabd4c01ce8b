//! Tables and numbers for people.

use std::io::{self, Write};

use chrono::{DateTime, Local};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::failure::Failure;

/// A table whose columns are as wide as their texts.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Columns that are numbers, to be aligned at the right.
    right: Vec<usize>,
}

impl Table {
    /// Creates a table without rows. A column whose name begins with `>` is aligned at the right.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        let right = columns.iter().enumerate().filter(|(_, name)| name.starts_with('>')).map(|(at, _)| at).collect();
        Self { head: columns.iter().map(|name| name.trim_start_matches('>')).collect(), rows: Vec::new(), right }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row.iter().map(|text| escape_controls(text)).collect());
    }

    /// Prints the table; only a line that it is empty if it is.
    pub(crate) fn print(&self, empty: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.rows.is_empty() {
            return writeln!(out, "{empty}");
        }
        let width = |at: usize| {
            let texts = self.rows.iter().filter_map(|row| row.get(at));
            texts.map(|text| text.width()).chain([self.head[at].width()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (at, text) in row.iter().enumerate() {
                let pad = " ".repeat(widths[at].saturating_sub(text.width()));
                let is_right = self.right.contains(&at);
                line.push_str(&if is_right { format!("{pad}{text}") } else { format!("{text}{pad}") });
                line.push_str("  ");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints names and values, a line each.
pub(crate) fn print_fields(fields: &[(&str, String)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        writeln!(out, "{name:<width$}  {}", escape_controls(value))?;
    }
    Ok(())
}

/// Prints an answer as it is, or for people.
pub(crate) fn show(
    answer: &Value,
    as_json: bool,
    print: impl FnOnce(&Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if as_json { Ok(print_line(&answer.to_string())?) } else { print(answer) }
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Prints a line.
pub(crate) fn print_line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Returns a text without control characters, which could change the terminal: clients choose the names of their streams.
pub(crate) fn escape_controls(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Returns a field as text: empty for null and what is absent.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// Returns a bit rate with a unit.
pub(crate) fn rate(kbps: u64) -> String {
    match kbps {
        0 => "0".to_owned(),
        1..10_000 => format!("{kbps} kb/s"),
        10_000..10_000_000 => format!("{:.1} Mb/s", kbps as f64 / 1e3),
        _ => format!("{:.1} Gb/s", kbps as f64 / 1e6),
    }
}

/// Returns a number of bytes with a unit.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Returns a time with its two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match () {
        () if days > 0 => format!("{days}d{hours:02}h"),
        () if hours > 0 => format!("{hours}h{minutes:02}m"),
        () if minutes > 0 => format!("{minutes}m{:02}s", whole % 60),
        () => format!("{whole}s"),
    }
}

/// Returns a time in milliseconds since 1970 as local date and time; empty if it is none.
pub(crate) fn date(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis);
    time.map(|time| time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(
            [0, 900, 9999, 10_000, 2_500_000, 20_000_000].map(rate),
            ["0", "900 kb/s", "9999 kb/s", "10.0 Mb/s", "2500.0 Mb/s", "20.0 Gb/s"]
        );
        assert_eq!([0, 1023, 1024, 5 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]);
        assert_eq!([0.9, 61.0, 3661.0, 90_000.0].map(duration), ["0s", "1m01s", "1h01m", "1d01h"]);
    }

    #[test]
    fn names_cannot_change_the_terminal() {
        assert_eq!(escape_controls("a\x1b[2J\u{9b}b"), "a\\u{1b}[2J\\u{9b}b");
        assert_eq!(escape_controls("ü 日本"), "ü 日本");
    }
}
