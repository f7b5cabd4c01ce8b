//! Packets (ISO/IEC 13818-1, section 2.4.3.2) and PES headers (section 2.4.3.6).

/// Size of a packet, in bytes.
pub const PACKET_SIZE: usize = 188;

/// The streams of the program.
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

/// Stream ids of PES packets.
pub(super) const VIDEO_STREAM: u8 = 0xe0;
pub(super) const AUDIO_STREAM: u8 = 0xc0;

/// Size of a packet header and of the space after it, in bytes.
const HEADER: usize = 4;
const BODY: usize = PACKET_SIZE - HEADER;

/// Flags of an adaptation field.
const HAS_PCR: u8 = 0x10;
const RANDOM_ACCESS: u8 = 0x40;

/// Size of an adaptation field with a clock reference, and with flags only; both include the length byte.
const PCR_FIELD: usize = 8;
const FLAGS_FIELD: usize = 2;

/// Size of a time stamp in a PES header, in bytes, and the flags for one and for two of them.
const TIME: usize = 5;
const ONLY_PTS: u8 = 0x80;
const PTS_AND_DTS: u8 = 0xc0;

/// Size up to which a buffer doubles when it grows, in bytes. Larger buffers grow by a quarter.
const MAX_DOUBLING: usize = 1 << 20;

/// A writer of one PES packet that splits it into packets. Each byte is copied once.
pub(super) struct PacketWriter<'a> {
    out: &'a mut Vec<u8>,
    pid: Pid,
    counter: &'a mut u8,
    /// Bytes of the PES packet that are not written yet.
    left: usize,
    /// Free bytes in the current packet.
    room: usize,
    /// The clock reference for the first packet.
    pcr: Option<u64>,
    is_key: bool,
    is_first: bool,
}

impl<'a> PacketWriter<'a> {
    /// Creates a writer for exactly `size` bytes.
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        pid: Pid,
        counter: &'a mut u8,
        size: usize,
        pcr: Option<u64>,
        is_key: bool,
    ) -> Self {
        reserve(out, (size / BODY + 2) * PACKET_SIZE);
        Self { out, pid, counter, left: size, room: 0, pcr, is_key, is_first: true }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room == 0 {
                self.start_packet();
            }
            let (now, rest) = bytes.split_at(self.room.min(bytes.len()));
            self.out.extend_from_slice(now);
            self.room -= now.len();
            self.left = self.left.saturating_sub(now.len());
            bytes = rest;
        }
    }

    fn start_packet(&mut self) {
        let (pcr, is_key) = (self.pcr.take(), std::mem::take(&mut self.is_key));
        let min_field = match (pcr, is_key) {
            (Some(_), _) => PCR_FIELD,
            (None, true) => FLAGS_FIELD,
            (None, false) => 0,
        };
        // The last packet is padded before its content.
        let field = min_field.max(BODY.saturating_sub(self.left));
        write_header(self.out, self.pid, std::mem::take(&mut self.is_first), field > 0, true, *self.counter);
        *self.counter = (*self.counter + 1) & 0x0f;
        write_adaptation_field(self.out, field, pcr, is_key);
        self.room = BODY - field;
    }
}

/// Reserves capacity for `more` bytes. Large buffers grow by a quarter and not by doubling, because unused capacity counts as
/// memory of the stream.
fn reserve(out: &mut Vec<u8>, more: usize) {
    if out.capacity() - out.len() < more {
        if out.len() < MAX_DOUBLING {
            out.reserve(more);
        } else {
            out.reserve_exact(more.max(out.len() / 4));
        }
    }
}

/// Appends a packet with only a clock reference. It does not increase the counter: `counter` is that of the next packet with
/// content.
pub(super) fn write_clock_packet(out: &mut Vec<u8>, pid: Pid, counter: u8, pcr: u64) {
    reserve(out, PACKET_SIZE);
    write_header(out, pid, false, true, false, counter.wrapping_sub(1) & 0x0f);
    write_adaptation_field(out, BODY, Some(pcr), false);
}

fn write_header(out: &mut Vec<u8>, pid: Pid, is_start: bool, has_field: bool, has_content: bool, counter: u8) {
    let [high, low] = pid.number().to_be_bytes();
    let control = u8::from(has_field) << 5 | u8::from(has_content) << 4;
    out.extend_from_slice(&[0x47, u8::from(is_start) << 6 | high, low, control | counter]);
}

