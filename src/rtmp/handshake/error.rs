//! The failures of a handshake.

/// A failed handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte belongs to another protocol or to an unknown version.
    #[error("this is not RTMP but {}", describe(*.0))]
    NotRtmp(u8),
    /// The operating system returned no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Names the protocol that starts with this byte.
fn describe(first: u8) -> String {
    match first {
        0x16 => "TLS (is the address meant to be rtmp:// and not rtmps://?)".into(),
        b'G' | b'P' | b'H' | b'O' | b'D' | b'C' => "HTTP (this port accepts rtmp:// only)".into(),
        b'S' => "SSH".into(),
        6 | 8 | 9 => "RTMPE, which is not supported".into(),
        other => format!("an unknown protocol (first byte {other:#04x}, RTMP starts with 0x03)"),
    }
}
