//! Names that a source file defines and uses, without its tests.

use std::collections::BTreeSet;

/// The definitions of a file and the names it uses.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Names of its items, without those of inner blocks.
    pub(crate) definitions: BTreeSet<String>,
    pub(crate) paths: Vec<Path>,
    /// Names without a path in front, outside of imports; also the first ones of paths.
    pub(crate) names: BTreeSet<String>,
}

/// A path such as `super::a::B`.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    /// The first one is empty for `::a`.
    pub(crate) segments: Vec<String>,
    pub(crate) role: Role,
}

/// The place of a path.
#[derive(Debug, PartialEq)]
pub(crate) enum Role {
    /// A `use`, which binds `alias` ("*" for all names).
    Import { alias: String, is_public: bool },
    /// `pub(in …)`, which needs nothing of that module.
    Visibility,
    /// Anywhere else.
    Body,
}

impl Source {
    /// Parses a file, without the items behind `#[cfg(test)]`.
    pub(crate) fn parse(text: &str) -> Self {
        Self::of(&without_tests(tokens(text)))
    }

    /// Parses a file with its tests.
    pub(crate) fn with_tests(text: &str) -> Self {
        Self::of(&tokens(text))
    }

    fn of(tokens: &[Token<'_>]) -> Self {
        let mut source = Source { definitions: definitions(tokens), ..Source::default() };
        let text_at = |at: usize| tokens.get(at).map_or("", |token| token.text);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let before = at.checked_sub(1).map_or("", text_at);
            if token.text == "use" {
                let is_public = before == "pub" || before == ")";
                at = import(tokens, at + 1, &[], is_public, &mut source.paths);
                continue;
            }
            let is_start = is_name(token.text) && !matches!(before, "." | "::");
            let is_rooted = token.text == "::" && !is_name(before) && before != ">";
            if !is_start && !is_rooted {
                at += 1;
                continue;
            }
            let mut segments = vec![if is_start { token.text.to_owned() } else { String::new() }];
            at += usize::from(is_start);
            while text_at(at) == "::" && is_name(text_at(at + 1)) {
                segments.push(text_at(at + 1).to_owned());
                at += 2;
            }
            at += usize::from(is_rooted && segments.len() == 1);
            if is_start {
                source.names.insert(segments[0].clone());
            }
            if segments.len() > 1 {
                let role = if before == "in" { Role::Visibility } else { Role::Body };
                source.paths.push(Path { line: token.line, segments, role });
            }
        }
        source
    }
}

impl Path {
    /// Returns the name that an import binds.
    pub(crate) fn alias(&self) -> Option<&str> {
        match &self.role {
            Role::Import { alias, .. } => Some(alias),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Splits a text into names, numbers, `::` and single characters. Leaves out comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let name_length = rest.find(|c: char| !is_name_character(c)).unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string_length(rest) {
            length
        } else if first == '"' {
            quoted_length(rest, '"')
        } else if first == '\'' {
            let is_character = rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'');
            if is_character {
                quoted_length(rest, '\'')
            } else {
                1 + rest[1..].find(|c| !is_name_character(c)).unwrap_or(0)
            }
        } else {
            let length = if name_length > 0 {
                name_length
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(Token { text: &rest[..length], line });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Returns the length of a text in quotes, both included.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == quote && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Returns the length of a string such as `r#"…"#`, if the text begins with one.
fn raw_string_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let at = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + at)
}

/// Removes each item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().map(|token| token.text).take(MARK.len()).eq(MARK) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        at += MARK.len();
        let mut depth = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(token.text, ";" | "}") {
                break;
            }
        }
    }
    kept
}

/// Returns the names of the items that are not within another one.
fn definitions(tokens: &[Token<'_>]) -> BTreeSet<String> {
    let text_at = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut names = BTreeSet::new();
    // The open blocks, and whether each is an item's own: the items in `thread_local! { }` belong to the file.
    let mut blocks = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => blocks.push(!(at >= 2 && text_at(at - 1) == "!" && text_at(at - 2) == "thread_local")),
            "}" => drop(blocks.pop()),
            "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" | "macro_rules" | "mod" => {
                let name = if text_at(at + 1) == "!" { text_at(at + 2) } else { text_at(at + 1) };
                // `mod a;` is a file of its own, and `const` may stand before `fn`.
                let is_other = (token.text == "mod" && text_at(at + 2) == ";") || matches!(name, "fn" | "unsafe");
                if !blocks.contains(&true) && !is_other {
                    names.insert(name.to_owned());
                }
            }
            _ => {}
        }
    }
    names
}

/// Collects the paths of an import, from behind `use` or within braces. Returns the place after it.
fn import(tokens: &[Token<'_>], start: usize, prefix: &[String], is_public: bool, paths: &mut Vec<Path>) -> usize {
    let text_at = |at: usize| tokens.get(at).map_or(";", |token| token.text);
    let mut segments = prefix.to_vec();
    let mut alias = None;
    let mut is_group = false;
    let mut at = start;
    loop {
        match text_at(at) {
            "::" if segments.is_empty() => segments.push(String::new()),
            "::" => {}
            "as" => {
                alias = Some(text_at(at + 1).to_owned());
                at += 1;
            }
            "{" => {
                is_group = true;
                while !matches!(text_at(at), "}" | ";") {
                    at = import(tokens, at + 1, &segments, is_public, paths);
                }
            }
            "self" if segments.len() > prefix.len() || !prefix.is_empty() => {}
            "," | "}" | ";" => break,
            name => segments.push(name.to_owned()),
        }
        at += 1;
    }
    if !is_group && at > start {
        let alias = alias.or_else(|| segments.last().cloned()).unwrap_or_default();
        let line = tokens[start].line;
        paths.push(Path { line, segments, role: Role::Import { alias, is_public } });
    }
    at
}

#[test]
fn a_file_is_taken_apart() {
    let source = Source::parse(
        "//! See crate::doc.\n\
         use super::{a::{B, self as c}, d};\n\
         pub use e::F as G;\n\
         use ::config::*;\n\
         thread_local! { static LOCAL: Cell<u8> = Cell::new(b'{'); }\n\
         pub(in crate::x) const fn first<'a>() { let text = \"crate::y\\\"\"; fn inner() {} h.i(k::l) }\n\
         const TEXT: &str = r#\"use m::n; \" \"#;\n\
         #[cfg(test)]\nmod tests { use super::*; }\n\
         mod file;\n\
         macro_rules! mine { () => {} }",
    );
    let names: Vec<_> = source.definitions.iter().map(String::as_str).collect();
    assert_eq!(names, ["LOCAL", "TEXT", "first", "mine"]);
    let import = |line, path: &str, alias: &str, is_public| Path {
        line,
        segments: path.split("::").map(str::to_owned).collect(),
        role: Role::Import { alias: alias.to_owned(), is_public },
    };
    let other = |line, path: &str, role| Path { line, segments: path.split("::").map(str::to_owned).collect(), role };
    assert_eq!(
        source.paths,
        [
            import(2, "super::a::B", "B", false),
            import(2, "super::a", "c", false),
            import(2, "super::d", "d", false),
            import(3, "e::F", "G", true),
            import(4, "::config::*", "*", false),
            other(5, "Cell::new", Role::Body),
            other(6, "crate::x", Role::Visibility),
            other(6, "k::l", Role::Body),
        ]
    );
    assert!(source.names.contains("LOCAL") && !source.names.contains("i"));
}
