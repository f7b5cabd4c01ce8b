//! Published media: the tags of a file, or a synthesized stream.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use srs::codec::flv;
use srs::rtmp::message::{Message, MessageType};

/// Marker before the number and the send time of a frame: the UUID of an SEI message with user data.
const STAMP: [u8; 16] = *b"srs_bench stamp:";

/// AVC: keyframe or inter frame, one NAL unit, no composition offset.
const KEY: [u8; 5] = [0x17, 1, 0, 0, 0];
const INTER: [u8; 5] = [0x27, 1, 0, 0, 0];

/// Position of the send time and the number in a frame: after the FLV header, the length and header of the NAL unit, the SEI
/// type and size, and the marker.
const STAMP_OFFSET: usize = 5 + 4 + 1 + 2 + STAMP.len();
const STAMP_END: usize = STAMP_OFFSET + 16;

/// Fill byte of the rest of a frame.
const FILLER: u8 = 0x55;

/// An AVC sequence header: Constrained Baseline, 320x240; and an AAC one: LC, 44100 Hz, stereo.
const AVC_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 9, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x05, 0x07, 0xe4, 0x40, 1,
    0, 4, 0x68, 0xce, 0x3c, 0x80,
];
const AAC_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

/// Messages of one round with their times in milliseconds. The stream repeats the round.
pub(super) struct Media {
    headers: Vec<(MessageType, Bytes)>,
    round: Vec<(u64, MessageType, Bytes)>,
    /// Length of a round, in milliseconds.
    length: u64,
    is_stamped: bool,
}

impl Media {
    /// Creates a stream that looks like H.264 and AAC to a server: frames of equal size, keyframes of three times that size.
    pub(super) fn synthesized(kbps: u32, fps: u32, gop: f64) -> Self {
        const AUDIO_KBPS: f64 = 64.0;
        let frames = (f64::from(fps) * gop).round().max(1.0) as u64;
        let length = frames * 1000 / u64::from(fps.max(1));
        let video_bytes = (f64::from(kbps) - AUDIO_KBPS).max(8.0) * length as f64 / 8.0;
        let frame = (video_bytes / (frames as f64 + 2.0)) as usize;
        let mut round = Vec::new();
        for n in 0..frames {
            let (header, size) = if n == 0 { (KEY, 3 * frame) } else { (INTER, frame) };
            round.push((n * length / frames, MessageType::VIDEO, stamped_frame(header, size)));
        }
        let audio_frames = length * 44_100 / 1024 / 1000;
        for n in 0..audio_frames {
            let size = (AUDIO_KBPS * length as f64 / 8.0 / audio_frames as f64) as usize;
            let payload = [&[0xaf, 1][..], &vec![0x21; size]].concat();
            round.push((n * length / audio_frames, MessageType::AUDIO, payload.into()));
        }
        round.sort_by_key(|message| message.0);
        let headers = [(MessageType::VIDEO, AVC_HEADER), (MessageType::AUDIO, AAC_HEADER)];
        let headers = headers.map(|(kind, payload)| (kind, Bytes::from_static(payload))).into();
        Self { headers, round, length, is_stamped: true }
    }

    /// Reads the tags of an FLV file.
    pub(super) fn from_file(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut rest = &bytes[..];
        flv::read_file_header(&mut rest)?;
        let mut round = Vec::new();
        while let Some(tag) = flv::read_tag(&mut rest)? {
            round.push((u64::from(tag.timestamp), MessageType(tag.kind), tag.payload));
        }
        ensure!(!round.is_empty(), "{}: no tags", path.display());
        let last = round.iter().map(|message| message.0).max().unwrap_or(0);
        Ok(Self { headers: Vec::new(), round, length: last + 40, is_stamped: false })
    }

    /// Writes the first `ms` milliseconds to a file.
    pub(super) fn write(&self, path: &Path, ms: u64) -> anyhow::Result<()> {
        let mut out = Vec::new();
        flv::write_header(&mut out, true, true);
        for (_, message) in self.messages(0).take_while(|message| message.0 < ms) {
            let tag = flv::Tag { kind: message.kind.0, timestamp: message.timestamp, payload: message.payload };
            flv::write_tag(&mut out, &tag)?;
        }
        std::fs::write(path, out).with_context(|| path.display().to_string())
    }

