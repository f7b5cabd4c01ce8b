use bytes::{BufMut, BytesMut};

use crate::app::stream::headers::CachedHeader;
use crate::app::stream::packet_log::{LogEntry, PacketKind};
use crate::app::stream::track::Track;
use crate::codec::flv;

/// The encoder of FLV. Its timestamps count from its first frame.
#[derive(Debug, Default)]
pub(crate) struct FlvFormat {
    base_time: Option<u64>,
}

impl FlvFormat {
    /// Appends the header of a file, whose flags name the `tracks`, a bit each.
    pub(crate) fn start(tracks: u8, out: &mut Vec<u8>) {
        let has = |track: Track| tracks & track.bit() != 0;
        flv::write_header(out, has(Track::Audio), has(Track::Video));
    }

    /// Appends a cached header as a tag at the corrected time `time`.
    pub(crate) fn header(&self, header: &CachedHeader, time: u64, out: &mut Vec<u8>) {
        let Some(kind) = tag_kind(header.key.track()) else { return };
        let size = header.payload.len() as u32;
        out.extend_from_slice(&flv::tag_header(kind, self.timestamp(time), size));
        out.extend_from_slice(&header.payload);
        out.extend_from_slice(&flv::back_pointer(size));
    }

    pub(crate) fn size(entry: &LogEntry) -> usize {
        entry.layout.payload_len() + flv::TAG_OVERHEAD
    }

    /// Appends a message as a tag. FLV has none for status messages.
    pub(crate) fn encode(&mut self, entry: &LogEntry, chunks: &[u8], out: &mut BytesMut) {
        let Some(kind) = tag_kind(entry.track) else { return };
        if entry.track != Track::Data && entry.kind != PacketKind::Header {
            self.base_time.get_or_insert(entry.time);
        }
        // A message of RTMP is at most as long as a tag can be.
        let size = entry.layout.payload_len() as u32;
        out.put_slice(&flv::tag_header(kind, self.timestamp(entry.time), size));
        entry.layout.append_payload(chunks, out);
        out.put_slice(&flv::back_pointer(size));
    }

    /// Returns a timestamp of 32 bits, which wraps after 49 days.
    fn timestamp(&self, time: u64) -> u32 {
        self.base_time.map_or(0, |base| time.saturating_sub(base) as u32)
    }
}

fn tag_kind(track: Track) -> Option<u8> {
    match track {
        Track::Audio => Some(flv::TAG_AUDIO),
        Track::Video => Some(flv::TAG_VIDEO),
        Track::Data => Some(flv::TAG_SCRIPT),
        Track::Status => None,
    }
}
