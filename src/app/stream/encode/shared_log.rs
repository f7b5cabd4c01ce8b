//! The messages of the packet log on the wire of HTTP viewers, each encoded once for all viewers of that wire.
//!
//! It exists only while the stream has such a viewer, and encodes in the order of the log: a closed batch when the stream
//! writes it, older messages when the first viewer needs them. Each run of messages is one buffer, with room in front for
//! the head of a WebSocket frame.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::flv::FlvFormat;
use super::ts::{AudioFormat, TsFormat};
use crate::app::stream::headers::{CachedHeader, HeaderCache};
use crate::app::stream::packet_log::{LogEntry, PacketLog};
use crate::app::stream::track::Track;
use crate::http::websocket::{MAX_FRAME_HEAD, encode_frame_head};
use crate::memory::{Category, Charge, MemoryTracker};
use crate::st;

/// Bytes that one step encodes of messages which are behind, at least one message.
const MAX_RUN_BYTES: usize = 64 * 1024;

const MIN_BULK_EVICTION: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Flv,
    Ts,
    Mp3,
    /// ADTS frames.
    Aac,
}

/// A wire with the tracks that it carries. Viewers of the same one share its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedWire {
    pub(crate) wire: Wire,
    /// A bit each.
    pub(crate) tracks: u8,
}

impl SharedWire {
    pub(crate) fn new(wire: Wire, has_audio: bool, has_video: bool) -> Self {
        let audio = if has_audio { Track::Audio.bit() } else { 0 };
        let video = if has_video { Track::Video.bit() } else { 0 };
        let tracks = match wire {
            Wire::Flv => audio | video | Track::Data.bit(),
            Wire::Ts => audio | video,
            Wire::Mp3 | Wire::Aac => audio,
        };
        Self { wire, tracks }
    }
}

pub(crate) struct SharedLog {
    wire: SharedWire,
    format: Format,
    messages: VecDeque<Bytes>,
    first_seq: u64,
    bytes: usize,
    pub(crate) viewers: usize,
    memory: MemoryTracker,
    /// Charge for the list of messages. Their bytes have charges of their own.
    charge: Charge,
}

#[derive(Debug, Clone)]
pub(crate) struct SharedBatch {
    pub(crate) wire: SharedWire,
    pub(crate) plain: Bytes,
    pub(crate) framed: Bytes,
}

pub(crate) enum Format {
    Flv(FlvFormat),
    // Their state is large, and most streams have no such viewers.
    Ts(Box<TsFormat>),
    Audio(Box<AudioFormat>),
}

impl Format {
    fn new(wire: Wire) -> Self {
        match wire {
            Wire::Flv => Self::Flv(FlvFormat::default()),
            Wire::Ts => Self::Ts(Box::new(TsFormat::new())),
            Wire::Mp3 => Self::Audio(Box::new(AudioFormat::new(false))),
            Wire::Aac => Self::Audio(Box::new(AudioFormat::new(true))),
        }
    }

    /// Appends the start of a file with these tracks, a bit each.
    pub(crate) fn start(&self, tracks: u8, out: &mut Vec<u8>) {
        match self {
            Self::Flv(_) => FlvFormat::start(tracks, out),
            // The tables of a transport stream are in front of each keyframe, and at least each half second.
            Self::Ts(_) | Self::Audio(_) => {}
        }
    }

    /// Appends a cached header, for a viewer whose first frame has the corrected time `time`.
    pub(crate) fn header(&self, header: &CachedHeader, time: u64, out: &mut Vec<u8>) {
        match self {
            Self::Flv(flv) => flv.header(header, time, out),
            // Frames have what they need with them.
            Self::Ts(_) | Self::Audio(_) => {}
        }
    }

    /// Takes over a header from before the first message.
    fn prime(&mut self, header: &CachedHeader) {
        match self {
            Self::Flv(_) => {}
            Self::Ts(ts) => ts.prime(header),
            Self::Audio(audio) => audio.prime(header),
        }
    }

    fn size(&self, entry: &LogEntry) -> usize {
        match self {
            Self::Flv(_) => FlvFormat::size(entry),
            Self::Ts(_) => TsFormat::size(entry),
            Self::Audio(_) => AudioFormat::size(entry),
        }
    }

    fn encode(&mut self, entry: &LogEntry, chunks: &[u8], out: &mut BytesMut) {
        match self {
            Self::Flv(flv) => flv.encode(entry, chunks, out),
            Self::Ts(ts) => ts.encode(entry, chunks, out),
            Self::Audio(audio) => audio.encode(entry, chunks, out),
        }
    }

    fn flush(&mut self, out: &mut BytesMut) {
        if let Self::Ts(ts) = self {
            ts.flush(out);
        }
    }
}

