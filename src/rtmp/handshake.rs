//! The handshake (section 5.2), simple and complex.
//!
//! The simple one is random bytes and their echo. The complex one, never published by Adobe, hides an HMAC-SHA256 digest in
//! the random bytes; Flash players show H.264 only to a server that answers it. A server answers each client in the form that
//! the client began; without the feature `ssl` the simple form serves all.

#[cfg(feature = "ssl")]
mod digest;

use std::io::{Read, Write};

/// The size of C1, S1, C2 and S2.
pub const SIZE: usize = 1536;

/// C0 and S0: the version of the protocol.
const VERSION: u8 = 3;

/// Version fields in S1 and C1 (bytes 4 to 7): zero says simple; ffmpeg verifies a server's digest from version 3 on.
#[cfg(feature = "ssl")]
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];
#[cfg(feature = "ssl")]
const CLIENT_VERSION: [u8; 4] = [9, 0, 124, 2];

/// Why there is no handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte is that of another protocol, or of a version that there is not.
    #[error("this is not RTMP but {}", describe(*.0))]
    NotRtmp(u8),
    /// The operating system has no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// In what form the peers shook hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Random bytes and their echo.
    Simple,
    /// With digests, at the places of this schema (0 or 1).
    Complex(u8),
}

/// Shakes hands as the server: blocks until the client has sent C2.
///
/// # Errors
/// When the client speaks another protocol, which is known from its first byte, or the connection fails.
pub fn accept(stream: &mut (impl Read + Write)) -> Result<Form, super::Error> {
    let mut buffer = vec![0; 1 + SIZE];
    // The first byte is judged before the rest is waited for: other protocols expect us to speak.
    let first = read_some(stream, &mut buffer)?;
    if buffer[0] != VERSION {
        return Err(Error::NotRtmp(buffer[0]).into());
    }
    read_exact(stream, &mut buffer[first..])?;
    let (reply, form) = answer(&buffer[1..])?;
    stream.write_all(&reply)?;
    stream.flush()?;
    // C2 echoes S1, or signs it. Real clients send other things and are no worse for it.
    read_exact(stream, &mut buffer[1..])?;
    Ok(form)
}

/// Shakes hands as the client, in the complex form if `complex` and the feature `ssl` is built in. A server that does not
/// know the complex form gets the simple one.
///
/// # Errors
/// When the server speaks another protocol or the connection fails.
pub fn connect(stream: &mut (impl Read + Write), complex: bool) -> Result<Form, super::Error> {
    let mut greeting = vec![0; 1 + SIZE];
    greeting[0] = VERSION;
    getrandom::fill(&mut greeting[9..]).map_err(Error::Random)?;
    #[cfg(feature = "ssl")]
    if complex {
        greeting[5..9].copy_from_slice(&CLIENT_VERSION);
        digest::sign_c1(&mut greeting[1..]);
    }
    #[cfg(not(feature = "ssl"))]
    let _ = complex;
    stream.write_all(&greeting)?;
    stream.flush()?;

    let mut reply = vec![0; 1 + 2 * SIZE];
    let first = read_some(stream, &mut reply)?;
    if reply[0] != VERSION {
        return Err(Error::NotRtmp(reply[0]).into());
    }
    read_exact(stream, &mut reply[first..])?;
    let s1 = &reply[1..=SIZE];
    #[cfg(feature = "ssl")]
    if complex && let Some((c2, schema)) = digest::sign_c2(s1)? {
        stream.write_all(&c2)?;
        return Ok(Form::Complex(schema));
    }
    stream.write_all(s1)?;
    stream.flush()?;
    Ok(Form::Simple)
}

/// S0, S1 and S2 for a C1, in the form of the C1.
fn answer(c1: &[u8]) -> Result<(Vec<u8>, Form), Error> {
    let mut reply = vec![0; 1 + 2 * SIZE];
    reply[0] = VERSION;
    getrandom::fill(&mut reply[9..]).map_err(Error::Random)?;
    #[cfg(feature = "ssl")]
    if let Some((schema, c1_digest)) = digest::verify_c1(c1) {
        let (s1, s2) = reply[1..].split_at_mut(SIZE);
        s1[4..8].copy_from_slice(&SERVER_VERSION);
        digest::sign_s1(s1, schema);
        digest::sign_s2(s2, &c1_digest);
        return Ok((reply, Form::Complex(schema.number())));
    }
    // Section 5.2.4: S2 is C1 again.
    reply[1 + SIZE..].copy_from_slice(c1);
    Ok((reply, Form::Simple))
}

/// What speaks like this instead of RTMP.
fn describe(first: u8) -> String {
    match first {
        0x16 => "TLS (is the address meant to be rtmp:// and not rtmps://?)".into(),
        b'G' | b'P' | b'H' | b'O' | b'D' | b'C' => "HTTP (this port takes rtmp:// only)".into(),
        b'S' => "SSH".into(),
        6 | 8 | 9 => "RTMPE, the encrypted form, which is not supported".into(),
        other => format!("version {other} of something (its first byte is {other:#04x}, RTMP's is 0x03)"),
    }
}

fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, super::Error> {
    match stream.read(buffer)? {
        0 => Err(super::Error::Closed),
        n => Ok(n),
    }
}

fn read_exact(stream: &mut impl Read, mut buffer: &mut [u8]) -> Result<(), super::Error> {
    while !buffer.is_empty() {
        let n = read_some(stream, buffer)?;
        buffer = &mut buffer[n..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
