//! MPEG transport streams (ISO/IEC 13818-1), written for HTTP Live Streaming: segments as bytes in memory; and endless ones
//! ([`live`]).
//!
//! One program, with at most one video and one audio stream. A segment starts with a PAT and a PMT that are filled in at the
//! end, so they list exactly the streams of the segment. The caller decides where a segment ends; this module uses no file and
//! no clock.

mod access_unit;
pub mod audio_track;
pub mod live;
mod packet;
mod psi;
#[cfg(test)]
pub(crate) mod tests;
pub mod video_track;

pub use self::packet::PACKET_SIZE;
pub use self::psi::AudioCodec;

use self::access_unit::{AccessUnit, SentSets};
use self::packet::{PacketWriter, Pid};
use super::nalu::{self, Codec, VideoConfig};

/// Frequency of the clock of all time stamps, in Hz.
pub const CLOCK_HZ: u64 = 90_000;

/// Offset of all time stamps, so that the clock reference can be ahead of the first frame by any distance of the tracks.
const START: u64 = MAX_DISTANCE + 126_000;

/// Time between the clock reference of a frame and its decoding: a decoder buffers the frame in this time.
const PCR_LEAD: u64 = 63_000;

/// Minimum time between a clock reference and the frames behind it, those of the slower track.
const MIN_PCR_LEAD: u64 = 31_500;

/// Unit of the increase of the lead, so that it does not grow with each frame.
const PCR_LEAD_STEP: u64 = 45_000;

/// Maximum distance of the tracks for which clock references are made earlier.
const MAX_DISTANCE: u64 = 10 * CLOCK_HZ;

/// Maximum time between two clock references (section 2.7.2).
const MAX_PCR_INTERVAL: u64 = 9000;

/// Time between two inserted clock references, where frames do not carry enough of them.
const PCR_INTERVAL: u64 = 7200;

/// Maximum number of packets with only a clock reference in a segment: for one minute, or the number of packets with content if
/// that is more. Longer pauses are not filled, so time stamps far apart cannot make a large segment from little input.
const MAX_PCR_FILL: u64 = 60 * CLOCK_HZ / PCR_INTERVAL;

/// Maximum time of one PES packet of audio.
const AUDIO_PES_TIME: u64 = 9000;

/// Time of video after which a PES packet of audio is written though it is short. If audio pauses, it would come long after
/// video of its time, and clock references would have to wait for it.
const AUDIO_PES_WAIT: u64 = 2 * AUDIO_PES_TIME;

/// Maximum size of one PES packet of audio, in bytes: its length field has 16 bits.
const AUDIO_PES_SIZE: usize = 60_000;

/// Maximum difference between pts and dts in both directions. More is an error of the encoder.
const MAX_COMPOSITION: i64 = 10 * CLOCK_HZ as i64;

/// Distances that hold for a whole publication, but show only while it runs. A segment is corrected at its end, when it is
/// known what it needs.
#[derive(Debug, Clone, Copy)]
struct Corrections {
    /// Time added to all presentation times. Encoders that begin with dts = pts have frames that are shown before they are
    /// decoded, by that time.
    shift: u64,
    /// Time between clock references and the frames that carry them.
    lead: u64,
}

impl Default for Corrections {
    fn default() -> Self {
        Self { shift: 0, lead: PCR_LEAD }
    }
}

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
    /// Time of the last frame of video and of audio.
    last_times: [Option<u64>; 2],
    corrections: Corrections,
    /// Number of packets in the segment with only a clock reference.
    filled: u64,
    /// The last parameter sets written to the segment.
    sent: SentSets,
    /// Audio frames of the next PES packet, and the time stamp of the first.
    pending: Vec<u8>,
    pending_time: u64,
    /// Time of the last video frame when the first of them came.
    pending_since: u64,
    /// The corrections that the segment needs.
    needed: Corrections,
    has_jumped: bool,
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
        self.out.capacity() + self.pending.capacity() + self.sent.capacity()
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

    /// Starts a publication: forgets what the time stamps of the last one needed.
    pub fn start_publication(&mut self) {
        (self.corrections, self.needed, self.last_times) = (Corrections::default(), Corrections::default(), [None; 2]);
    }

    /// Returns true if the time stamps of the last segment do not continue those before it, because it needed corrections.
    pub fn has_jumped(&self) -> bool {
        self.has_jumped
    }

    /// Appends a video frame: NAL units after their lengths. `dts` and `composition` are in units of [`CLOCK_HZ`];
    /// `dts` must not decrease. `config` contains the parameter sets of the frame, see [`VideoConfig::update_from_frame`]. A
    /// keyframe gets all of them in front, unless the segment already has them and fewer bytes than their size follow
    /// them. Without this rule, keyframes of a few bytes would make a large segment from little input. Fails when the
    /// lengths in the frame are wrong, or there are more than [`nalu::MAX_NALUS`] units. Nothing is appended then.
    pub fn video(
        &mut self,
        config: &VideoConfig,
        dts: u64,
        composition: i64,
        is_key: bool,
        frame: &[u8],
    ) -> Result<(), nalu::Error> {
        let mut unit = AccessUnit::new(config, is_key, frame)?;
        unit.add_sets(&mut self.sent);
        let time = dts + START;
        if time >= self.pending_since + AUDIO_PES_WAIT {
            self.flush_audio();
        }
        let composition = composition.clamp(-MAX_COMPOSITION, MAX_COMPOSITION);
        self.needed.shift = self.needed.shift.max(composition.min(0).unsigned_abs());
        let pts = (time + self.corrections.shift).wrapping_add_signed(composition);
        let header = packet::pes_header(packet::VIDEO_STREAM, unit.size(), pts, Some(time));
        self.video = Some(config.codec);
        self.start();
        let pcr = self.clock_reference(Pid::Video, time);
        let mut packets = self.packets(Pid::Video, header.len() + unit.size(), pcr, is_key);
        packets.write(&header);
        unit.write(&mut packets);
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
            (self.pending_time, self.pending_since) = (pts, self.last_times[0].unwrap_or(pts + START));
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
        let pts = time + self.corrections.shift;
        let header = packet::pes_header(packet::AUDIO_STREAM, pending.len(), pts, None);
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
        self.sent = SentSets::default();
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
        self.has_jumped = self.correct(&mut out);
        Some(out)
    }

    /// Applies the corrections that the segment turned out to need. Returns whether it needed any.
    fn correct(&mut self, out: &mut [u8]) -> bool {
        let Corrections { shift, lead } = self.corrections;
        let more_shift = self.needed.shift.saturating_sub(shift);
        let more_lead = self.needed.lead.saturating_sub(lead).div_ceil(PCR_LEAD_STEP) * PCR_LEAD_STEP;
        let is_needed = more_shift + more_lead > 0;
        if is_needed {
            packet::correct(out, more_shift, more_lead);
            self.corrections = Corrections { shift: shift + more_shift, lead: lead + more_lead };
            self.last_pcr = self.last_pcr.saturating_sub(more_lead);
        }
        is_needed
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
        let (own, other) = if pid == Pid::Video { (0, 1) } else { (1, 0) };
        self.last_times[own] = Some(time);
        let behind = self.last_times[other].map_or(0, |other| other.saturating_sub(time));
        if behind > MIN_PCR_LEAD && behind <= MAX_DISTANCE - MIN_PCR_LEAD {
            self.needed.lead = self.needed.lead.max(behind + MIN_PCR_LEAD);
        }
        let clock = time - self.corrections.lead;
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
