//! A demuxer that shares nothing with the muxer of the server, so that both cannot be wrong in the same way.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const PACKET: usize = 188;
const SYNC: u8 = 0x47;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    packets: u64,
    /// Packets that do not begin as one does, or a file that ends within one.
    broken: u64,
    pmt_pid: Option<u16>,
    pcr_pid: Option<u16>,
    pids: BTreeMap<u16, Stream>,
    pcrs: Vec<u64>,
}

#[derive(Debug, Default)]
struct Stream {
    packets: u64,
    counter: Option<u8>,
    continuity_errors: u64,
    /// The type in the PMT.
    kind: Option<u8>,
    pes: u64,
    first_pts: Option<u64>,
    last_pts: Option<u64>,
    first_dts: Option<u64>,
    last_dts: Option<u64>,
    content: Vec<u8>,
    /// How often each NAL unit type was there; or the ADTS frames, under 0.
    units: BTreeMap<u8, u64>,
}

/// Reads a whole stream.
pub(crate) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    for packet in bytes.chunks(PACKET) {
        if report.packet(packet).is_none() {
            report.broken += 1;
        }
    }
    for stream in report.pids.values_mut() {
        stream.end_pes();
    }
    report
}

impl Report {
    fn packet(&mut self, packet: &[u8]) -> Option<()> {
        let &[sync, high, low, control, ..] = packet else { return None };
        if sync != SYNC || packet.len() != PACKET {
            return None;
        }
        self.packets += 1;
        let pid = u16::from_be_bytes([high & 0x1f, low]);
        let mut payload = &packet[4..];
        if control & 0x20 != 0 {
            let (field, rest) = payload[1..].split_at_checked(payload[0].into())?;
            if let [flags, a, b, c, d, e, ..] = field
                && flags & 0x10 != 0
            {
                let base = u64::from(u32::from_be_bytes([*a, *b, *c, *d])) << 1 | u64::from(e >> 7);
                self.pcrs.push(base);
            }
            payload = rest;
        }
        let stream = self.pids.entry(pid).or_default();
        stream.packets += 1;
        if control & 0x10 == 0 {
            return Some(());
        }
        let counter = control & 0x0f;
        if stream.counter.replace(counter).is_some_and(|last| (last + 1) & 0x0f != counter) {
            stream.continuity_errors += 1;
        }
        let is_start = high & 0x40 != 0;
        if pid == 0 || Some(pid) == self.pmt_pid {
            if is_start {
                self.table(pid, payload)?;
            }
        } else if stream.kind.is_some() {
            if is_start {
                stream.end_pes();
                stream.begin_pes(payload)?;
            } else {
                stream.content.extend_from_slice(payload);
            }
        }
        Some(())
    }

    fn table(&mut self, pid: u16, payload: &[u8]) -> Option<()> {
        let section = payload.get(1 + usize::from(*payload.first()?)..)?;
        let length = usize::from(u16::from_be_bytes([section.get(1)? & 0x0f, *section.get(2)?]));
        let body = section.get(8..(3 + length).checked_sub(4)?)?;
        let number = |at: usize| Some(u16::from_be_bytes([body.get(at)? & 0x1f, *body.get(at + 1)?]));
        if pid == 0 {
            self.pmt_pid = number(2);
            return Some(());
        }
        self.pcr_pid = number(0);
        let mut at = 4 + usize::from(number(2)? & 0x0fff);
        while let (Some(&kind), Some(pid), Some(more)) = (body.get(at), number(at + 1), number(at + 3)) {
            self.pids.entry(pid).or_default().kind = Some(kind);
            at += 5 + usize::from(more & 0x0fff);
        }
        Some(())
    }

    /// The longest time between two clock references, in milliseconds.
    fn pcr_interval(&self) -> u64 {
        self.pcrs.windows(2).map(|pair| (pair[1].wrapping_sub(pair[0]) & 0x1_ffff_ffff) / 90).max().unwrap_or(0)
    }

    fn continuity_errors(&self) -> u64 {
        self.pids.values().map(|stream| stream.continuity_errors).sum()
    }

