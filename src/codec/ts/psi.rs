//! The program association table and the program map table (ISO/IEC 13818-1, section 2.4.4).

use super::packet::{PACKET_SIZE, Pid};
use crate::codec::nalu::Codec;

const PROGRAM: u16 = 1;

/// The audio codec, as listed in the PMT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// AAC in ADTS.
    Aac,
    /// MPEG-1 audio, layer III.
    Mp3,
    /// MPEG-2 audio, layer III, at half the sample rates.
    Mp3HalfRate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) video: Option<Codec>,
    pub(super) audio: Option<AudioCodec>,
    pub(super) pcr: Pid,
}

/// Returns the packet of the program association table.
pub(super) fn pat(counter: u8) -> [u8; PACKET_SIZE] {
    let [pmt_high, pmt_low] = Pid::Pmt.number().to_be_bytes();
    let [program_high, program_low] = PROGRAM.to_be_bytes();
    section(Pid::Pat, counter, 0, 1, 0, &[program_high, program_low, 0xe0 | pmt_high, pmt_low])
}

/// Returns the packet of the program map table.
pub(super) fn pmt(program: &Program, version: u8, counter: u8) -> [u8; PACKET_SIZE] {
    let [pcr_high, pcr_low] = program.pcr.number().to_be_bytes();
    let mut body = vec![0xe0 | pcr_high, pcr_low, 0xf0, 0];
    let mut stream = |kind: u8, pid: Pid, descriptors: &[u8]| {
        let [high, low] = pid.number().to_be_bytes();
        body.extend_from_slice(&[kind, 0xe0 | high, low, 0xf0, descriptors.len() as u8]);
        body.extend_from_slice(descriptors);
    };
    match program.video {
        Some(Codec::H264) => stream(0x1b, Pid::Video, &[]),
        // With a registration descriptor, which some players need besides the stream type.
        Some(Codec::H265) => stream(0x24, Pid::Video, b"\x05\x04HEVC"),
        None => {}
    }
    match program.audio {
        Some(AudioCodec::Aac) => stream(0x0f, Pid::Audio, &[]),
        Some(AudioCodec::Mp3) => stream(0x03, Pid::Audio, &[]),
        Some(AudioCodec::Mp3HalfRate) => stream(0x04, Pid::Audio, &[]),
        None => {}
    }
    section(Pid::Pmt, counter, 2, PROGRAM, version, &body)
}

/// Returns a packet with a table of one section. `body` has at most a few dozen bytes.
fn section(pid: Pid, counter: u8, table: u8, id: u16, version: u8, body: &[u8]) -> [u8; PACKET_SIZE] {
    let [pid_high, pid_low] = pid.number().to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    // The bytes after the length field: five bytes of header, the body, the checksum.
    let length = (5 + body.len() + 4) as u8;
    let mut bytes = vec![0x47, 0x40 | pid_high, pid_low, 0x10 | counter, 0];
    let start = bytes.len();
    bytes.extend_from_slice(&[table, 0xb0, length, id_high, id_low, 0xc1 | version << 1, 0, 0]);
    bytes.extend_from_slice(body);
    let checksum = crc32(&bytes[start..]);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    let mut packet = [0xff; PACKET_SIZE];
    packet[..bytes.len()].copy_from_slice(&bytes);
    packet
}

/// Returns the CRC of annex A: the polynomial of Ethernet without reflection. Two short sections per segment need no lookup
/// table.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte) << 24,
            |crc, _| {
                if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn the_checksum_of_a_section_with_its_checksum_is_zero() {
        let program = Program { video: Some(Codec::H265), audio: Some(AudioCodec::Aac), pcr: Pid::Video };
        let packet = pmt(&program, 7, 3);
        let length = usize::from(packet[7]);
        assert_eq!(crc32(&packet[5..8 + length]), 0);
    }
}
