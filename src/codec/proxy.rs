//! The header of the PROXY protocol, in which a load balancer sends the client address: versions 1 (text) and 2 (binary).
//!
//! Specification: HAProxy's "The PROXY protocol", versions 1 & 2. Type-length-value fields (TLVs) of version 2 are skipped. The
//! parser never asks for bytes after the header, because they belong to another protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Minimum size of a header of either version, in bytes: `PROXY UNKNOWN\r\n`.
const MIN_HEADER: usize = 15;

/// Maximum size of a version 1 header in the specification, in bytes.
const MAX_V1: usize = 107;

/// Size of the fixed part of a version 2 header, in bytes.
const FIXED_V2: usize = 16;

/// Maximum size of the addresses and TLVs of version 2, in bytes. The specification allows 65535; the TLVs in use (a name, a TLS
/// version, an id) have a few hundred.
const MAX_V2: usize = 4096;

/// A malformed header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first bytes belong to neither version.
    #[error("no PROXY header at the start of the connection")]
    NoHeader,
    /// A malformed line of version 1.
    #[error("the PROXY header {0:?} is not of the form \"PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT\"")]
    BadLine(String),
    /// An unknown version or command.
    #[error("PROXY header of unknown version and command {0:#04x}")]
    Unknown(u8),
    /// A header above the maximum size.
    #[error("a PROXY header of {0} bytes is too long, at most {MAX_V2} are allowed")]
    TooLong(usize),
    /// A header that is too short for the addresses of its family.
    #[error("a PROXY header of {0} bytes is too short for its addresses")]
    TooShort(usize),
}

/// The result of parsing the bytes received so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// The header is incomplete; at least this many more bytes belong to it.
    Incomplete(usize),
    /// The header is complete. Without an address, the balancer connects for itself or does not know the client.
    Complete(Option<SocketAddr>),
}

