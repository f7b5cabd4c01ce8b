//! Refused requests.

use super::status::Status;

/// The answer to a request that is invalid or not supported. The connection must be closed: the begin of the next request is
/// unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: Status,
    /// The reason, for the client and the log.
    pub message: &'static str,
}

/// Returns a refusal as an error.
pub(super) fn refuse<T>(status: Status, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, message })
}
