//! MPEG transport streams (ISO/IEC 13818-1), written for HTTP Live Streaming: segments as bytes in memory.
//!
//! One program, of at most one video and one audio stream. A segment begins with a PAT and a PMT that are filled in when it is
//! done, so they say what is in it and nothing else. Nothing here knows a file, a clock or where a segment is to end.

mod packet;
mod psi;
#[cfg(test)]
pub(crate) mod tests;

use self::packet::{PacketWriter, Pid};
use super::nalu::{self, Codec, Nalus, START_CODE, VideoConfig};

/// The size of a packet.
pub const PACKET: usize = 188;

/// Units of the clock in a second.
pub const HZ: u64 = 90_000;

/// What is added to each time in the stream: room for the clock reference to be ahead of the first frame.
const START: u64 = 126_000;

/// How far the clock reference is ahead of what is written: the time that a decoder has to collect a frame.
const PCR_LEAD: u64 = 63_000;

/// The longest between two clock references (section 2.7.2).
const MAX_PCR_INTERVAL: u64 = 9000;

/// The distance of those that are put in where no frame brings them.
const PCR_INTERVAL: u64 = 7200;

/// Clock references that are put into a segment for times in which nothing came: a minute's, and beyond that no more than there are
/// packets with content. A longer pause has none, and times that claim to be far apart do not make much of little.
const MAX_PCR_FILL: u64 = 60 * HZ / PCR_INTERVAL;

/// The time that one PES packet of audio may hold.
const AUDIO_PES_TIME: u64 = 9000;

/// The bytes that one PES packet of audio may hold: its length has 16 bits.
const AUDIO_PES_SIZE: usize = 60_000;

/// Times to show that are further than this from the time to decode are an encoder's error.
const MAX_COMPOSITION: i64 = 10 * HZ as i64;

/// What an audio stream is made of, as the PMT says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// AAC in ADTS.
    Aac,
    /// MPEG-1 audio, layer III.
    Mp3,
    /// The same at half the sample rates, MPEG-2.
    Mp3HalfRate,
}

/// Writes segments, one after the other.
#[derive(Debug, Default)]
pub struct Muxer {
    out: Vec<u8>,
    /// The next continuity counter of each stream; they go on over segments.
    counters: [u8; Pid::COUNT],
    video: Option<Codec>,
    audio: Option<AudioCodec>,
    /// The stream that carries the clock references of the segment: that of its first frame.
    pcr: Option<Pid>,
    /// The clock reference that was written last.
    last_pcr: u64,
    /// Packets of the segment that bring a clock reference and nothing else.
    fill: u64,
    /// The parameter sets that were written last into the segment, and the bytes of frames since.
    sets: Vec<u8>,
    since_sets: usize,
    /// Frames of audio that wait to be one PES packet, and the time of the first.
    pending: Vec<u8>,
    pending_time: u64,
    /// What the PMT said last, and its version.
    program: Option<psi::Program>,
    version: u8,
}

