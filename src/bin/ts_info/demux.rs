//! Packets and tables: assigns the bytes of a transport stream to its streams.

use std::collections::BTreeMap;

use super::stream::{PACKET, Stream};

const SYNC: u8 = 0x47;
const PAT: u16 = 0;
/// PID of packets that fill up a constant bit rate; they have no content.
const NULL: u16 = 0x1fff;

/// Mask of the 33 bits of PCR, PTS and DTS.
const TIME_MASK: u64 = 0x1_ffff_ffff;

/// The demuxer and its findings. Its size does not grow with the stream: there are at most 8192 PIDs.
#[derive(Debug, Default)]
pub(crate) struct Demuxer {
    pub(crate) packets: u64,
    /// Bytes between packets.
    pub(crate) skipped: u64,
    /// Packets that are marked as damaged, or whose fields do not fit.
    pub(crate) broken: u64,
    /// Tables that are truncated or have a wrong checksum.
    pub(crate) broken_tables: u64,
    pub(crate) pmt_pid: Option<u16>,
    pub(crate) pcr_pid: Option<u16>,
    pub(crate) pids: BTreeMap<u16, Stream>,
    pub(crate) pcrs: u64,
    last_pcr: Option<u64>,
    /// The longest time between two clock references, in 1/90000 s.
    pub(crate) pcr_interval: u64,
    /// The last bytes were not a packet, so that a single sync byte proves nothing.
    is_out_of_sync: bool,
}

impl Demuxer {
    /// Parses bytes and returns how many were consumed; the caller passes the rest again with more bytes. Consumes all at the
    /// end.
    pub(crate) fn feed(&mut self, bytes: &[u8], is_end: bool) -> usize {
        let mut rest = bytes;
        while let Some((packet, after)) = rest.split_first_chunk::<PACKET>() {
            let next = match after.first() {
                None if !is_end => break,
                None => true,
                Some(&next) => next == SYNC,
            };
            if packet[0] == SYNC && (next || !self.needs_proof()) {
                self.is_out_of_sync = false;
                self.packets += 1;
                if self.parse_packet(packet).is_none() {
                    self.broken += 1;
                }
                rest = after;
            } else {
                self.is_out_of_sync = true;
                self.skipped += 1;
                rest = &rest[1..];
            }
        }
        if is_end {
            // The file ends inside a packet.
            self.skipped += rest.len() as u64;
            rest = &[];
        }
        bytes.len() - rest.len()
    }

    /// Returns whether a packet counts only if another one follows.
    fn needs_proof(&self) -> bool {
        self.is_out_of_sync || self.packets == 0
    }

    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn parse_packet(&mut self, packet: &[u8; PACKET]) -> Option<()> {
        let [_, high, low, control, ..] = *packet;
        let pid = u16::from_be_bytes([high & 0x1f, low]);
        if high & 0x80 != 0 {
            return None;
        }
        let mut payload = &packet[4..];
        let (mut is_discontinuity, mut pcr) = (false, None);
        if control & 0x20 != 0 {
            let (field, rest) = payload[1..].split_at_checked(payload[0].into())?;
            is_discontinuity = field.first().is_some_and(|flags| flags & 0x80 != 0);
            if let [flags, a, b, c, d, e, ..] = *field
                && flags & 0x10 != 0
            {
                pcr = Some(u64::from(u32::from_be_bytes([a, b, c, d])) << 1 | u64::from(e >> 7));
            }
            payload = rest;
        }
        if pid == NULL {
            return Some(());
        }
        if let Some(pcr) = pcr.filter(|_| self.pcr_pid.is_none_or(|expected| expected == pid)) {
            self.add_pcr(pcr, is_discontinuity);
        }
        let stream = self.pids.entry(pid).or_default();
        let is_new = stream.count_packet(packet, is_discontinuity);
        if control & 0x10 == 0 || !is_new {
            return Some(());
        }
        let is_start = high & 0x40 != 0;
        if pid == PAT || Some(pid) == self.pmt_pid {
            if is_start && self.parse_table(pid, payload).is_none() {
                self.broken_tables += 1;
            }
            return Some(());
        }
        stream.parse_payload(payload, is_start)?;
        if is_start && let Some(pcr) = self.last_pcr {
            stream.check_clock(pcr);
        }
        Some(())
    }

    fn add_pcr(&mut self, pcr: u64, is_discontinuity: bool) {
        self.pcrs += 1;
        if let Some(last) = self.last_pcr.replace(pcr).filter(|_| !is_discontinuity) {
            self.pcr_interval = self.pcr_interval.max(pcr.wrapping_sub(last) & TIME_MASK);
        }
    }

    /// Parses a table that fits into one packet, as those of one program do.
    fn parse_table(&mut self, pid: u16, payload: &[u8]) -> Option<()> {
        let section = payload.get(1 + usize::from(*payload.first()?)..)?;
        let length = usize::from(u16::from_be_bytes([section.get(1)? & 0x0f, *section.get(2)?]));
        let section = section.get(..3 + length)?;
        // The checksum over a section including its checksum is zero.
        if crc(section) != 0 {
            return None;
        }
        let body = section.get(8..section.len().checked_sub(4)?)?;
        let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
        if pid == PAT {
            // Program 0 is the network information table.
            let mut programs = body.chunks_exact(4).filter(|program| program[..2] != [0, 0]);
            self.pmt_pid = programs.next().map(|program| u16::from_be_bytes([program[2] & 0x1f, program[3]]));
            return Some(());
        }
        self.pcr_pid = Some(number(0)? & 0x1fff);
        let mut at = 4 + usize::from(number(2)? & 0x0fff);
        while let (Some(&kind), Some(pid), Some(more)) = (body.get(at), number(at + 1), number(at + 3)) {
            self.pids.entry(pid & 0x1fff).or_default().kind = Some(kind);
            at += 5 + usize::from(more & 0x0fff);
        }
        Some(())
    }

    pub(crate) fn continuity_errors(&self) -> u64 {
        self.pids.values().map(|stream| stream.continuity_errors).sum()
    }

    /// Returns whether the stream has no error that affects players.
    pub(crate) fn is_sound(&self) -> bool {
        let errors = self.skipped + self.broken + self.broken_tables + self.continuity_errors();
        let wrong_times: u64 = self.pids.values().map(|stream| stream.dts_back + stream.late + stream.pts_early).sum();
        self.packets > 0 && errors + wrong_times == 0 && self.pcr_pid.is_some()
    }
}

/// Computes the checksum of a section: ISO/IEC 13818-1, annex A.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}
