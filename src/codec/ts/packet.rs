//! Packets (ISO/IEC 13818-1, section 2.4.3.2) and the head of a PES packet (section 2.4.3.6).

use super::PACKET;

/// The streams of the one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pid {
    Pat,
    Pmt,
    Video,
    Audio,
}

impl Pid {
    pub(super) const COUNT: usize = 4;

    pub(super) fn number(self) -> u16 {
        match self {
            Self::Pat => 0,
            Self::Pmt => 0x1000,
            Self::Video => 0x100,
            Self::Audio => 0x101,
        }
    }
}

/// The stream ids of PES packets.
pub(super) const VIDEO_STREAM: u8 = 0xe0;
pub(super) const AUDIO_STREAM: u8 = 0xc0;

const HEADER: usize = 4;
const BODY: usize = PACKET - HEADER;

const HAS_PCR: u8 = 0x10;
const RANDOM_ACCESS: u8 = 0x40;

/// The size of an adaptation field with a clock reference, its length included.
const WITH_PCR: usize = 8;
/// The same with nothing but flags.
const WITH_FLAGS: usize = 2;

/// Up to here a buffer that grows is twice as large then, in bytes.
const SMALL: usize = 1 << 20;

/// Splits one PES packet into packets: what is put is copied once, to where it stays.
pub(super) struct PacketWriter<'a> {
    out: &'a mut Vec<u8>,
    pid: Pid,
    counter: &'a mut u8,
    /// What is still to be put.
    left: usize,
    /// What fits into the present packet.
    room: usize,
    /// What the first packet is to bring beside the content.
    pcr: Option<u64>,
    is_key: bool,
    is_first: bool,
}

impl<'a> PacketWriter<'a> {
    /// For `size` bytes, no more and no less.
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        pid: Pid,
        counter: &'a mut u8,
        size: usize,
        pcr: Option<u64>,
        is_key: bool,
    ) -> Self {
        make_room(out, (size / BODY + 2) * PACKET);
        Self { out, pid, counter, left: size, room: 0, pcr, is_key, is_first: true }
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.begin_packet();
            }
            let (now, rest) = bytes.split_at(self.room.min(bytes.len()));
            self.out.extend_from_slice(now);
            self.room -= now.len();
            self.left = self.left.saturating_sub(now.len());
            bytes = rest;
        }
    }

    fn begin_packet(&mut self) {
        let (pcr, is_key) = (self.pcr.take(), std::mem::take(&mut self.is_key));
        let least = match (pcr, is_key) {
            (Some(_), _) => WITH_PCR,
            (None, true) => WITH_FLAGS,
            (None, false) => 0,
        };
        // The last packet of the PES packet is filled up in front of its content.
        let field = least.max(BODY.saturating_sub(self.left));
        header(self.out, self.pid, std::mem::take(&mut self.is_first), field > 0, true, *self.counter);
        *self.counter = (*self.counter + 1) & 0x0f;
        adaptation_field(self.out, field, pcr, is_key);
        self.room = BODY - field;
    }
}

/// Makes room for `more` bytes. By a quarter where a doubling is much: a segment is large, and the room that its buffer has is held.
fn make_room(out: &mut Vec<u8>, more: usize) {
    if out.capacity() - out.len() < more {
        if out.len() < SMALL {
            out.reserve(more);
        } else {
            out.reserve_exact(more.max(out.len() / 4));
        }
    }
}

/// Appends a packet with a clock reference and nothing else. It does not count: `counter` is the next that has content.
pub(super) fn clock_only(out: &mut Vec<u8>, pid: Pid, counter: u8, pcr: u64) {
    make_room(out, PACKET);
    header(out, pid, false, true, false, counter.wrapping_sub(1) & 0x0f);
    adaptation_field(out, BODY, Some(pcr), false);
}

fn header(out: &mut Vec<u8>, pid: Pid, is_start: bool, has_field: bool, has_content: bool, counter: u8) {
    let [high, low] = pid.number().to_be_bytes();
    let control = u8::from(has_field) << 5 | u8::from(has_content) << 4;
    out.extend_from_slice(&[0x47, u8::from(is_start) << 6 | high, low, control | counter]);
}

/// An adaptation field of `size` bytes in all; a size of 1 is a length of zero alone.
fn adaptation_field(out: &mut Vec<u8>, size: usize, pcr: Option<u64>, is_key: bool) {
    let end = out.len() + size;
    if size >= 1 {
        // At most 183.
        out.push((size - 1) as u8);
    }
    if size >= 2 {
        out.push(if pcr.is_some() { HAS_PCR } else { 0 } | if is_key { RANDOM_ACCESS } else { 0 });
    }
    if let Some(pcr) = pcr {
        // 33 bits, 6 that are reserved, and an extension of 9 that counts 27 MHz and is zero.
        let field = (pcr & 0x1_ffff_ffff) << 15 | 0x3f << 9;
        out.extend_from_slice(&field.to_be_bytes()[2..]);
    }
    out.resize(end, 0xff);
}

/// The head of a PES packet.
pub(super) struct PesHeader {
    bytes: [u8; 19],
    len: usize,
}

impl std::ops::Deref for PesHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The head of a PES packet of `size` bytes of content, with the time to show, and the time to decode where that is another.
pub(super) fn pes_header(stream: u8, size: usize, pts: u64, dts: Option<u64>) -> PesHeader {
    let dts = dts.filter(|&dts| dts != pts);
    let times = if dts.is_some() { 10 } else { 5 };
    // Flags and times count. A length that does not fit is zero, which is allowed for video.
    let length = u16::try_from(3 + times + size).unwrap_or(0).to_be_bytes();
    let flags = if dts.is_some() { 0xc0 } else { 0x80 };
    let mut bytes = [0; 19];
    // 0x84: two bits that are always so, and content that begins with an access unit.
    bytes[..9].copy_from_slice(&[0, 0, 1, stream, length[0], length[1], 0x84, flags, times as u8]);
    bytes[9..14].copy_from_slice(&timestamp(if dts.is_some() { 3 } else { 2 }, pts));
    if let Some(dts) = dts {
        bytes[14..].copy_from_slice(&timestamp(1, dts));
    }
    PesHeader { bytes, len: 9 + times }
}

/// A time of 33 bits, which wraps after 26.5 hours, in three pieces with a marker bit behind each.
fn timestamp(prefix: u8, time: u64) -> [u8; 5] {
    let piece = |shift: u32| ((time >> shift & 0x7fff) << 1 | 1) as u16;
    let [b1, b2] = piece(15).to_be_bytes();
    let [b3, b4] = piece(0).to_be_bytes();
    let highest = (time >> 30 & 0x07) as u8;
    [prefix << 4 | highest << 1 | 1, b1, b2, b3, b4]
}