impl SharedLog {
    /// Creates a log whose first message has the sequence number `start`. `headers` are those of the stream.
    pub(crate) fn new(wire: SharedWire, start: u64, headers: &HeaderCache, memory: &MemoryTracker) -> Self {
        let mut format = Format::new(wire.wire);
        for header in headers.iter().filter(|header| header.seq < start && wire.tracks & header.key.track().bit() != 0)
        {
            format.prime(header);
        }
        Self {
            wire,
            format,
            messages: VecDeque::new(),
            first_seq: start,
            bytes: 0,
            viewers: 0,
            memory: memory.clone(),
            charge: memory.charge(Category::Media),
        }
    }

    pub(crate) fn wire(&self) -> SharedWire {
        self.wire
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }

    pub(crate) fn memory(&self) -> &MemoryTracker {
        &self.memory
    }

    pub(crate) fn first_seq(&self) -> u64 {
        self.first_seq
    }

    pub(crate) fn end_seq(&self) -> u64 {
        self.first_seq + self.messages.len() as u64
    }

    pub(crate) fn held(&self) -> usize {
        self.bytes + self.charge.get()
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Bytes> {
        self.messages.get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    /// Encodes messages up to and including `seq`, which must be in the log.
    pub(crate) fn encode_to(&mut self, log: &PacketLog, seq: u64) {
        while self.end_seq() <= seq {
            let before = self.end_seq();
            self.encode_run(log, MAX_RUN_BYTES);
            if self.end_seq() == before {
                return;
            }
        }
    }

    /// Encodes the batch just closed, from `start` on. `None` if older messages are missing: then no viewer has caught up.
    pub(crate) fn encode_batch(&mut self, log: &PacketLog, start: u64) -> Option<SharedBatch> {
        (self.end_seq() == start).then(|| self.encode_run(log, usize::MAX))
    }

    fn encode_run(&mut self, log: &PacketLog, max_bytes: usize) -> SharedBatch {
        let start = self.end_seq();
        let entries = || (start..).map_while(|seq| log.chunks(seq));
        let tracks = self.wire.tracks;
        let is_carried = |entry: &LogEntry| tracks & entry.track.bit() != 0;
        let (mut count, mut size, mut last_audio) = (0, MAX_FRAME_HEAD, None);
        for (entry, _) in entries() {
            if is_carried(entry) {
                size += self.format.size(entry);
            }
            if entry.track == Track::Audio {
                last_audio = Some(count);
            }
            count += 1;
            if size >= max_bytes {
                break;
            }
        }
        let mut buffer = BytesMut::with_capacity(size);
        buffer.resize(MAX_FRAME_HEAD, 0);
        let mut ends = Vec::with_capacity(count);
        for (index, (entry, chunks)) in entries().take(count).enumerate() {
            if is_carried(entry) {
                self.format.encode(entry, chunks, &mut buffer);
            }
            if last_audio == Some(index) {
                self.format.flush(&mut buffer);
            }
            ends.push(buffer.len());
        }
        let head = encode_frame_head(buffer.len() - MAX_FRAME_HEAD);
        let frame_start = MAX_FRAME_HEAD - head.as_slice().len();
        buffer[frame_start..MAX_FRAME_HEAD].copy_from_slice(head.as_slice());
        let bytes = self.memory.charge_bytes(Category::Media, buffer.freeze());
        let mut at = MAX_FRAME_HEAD;
        for end in ends {
            self.messages.push_back(bytes.slice(at..end));
            at = end;
        }
        self.bytes += bytes.len() - MAX_FRAME_HEAD;
        self.update_charge();
        SharedBatch { wire: self.wire, plain: bytes.slice(MAX_FRAME_HEAD..), framed: bytes.slice(frame_start..) }
    }

    pub(crate) fn trim(&mut self, seq: u64) {
        let count = usize::try_from(seq.saturating_sub(self.first_seq)).unwrap_or(usize::MAX);
        if count == 0 {
            return;
        }
        if count >= self.messages.len() {
            self.clear(seq);
        } else if count >= MIN_BULK_EVICTION {
            let kept = self.messages.split_off(count);
            st::drop_in_background(std::mem::replace(&mut self.messages, kept));
            self.first_seq = seq;
            self.bytes = self.messages.iter().map(Bytes::len).sum();
        } else {
            self.bytes -= self.messages.drain(..count).map(|bytes| bytes.len()).sum::<usize>();
            self.first_seq = seq;
        }
        self.update_charge();
    }

    fn clear(&mut self, seq: u64) {
        let messages = std::mem::take(&mut self.messages);
        if messages.len() >= MIN_BULK_EVICTION {
            st::drop_in_background(messages);
        }
        (self.first_seq, self.bytes) = (seq, 0);
    }

    fn update_charge(&self) {
        self.charge.set(self.messages.len() * size_of::<Bytes>());
    }
}

impl Drop for SharedLog {
    fn drop(&mut self) {
        self.clear(0);
    }
}
