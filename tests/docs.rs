//! Checks `docs/logging.md` against the source: the table must list each warning and each error that the server logs, with its
//! level and its keys, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails on anything unexpected")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Macros whose lines must be in the table, with the level's name in the log.
const MACROS: [(&str, &str); 2] = [("log::warn!(", "warn"), ("log::error!(", "error")];

/// Lines that the log itself adds without a macro. They must be in the table as well.
const LINES_WITHOUT_MACRO: [&str; 2] = ["log lines lost", "log lines of clients suppressed"];

/// A log line of the source.
#[derive(Debug)]
struct Line {
    /// Path and line number, for the message of a failure.
    place: String,
    level: &'static str,
    /// The format string.
    format: String,
}

/// A row of the table.
struct Row {
    /// The first column: event and keys.
    line: String,
    levels: Vec<String>,
}

impl Row {
    fn event(&self) -> &str {
        event(&self.line)
    }
}

/// Returns the text before the first colon, or without one before the first key or value.
fn event(line: &str) -> &str {
    let end = line.find([':', '=', '{']).unwrap_or(line.len());
    let text = &line[..end];
    if line[end..].starts_with('=') { text.rsplit_once(' ').map_or("", |(event, _)| event) } else { text }.trim()
}

/// Returns the names before each `=`, without those that are themselves values.
fn keys(line: &str) -> impl Iterator<Item = &str> {
    let is_key = |character: char| character.is_ascii_alphanumeric() || character == '_';
    line.match_indices('=').filter_map(move |(end, _)| {
        let start = line[..end].rfind(|character| !is_key(character)).map_or(0, |at| at + 1);
        (start < end && (start == 0 || line[..start].ends_with(' '))).then_some(&line[start..end])
    })
}