impl Muxer {
    /// A muxer at the start of its first segment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing has been put into the segment.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty() && self.pending.is_empty()
    }

    /// The bytes of the segment so far.
    pub fn len(&self) -> usize {
        self.out.len() + self.pending.len()
    }

    /// The same, with the room that its buffers have for more.
    pub fn room(&self) -> usize {
        self.out.capacity() + self.pending.capacity() + self.sets.capacity()
    }

    /// Has the segment that is to begin written into `buffer`, whose content goes. Does nothing to one that has begun.
    pub fn write_into(&mut self, mut buffer: Vec<u8>) {
        if self.is_empty() {
            buffer.clear();
            self.out = buffer;
        }
    }

    /// The kind of audio in the segment, if there is any.
    pub fn audio_codec(&self) -> Option<AudioCodec> {
        self.audio
    }

    /// Appends a frame of video: NAL units behind their lengths. `dts` is in units of [`HZ`] and does not run backwards; `pts`
    /// may not be before it, and is moved there if it is. A keyframe gets the parameter sets in front, unless it brings its own, or
    /// the segment has them already and less than their own size has come since: keyframes of a few bytes are not to make much of
    /// little.
    ///
    /// # Errors
    /// When the lengths in the frame lie, and when there are more than [`nalu::MAX_NALUS`]. Nothing is appended then.
    pub fn video(
        &mut self,
        config: &VideoConfig,
        dts: u64,
        composition: i64,
        is_key: bool,
        frame: &[u8],
    ) -> Result<(), nalu::Error> {
        let codec = config.codec;
        let (mut size, mut brings_sets) = (codec.delimiter().len(), false);
        for (index, nalu) in Nalus::new(frame, config.length_size).enumerate() {
            let nalu = nalu?;
            if index >= nalu::MAX_NALUS {
                return Err(nalu::Error::Count);
            }
            let Some(kind) = nalu.first().map(|&first| codec.nalu_type(first)) else { continue };
            brings_sets |= codec.is_sequence_parameters(kind);
            if !codec.is_delimiter(kind) {
                size += START_CODE.len() + nalu.len();
            }
        }
        let sets: &[u8] = if is_key && !brings_sets { &config.parameter_sets } else { &[] };
        let are_due = self.sets != sets || self.since_sets >= sets.len();
        let sets = if are_due { sets } else { &[] };
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
        packets.put(&header);
        packets.put(codec.delimiter());
        packets.put(sets);
        for nalu in Nalus::new(frame, config.length_size).flatten() {
            let kind = nalu.first().map(|&first| codec.nalu_type(first));
            if kind.is_some_and(|kind| !codec.is_delimiter(kind)) {
                packets.put(&START_CODE);
                packets.put(nalu);
            }
        }
        Ok(())
    }

    /// Appends a frame of audio, `header` (ADTS, or nothing) and `frame`, that begins at `pts` and takes `duration`, both in units
    /// of [`HZ`]. Several frames make one PES packet, so it may be written with a later one.
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
        packets.put(&header);
        packets.put(&pending);
        self.pending = pending;
        self.pending.clear();
    }

    /// Ends the segment and gives it back. `None` if there is nothing in it.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.flush_audio();
        // Also where nothing has come of a segment that was begun.
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
        out[..PACKET].copy_from_slice(&pat);
        out[PACKET..2 * PACKET].copy_from_slice(&pmt);
        self.program = Some(program);
        self.fill = 0;
        Some(out)
    }

    /// Leaves room for PAT and PMT at the start of a segment.
    fn start(&mut self) {
        if self.out.is_empty() {
            self.out.resize(2 * PACKET, 0xff);
        }
    }

    fn next_counter(&mut self, pid: Pid) -> u8 {
        let counter = &mut self.counters[pid as usize];
        std::mem::replace(counter, (*counter + 1) & 0x0f)
    }

    /// The clock reference that a frame of `pid` at `time` is to bring. Where other streams or a pause have kept them from coming
    /// often enough, packets without content bring them first.
    fn clock_reference(&mut self, pid: Pid, time: u64) -> Option<u64> {
        let clock = time - PCR_LEAD;
        let Some(carrier) = self.pcr else {
            self.pcr = Some(pid);
            self.last_pcr = clock;
            return Some(clock);
        };
        let since = clock.saturating_sub(self.last_pcr);
        // The last one is brought by the frame itself, if it is of that stream.
        let fill = match pid == carrier {
            true => since.saturating_sub(MAX_PCR_INTERVAL).div_ceil(PCR_INTERVAL),
            false => since / PCR_INTERVAL,
        };
        let content = (self.out.len() / PACKET) as u64 - self.fill;
        if self.fill.saturating_add(fill) <= MAX_PCR_FILL.max(content) {
            self.fill += fill;
            for n in 1..=fill {
                let counter = self.counters[carrier as usize];
                packet::clock_only(&mut self.out, carrier, counter, self.last_pcr + n * PCR_INTERVAL);
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
