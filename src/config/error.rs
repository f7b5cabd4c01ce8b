//! What can be wrong with a configuration, and how it is said: `FILE:LINE: what is wrong; what would be right`.

use std::fmt;

use super::forward::Target;

/// How many problems are printed. An operator mends a handful at a time; a file that is no configuration at all (a log,
/// a program) must not fill the screen.
const PROBLEMS_SHOWN: usize = 20;

/// How many characters of a word of the file are quoted back.
const WORD_SHOWN: usize = 60;

/// Why a configuration was refused.
///
/// It holds every problem that was found, in the order of the file, and prints each on a line of its own, with file and
/// line, what is wrong and what would be right. An error of the grammar ends the search, since what follows it cannot be
/// trusted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    /// An error of one problem.
    pub(super) fn one(at: String, reason: Reason) -> Error {
        Error { problems: vec![Problem { at, reason }] }
    }

    /// `Ok` when nothing was found.
    pub(super) fn unless_empty(problems: Vec<Problem>) -> Result<(), Error> {
        if problems.is_empty() { Ok(()) } else { Err(Error { problems }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(PROBLEMS_SHOWN).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        match self.problems.len().saturating_sub(PROBLEMS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{at}: {reason}")]
pub(super) struct Problem {
    /// `FILE:LINE`; only `FILE` when the file could not be read.
    pub(super) at: String,
    pub(super) reason: Reason,
}

/// What is wrong. Words of the file are kept as they were written and made printable when shown.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Reason {
    #[error("cannot read the configuration: {0}")]
    Unreadable(String),
    #[error("this is not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    #[error("control character {0:?}; only text, tabs and line ends belong in a configuration")]
    ControlCharacter(char),
    #[error(
        "the {0} quote that begins here is never closed; close it, or write \\{0} for a quote inside a quoted word"
    )]
    UnterminatedQuote(char),
    #[error("{} follows a closing quote; put a blank or \";\" between them", shown(&.0.to_string()))]
    AfterQuote(char),
    #[error("missing \";\" after {}", shown(.0))]
    MissingSemicolon(String),
    #[error("missing \"}}\": the block of {} that begins here is never closed", shown(.0))]
    MissingBrace(String),
    #[error("unexpected \"}}\": no block is open; remove it, or add the \"{{\" that it should close")]
    UnexpectedBrace,
    #[error("nothing stands before this \"{0}\"; write a directive there, or remove it")]
    EmptyDirective(char),
    #[error("blocks nest deeper than {0} levels; close some with \"}}\"")]
    TooDeep(usize),
    #[error("unknown directive {} {place}; {hint}", shown(.name))]
    Unknown { name: String, place: &'static str, hint: String },
    #[error("{} belongs {right}, not {wrong}", shown(.name))]
    Misplaced { name: String, right: String, wrong: &'static str },
    #[error("{what} is already set on {first}; keep one of the two")]
    Duplicate { what: String, first: String },
    #[error("\"{name}\" takes {takes}, not {got}; e.g. \"{example}\" ({doc})")]
    Count { name: &'static str, takes: &'static str, got: usize, example: String, doc: &'static str },
    #[error("\"{name}\" takes no block; end it with \";\", e.g. \"{example}\"")]
    UnwantedBlock { name: &'static str, example: String },
    #[error("\"{name}\" takes no value before its block; e.g. \"{example}\"")]
    UnwantedValue { name: &'static str, example: String },
    #[error("\"{name}\" needs a block, e.g. \"{example}\"")]
    NoBlock { name: &'static str, example: String },
    #[error("\"{name}\" must be {expected}, not {}; e.g. \"{example}\"", shown(.given))]
    Value { name: &'static str, expected: String, given: String, example: String },
    #[error("\"{name}\" names {again} twice; keep one of the two")]
    Repeated { name: &'static str, again: String },
    #[error("no \"listen\" in the file; say on which ports to serve, e.g. \"listen 1935;\"")]
    NoListen,
    #[error("{} needs TLS, which this build lacks; build with ./configure --with-ssl", shown(.target))]
    NoTls { target: String },
    #[error(
        "{0} is for RTMP already, by the \"listen\" of the file; give http_server another port, e.g. \"listen 8080;\""
    )]
    ListensTwice(std::net::SocketAddr),
    #[error(
        "{0} is for RTMP without TLS already, by the \"listen\" of the file; remove it there and write \"plain on;\" here to have \
         both on one port, or give rtmps another port, e.g. \"listen 1936;\""
    )]
    ListensPlain(std::net::SocketAddr),
    #[error(
        "this server was built without TLS; build it with ./configure --with-ssl, or write \"enabled off;\" in rtmps"
    )]
    NoSsl,
    #[error("{0}")]
    Other(String),
}

/// A word of the file in double quotes, on one line and of bounded length, whatever the file held. A URL loses what may be a key.
pub(super) fn shown(word: &str) -> String {
    let without_key = word.contains("://").then(|| Target::shown_word(word));
    let mut chars = without_key.as_deref().unwrap_or(word).chars();
    let mut text = String::from("\"");
    for c in chars.by_ref().take(WORD_SHOWN) {
        match c {
            // As the operator wrote them; a backslash before them would be ours and would mislead.
            '"' | '\'' | '\\' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    text.push_str(if chars.next().is_some() { "…\"" } else { "\"" });
    text
}
