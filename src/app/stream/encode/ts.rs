//! MPEG transport streams, and streams of audio frames alone, of a stream's messages.

use bytes::BytesMut;

use crate::app::stream::headers::{CachedHeader, HeaderKey};
use crate::app::stream::packet_log::LogEntry;
use crate::app::stream::track::Track;
use crate::codec::flv::{read_audio_header, read_video_header};
use crate::codec::ts::AudioCodec;
use crate::codec::ts::audio_track::AudioTrack;
use crate::codec::ts::live::LiveMuxer;

const MAX_IDLE_CAPACITY: usize = 256 * 1024;

#[derive(Default)]
pub(crate) struct TsFormat {
    muxer: LiveMuxer,
    payload: BytesMut,
    out: Vec<u8>,
}

impl TsFormat {
    pub(crate) fn new() -> Self {
        Self { muxer: LiveMuxer::new(), ..Self::default() }
    }

    /// Takes over a header from before the first message.
    pub(crate) fn prime(&mut self, header: &CachedHeader) {
        self.message(header.key.track(), 0, &header.payload);
        self.out.clear();
    }

    pub(crate) fn size(entry: &LogEntry) -> usize {
        let payload = entry.layout.payload_len();
        match entry.track {
            // Frames of audio share packets.
            Track::Audio => payload + payload / 8 + 32,
            Track::Video => payload + payload / 32 + 512,
            _ => 0,
        }
    }

    /// Appends what a message makes. Audio may follow later, at the latest with [`TsFormat::flush`].
    pub(crate) fn encode(&mut self, entry: &LogEntry, chunks: &[u8], out: &mut BytesMut) {
        let mut payload = std::mem::take(&mut self.payload);
        entry.layout.append_payload(chunks, &mut payload);
        self.message(entry.track, entry.time, &payload);
        self.payload = cleared(payload);
        self.take_out(out);
    }

    pub(crate) fn flush(&mut self, out: &mut BytesMut) {
        self.muxer.flush(&mut self.out);
        self.take_out(out);
    }

    fn message(&mut self, track: Track, time: u64, payload: &[u8]) {
        match track {
            Track::Video => {
                if let Some(tag) = read_video_header(payload) {
                    self.muxer.video(time, &tag, payload, &mut self.out);
                }
            }
            Track::Audio => {
                if let Some(tag) = read_audio_header(payload) {
                    self.muxer.audio(time, &tag, payload, &mut self.out);
                }
            }
            Track::Data | Track::Status => {}
        }
    }

    fn take_out(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.out);
        self.out.clear();
        self.out.shrink_to(MAX_IDLE_CAPACITY);
    }
}

pub(crate) struct AudioFormat {
    is_aac: bool,
    track: AudioTrack,
    payload: BytesMut,
}

impl AudioFormat {
    pub(crate) fn new(is_aac: bool) -> Self {
        Self { is_aac, track: AudioTrack::default(), payload: BytesMut::new() }
    }

    /// Takes over a header from before the first message.
    pub(crate) fn prime(&mut self, header: &CachedHeader) {
        if matches!(header.key, HeaderKey::Audio { .. })
            && let Some(tag) = read_audio_header(&header.payload)
        {
            let _ = self.track.on_message(0, &tag, &header.payload);
        }
    }

    pub(crate) fn size(entry: &LogEntry) -> usize {
        if entry.track == Track::Audio { entry.layout.payload_len() + 8 } else { 0 }
    }

    /// Appends the frame in a message, if it has the codec of the wire.
    pub(crate) fn encode(&mut self, entry: &LogEntry, chunks: &[u8], out: &mut BytesMut) {
        let mut payload = std::mem::take(&mut self.payload);
        entry.layout.append_payload(chunks, &mut payload);
        if entry.track == Track::Audio
            && let Some(tag) = read_audio_header(&payload).filter(|tag| !tag.multitrack)
            && let Ok(Some(frame)) = self.track.on_message(entry.time * 90, &tag, &payload)
            && (frame.codec == AudioCodec::Aac) == self.is_aac
            && let Some(body) = payload.get(tag.body..)
        {
            out.extend_from_slice(frame.header());
            out.extend_from_slice(body);
        }
        self.payload = cleared(payload);
    }
}

fn cleared(mut buffer: BytesMut) -> BytesMut {
    if buffer.capacity() > MAX_IDLE_CAPACITY {
        return BytesMut::new();
    }
    buffer.clear();
    buffer
}
