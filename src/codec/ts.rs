//! MPEG transport streams (ISO/IEC 13818-1), written for HTTP Live Streaming: segments as bytes in memory.
//!
//! One program, with at most one video and one audio stream. A segment starts with a PAT and a PMT that are filled in at the
//! end, so they list exactly the streams of the segment. The caller decides where a segment ends; this module uses no file and
//! no clock.

mod packet;
mod psi;
#[cfg(test)]
pub(crate) mod tests;

pub use self::packet::PACKET_SIZE;
pub use self::psi::AudioCodec;

use self::packet::{PacketWriter, Pid};
use super::nalu::{self, Codec, Nalus, START_CODE, VideoConfig};

/// Frequency of the clock of all time stamps, in Hz.
pub const CLOCK_HZ: u64 = 90_000;

/// Offset of all time stamps, so that the clock reference can be ahead of the first frame.
const START: u64 = 126_000;

/// Time between the clock reference of a frame and its decoding: a decoder buffers the frame in this time.
const PCR_LEAD: u64 = 63_000;

/// Maximum time between two clock references (section 2.7.2).
const MAX_PCR_INTERVAL: u64 = 9000;

/// Time between two inserted clock references, where frames do not carry enough of them.
const PCR_INTERVAL: u64 = 7200;

/// Maximum number of packets with only a clock reference in a segment: for one minute, or the number of packets with content if
/// that is more. Longer pauses are not filled, so time stamps far apart cannot make a large segment from little input.
const MAX_PCR_FILL: u64 = 60 * CLOCK_HZ / PCR_INTERVAL;

/// Maximum time of one PES packet of audio.
const AUDIO_PES_TIME: u64 = 9000;

/// Maximum size of one PES packet of audio, in bytes: its length field has 16 bits.
const AUDIO_PES_SIZE: usize = 60_000;

/// Maximum difference between pts and dts. More is an error of the encoder.
const MAX_COMPOSITION: i64 = 10 * CLOCK_HZ as i64;

/// A writer of consecutive segments.
#[derive(Debug, Default)]
pub struct Muxer {
    out: Vec<u8>,
    /// The next continuity counter of each stream; they continue over segments.
    counters: [u8; Pid::COUNT],
    video: Option<Codec>,
    audio: Option<AudioCodec>,
    /// The stream with the clock references of the segment: the one of its first frame.
    pcr: Option<Pid>,
    last_pcr: u64,
    /// Number of packets in the segment with only a clock reference.
    filled: u64,
    /// The last parameter sets written to the segment, and the bytes of frames since.
    sets: Vec<u8>,
    since_sets: usize,
    /// Audio frames of the next PES packet, and the time stamp of the first.
    pending: Vec<u8>,
    pending_time: u64,
    /// The content of the last PMT, and its version.
    program: Option<psi::Program>,
    version: u8,
}

