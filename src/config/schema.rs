//! The schema: blocks, shapes and rows of directives, and the check of a file against the [`TABLE`] of all directives.

use std::collections::HashMap;

use super::directive::{Directive, Word};
use super::error::{Problem, Reason, quote};
use super::include::INCLUDE;
use super::kind::{self, Kind, Mismatch};
use super::plan::Reload;
use super::suggest::unknown;
pub(super) use super::table::TABLE;

/// A kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Root,
    PithyPrint,
    HttpServer,
    Rtmps,
    Vhost,
    Publish,
    Security,
    Forward,
    Hls,
}

impl BlockKind {
    /// Returns the name, for the reference.
    pub(super) fn name(self) -> &'static str {
        match self {
            BlockKind::Root => "root",
            BlockKind::PithyPrint => "pithy_print",
            BlockKind::HttpServer => "http_server",
            BlockKind::Rtmps => "rtmps",
            BlockKind::Vhost => "vhost",
            BlockKind::Publish => "publish",
            BlockKind::Security => "security",
            BlockKind::Forward => "forward",
            BlockKind::Hls => "hls",
        }
    }

    /// Returns the phrase for messages.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            BlockKind::Root => "at the top of the file",
            BlockKind::PithyPrint => "in pithy_print",
            BlockKind::HttpServer => "in http_server",
            BlockKind::Rtmps => "in rtmps",
            BlockKind::Vhost => "in vhost",
            BlockKind::Publish => "in publish",
            BlockKind::Security => "in security",
            BlockKind::Forward => "in forward",
            BlockKind::Hls => "in hls",
        }
    }
}

/// The form of a directive behind its name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Words and `;`. Without a default, the reader decides what its absence means.
    Setting { kind: Kind, default: Option<&'static str> },
    /// `{ … }`
    Block(BlockKind),
    /// A host name and `{ … }`
    Named(BlockKind),
    /// Words and `;`, or `{ … }`: the two forms of different SRS versions.
    Either { kind: Kind, default: Option<&'static str>, block: BlockKind },
    /// A directive of other versions: accepted in any form, without effect, with a warning.
    Unsupported,
}

/// A known directive.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) block: BlockKind,
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// The effect of a reload that changes it; none for a block whose directives have their own, and if unsupported.
    pub(super) reload: Option<Reload>,
    /// A noun phrase, for messages.
    pub(super) summary: &'static str,
    /// The description in the reference: at most three sentences.
    pub(super) text: &'static str,
}

impl Row {
    /// Returns whether it may stand several times in its block.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.shape, Shape::Unsupported | Shape::Setting { kind: Kind::Addresses | Kind::Rule, .. })
    }

    /// Returns a valid line, with the default if there is one.
    pub(super) fn example(&self) -> String {
        let words = match self.shape {
            Shape::Named(_) => return format!("{} {} {{ }}", self.name, super::DEFAULT_VHOST),
            Shape::Block(_) | Shape::Unsupported => return format!("{} {{ }}", self.name),
            Shape::Setting { default: Some(default), .. } | Shape::Either { default: Some(default), .. } => default,
            Shape::Setting { kind, .. } | Shape::Either { kind, .. } => match kind {
                Kind::Hosts => "github.com github.io",
                Kind::Networks => "192.0.2.0/24",
                Kind::Rule => "publish 127.0.0.1",
                Kind::Addresses => "1935",
                Kind::Targets => "192.168.1.2:1935 rtmp://example.com/live",
                _ => "4096",
            },
        };
        format!("{} {words};", self.name)
    }

    /// Returns the message for `words` words that are not of the directive's kind.
    pub(super) fn mismatch(&self, kind: Kind, words: usize, mismatch: Mismatch) -> Reason {
        let (name, example, summary) = (self.name, self.example(), self.summary);
        match mismatch {
            Mismatch::Count => Reason::Count { name, takes: kind.count(), got: words, example, summary },
            Mismatch::Word(given) => Reason::Value { name, expected: kind.expected(), given, example },
            Mismatch::Repeated(again) => Reason::Repeated { name, again },
        }
    }
}

/// Names of root directives in other versions, and their names here.
pub(super) const ALIASES: &[(&str, &str)] = &[("http_stream", "http_server")];

