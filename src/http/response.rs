//! Heads of responses (RFC 9112, 4).

use std::fmt::{self, Write as _};

use super::status::Status;

/// Room for the further header lines of most responses, in bytes.
const LINES_CAPACITY: usize = 256;

/// The part of a head that does not depend on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: Status,
    /// The length of the body that follows.
    pub length: ResponseLength,
    /// The response is not for pages of other sites, unless its own lines say so.
    pub is_private: bool,
    /// Further header lines, each with its CR LF.
    lines: String,
}

/// The end of a response's body, as its head declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseLength {
    /// The status has no body: 204, 304, 101.
    None,
    /// Content-Length.
    Known(u64),
    /// The chunked transfer coding.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// The value of `Connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// The server closes after the response.
    Close,
    /// The connection changes to another protocol.
    Upgrade,
}

impl Head {
    /// Creates a head without further lines.
    pub fn new(status: Status, length: ResponseLength) -> Self {
        Self { status, length, is_private: false, lines: String::with_capacity(LINES_CAPACITY) }
    }

    /// Adds a header line. Drops control characters of the value, which could end the line.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.lines.push_str(name);
        let start = self.lines.len();
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.lines, ": {value}");
        if self.lines[start..].contains(|c: char| c.is_control()) {
            let value: String = self.lines[start..].chars().filter(|c| !c.is_control()).collect();
            self.lines.replace_range(start.., &value);
        }
        self.lines.push_str("\r\n");
        self
    }

    /// Adds header lines that are complete, each with its CR LF.
    #[must_use]
    pub fn with_lines(mut self, lines: &str) -> Self {
        debug_assert!(lines.is_empty() || lines.ends_with("\r\n"));
        self.lines.push_str(lines);
        self
    }

    /// Returns the head as sent, the empty line included. `common` are the header lines of every response.
    pub fn encode(&self, persistence: Persistence, date: &str, common: &str) -> String {
        let mut head = String::with_capacity(common.len() + self.lines.len() + 192);
        let connection = match persistence {
            Persistence::KeepAlive => "keep-alive",
            Persistence::Close => "close",
            Persistence::Upgrade => "upgrade",
        };
        let _ = write!(head, "HTTP/1.1 {} ", self.status.code());
        let reason = self.status.reason();
        head.extend([reason, "\r\nDate: ", date, "\r\nConnection: ", connection, "\r\n", common]);
        let _ = match self.length {
            ResponseLength::Known(length) => write!(head, "Content-Length: {length}\r\n"),
            ResponseLength::Chunked => head.write_str("Transfer-Encoding: chunked\r\n"),
            ResponseLength::None | ResponseLength::UntilClose => Ok(()),
        };
        head.push_str(&self.lines);
        head.push_str("\r\n");
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_its_length_and_the_connection() {
        let head = Head::new(Status::PartialContent, ResponseLength::Known(10)).with("A", 1).with_lines("B: c\r\n");
        let expected = "HTTP/1.1 206 Partial Content\r\nDate: now\r\nConnection: keep-alive\r\nServer: s\r\n\
            Content-Length: 10\r\nA: 1\r\nB: c\r\n\r\n";
        assert_eq!(head.encode(Persistence::KeepAlive, "now", "Server: s\r\n"), expected);
        for (length, persistence, lines) in [
            (ResponseLength::None, Persistence::Upgrade, "Connection: upgrade\r\n\r\n"),
            (ResponseLength::UntilClose, Persistence::Close, "Connection: close\r\n\r\n"),
            (ResponseLength::Chunked, Persistence::Close, "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ] {
            assert!(Head::new(Status::Ok, length).encode(persistence, "now", "").ends_with(lines), "{length:?}");
        }
    }

    #[test]
    fn a_value_cannot_add_lines() {
        let head = Head::new(Status::Ok, ResponseLength::None).with("Location", "/a\r\nSet-Cookie: b\0");
        assert!(head.encode(Persistence::Close, "now", "").ends_with("\r\nLocation: /aSet-Cookie: b\r\n\r\n"));
    }
}
