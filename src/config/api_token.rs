//! The users of the HTTP API.

use std::fmt;

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// The name, for the log.
    pub name: String,
    /// The rights of its owner.
    pub role: ApiRole,
    /// The token.
    pub secret: Secret,
}

/// Rights of a user of an API; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiRole {
    /// Read.
    Read,
    /// Disconnect clients.
    Kick,
    /// Everything.
    Admin,
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// Returns the secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl ApiRole {
    /// Parses `read`, `kick` or `admin`.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "read" => Some(Self::Read),
            "kick" => Some(Self::Kick),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// Returns the name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Kick => "kick",
            Self::Admin => "admin",
        }
    }
}
