//! Rows of the tables: what the API tells of a stream and of a client, and its recent bit rates.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::commands::{audio, client_state, stream_name, video};
use crate::output::{escape_controls, text};

/// Samples that are kept of a bit rate.
pub(super) const HISTORY: usize = 120;

#[derive(Debug, Clone, Default)]
pub(super) struct StreamRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) players: u64,
    pub(super) video: String,
    pub(super) audio: String,
    pub(super) kbps_in: u64,
    pub(super) kbps_out: u64,
    pub(super) uptime: f64,
    pub(super) jitter: f64,
    pub(super) stalls: u64,
    pub(super) drops: u64,
    /// Bytes received of the publisher that is connected now.
    pub(super) received: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ClientRow {
    pub(super) id: u64,
    pub(super) state: String,
    pub(super) ip: String,
    pub(super) stream: String,
    pub(super) age: f64,
    pub(super) kbps_in: u64,
    pub(super) kbps_out: u64,
    pub(super) drops: u64,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

impl From<&Value> for StreamRow {
    fn from(stream: &Value) -> Self {
        Self {
            id: text(&stream["id"]),
            name: escape_controls(&stream_name(stream)),
            state: escape_controls(&text(&stream["state"])),
            players: number(&stream["players"]),
            video: escape_controls(&video(stream)),
            audio: escape_controls(&audio(stream)),
            kbps_in: number(&stream["kbps"]["recv_30s"]),
            kbps_out: number(&stream["kbps"]["send_30s"]),
            uptime: stream["uptime_s"].as_f64().unwrap_or(0.0),
            jitter: stream["jitter_ms"].as_f64().unwrap_or(0.0),
            stalls: number(&stream["stalls"]),
            drops: number(&stream["drops"]),
            received: number(&stream["recv_bytes"]),
        }
    }
}

impl From<&Value> for ClientRow {
    fn from(client: &Value) -> Self {
        let has_stream = !text(&client["name"]).is_empty();
        Self {
            id: text(&client["id"]).parse().unwrap_or(0),
            state: escape_controls(&client_state(client)),
            ip: escape_controls(&text(&client["ip"])),
            stream: if has_stream { escape_controls(&stream_name(client)) } else { String::new() },
            age: client["alive"].as_f64().unwrap_or(0.0),
            kbps_in: number(&client["kbps"]["recv_30s"]),
            kbps_out: number(&client["kbps"]["send_30s"]),
            drops: number(&client["drops"]),
        }
    }
}

/// Bit rates of each sample, in kbit/s, from counters of bytes.
#[derive(Debug, Default)]
pub(super) struct Rate {
    last: Option<u64>,
    pub(super) samples: VecDeque<u64>,
}

impl Rate {
    /// Adds a sample of a counter. One that went back counts from 0.
    pub(super) fn add(&mut self, bytes: u64, seconds: f64) {
        if let Some(last) = self.last.replace(bytes) {
            let delta = bytes.checked_sub(last).unwrap_or(bytes);
            let kbps = if seconds > 0.0 { delta as f64 * 8.0 / 1000.0 / seconds } else { 0.0 };
            self.samples.push_back(kbps as u64);
            if self.samples.len() > HISTORY {
                self.samples.pop_front();
            }
        }
    }

    /// Returns the last samples as bars, at most `width` of them.
    pub(super) fn bars(&self, width: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let skipped = self.samples.len().saturating_sub(width);
        let shown: Vec<_> = self.samples.iter().skip(skipped).copied().collect();
        let max = shown.iter().copied().max().unwrap_or(0).max(1);
        shown.iter().map(|sample| BARS[(sample * 7 / max).min(7) as usize]).collect()
    }
}

/// The rates of all streams. Those that are gone are forgotten.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<String, Rate>);

impl Rates {
    pub(super) fn add(&mut self, streams: &[StreamRow], seconds: f64) {
        let mut before = std::mem::take(&mut self.0);
        for stream in streams {
            let mut rate = before.remove(&stream.id).unwrap_or_default();
            rate.add(stream.received, seconds);
            self.0.insert(stream.id.clone(), rate);
        }
    }

    pub(super) fn bars(&self, id: &str, width: usize) -> String {
        self.0.get(id).map(|rate| rate.bars(width)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_samples() {
        let mut rate = Rate::default();
        for bytes in [0, 1000, 3000, 500] {
            rate.add(bytes, 1.0);
        }
        assert_eq!(rate.samples, [8, 16, 4], "a counter that began anew counts from 0");
        assert_eq!((rate.bars(2).as_str(), rate.bars(9).as_str()), ("█▂", "▄█▂"));
        for bytes in 0..1000 {
            rate.add(bytes, 1.0);
        }
        assert_eq!(rate.samples.len(), HISTORY);
    }
}