/// Returns the row of a directive in a block.
pub(super) fn find(block: BlockKind, name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.block == block && row.name == name)
}

/// Returns the rows of a block, in the order of the table.
pub(super) fn rows(block: BlockKind) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.block == block)
}

/// Checks a file. Returns all problems in the order of the file.
pub(super) fn check(tree: &[Directive]) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new() };
    checker.check_block(BlockKind::Root, tree);
    checker.problems
}

struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn report(&mut self, at: &Word, reason: Reason) {
        self.problems.push(Problem { at: at.position(), reason });
    }

    fn check_block(&mut self, kind: BlockKind, block: &[Directive]) {
        let mut seen = HashMap::new();
        for directive in block {
            let line = &directive.name;
            let Some(row) = find(kind, &directive.name.text) else {
                self.report(line, unknown(kind, &directive.name.text));
                continue;
            };
            if let Some(after) = word_before_missing_semicolon(kind, directive) {
                self.report(after, Reason::MissingSemicolon(after.text.clone()));
                continue;
            }
            if !row.may_repeat() {
                let what = identity(row, directive);
                if let Some(&first) = seen.get(&what) {
                    let first = line_of(first, line);
                    self.report(line, Reason::Duplicate { what, first });
                } else {
                    seen.insert(what, line);
                }
            }
            self.check_directive(row, directive);
        }
    }

    fn check_directive(&mut self, row: &'static Row, directive: &Directive) {
        let line = &directive.name;
        let words: Vec<&str> = directive.args.iter().map(|word| word.text.as_str()).collect();
        let (name, summary) = (row.name, row.summary);
        match (row.shape, &directive.block) {
            (Shape::Unsupported, _) => {}
            (Shape::Setting { .. }, Some(_)) => {
                self.report(line, Reason::UnwantedBlock { name, example: row.example() })
            }
            (Shape::Setting { kind, .. } | Shape::Either { kind, .. }, None) => {
                if let Err(mismatch) = kind.read(&words) {
                    self.report(line, row.mismatch(kind, words.len(), mismatch));
                }
            }
            (Shape::Block(_) | Shape::Named(_), None) => {
                self.report(line, Reason::NoBlock { name, example: row.example() })
            }
            (Shape::Block(inner) | Shape::Either { block: inner, .. }, Some(block)) => {
                if !words.is_empty() {
                    self.report(line, Reason::UnwantedValue { name, example: format!("{name} {{ }}") });
                }
                self.check_block(inner, block);
            }
            (Shape::Named(inner), Some(block)) => {
                match words.as_slice() {
                    [host] if *host == super::DEFAULT_VHOST || kind::host(host).is_some() => {}
                    [host] => self.report(line, row.mismatch(Kind::Hosts, 1, Mismatch::Word((*host).to_owned()))),
                    _ => {
                        let (takes, example) = ("one name", row.example());
                        self.report(line, Reason::Count { name, takes, got: words.len(), example, summary });
                    }
                }
                self.check_block(inner, block);
            }
        }
    }
}

/// Returns the line of `first`, with its file if that is not the file of `second`.
fn line_of(first: &Word, second: &Word) -> String {
    if first.file == second.file {
        format!("line {}", first.line)
    } else {
        format!("line {} of {}", first.line, first.file)
    }
}

/// Returns the text that may occur only once in a block: the directive, or for a vhost its name too.
fn identity(row: &Row, directive: &Directive) -> String {
    match (row.shape, directive.args.first()) {
        (Shape::Named(_), Some(host)) => format!("{} {}", row.name, quote(&super::canonical(&host.text))),
        _ => quote(row.name),
    }
}

/// Finds the `;` that is missing at the end of a line: the next line begins with the name of a directive, which the
/// grammar alone cannot tell from one more word. Returns the word before it.
fn word_before_missing_semicolon(kind: BlockKind, directive: &Directive) -> Option<&Word> {
    let before = std::iter::once(&directive.name).chain(&directive.args);
    let mut pairs = before.zip(&directive.args);
    let is_directive = |name: &str| name == INCLUDE || find(kind, name).is_some();
    let begins_line =
        |(before, word): &(&Word, &Word)| word.line > before.line && !word.quoted && is_directive(&word.text);
    pairs.find(begins_line).map(|(before, _)| before)
}
