//! Common parts of the Enhanced RTMP headers of audio and video: the ModEx chain and tracks.

use std::fmt;

use byteorder::{BigEndian, ByteOrder};

/// Packet type of an extension before the real packet type, in audio and video.
const MOD_EX: u8 = 7;

/// Maximum number of chained extensions. One is defined (a time offset in nanoseconds), and a peer needs only three bytes for
/// each.
pub(super) const MAX_MOD_EX: usize = 8;

/// A position in the payload of a message.
pub(super) struct Cursor<'a> {
    payload: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Reads a signed number of 24 bits.
    pub(super) fn i24(&mut self) -> Option<i32> {
        self.array::<3>().map(|bytes| BigEndian::read_i24(&bytes))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.payload.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.payload.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(())
    }
}

/// The packet type, codec and track of a message.
pub(super) struct Packet {
    pub(super) kind: u8,
    pub(super) fourcc: [u8; 4],
    pub(super) track: u8,
    pub(super) multitrack: bool,
}

/// Skips the chain of ModEx packets, if `kind` is one, and returns the packet type after it.
pub(super) fn skip_mod_ex(cursor: &mut Cursor<'_>, mut kind: u8) -> Option<u8> {
    for _ in 0..=MAX_MOD_EX {
        if kind != MOD_EX {
            return Some(kind);
        }
        let mut size = usize::from(cursor.u8()?) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(cursor.array()?)) + 1;
        }
        cursor.skip(size)?;
        // High half: the type of the extension, ignored. Low half: the next packet type.
        kind = cursor.u8()? & 0x0f;
    }
    None
}

/// Reads the codec and, if `kind` is the value of `multitrack`, the real packet type and the first track. The data of other
/// tracks follow the data of the first one.
pub(super) fn read_packet(cursor: &mut Cursor<'_>, kind: u8, multitrack: u8) -> Option<Packet> {
    const ONE_TRACK: u8 = 0;

    if kind != multitrack {
        return Some(Packet { kind, fourcc: cursor.array()?, track: 0, multitrack: false });
    }
    let byte = cursor.u8()?;
    let (layout, kind) = (byte >> 4, byte & 0x0f);
    // The FourCC is given once, or for each track if the codecs differ: the same position for the first track.
    let fourcc = cursor.array()?;
    let track = cursor.u8()?;
    if layout != ONE_TRACK {
        // The size of the data of this track.
        cursor.skip(3)?;
    }
    Some(Packet { kind, fourcc, track, multitrack: true })
}

/// Writes a FourCC for a log, escaped because the bytes are untrusted.
pub(super) fn write_fourcc(f: &mut fmt::Formatter<'_>, fourcc: [u8; 4]) -> fmt::Result {
    write!(f, "{}", fourcc.escape_ascii())
}