    /// Returns an endless iterator over the messages, each with its send time in milliseconds from the start.
    pub(super) fn messages(&self, stream_id: u32) -> impl Iterator<Item = (u64, Message)> {
        let message = move |kind, time: u64, payload: &Bytes| {
            (time, Message { kind, timestamp: time as u32, stream_id, payload: payload.clone() })
        };
        let headers = self.headers.iter().map(move |(kind, payload)| message(*kind, 0, payload));
        let rounds = (0u64..).flat_map(move |n| {
            self.round.iter().map(move |(time, kind, payload)| message(*kind, n * self.length + time, payload))
        });
        headers.chain(rounds)
    }

    /// Writes the current time and the next number into a video frame of a synthesized stream.
    pub(super) fn stamp(&self, message: &mut Message, number: &mut u64) {
        if self.is_stamped && message.kind == MessageType::VIDEO && message.payload.len() >= STAMP_END {
            *number += 1;
            let mut payload = message.payload.to_vec();
            payload[STAMP_OFFSET..STAMP_OFFSET + 8].copy_from_slice(&now_us().to_be_bytes());
            payload[STAMP_OFFSET + 8..STAMP_END].copy_from_slice(&number.to_be_bytes());
            message.payload = payload.into();
        }
    }
}

/// The stamp of a frame of a synthesized stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stamp {
    /// Time since it was sent, in microseconds.
    pub(super) age_us: u64,
    /// Number of the frame in the publication, from 1.
    pub(super) number: u64,
    /// The frame has its full length and content.
    pub(super) is_intact: bool,
}

/// Reads the stamp of a frame. Returns `None` for a frame without one, e.g. of a file.
pub(super) fn read_stamp(payload: &[u8]) -> Option<Stamp> {
    if payload.get(STAMP_OFFSET - STAMP.len()..STAMP_OFFSET)? != STAMP {
        return None;
    }
    let field = |at: usize| Some(u64::from_be_bytes(*payload.get(at..)?.first_chunk()?));
    let (time, number) = (field(STAMP_OFFSET)?, field(STAMP_OFFSET + 8)?);
    let length = u32::from_be_bytes(*payload.get(5..)?.first_chunk()?) as usize;
    let is_intact = length + 9 == payload.len() && payload[STAMP_END..].iter().all(|&byte| byte == FILLER);
    (time != 0).then(|| Stamp { age_us: now_us().saturating_sub(time), number, is_intact })
}

fn stamped_frame(header: [u8; 5], size: usize) -> Bytes {
    let size = size.max(STAMP_END + 1);
    let mut frame = Vec::with_capacity(size);
    frame.extend(header);
    frame.extend((size as u32 - 9).to_be_bytes());
    // An SEI NAL unit with 32 bytes of unregistered user data: the marker, the time and the number.
    frame.extend([6, 5, 32]);
    frame.extend(STAMP);
    frame.resize(STAMP_END, 0);
    frame.resize(size, FILLER);
    frame.into()
}

/// Returns the time in microseconds, comparable between processes of one machine.
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthesized_stream_has_the_bit_rate_asked_for() {
        for kbps in [200, 500, 4000] {
            let media = Media::synthesized(kbps, 25, 2.0);
            let bytes: usize = media.round.iter().map(|message| message.2.len()).sum();
            let measured = bytes as f64 * 8.0 / media.length as f64;
            assert!((measured / f64::from(kbps) - 1.0).abs() < 0.02, "{measured} for {kbps}");
        }
    }

    #[test]
    fn times_go_on_from_round_to_round() {
        let media = Media::synthesized(500, 25, 2.0);
        let times: Vec<_> = media.messages(1).take(1000).map(|message| message.0).collect();
        assert!(times.is_sorted() && times[999] > 10_000);
    }

    #[test]
    fn a_stamp_is_found_again() {
        let media = Media::synthesized(500, 25, 2.0);
        let (_, mut message) = media.messages(1).find(|(time, m)| *time > 0 && m.kind == MessageType::VIDEO).unwrap();
        assert_eq!(read_stamp(&message.payload), None);
        let mut number = 41;
        media.stamp(&mut message, &mut number);
        let stamp = read_stamp(&message.payload).unwrap();
        assert!(stamp.age_us < 10_000_000 && stamp.number == 42 && stamp.is_intact);
        let mut damaged = message.payload.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(!read_stamp(&damaged).unwrap().is_intact);
        assert!(!read_stamp(&message.payload[..message.payload.len() - 1]).unwrap().is_intact);
        assert_eq!(read_stamp(AAC_HEADER), None);
    }
}
