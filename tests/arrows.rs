//! Checks the dependencies between modules: `codec <- rtmp <- app`, `st <- app`, `config <- app <- main`. Codecs know no protocol, the
//! protocol knows no coroutines, and only `st` knows the runtime below it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]

use std::path::{Path, PathBuf};

/// The modules of the library, and the other modules that each may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("memory", &[]),
    ("codec", &[]),
    ("rtmp", &["memory", "codec"]),
    ("http", &[]),
    ("st", &["memory", "log"]),
    ("config", &[]),
    ("log", &["config", "st"]),
    ("os", &[]),
    ("app", &["memory", "codec", "rtmp", "http", "st", "config", "log", "os"]),
];

/// The only module that may use the runtime.
const RUNTIME_USER: &str = "st";
/// The crate of the runtime.
const RUNTIME: &str = "may";

/// Returns the forbidden dependencies of a file of the given module: line number and description. `None` stands for `main.rs`, `lib.rs`
/// and the other programs, which may use any module.
fn faults(module: Option<&str>, text: &str) -> Vec<(usize, String)> {
    let text = without_comments(text);
    let mut faults = Vec::new();
    let mut fault = |at: usize, what: String| {
        let line = text[..at].matches('\n').count() + 1;
        faults.push((line, what));
    };
    if let Some(module) = module {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| {
            panic!("the module {module} is not in ALLOWED: add it with the modules that it may use")
        });
        for at in paths_from(&text, "crate") {
            for (offset, name) in first_names(&text[at..]) {
                let is_item = ALLOWED.iter().all(|(known, _)| *known != name);
                if !is_item && name != module && !allowed.contains(&name) {
                    fault(at + offset, format!("{module} names {name}"));
                }
            }
        }
    }
    if module != Some(RUNTIME_USER) {
        for at in paths_from(&text, RUNTIME) {
            fault(at, format!("{} names {RUNTIME}", module.unwrap_or("a program")));
        }
    }
    faults
}

/// Removes line comments, since a doc comment may name any module. Two slashes after a colon belong to a URL.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let starts = line.match_indices("//").map(|(at, _)| at);
        let comment = starts.into_iter().find(|&at| !line[..at].ends_with(':'));
        out.push_str(&line[..comment.unwrap_or(line.len())]);
        out.push('\n');
    }
    out
}

/// Returns the offset after each `root::`.
fn paths_from<'a>(text: &'a str, root: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(root).filter_map(move |(at, _)| {
        let is_inside = text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        // `a::may::b` is another `may`; `::may::b` is this one.
        let before = text[..at].strip_suffix("::").unwrap_or_default();
        let is_inner = before.ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '>');
        let rest = text[at + root.len()..].strip_prefix("::");
        (!is_inside && !is_inner && rest.is_some()).then_some(at + root.len() + 2)
    })
}

/// Returns the first name of each path that starts here: one, or those of a group in braces.
fn first_names(text: &str) -> Vec<(usize, &str)> {
    let name_at = |at: usize| {
        let start = at + text[at..].len() - text[at..].trim_start().len();
        let length = text[start..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - start);
        (start, &text[start..start + length])
    };
    if !text.starts_with('{') {
        return vec![name_at(0)];
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && matches!(character, '{' | ',') {
            names.push(name_at(at + 1));
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|(_, name)| !name.is_empty());
    names
}

/// Collects all `.rs` files below a folder.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Returns the module of the library that a file below `src` belongs to.
fn module(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "main" | "lib" | "bin")).then(|| name.to_owned())
}

#[test]
fn each_module_names_only_those_it_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 5, "{} files in {}", files.len(), root.display());
    let mut all = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).expect("below it");
        let text = std::fs::read_to_string(&file).expect("a source");
        for (line, what) in faults(module(path).as_deref(), &text) {
            let content = text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
            all.push(format!("src/{}:{line}: {what}: {content}", path.display()));
        }
    }
    assert!(all.is_empty(), "forbidden dependencies:\n{}", all.join("\n"));
}

#[test]
fn a_line_that_goes_against_an_arrow_is_found() {
    for (module, text, due) in [
        (Some("codec"), "use crate::rtmp::message::Message;", "codec names rtmp"),
        (
            Some("codec"),
            "fn f() {}\n\nuse crate::codec::amf0;\nlet a = crate::config::Config::default();",
            "codec names config",
        ),
        (Some("rtmp"), "use crate::{codec::flv, st};", "rtmp names st"),
        (Some("rtmp"), "use crate::{\n    codec::{flv, aac},\n    app::source,\n};", "rtmp names app"),
        (Some("st"), "pub(in crate::app) fn f() {}", "st names app"),
        (Some("config"), "use crate::log;", "config names log"),
        (Some("log"), "    crate::app::run(\"rtmp://a/b\");", "log names app"),
        (Some("app"), "use may::coroutine;", "app names may"),
        (Some("rtmp"), "let a = ::may::go!(f);", "rtmp names may"),
        (None, "fn main() { may::config(); }", "a program names may"),
    ] {
        let found = faults(module, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].1, due, "{text}");
    }
    assert_eq!(
        faults(Some("rtmp"), "use crate::{\n    codec::flv,\n    app::source,\n};"),
        [(3, "rtmp names app".to_owned())]
    );
}

#[test]
fn a_line_within_the_arrows_passes() {
    for (module, text) in [
        (Some("codec"), "//! See [`crate::rtmp`].\nuse crate::codec::amf0;"),
        (Some("rtmp"), "use crate::codec::{amf0, flv};\nuse super::chunk; // not crate::st"),
        (Some("app"), "use crate::{codec, config::Config, rtmp, st};"),
        (Some("st"), "use may::coroutine;"),
        (Some("log"), "use crate::{config, st};"),
        (Some("app"), "let dismay = mycrate::app::f(); a::may::b();"),
        (None, "use srs::app;"),
    ] {
        assert_eq!(faults(module, text), [], "{text}");
    }
}
