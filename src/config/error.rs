//! Errors of a configuration: `FILE:LINE: problem; solution or example`.

use std::fmt;

use super::forward::Target;

/// Maximum number of problems printed, so that a file that is no configuration at all (a log, a program) does not fill
/// the screen.
const MAX_PROBLEMS: usize = 20;

/// Maximum characters of a quoted word.
const MAX_QUOTED: usize = 60;

/// The problems of an invalid configuration, in the order of the file. Prints one line for each.
///
/// A syntax error is the only problem reported, since the text after it cannot be interpreted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    pub(super) fn of_problem(at: String, reason: Reason) -> Error {
        Error { problems: vec![Problem { at, reason }] }
    }

    /// Returns `Ok` if there are no problems.
    pub(super) fn of_problems(problems: Vec<Problem>) -> Result<(), Error> {
        if problems.is_empty() { Ok(()) } else { Err(Error { problems }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(MAX_PROBLEMS).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        match self.problems.len().saturating_sub(MAX_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// One problem and its position.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{at}: {reason}")]
pub(super) struct Problem {
    /// `FILE:LINE`, or only `FILE` if the file could not be read.
    pub(super) at: String,
    pub(super) reason: Reason,
}

/// The kind of a problem. Words of the file are kept as written, and made printable by [`quote`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Reason {
    #[error("cannot read the configuration: {0}")]
    Unreadable(String),
    #[error("this is not UTF-8 text; save it as UTF-8")]
    NotUtf8,
    #[error("control character {0:?}; only text, tabs and line ends belong in a configuration")]
    ControlCharacter(char),
    #[error("the {0} quote that begins here is not closed; close it, or write \\{0} for a quote inside a quoted word")]
    UnterminatedQuote(char),
    #[error("{} follows a closing quote; put a blank or \";\" between them", quote(&.0.to_string()))]
    AfterQuote(char),
    #[error("missing \";\" after {}", quote(.0))]
    MissingSemicolon(String),
    #[error("missing \"}}\": the block of {} that begins here is not closed", quote(.0))]
    MissingBrace(String),
    #[error("unexpected \"}}\": no block is open; remove it, or add the \"{{\" that it should close")]
    UnexpectedBrace,
    #[error("there is no directive before this \"{0}\"; add one, or remove it")]
    EmptyDirective(char),
    #[error("blocks nest deeper than {0} levels; close some with \"}}\"")]
    TooDeep(usize),
    #[error("unknown directive {} {block}; {hint}", quote(.name))]
    Unknown { name: String, block: &'static str, hint: String },
    #[error("{} belongs {right}, not {wrong}", quote(.name))]
    Misplaced { name: String, right: String, wrong: &'static str },
    #[error("{what} is already set on {first}; remove one of the two")]
    Duplicate { what: String, first: String },
    #[error("\"{name}\" takes {takes}, not {got}; e.g. \"{example}\" ({summary})")]
    Count { name: &'static str, takes: &'static str, got: usize, example: String, summary: &'static str },
    #[error("\"{name}\" takes no block; end it with \";\", e.g. \"{example}\"")]
    UnwantedBlock { name: &'static str, example: String },
    #[error("\"{name}\" takes no value before its block; e.g. \"{example}\"")]
    UnwantedValue { name: &'static str, example: String },
    #[error("\"{name}\" needs a block, e.g. \"{example}\"")]
    NoBlock { name: &'static str, example: String },
    #[error("\"{name}\" must be {expected}, not {}; e.g. \"{example}\"", quote(.given))]
    Value { name: &'static str, expected: String, given: String, example: String },
    #[error("\"{name}\" contains {again} twice; remove one of the two")]
    Repeated { name: &'static str, again: String },
    #[error("no \"listen\" in the file; add the port to serve RTMP on, e.g. \"listen 1935;\"")]
    NoListen,
    #[error("{} needs TLS, but this server was built without TLS; build it with ./configure --with-ssl", quote(.target))]
    NoTls { target: String },
    #[error("{0} is already used for RTMP; give http_server another port, e.g. \"listen 8080;\"")]
    PortOfRtmp(std::net::SocketAddr),
    #[error("{0} is already used for another protocol; give https another port, e.g. \"listen 127.0.0.1:1990;\"")]
    PortOfHttps(std::net::SocketAddr),
    #[error("{0} is already used for another protocol; give exporter another port, e.g. \"listen 127.0.0.1:9972;\"")]
    PortOfExporter(std::net::SocketAddr),
    #[error("{0} is already used for another protocol; give http_api another port, e.g. \"listen 127.0.0.1:1985;\"")]
    PortOfApi(std::net::SocketAddr),
    #[error(
        "anybody who reaches {0} could use the API: write \"listen 127.0.0.1:{port};\", or add a secret, e.g. \
         \"auth {{ enabled on; token ops admin SECRET; }}\" in http_api (\"auth none;\" allows everybody)", port = .0.port()
    )]
    OpenApi(std::net::SocketAddr),
    #[error("auth has no secret, so nobody could use the API; add e.g. \"token ops admin SECRET;\"")]
    NoCredentials,
    #[error("bandcheck has no key, so everybody could use the bandwidth of this machine; add e.g. \"key SECRET;\"")]
    NoBandcheckKey,
    #[error(
        "the key of bandcheck stands in a URL and must not contain any of & , ? # / or \"...\"; e.g. \"key SECRET;\""
    )]
    BadBandcheckKey,
    #[error("auth has a \"{has}\", but its \"{lacks}\" is missing; add it")]
    HalfLogin { has: &'static str, lacks: &'static str },
    #[error(
        "{0} is already used for RTMP without TLS; give rtmps another port, e.g. \"listen 1936;\", or, to serve both on one port, \
         remove it from the \"listen\" at the top of the file and add \"plain on;\" here"
    )]
    PortWithoutTls(std::net::SocketAddr),
    #[error(
        "this server was built without TLS; build it with ./configure --with-ssl, or write \"enabled off;\" in rtmps"
    )]
    NoSsl,
    #[error("{0}")]
    Other(String),
}

/// Reason why words are not of a kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mismatch {
    /// Too few or too many words.
    Count,
    /// This word is invalid.
    Word(String),
    /// This word is there twice.
    Repeated(String),
}

/// Returns `FILE:LINE`, the form of every position and of the origin of every value.
pub(super) fn position(file: &str, line: usize) -> String {
    format!("{file}:{line}")
}

/// Returns a word of the file in double quotes, printable and of bounded length. Hides the part of a URL that may be a
/// key.
pub(super) fn quote(word: &str) -> String {
    let without_key = word.contains("://").then(|| Target::redact_word(word));
    let mut chars = without_key.as_deref().unwrap_or(word).chars();
    let mut text = String::from("\"");
    for c in chars.by_ref().take(MAX_QUOTED) {
        match c {
            // As written: an escaping backslash would mislead.
            '"' | '\'' | '\\' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    text.push_str(if chars.next().is_some() { "…\"" } else { "\"" });
    text
}