    /// Whether nothing is wrong that a player would stumble over.
    pub(crate) fn is_sound(&self) -> bool {
        self.packets > 0 && self.broken == 0 && self.continuity_errors() == 0 && self.pcr_pid.is_some()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{} packets, {} broken, {} continuity errors; PMT on {:#x?}, {} clock references on {:#x?}, at most {} ms apart",
            self.packets,
            self.broken,
            self.continuity_errors(),
            self.pmt_pid.unwrap_or(0),
            self.pcrs.len(),
            self.pcr_pid.unwrap_or(0),
            self.pcr_interval()
        );
        for (pid, stream) in &self.pids {
            let Some(kind) = stream.kind else { continue };
            let time = |time: Option<u64>| time.unwrap_or(0) as f64 / 90_000.0;
            let _ = writeln!(
                out,
                "pid {pid:#x}: {} (type {kind:#04x}), {} packets, {} PES, pts {:.3} to {:.3}, dts {:.3} to {:.3}",
                name(kind),
                stream.packets,
                stream.pes,
                time(stream.first_pts),
                time(stream.last_pts),
                time(stream.first_dts),
                time(stream.last_dts)
            );
            for (unit, count) in &stream.units {
                let what = if is_video(kind) { format!("NAL unit type {unit}") } else { "ADTS frame".to_owned() };
                let _ = writeln!(out, "    {what}: {count}");
            }
        }
        out
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let number = |number: Option<u64>| number.map_or("null".to_owned(), |number| number.to_string());
        let mut streams = Vec::new();
        for (pid, stream) in &self.pids {
            let Some(kind) = stream.kind else { continue };
            let units: Vec<_> = stream.units.iter().map(|(unit, count)| format!("\"{unit}\":{count}")).collect();
            streams.push(format!(
                "{{\"pid\":{pid},\"type\":{kind},\"codec\":\"{}\",\"packets\":{},\"continuity_errors\":{},\"pes\":{},\
                 \"first_pts\":{},\"last_pts\":{},\"first_dts\":{},\"last_dts\":{},\"units\":{{{}}}}}",
                name(kind),
                stream.packets,
                stream.continuity_errors,
                stream.pes,
                number(stream.first_pts),
                number(stream.last_pts),
                number(stream.first_dts),
                number(stream.last_dts),
                units.join(",")
            ));
        }
        format!(
            "{{\"packets\":{},\"broken\":{},\"continuity_errors\":{},\"pmt_pid\":{},\"pcr_pid\":{},\"pcrs\":{},\
             \"pcr_interval_ms\":{},\"streams\":[{}]}}\n",
            self.packets,
            self.broken,
            self.continuity_errors(),
            number(self.pmt_pid.map(u64::from)),
            number(self.pcr_pid.map(u64::from)),
            self.pcrs.len(),
            self.pcr_interval(),
            streams.join(",")
        )
    }
}

impl Stream {
    fn begin_pes(&mut self, payload: &[u8]) -> Option<()> {
        let flags = *payload.get(7)?;
        let time = |at: usize| {
            let [a, b, c, d, e] = *payload.get(at..)?.first_chunk::<5>()?;
            let high = u64::from(a >> 1 & 0x07) << 30;
            let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
            Some(high | middle | u64::from(u16::from_be_bytes([d, e]) >> 1))
        };
        let pts = if flags & 0x80 != 0 { time(9) } else { None };
        let dts = if flags & 0x40 != 0 { time(14) } else { pts };
        self.pes += 1;
        self.first_pts = self.first_pts.or(pts);
        self.first_dts = self.first_dts.or(dts);
        (self.last_pts, self.last_dts) = (pts.or(self.last_pts), dts.or(self.last_dts));
        self.content.extend_from_slice(payload.get(9 + usize::from(*payload.get(8)?)..)?);
        Some(())
    }

    fn end_pes(&mut self) {
        let content = std::mem::take(&mut self.content);
        match self.kind {
            Some(kind) if is_video(kind) => {
                for start in content.windows(4).filter(|window| window[..3] == [0, 0, 1]) {
                    let unit = if kind == 0x1b { start[3] & 0x1f } else { start[3] >> 1 & 0x3f };
                    *self.units.entry(unit).or_default() += 1;
                }
            }
            Some(0x0f) => {
                let mut rest = &content[..];
                while let &[0xff, b, _, d, e, f, ..] = rest
                    && b & 0xf6 == 0xf0
                {
                    *self.units.entry(0).or_default() += 1;
                    let length = usize::from(d & 0x03) << 11 | usize::from(e) << 3 | usize::from(f >> 5);
                    rest = rest.get(length.max(7)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
}

fn is_video(kind: u8) -> bool {
    matches!(kind, 0x1b | 0x24)
}

fn name(kind: u8) -> &'static str {
    match kind {
        0x1b => "H.264",
        0x24 => "H.265",
        0x0f => "AAC",
        0x03 | 0x04 => "MP3",
        _ => "unknown",
    }
}
