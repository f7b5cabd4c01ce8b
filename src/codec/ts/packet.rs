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

/// Flags of a packet header: in its second byte, and in its last one.
const UNIT_START: u8 = 0x40;
const HAS_FIELD: u8 = 0x20;
const HAS_CONTENT: u8 = 0x10;

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

/// A writer of one PES packet that splits it into packets, whose headers are written first. Each byte is copied once.
pub(super) struct PacketWriter<'a> {
    /// The packets that have room.
    packets: &'a mut [[u8; PACKET_SIZE]],
    /// Offset of the next byte in the first of them.
    at: usize,
    /// Size of the padding before the content of the last one.
    padding: usize,
}

impl<'a> PacketWriter<'a> {
    /// Creates a writer for exactly `size` bytes, at least 1.
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        pid: Pid,
        counter: &mut u8,
        size: usize,
        pcr: Option<u64>,
        is_key: bool,
    ) -> Self {
        let field = match (pcr, is_key) {
            (Some(_), _) => PCR_FIELD,
            (None, true) => FLAGS_FIELD,
            (None, false) => 0,
        };
        let count = (field + size).div_ceil(BODY);
        let padding = count * BODY - size - field;
        let packets = append(out, count);
        for packet in packets.iter_mut() {
            write_header(packet, pid, HAS_CONTENT | *counter);
            *counter = (*counter + 1) & 0x0f;
        }
        let mut writer = Self { packets, at: HEADER + field, padding };
        match writer.packets {
            [packet] => {
                writer.at += padding;
                write_adaptation_field(packet, field + padding, pcr, is_key);
            }
            [first, .., last] => {
                write_adaptation_field(first, field, pcr, is_key);
                write_adaptation_field(last, padding, None, false);
            }
            [] => {}
        }
        if let Some(first) = writer.packets.first_mut() {
            first[1] |= UNIT_START;
        }
        writer
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while let Some(packet) = self.packets.first_mut()
            && !bytes.is_empty()
        {
            let room = &mut packet[self.at..];
            let (now, rest) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            bytes = rest;
            self.at += now.len();
            if self.at == PACKET_SIZE {
                self.next_packet();
            }
        }
    }

    fn next_packet(&mut self) {
        self.packets.split_off_first_mut();
        self.at = if self.packets.len() == 1 { HEADER + self.padding } else { HEADER };
    }
}

/// Appends packets that are filled with padding.
fn append(out: &mut Vec<u8>, count: usize) -> &mut [[u8; PACKET_SIZE]] {
    let start = out.len();
    reserve(out, count * PACKET_SIZE);
    out.resize(start + count * PACKET_SIZE, 0xff);
    out[start..].as_chunks_mut().0
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
    for packet in append(out, 1) {
        write_header(packet, pid, counter.wrapping_sub(1) & 0x0f);
        write_adaptation_field(packet, BODY, Some(pcr), false);
    }
}

/// Writes the header of a packet without an adaptation field that starts no PES packet.
fn write_header(packet: &mut [u8; PACKET_SIZE], pid: Pid, control: u8) {
    let header = 0x47 << 24 | u32::from(pid.number()) << 8 | u32::from(control);
    packet[..HEADER].copy_from_slice(&header.to_be_bytes());
}

/// Writes an adaptation field of `size` bytes into a packet that is filled with padding; a size of 0 is none, and of 1 only a
/// length byte of zero.
fn write_adaptation_field(packet: &mut [u8; PACKET_SIZE], size: usize, pcr: Option<u64>, is_key: bool) {
    if size >= 1 {
        packet[3] |= HAS_FIELD;
        // At most BODY - 1.
        packet[HEADER] = (size - 1) as u8;
    }
    if size >= 2 {
        packet[HEADER + 1] = if pcr.is_some() { HAS_PCR } else { 0 } | if is_key { RANDOM_ACCESS } else { 0 };
    }
    if let Some(pcr) = pcr {
        packet[HEADER + 2..HEADER + PCR_FIELD].copy_from_slice(&encode_pcr(pcr));
    }
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
        let (is_start, has_field) = (packet[1] & UNIT_START != 0, packet[3] & HAS_FIELD != 0);
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
