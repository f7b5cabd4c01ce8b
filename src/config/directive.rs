//! The nginx-style grammar: parses text to a tree of directives with their lines.
//!
//! ```text
//! block     = { directive }
//! directive = word { word } ( ";" | "{" block "}" )
//! word      = run of characters other than blanks ; { } that begins with no quote
//!           | '"' … '"' | "'" … "'"        inside: \ before the quote or before \ stands for that character
//! comment   = "#" at the beginning of a word, up to the end of the line
//! ```
//!
//! The known directives are in `table`.

use std::sync::Arc;

use super::error::{Error, Reason, position};

/// Maximum nesting of blocks. Three levels are in use; the bound keeps a hostile file from exhausting the stack when
/// the tree is walked or dropped.
pub(super) const MAX_DEPTH: usize = 16;

/// A word, with the file and the line where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) file: Arc<str>,
    pub(super) line: usize,
    /// Written in quotes: it is never the name of a directive.
    pub(super) quoted: bool,
}

impl Word {
    /// Returns `FILE:LINE`.
    pub(super) fn position(&self) -> String {
        position(&self.file, self.line)
    }
}

/// A directive: `name args…;` or `name args… { block }`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Directive {
    pub(super) name: Word,
    pub(super) args: Vec<Word>,
    pub(super) block: Option<Vec<Directive>>,
}

enum Token {
    Word(Word),
    /// `;`, `{` or `}`.
    Mark(char),
}

/// Parses a file into its directives, in time linear in its length.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Directive>, Error> {
    // Editors on Windows write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut scanner = Scanner { file, name: file.into(), rest: text, line: 1 };
    // The open blocks, outermost first: the directives before each, and the directive it belongs to.
    let mut open: Vec<(Vec<Directive>, Directive)> = Vec::new();
    let mut block = Vec::new();
    let mut words: Vec<Word> = Vec::new();

    while let Some(token) = scanner.next()? {
        match token {
            Token::Word(word) => words.push(word),
            Token::Mark(';') => block
                .push(directive(std::mem::take(&mut words)).ok_or_else(|| scanner.error(Reason::EmptyDirective(';')))?),
            Token::Mark('{') => {
                let owner =
                    directive(std::mem::take(&mut words)).ok_or_else(|| scanner.error(Reason::EmptyDirective('{')))?;
                if open.len() == MAX_DEPTH {
                    return Err(scanner.error(Reason::TooDeep(MAX_DEPTH)));
                }
                open.push((std::mem::take(&mut block), owner));
            }
            Token::Mark(_) => {
                missing_semicolon(file, &words)?;
                let (before, mut owner) = open.pop().ok_or_else(|| scanner.error(Reason::UnexpectedBrace))?;
                owner.block = Some(std::mem::replace(&mut block, before));
                block.push(owner);
            }
        }
    }
    missing_semicolon(file, &words)?;
    match open.pop() {
        Some((_, owner)) => {
            Err(Error::of_problem(position(file, owner.name.line), Reason::MissingBrace(owner.name.text)))
        }
        None => Ok(block),
    }
}

fn directive(words: Vec<Word>) -> Option<Directive> {
    let mut words = words.into_iter();
    let name = words.next()?;
    Some(Directive { name, args: words.collect(), block: None })
}

fn missing_semicolon(file: &str, words: &[Word]) -> Result<(), Error> {
    match words.last() {
        Some(last) => Err(Error::of_problem(position(file, last.line), Reason::MissingSemicolon(last.text.clone()))),
        None => Ok(()),
    }
}

struct Scanner<'a> {
    file: &'a str,
    /// `file`, shared by all words.
    name: Arc<str>,
    rest: &'a str,
    line: usize,
}

impl Scanner<'_> {
    fn error(&self, reason: Reason) -> Error {
        Error::of_problem(position(self.file, self.line), reason)
    }

    /// Consumes one character and counts lines. Fails for control characters.
    fn bump(&mut self) -> Result<Option<char>, Error> {
        let mut chars = self.rest.chars();
        let Some(c) = chars.next() else { return Ok(None) };
        if c.is_control() && !matches!(c, '\t' | '\r' | '\n') {
            return Err(self.error(Reason::ControlCharacter(c)));
        }
        self.rest = chars.as_str();
        self.line += usize::from(c == '\n');
        Ok(Some(c))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Result<Option<Token>, Error> {
        loop {
            let line = self.line;
            match self.bump()? {
                None => return Ok(None),
                Some(' ' | '\t' | '\r' | '\n') => {}
                Some('#') => while !matches!(self.bump()?, None | Some('\n')) {},
                Some(mark @ (';' | '{' | '}')) => return Ok(Some(Token::Mark(mark))),
                Some(quote @ ('"' | '\'')) => {
                    let text = self.quoted(quote, line)?;
                    return Ok(Some(Token::Word(Word { text, file: self.name.clone(), line, quoted: true })));
                }
                Some(first) => {
                    let text = self.bare(first)?;
                    return Ok(Some(Token::Word(Word { text, file: self.name.clone(), line, quoted: false })));
                }
            }
        }
    }

    fn bare(&mut self, first: char) -> Result<String, Error> {
        let mut text = String::from(first);
        while self.peek().is_some_and(|c| !ends_word(c)) {
            text.extend(self.bump()?);
        }
        Ok(text)
    }

    fn quoted(&mut self, quote: char, begin: usize) -> Result<String, Error> {
        let unterminated = || Error::of_problem(position(self.file, begin), Reason::UnterminatedQuote(quote));
        let mut text = String::new();
        loop {
            match self.bump()?.ok_or_else(unterminated)? {
                c if c == quote => break,
                '\\' if self.peek().is_some_and(|c| c == quote || c == '\\') => text.extend(self.bump()?),
                c => text.push(c),
            }
        }
        match self.peek() {
            Some(c) if !ends_word(c) && !c.is_control() => Err(self.error(Reason::AfterQuote(c))),
            _ => Ok(text),
        }
    }
}

fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | ';' | '{' | '}')
}

#[cfg(test)]
mod tests;
