//! Failures of a command, and the exit codes that scripts see.

use std::io;
use std::process::ExitCode;

/// Reason for which a command has failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused the request, or has not what it names.
    Refused(String),
    /// The command line is wrong.
    Usage(String),
    /// The API does not answer.
    Unreachable(String),
    /// The secret is missing, wrong, or not good for this.
    Forbidden(String),
    /// Nobody reads the output any more.
    Closed,
}

impl Failure {
    /// Returns the exit code: 1 refused, 2 command line, 3 no answer, 4 not allowed; 0 if only the reader has left.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Forbidden(_) => 4,
            Self::Closed => 0,
        })
    }

    /// Returns the text for people.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Refused(text) | Self::Usage(text) | Self::Unreachable(text) | Self::Forbidden(text) => Some(text),
            Self::Closed => None,
        }
    }
}

/// Failures of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Refused(format!("cannot write: {error}")),
        }
    }
}
