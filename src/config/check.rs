//! The check of a file against the table of all directives.

use std::collections::HashMap;

use super::directive::{Directive, Word};
use super::error::{Mismatch, Problem, Reason, quote};
use super::include::INCLUDE;
use super::kind::Kind;
use super::names::{DEFAULT_VHOST, canonical, host};
use super::schema::{BlockKind, Row, Shape};
use super::suggest::unknown;
use super::table::find;

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
            (Shape::Block(_) | Shape::Named(_) | Shape::Labelled(_) | Shape::Free, None) => {
                self.report(line, Reason::NoBlock { name, example: row.example() })
            }
            (Shape::Block(inner) | Shape::Either { block: inner, .. }, Some(block)) => {
                if !words.is_empty() {
                    self.report(line, Reason::UnwantedValue { name, example: format!("{name} {{ }}") });
                }
                self.check_block(inner, block);
            }
            (Shape::Labelled(inner), Some(block)) => {
                if words.len() > 1 {
                    let (takes, example) = ("at most one name", row.example());
                    self.report(line, Reason::Count { name, takes, got: words.len(), example, summary });
                }
                self.check_block(inner, block);
            }
            (Shape::Free, Some(block)) => {
                if !words.is_empty() {
                    self.report(line, Reason::UnwantedValue { name, example: row.example() });
                }
                block.iter().for_each(|option| self.check_option(option));
            }
            (Shape::Named(inner), Some(block)) => {
                match words.as_slice() {
                    [name] if *name == DEFAULT_VHOST || host(name).is_some() => {}
                    [name] => self.report(line, row.mismatch(Kind::Hosts, 1, Mismatch::Word((*name).to_owned()))),
                    _ => {
                        let (takes, example) = ("one name", row.example());
                        self.report(line, Reason::Count { name, takes, got: words.len(), example, summary });
                    }
                }
                self.check_block(inner, block);
            }
        }
    }

    /// Checks an option of a block with any names.
    fn check_option(&mut self, option: &Directive) {
        let name = &option.name.text;
        let reason = match (&option.block, option.args.len()) {
            (Some(_), _) => format!("{} takes no block; end it with \";\"", quote(name)),
            (None, 0 | 1) => return,
            (None, _) => format!("{} takes at most one value; put it in quotes if it contains blanks", quote(name)),
        };
        self.report(&option.name, Reason::Other(reason));
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
        (Shape::Labelled(_), Some(label)) => format!("{} {}", row.name, quote(label.text.trim_matches('/'))),
        (Shape::Named(_), Some(host)) => format!("{} {}", row.name, quote(&canonical(&host.text))),
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
