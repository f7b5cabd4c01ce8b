//! The handshake (section 5.2), simple and complex.
//!
//! In the simple form, each peer sends random bytes and echoes those of the other. In the complex form, never published by
//! Adobe, the random bytes contain an HMAC-SHA256 digest; Flash players play H.264 only from a server that supports it. A
//! server uses the form that the client started with; without the feature `ssl`, always the simple form.

#[cfg(feature = "ssl")]
mod digest;
pub(super) mod error;

pub use error::Error;

use std::io::{Read, Write};

use super::error::Error as RtmpError;

/// Size of C1, S1, C2 and S2, in bytes.
pub const SIZE: usize = 1536;

/// Protocol version: the value of C0 and S0.
const VERSION: u8 = 3;

/// Version fields in S1 and C1 (bytes 4 to 7). Zero means simple; ffmpeg verifies a server's digest from version 3 on.
#[cfg(feature = "ssl")]
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];
#[cfg(feature = "ssl")]
const CLIENT_VERSION: [u8; 4] = [9, 0, 124, 2];

/// The form of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Random bytes and their echo.
    Simple,
    /// With digests, at the positions of this schema (0 or 1).
    Complex(u8),
}

/// Performs the handshake as the server. Blocks until the client has sent C2. Fails when the first byte belongs to
/// another protocol, or the connection fails.
pub fn accept(stream: &mut (impl Read + Write)) -> Result<Form, RtmpError> {
    let mut buffer = vec![0; 1 + SIZE];
    // Checks the first byte before it waits for the rest: in other protocols the client may wait for the server.
    let first = read_some(stream, &mut buffer)?;
    if buffer[0] != VERSION {
        return Err(Error::NotRtmp(buffer[0]).into());
    }
    read_exact(stream, &mut buffer[first..])?;
    let (reply, form) = reply_to(&buffer[1..])?;
    stream.write_all(&reply)?;
    stream.flush()?;
    // C2 should echo or sign S1. It is not checked, because real clients send other bytes.
    read_exact(stream, &mut buffer[1..])?;
    Ok(form)
}

/// Performs the handshake as the client: in the complex form if `complex`, the feature `ssl` is enabled and the server
/// supports it, else in the simple form. Fails when the server speaks another protocol or the connection fails.
pub fn connect(stream: &mut (impl Read + Write), complex: bool) -> Result<Form, RtmpError> {
    let mut c0_c1 = vec![0; 1 + SIZE];
    c0_c1[0] = VERSION;
    getrandom::fill(&mut c0_c1[9..]).map_err(Error::Random)?;
    #[cfg(feature = "ssl")]
    if complex {
        c0_c1[5..9].copy_from_slice(&CLIENT_VERSION);
        digest::sign_c1(&mut c0_c1[1..]);
    }
    #[cfg(not(feature = "ssl"))]
    let _ = complex;
    stream.write_all(&c0_c1)?;
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

fn reply_to(c1: &[u8]) -> Result<(Vec<u8>, Form), Error> {
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
    // Section 5.2.4: S2 echoes C1.
    reply[1 + SIZE..].copy_from_slice(c1);
    Ok((reply, Form::Simple))
}

fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, RtmpError> {
    match stream.read(buffer)? {
        0 => Err(RtmpError::Closed),
        n => Ok(n),
    }
}

fn read_exact(stream: &mut impl Read, mut buffer: &mut [u8]) -> Result<(), RtmpError> {
    while !buffer.is_empty() {
        let n = read_some(stream, buffer)?;
        buffer = &mut buffer[n..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