/// Parses a header from the bytes received so far. `bytes` must not contain anything after the header. Fails when the
/// bytes cannot become a valid header, as early as possible.
pub fn parse(bytes: &[u8]) -> Result<Header, Error> {
    let starts = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    match (starts(V1), starts(V2)) {
        (false, false) => Err(Error::NoHeader),
        _ if bytes.len() < MIN_HEADER => Ok(Header::Incomplete(MIN_HEADER - bytes.len())),
        (true, _) => parse_v1(bytes),
        _ => parse_v2(bytes),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Header, Error> {
    let bad = || Error::BadLine(String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_V1)]).trim_end().to_owned());
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return if bytes.len() < MAX_V1 { Ok(Header::Incomplete(1)) } else { Err(bad()) };
    };
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    let fields: Vec<&str> = line.split(' ').collect();
    let port = |word: &str| word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse::<u16>().ok())?;
    match fields.as_slice() {
        // The specification demands to ignore the rest of the line.
        ["PROXY", "UNKNOWN", ..] => Ok(Header::Complete(None)),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address = |word: &str| -> Option<IpAddr> {
                if *family == "TCP4" {
                    word.parse().ok().map(Ipv4Addr::into)
                } else {
                    word.parse().ok().map(Ipv6Addr::into)
                }
            };
            let client = address(source).zip(port(from)).map(|(address, port)| SocketAddr::new(address, port));
            let client = client.filter(|_| address(destination).is_some() && port(to).is_some());
            client.map(|client| Header::Complete(Some(client))).ok_or_else(bad)
        }
        _ => Err(bad()),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Header, Error> {
    let Some(fixed) = bytes.first_chunk::<FIXED_V2>() else { return Ok(Header::Incomplete(FIXED_V2 - bytes.len())) };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !matches!(command, 0x20 | 0x21) {
        return Err(Error::Unknown(command));
    }
    if length > MAX_V2 {
        return Err(Error::TooLong(length));
    }
    if bytes.len() < FIXED_V2 + length {
        return Ok(Header::Incomplete(FIXED_V2 + length - bytes.len()));
    }
    // LOCAL: a health check of the balancer.
    if command == 0x20 {
        return Ok(Header::Complete(None));
    }
    let rest = &bytes[FIXED_V2..];
    let port = |at: usize| rest.get(at..at + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
    let client = match family {
        // Source, destination, their ports.
        0x11 => rest.first_chunk::<4>().map(|&ip| IpAddr::from(ip)).zip(port(8)).filter(|_| rest.len() >= 12),
        0x21 => rest.first_chunk::<16>().map(|&ip| IpAddr::from(ip)).zip(port(32)).filter(|_| rest.len() >= 36),
        // Unix sockets, datagrams and unspecified families have no client address.
        _ => return Ok(Header::Complete(None)),
    };
    let (ip, port) = client.ok_or(Error::TooShort(length))?;
    Ok(Header::Complete(Some(SocketAddr::new(ip, port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, rest].concat()
    }

    /// Parses all bytes, and checks that each shorter piece needs more, but never more than the header has.
    fn parse_whole(bytes: &[u8]) -> Option<SocketAddr> {
        for end in 0..bytes.len() {
            match parse(&bytes[..end]) {
                Ok(Header::Incomplete(more)) => {
                    assert!(more > 0 && end + more <= bytes.len(), "{more} after {end} bytes")
                }
                other => panic!("{other:?} after {end} bytes"),
            }
        }
        match parse(bytes) {
            Ok(Header::Complete(client)) => client,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn text_headers_name_the_client() {
        let client = |text: &str| parse_whole(text.as_bytes()).map(|client| client.to_string());
        assert_eq!(client("PROXY TCP4 203.0.113.7 10.0.0.1 56324 1935\r\n").as_deref(), Some("203.0.113.7:56324"));
        assert_eq!(client("PROXY TCP6 2001:db8::7 ::1 65535 1935\r\n").as_deref(), Some("[2001:db8::7]:65535"));
        assert_eq!(client("PROXY UNKNOWN\r\n"), None);
        assert_eq!(client("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"), None);
        // The longest header in the specification.
        let v6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {v6} {v6} 65535 65535\r\n");
        assert_eq!((client(&longest), longest.len()), (None, MAX_V1));
    }

    #[test]
    fn binary_headers_name_the_client() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x07, 0x8f];
        assert_eq!(parse_whole(&v2(0x21, 0x11, &v4)), Some("203.0.113.7:56324".parse().unwrap()));
        // With a TLV, PP2_TYPE_AUTHORITY.
        let with_tlv = [v4.as_slice(), &[2, 0, 3, b'a', b'.', b'b']].concat();
        assert_eq!(parse_whole(&v2(0x21, 0x11, &with_tlv)), Some("203.0.113.7:56324".parse().unwrap()));
        let ip: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let v6 = [ip.octets().as_slice(), &Ipv6Addr::LOCALHOST.octets(), &[0xdc, 0x04, 0x07, 0x8f]].concat();
        assert_eq!(parse_whole(&v2(0x21, 0x21, &v6)), Some("[2001:db8::7]:56324".parse().unwrap()));
        for (command, family, rest) in
            [(0x20, 0, [].as_slice()), (0x20, 0x11, &v4), (0x21, 0, &[]), (0x21, 0x31, &[7; 216]), (0x21, 0x12, &v4)]
        {
            assert_eq!(parse_whole(&v2(command, family, rest)), None, "{command:#x} {family:#x}");
        }
    }

    #[test]
    fn invalid_headers_are_errors_as_early_as_possible() {
        assert_eq!(parse(b"\x03"), Err(Error::NoHeader));
        assert_eq!(parse(b"PROXY\t"), Err(Error::NoHeader));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(Error::NoHeader));
        for line in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 56324 1935 7\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 65536 1935\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +1 1935\r\n",
            "PROXY TCP4 203.0.113.7  10.0.0.1 1 1935\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 1935\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Error::BadLine(line.trim_end().to_owned())));
        }
        assert!(matches!(parse(&[V1, &[b'x'; 101]].concat()), Err(Error::BadLine(_))));
        assert_eq!(parse(&v2(0x11, 0x11, &[0; 12])), Err(Error::Unknown(0x11)));
        assert_eq!(parse(&v2(0x22, 0x11, &[0; 12])), Err(Error::Unknown(0x22)));
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 11])), Err(Error::TooShort(11)));
        assert_eq!(parse(&v2(0x21, 0x21, &[0; 35])), Err(Error::TooShort(35)));
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 4097])[..16]), Err(Error::TooLong(4097)));
    }
}