impl Muxer {
    /// Creates a muxer at the start of its first segment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns true if the segment contains nothing.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty() && self.pending.is_empty()
    }

    /// Returns the size of the segment so far, in bytes.
    pub fn len(&self) -> usize {
        self.out.len() + self.pending.len()
    }

    /// Returns the capacity of all buffers, in bytes.
    pub fn capacity(&self) -> usize {
        self.out.capacity() + self.pending.capacity() + self.sets.capacity()
    }

    /// Uses the memory of `buffer` for the next segment and discards its content. Does nothing if a segment has started.
    pub fn reuse_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.is_empty() {
            buffer.clear();
            self.out = buffer;
        }
    }

    /// Returns the audio codec of the segment, if it contains audio.
    pub fn audio_codec(&self) -> Option<AudioCodec> {
        self.audio
    }

    /// Appends a video frame: NAL units after their lengths. `dts` and `composition` are in units of [`CLOCK_HZ`]; `dts` must
    /// not decrease, and a negative `composition` counts as 0. A keyframe gets the parameter sets in front, unless it contains
    /// its own, or the segment already has them and fewer bytes than their size follow them. Without this rule, keyframes of a
    /// few bytes would make a large segment from little input.
    ///
    /// # Errors
    /// When the lengths in the frame are wrong, or there are more than [`nalu::MAX_NALUS`] units. Nothing is appended then.
    pub fn video(
        &mut self,
        config: &VideoConfig,
        dts: u64,
        composition: i64,
        is_key: bool,
        frame: &[u8],
    ) -> Result<(), nalu::Error> {
        let codec = config.codec;
        let (mut size, mut has_sets) = (codec.delimiter().len(), false);
        for (index, nalu) in Nalus::new(frame, config.length_size).enumerate() {
            let nalu = nalu?;
            if index >= nalu::MAX_NALUS {
                return Err(nalu::Error::Count);
            }
            let Some(kind) = nalu.first().map(|&first| codec.nalu_type(first)) else { continue };
            has_sets |= codec.is_sequence_parameters(kind);
            if !codec.is_delimiter(kind) {
                size += START_CODE.len() + nalu.len();
            }
        }
        let sets: &[u8] = if is_key && !has_sets { &config.parameter_sets } else { &[] };
        let sets_due = self.sets != sets || self.since_sets >= sets.len();
        let sets = if sets_due { sets } else { &[] };
        size += sets.len();
        if !sets.is_empty() {
            if self.sets != sets {
                self.sets = sets.to_vec();
            }
            self.since_sets = 0;
        }
        self.since_sets += frame.len();

        let time = dts + START;
        let pts = time.saturating_add_signed(composition.clamp(0, MAX_COMPOSITION));
        let header = packet::pes_header(packet::VIDEO_STREAM, size, pts, Some(time));
        self.video = Some(codec);
        self.start();
        let pcr = self.clock_reference(Pid::Video, time);
        let mut packets = self.packets(Pid::Video, header.len() + size, pcr, is_key);
        packets.write(&header);
        packets.write(codec.delimiter());
        packets.write(sets);
        for nalu in Nalus::new(frame, config.length_size).flatten() {
            let kind = nalu.first().map(|&first| codec.nalu_type(first));
            if kind.is_some_and(|kind| !codec.is_delimiter(kind)) {
                packets.write(&START_CODE);
                packets.write(nalu);
            }
        }
        Ok(())
    }

    /// Appends an audio frame, `header` (ADTS or empty) and `frame`. `pts` and `duration` are in units of [`CLOCK_HZ`]. Several
    /// frames share one PES packet, so the frame may be written together with later ones.
    pub fn audio(&mut self, codec: AudioCodec, pts: u64, duration: u64, header: &[u8], frame: &[u8]) {
        let size = header.len() + frame.len();
        let is_late = (pts + duration).saturating_sub(self.pending_time) > AUDIO_PES_TIME;
        if is_late || self.pending.len() + size > AUDIO_PES_SIZE || self.audio.is_some_and(|audio| audio != codec) {
            self.flush_audio();
        }
        if self.pending.is_empty() {
            self.pending_time = pts;
        }
        self.audio = Some(codec);
        self.pending.extend_from_slice(header);
        self.pending.extend_from_slice(frame);
    }

    fn flush_audio(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let time = self.pending_time + START;
        let header = packet::pes_header(packet::AUDIO_STREAM, pending.len(), time, None);
        self.start();
        let pcr = self.clock_reference(Pid::Audio, time);
        let mut packets = self.packets(Pid::Audio, header.len() + pending.len(), pcr, false);
        packets.write(&header);
        packets.write(&pending);
        self.pending = pending;
        self.pending.clear();
    }

    /// Ends the segment and returns it. `None`: the segment is empty.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.flush_audio();
        // Also frees the buffers of a segment that was started but contains no frame.
        self.pending = Vec::new();
        self.sets = Vec::new();
        let mut out = std::mem::take(&mut self.out);
        let pcr = self.pcr.take()?;
        let program = psi::Program { video: self.video.take(), audio: self.audio.take(), pcr };
        if self.program.as_ref().is_some_and(|last| *last != program) {
            self.version = (self.version + 1) & 0x1f;
        }
        let pat = psi::pat(self.next_counter(Pid::Pat));
        let pmt = psi::pmt(&program, self.version, self.next_counter(Pid::Pmt));
        out[..PACKET_SIZE].copy_from_slice(&pat);
        out[PACKET_SIZE..2 * PACKET_SIZE].copy_from_slice(&pmt);
        self.program = Some(program);
        self.filled = 0;
        Some(out)
    }

    /// Reserves space for PAT and PMT at the start of a segment.
    fn start(&mut self) {
        if self.out.is_empty() {
            self.out.resize(2 * PACKET_SIZE, 0xff);
        }
    }

    fn next_counter(&mut self, pid: Pid) -> u8 {
        let counter = &mut self.counters[pid as usize];
        std::mem::replace(counter, (*counter + 1) & 0x0f)
    }

    /// Returns the clock reference for a frame of `pid` at `time`. If the last one is too old, because of a pause or frames of
    /// the other stream, first writes packets with only a clock reference.
    fn clock_reference(&mut self, pid: Pid, time: u64) -> Option<u64> {
        let clock = time - PCR_LEAD;
        let Some(carrier) = self.pcr else {
            self.pcr = Some(pid);
            self.last_pcr = clock;
            return Some(clock);
        };
        let since = clock.saturating_sub(self.last_pcr);
        // A frame of the carrier stream contains the last clock reference itself.
        let fill = match pid == carrier {
            true => since.saturating_sub(MAX_PCR_INTERVAL).div_ceil(PCR_INTERVAL),
            false => since / PCR_INTERVAL,
        };
        let content = (self.out.len() / PACKET_SIZE) as u64 - self.filled;
        if self.filled.saturating_add(fill) <= MAX_PCR_FILL.max(content) {
            self.filled += fill;
            for n in 1..=fill {
                let counter = self.counters[carrier as usize];
                packet::write_clock_packet(&mut self.out, carrier, counter, self.last_pcr + n * PCR_INTERVAL);
            }
        }
        self.last_pcr += fill * PCR_INTERVAL;
        if pid != carrier || clock < self.last_pcr {
            return None;
        }
        self.last_pcr = clock;
        Some(clock)
    }

    fn packets(&mut self, pid: Pid, size: usize, pcr: Option<u64>, is_key: bool) -> PacketWriter<'_> {
        PacketWriter::new(&mut self.out, pid, &mut self.counters[pid as usize], size, pcr, is_key)
    }
}
