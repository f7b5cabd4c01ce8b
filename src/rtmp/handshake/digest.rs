//! The digests of the complex handshake.
//!
//! C1 and S1 consist of time (4 bytes), version (4), and two blocks of 764 bytes, one with a key and one with a digest. In
//! schema 0 the key block is first, in schema 1 the digest block. The digest block starts with four bytes, and their sum is
//! the offset of the 32-byte digest in the rest of the block. The digest signs all other bytes of C1 (S1). The key is used
//! by RTMPE only and stays random. S2 and C2 end with a digest whose key is derived from the digest of C1 or S1.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::error::Error;

/// Size of a digest, in bytes.
const DIGEST: usize = 32;

/// Keys of the client and the server: C1 and S1 use the text alone, C2 and S2 the text with the 32 shared bytes appended.
const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";
const SHARED: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e, 0xec, 0x5d,
    0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

/// The order of the two blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    KeyFirst,
    DigestFirst,
}

impl Schema {
    const ALL: [Self; 2] = [Self::KeyFirst, Self::DigestFirst];

    pub(super) fn number(self) -> u8 {
        match self {
            Self::KeyFirst => 0,
            Self::DigestFirst => 1,
        }
    }

    fn position(self, packet: &[u8]) -> usize {
        let block = match self {
            Self::KeyFirst => 8 + 764,
            Self::DigestFirst => 8,
        };
        let sum: usize = packet[block..block + 4].iter().map(|&byte| usize::from(byte)).sum();
        // The digest can start in the first 764 - 4 - 32 bytes after the offset.
        block + 4 + sum % 728
    }
}

/// Returns the schema and the digest of a C1, if the digest is valid.
pub(super) fn verify_c1(c1: &[u8]) -> Option<(Schema, [u8; DIGEST])> {
    verify(c1, PLAYER)
}

pub(super) fn sign_c1(c1: &mut [u8]) {
    sign(c1, Schema::DigestFirst, PLAYER);
}

pub(super) fn sign_s1(s1: &mut [u8], schema: Schema) {
    sign(s1, schema, SERVER);
}

/// Signs S2 as the reply to the digest of C1.
pub(super) fn sign_s2(s2: &mut [u8], c1_digest: &[u8; DIGEST]) {
    sign_reply(s2, SERVER, c1_digest);
}

/// Returns a C2 that is signed for the digest of S1, and the schema of S1. `None`: S1 has no digest.
pub(super) fn sign_c2(s1: &[u8]) -> Result<Option<(Vec<u8>, u8)>, Error> {
    let Some((schema, s1_digest)) = verify(s1, SERVER) else { return Ok(None) };
    let mut c2 = vec![0; s1.len()];
    getrandom::fill(&mut c2).map_err(Error::Random)?;
    sign_reply(&mut c2, PLAYER, &s1_digest);
    Ok(Some((c2, schema.number())))
}

/// Checks the signature of an S2 or C2 for the digest of C1 or S1.
#[cfg(test)]
pub(super) fn is_signed_reply(packet: &[u8], by_server: bool, digest: &[u8; DIGEST]) -> bool {
    let mut expected = packet.to_vec();
    sign_reply(&mut expected, if by_server { SERVER } else { PLAYER }, digest);
    expected == packet
}

#[cfg(test)]
pub(super) fn verify_s1(s1: &[u8]) -> Option<(Schema, [u8; DIGEST])> {
    verify(s1, SERVER)
}

#[cfg(test)]
pub(super) fn sign_c1_as(c1: &mut [u8], schema: Schema) {
    sign(c1, schema, PLAYER);
}

fn verify(packet: &[u8], key: &[u8]) -> Option<(Schema, [u8; DIGEST])> {
    Schema::ALL.into_iter().find_map(|schema| {
        let at = schema.position(packet);
        let expected = hmac(key, &[&packet[..at], &packet[at + DIGEST..]]);
        (packet[at..at + DIGEST] == expected).then_some((schema, expected))
    })
}

fn sign(packet: &mut [u8], schema: Schema, key: &[u8]) {
    let at = schema.position(packet);
    let digest = hmac(key, &[&packet[..at], &packet[at + DIGEST..]]);
    packet[at..at + DIGEST].copy_from_slice(&digest);
}

fn sign_reply(packet: &mut [u8], key: &[u8], digest: &[u8; DIGEST]) {
    let key = hmac(&[key, &SHARED].concat(), &[digest]);
    let at = packet.len() - DIGEST;
    let reply = hmac(&key, &[&packet[..at]]);
    packet[at..].copy_from_slice(&reply);
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    #[allow(clippy::expect_used)] // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}