/// Appends an adaptation field of `size` bytes; a size of 1 is only a length byte of zero.
fn write_adaptation_field(out: &mut Vec<u8>, size: usize, pcr: Option<u64>, is_key: bool) {
    let end = out.len() + size;
    if size >= 1 {
        // At most BODY - 1.
        out.push((size - 1) as u8);
    }
    if size >= 2 {
        out.push(if pcr.is_some() { HAS_PCR } else { 0 } | if is_key { RANDOM_ACCESS } else { 0 });
    }
    if let Some(pcr) = pcr {
        out.extend_from_slice(&encode_pcr(pcr));
    }
    out.resize(end, 0xff);
}

/// Encodes a clock reference: 33 bits, 6 reserved bits, and an extension of 9 bits (27 MHz), which is zero.
fn encode_pcr(pcr: u64) -> [u8; 6] {
    let [_, _, field @ ..] = ((pcr & 0x1_ffff_ffff) << 15 | 0x3f << 9).to_be_bytes();
    field
}

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

/// Returns the header of a PES packet with `size` bytes of content. A `dts` that is equal to `pts` is written, too, since
/// [`correct`] may part them.
pub(super) fn pes_header(stream: u8, size: usize, pts: u64, dts: Option<u64>) -> PesHeader {
    let times = if dts.is_some() { 2 * TIME } else { TIME };
    // The length includes flags and time stamps. If it does not fit it is zero, which is allowed for video.
    let length = u16::try_from(3 + times + size).unwrap_or(0).to_be_bytes();
    let mut bytes = [0xff; 19];
    // 0x84: two fixed bits, and the alignment bit, because the content starts with an access unit.
    bytes[..9].copy_from_slice(&[0, 0, 1, stream, length[0], length[1], 0x84, ONLY_PTS, times as u8]);
    bytes[9..14].copy_from_slice(&encode_timestamp(2, pts));
    if let Some(dts) = dts {
        bytes[7] = PTS_AND_DTS;
        bytes[9..14].copy_from_slice(&encode_timestamp(3, pts));
        bytes[14..].copy_from_slice(&encode_timestamp(1, dts));
    }
    PesHeader { bytes, len: 9 + times }
}

/// Adds `shift` to all presentation times of a segment, and subtracts `lead` from its clock references.
pub(super) fn correct(segment: &mut [u8], shift: u64, lead: u64) {
    for packet in segment.as_chunks_mut::<PACKET_SIZE>().0 {
        let is_table = [Pid::Pat, Pid::Pmt].iter().any(|pid| {
            let [high, low] = pid.number().to_be_bytes();
            packet[1] & 0x1f == high && packet[2] == low
        });
        if is_table {
            continue;
        }
        let (is_start, has_field) = (packet[1] & 0x40 != 0, packet[3] & 0x20 != 0);
        let field = if has_field { 1 + usize::from(packet[HEADER]) } else { 0 };
        if field >= PCR_FIELD && packet[HEADER + 1] & HAS_PCR != 0 {
            let at = &mut packet[HEADER + 2..HEADER + PCR_FIELD];
            let pcr = at.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte)) >> 15;
            at.copy_from_slice(&encode_pcr(pcr.wrapping_sub(lead)));
        }
        if is_start && let Some(header) = packet.get_mut(HEADER + field..) {
            shift_pts(header, shift);
        }
    }
}

/// Adds `shift` to the presentation time in the header of a PES packet.
fn shift_pts(header: &mut [u8], shift: u64) {
    let Some(pts) = header.get_mut(9..).and_then(|times| times.first_chunk_mut::<TIME>()) else { return };
    *pts = encode_timestamp(pts[0] >> 4, decode_timestamp(*pts) + shift);
}

/// Encodes a time stamp of 33 bits, which wraps after 26.5 hours, in three parts with a marker bit after each.
fn encode_timestamp(prefix: u8, time: u64) -> [u8; 5] {
    let piece = |shift: u32| ((time >> shift & 0x7fff) << 1 | 1) as u16;
    let [b1, b2] = piece(15).to_be_bytes();
    let [b3, b4] = piece(0).to_be_bytes();
    let highest = (time >> 30 & 0x07) as u8;
    [prefix << 4 | highest << 1 | 1, b1, b2, b3, b4]
}

/// Decodes a time stamp of [`encode_timestamp`].
fn decode_timestamp([a, b, c, d, e]: [u8; 5]) -> u64 {
    let high = u64::from(a >> 1 & 0x07) << 30;
    let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
    high | middle | u64::from(u16::from_be_bytes([d, e]) >> 1)
}