/// Decodes the string literal at the beginning of `source`, after white space. Returns `None` if there is none.
fn literal(source: &str) -> Option<String> {
    let mut characters = source.trim_start().strip_prefix('"')?.chars().peekable();
    let mut text = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => match characters.next()? {
                // A line continuation skips the white space at the beginning of the next line.
                '\n' => while characters.next_if(|character| character.is_whitespace()).is_some() {},
                'n' => text.push('\n'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// Returns the format string of a macro call with these `arguments`. Follows `"{name}"` to `let name = format!(…)` in `before`.
fn format_string(before: &str, arguments: &str) -> Option<String> {
    let format = literal(arguments)?;
    let Some(name) = format.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return Some(format) };
    let definition = format!("let {name} = format!(");
    let at = before.rfind(&definition)?;
    literal(&before[at + definition.len()..])
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| {
        if path.is_dir() {
            return rust_files(&path);
        }
        Vec::from_iter(path.extension().is_some_and(|extension| extension == "rs").then_some(path))
    };
    entries.flat_map(files).collect()
}

/// Returns the warnings and errors of a source file.
fn lines_of(place: &str, source: &str) -> Vec<Line> {
    // Comments keep their length, so that positions stay right.
    let source: String = source
        .split_inclusive('\n')
        .map(|line| if line.trim_start().starts_with("//") { " ".repeat(line.len() - 1) + "\n" } else { line.into() })
        .collect();
    let mut lines = Vec::new();
    for (call, level) in MACROS {
        for (at, _) in source.match_indices(call) {
            let place = format!("{place}:{}", source[..at].matches('\n').count() + 1);
            let format = format_string(&source[..at], &source[at + call.len()..])
                .unwrap_or_else(|| panic!("{place}: the log line must begin with a string literal"));
            lines.push(Line { place, level, format });
        }
    }
    lines
}

fn logged_lines() -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = rust_files(&root.join("src")).into_iter().flat_map(|path| {
        let place = path.strip_prefix(root).unwrap().display().to_string();
        lines_of(&place, &std::fs::read_to_string(path).unwrap())
    });
    lines.collect()
}

/// Reads the rows `| `event: key=` | level | … |`.
fn rows(document: &str) -> Vec<Row> {
    let row = |line: &str| {
        let (text, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (levels, _) = rest.split_once(" | ")?;
        Some(Row { line: text.to_owned(), levels: levels.split(", ").map(str::to_owned).collect() })
    };
    document.lines().filter_map(row).collect()
}

fn logging_document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/logging.md")).unwrap()
}

#[test]
fn each_warning_and_error_is_in_the_table_with_its_keys() {
    let document = logging_document();
    let rows = rows(&document);
    let lines = logged_lines();
    assert!(lines.len() > 20, "the search finds {} lines only", lines.len());
    let mut faults = Vec::new();
    for line in &lines {
        let event = event(&line.format);
        let Some(row) = rows.iter().find(|row| row.event() == event && !event.is_empty()) else {
            faults.push(format!("{}: no row for `{event}`, of {:?}", line.place, line.format));
            continue;
        };
        if !row.levels.iter().any(|level| level == line.level) {
            faults.push(format!("{}: the row of `{event}` does not have the level {}", line.place, line.level));
        }
        let documented: BTreeSet<_> = keys(&row.line).collect();
        for key in keys(&line.format).filter(|key| !documented.contains(key)) {
            faults.push(format!("{}: the row of `{event}` does not have the key {key}=", line.place));
        }
    }
    assert!(faults.is_empty(), "docs/logging.md:\n{}", faults.join("\n"));
}

#[test]
fn each_row_of_a_warning_or_error_is_a_line_of_the_source() {
    let lines = logged_lines();
    let mut faults = Vec::new();
    for row in rows(&logging_document()) {
        for level in row.levels.iter().filter(|level| ["warn", "error"].contains(&level.as_str())) {
            let is_logged = |line: &Line| line.level == level && event(&line.format) == row.event();
            if !lines.iter().any(is_logged) && !LINES_WITHOUT_MACRO.contains(&row.event()) {
                faults.push(format!("`{}` is not logged at level {level}", row.event()));
            }
        }
    }
    assert!(faults.is_empty(), "docs/logging.md:\n{}", faults.join("\n"));
}

#[test]
fn the_lines_of_the_log_itself_are_in_the_table() {
    let rows = rows(&logging_document());
    for event in LINES_WITHOUT_MACRO {
        assert!(rows.iter().any(|row| row.event() == event), "no row for `{event}`");
    }
}

#[test]
fn each_close_code_is_explained() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app/session/close.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let (_, list) = source.split_once("const CLOSE_CODES").expect("the list of codes");
    let (list, _) = list.split_once("];").expect("its end");
    let codes: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() >= 20, "{codes:?}");
    let document = logging_document();
    let missing: Vec<_> = codes.into_iter().filter(|code| !document.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/logging.md does not explain {missing:?}");
}

#[test]
fn format_strings_are_found_in_all_their_forms() {
    let source = r#"
        // log::warn!("a comment: is=none");
        log::warn!("simple event: key={key}");
        log::error!(
            "continued event: first={} \
             second=\"two words\"",
            1
        );
        let line = format!("indirect event: code={}", 2);
        if bad { log::warn!("{line}") }
    "#;
    let found: Vec<_> = lines_of("x.rs", source).into_iter().map(|line| (line.level, line.format)).collect();
    let expected = [
        ("warn", "simple event: key={key}"),
        ("warn", "indirect event: code={}"),
        ("error", "continued event: first={} second=\"two words\""),
    ];
    assert_eq!(found, expected.map(|(level, format)| (level, format.to_owned())));
    assert_eq!(expected.map(|(_, format)| event(format)), ["simple event", "indirect event", "continued event"]);
    assert_eq!(event("no colon key=1"), "no colon");
    assert_eq!(event("without keys"), "without keys");
    assert_eq!(keys(expected[2].1).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(keys("event: {directive}={limit} a_b={}").collect::<Vec<_>>(), ["a_b"]);
}
