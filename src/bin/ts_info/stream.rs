//! The packets of one PID.

use std::collections::BTreeMap;

/// Length of a packet in bytes.
pub(crate) const PACKET: usize = 188;

/// Length of the shortest ADTS frame, which has only a header.
const ADTS_HEADER: u64 = 7;

/// Counters and parser state of one PID.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) packets: u64,
    last: Option<[u8; PACKET]>,
    pub(crate) continuity_errors: u64,
    /// Stream type in the PMT.
    pub(crate) kind: Option<u8>,
    pub(crate) pes: u64,
    pub(crate) first_pts: Option<u64>,
    pub(crate) last_pts: Option<u64>,
    pub(crate) first_dts: Option<u64>,
    pub(crate) last_dts: Option<u64>,
    /// Number of decoding times that are not later than the previous one.
    pub(crate) dts_back: u64,
    /// Number of frames that are due before the clock reference in front of them. Players drop them.
    pub(crate) late: u64,
    /// Number of frames that are shown before they are decoded.
    pub(crate) pts_early: u64,
    /// Number of NAL units by type.
    pub(crate) units: BTreeMap<u8, u64>,
    pub(crate) adts_frames: u64,
    /// Last bytes of the content, the newest in the lowest bits.
    window: u64,
    /// Remaining bytes of the ADTS frame.
    left: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            packets: 0,
            last: None,
            continuity_errors: 0,
            kind: None,
            pes: 0,
            first_pts: None,
            last_pts: None,
            first_dts: None,
            last_dts: None,
            dts_back: 0,
            late: 0,
            pts_early: 0,
            units: BTreeMap::new(),
            adts_frames: 0,
            // Not zeros, which would be half a start code.
            window: u64::MAX,
            left: 0,
        }
    }
}

impl Stream {
    /// Counts a packet. Returns false for a repetition of the previous packet, which a sender may send once.
    pub(crate) fn count_packet(&mut self, packet: &[u8; PACKET], is_discontinuity: bool) -> bool {
        self.packets += 1;
        let has_payload = packet[3] & 0x10 != 0;
        if !has_payload {
            return true;
        }
        let Some(last) = self.last.replace(*packet) else { return true };
        let (last_counter, counter) = (last[3] & 0x0f, packet[3] & 0x0f);
        if last_counter == counter && last == *packet {
            return false;
        }
        if (last_counter + 1) & 0x0f != counter && !is_discontinuity {
            self.continuity_errors += 1;
        }
        true
    }

    /// Parses the payload of a packet. Returns `None` if the PES header does not fit.
    pub(crate) fn parse_payload(&mut self, payload: &[u8], is_start: bool) -> Option<()> {
        let Some(kind) = self.kind else { return Some(()) };
        let content = if is_start { self.parse_pes_header(payload)? } else { payload };
        match kind {
            0x1b | 0x24 => content.iter().for_each(|byte| self.on_video(*byte, kind)),
            0x0f => content.iter().for_each(|byte| self.on_aac(*byte)),
            _ => {}
        }
        Some(())
    }

    fn parse_pes_header<'a>(&mut self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let flags = *payload.get(7)?;
        if !payload.starts_with(&[0, 0, 1]) {
            return None;
        }
        let time = |at: usize| {
            let [a, b, c, d, e] = *payload.get(at..)?.first_chunk::<5>()?;
            let high = u64::from(a >> 1 & 0x07) << 30;
            let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
            Some(high | middle | u64::from(u16::from_be_bytes([d, e]) >> 1))
        };
        let pts = if flags & 0x80 != 0 { Some(time(9)?) } else { None };
        let dts = if flags & 0x40 != 0 { Some(time(14)?) } else { pts };
        self.pes += 1;
        self.window = u64::MAX;
        self.first_pts = self.first_pts.or(pts);
        self.first_dts = self.first_dts.or(dts);
        if let (Some(last), Some(dts)) = (self.last_dts, dts) {
            self.dts_back += u64::from(!is_before(last, dts));
        }
        if let (Some(pts), Some(dts)) = (pts, dts) {
            self.pts_early += u64::from(is_before(pts, dts));
        }
        (self.last_pts, self.last_dts) = (pts.or(self.last_pts), dts.or(self.last_dts));
        payload.get(9 + usize::from(*payload.get(8)?)..)
    }

    /// Compares the frame that has just begun with the last clock reference.
    pub(crate) fn check_clock(&mut self, pcr: u64) {
        self.late += u64::from(self.last_dts.is_some_and(|dts| is_before(dts, pcr)));
    }

    /// Counts NAL units, which start after the bytes 0, 0, 1.
    fn on_video(&mut self, byte: u8, kind: u8) {
        self.window = self.window << 8 | u64::from(byte);
        if self.window >> 8 & 0xff_ffff == 1 {
            let unit = if kind == 0x1b { byte & 0x1f } else { byte >> 1 & 0x3f };
            *self.units.entry(unit).or_default() += 1;
        }
    }

    /// Counts ADTS frames, which contain their length and may end in the next PES packet. Skips other bytes.
    fn on_aac(&mut self, byte: u8) {
        const HEADER_SEEN: u64 = 6;
        if self.left > 0 {
            self.left -= 1;
            self.window = 0;
            return;
        }
        self.window = (self.window << 8 | u64::from(byte)) & 0xffff_ffff_ffff;
        let is_header = self.window >> 32 & 0xfff6 == 0xfff0;
        if is_header {
            self.adts_frames += 1;
            self.left = (self.window >> 5 & 0x1fff).max(ADTS_HEADER) - HEADER_SEEN;
            self.window = 0;
        }
    }
}

/// Returns whether `time` is before `other`, by less than half of the range of 33 bits.
fn is_before(time: u64, other: u64) -> bool {
    (1..1 << 32).contains(&(other.wrapping_sub(time) & 0x1_ffff_ffff))
}
