//! The report as text and as JSON.

use std::fmt::Write as _;

use crate::demux::Demuxer;
use crate::stream::Stream;

const H264: u8 = 0x1b;
const H265: u8 = 0x24;
const AAC: u8 = 0x0f;

impl Demuxer {
    /// Formats the report as text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{} packets, {} broken, {} bytes between packets, {} broken tables, {} continuity errors",
            self.packets,
            self.broken,
            self.skipped,
            self.broken_tables,
            self.continuity_errors()
        );
        let pid = |pid: Option<u16>| pid.map_or("no pid".to_owned(), |pid| format!("pid {pid:#x}"));
        let _ = writeln!(
            out,
            "PMT: {}; clock references (PCR): {}, count {}, longest interval {} ms",
            pid(self.pmt_pid),
            pid(self.pcr_pid),
            self.pcrs,
            self.pcr_interval / 90
        );
        for (pid, stream) in &self.pids {
            let Some(kind) = stream.kind else { continue };
            let time = |time: Option<u64>| time.map_or("-".to_owned(), |time| format!("{:.3}", time as f64 / 90_000.0));
            let _ = writeln!(
                out,
                "pid {pid:#x}: {} (type {kind:#04x}), {} packets, {} PES, pts {} to {}, dts {} to {}, {} dts not increasing, \
                 {} pts before dts, {} frames behind the clock",
                name(kind),
                stream.packets,
                stream.pes,
                time(stream.first_pts),
                time(stream.last_pts),
                time(stream.first_dts),
                time(stream.last_dts),
                stream.dts_back,
                stream.pts_early,
                stream.late
            );
            for (unit, count) in &stream.units {
                let _ = writeln!(out, "    NAL unit type {unit}: {count}");
            }
            if kind == AAC {
                let _ = writeln!(out, "    ADTS frames: {}", stream.adts_frames);
            }
        }
        out
    }

    /// Formats the report as one JSON object. Times are in 1/90000 s.
    pub(crate) fn json(&self) -> String {
        let streams: Vec<_> = self.pids.iter().filter_map(|(pid, stream)| stream.json(*pid)).collect();
        format!(
            "{{\"packets\":{},\"broken\":{},\"skipped_bytes\":{},\"broken_tables\":{},\"continuity_errors\":{},\
             \"pmt_pid\":{},\"pcr_pid\":{},\"pcrs\":{},\"pcr_interval_ms\":{},\"streams\":[{}]}}\n",
            self.packets,
            self.broken,
            self.skipped,
            self.broken_tables,
            self.continuity_errors(),
            number(self.pmt_pid.map(u64::from)),
            number(self.pcr_pid.map(u64::from)),
            self.pcrs,
            self.pcr_interval / 90,
            streams.join(",")
        )
    }
}

impl Stream {
    /// Returns the number of frames, if the codec is known. Video has one frame in each PES packet, as is usual.
    fn frames(&self) -> Option<u64> {
        match self.kind {
            Some(H264 | H265) => Some(self.pes),
            Some(AAC) => Some(self.adts_frames),
            _ => None,
        }
    }

    fn json(&self, pid: u16) -> Option<String> {
        let kind = self.kind?;
        let units: Vec<_> = self.units.iter().map(|(unit, count)| format!("\"{unit}\":{count}")).collect();
        Some(format!(
            "{{\"pid\":{pid},\"type\":{kind},\"codec\":\"{}\",\"packets\":{},\"continuity_errors\":{},\"pes\":{},\
             \"frames\":{},\"first_pts\":{},\"last_pts\":{},\"first_dts\":{},\"last_dts\":{},\"dts_back\":{},\
             \"pts_before_dts\":{},\"behind_clock\":{},\"nal_units\":{{{}}}}}",
            name(kind),
            self.packets,
            self.continuity_errors,
            self.pes,
            number(self.frames()),
            number(self.first_pts),
            number(self.last_pts),
            number(self.first_dts),
            number(self.last_dts),
            self.dts_back,
            self.pts_early,
            self.late,
            units.join(",")
        ))
    }
}

fn number(number: Option<u64>) -> String {
    number.map_or("null".to_owned(), |number| number.to_string())
}

fn name(kind: u8) -> &'static str {
    match kind {
        H264 => "H.264",
        H265 => "H.265",
        AAC => "AAC",
        0x03 | 0x04 => "MP3",
        _ => "unknown",
    }
}
