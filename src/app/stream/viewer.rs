//! HTTP viewers: players whose wire is not RTMP. They end with their stream.

use std::sync::Arc;

use bytes::Bytes;

use super::client_handle::ClientHandle;
use super::consumer::Consumer;
use super::cursor::JoinPoint;
use super::encode::Encoder;
use super::encode::shared_log::{SharedBatch, SharedLog, SharedWire, Wire};
use super::encode::wire::{Framing, WireEncoder};
use super::headers::HeaderCache;
use super::packet_log::PacketLog;
use super::source::Source;
use super::state::StreamState;
use super::subscriber::{MAX_FILL_BUFFERS, MAX_FILL_BYTES, MAX_FILL_ENTRIES, Subscriber};
use super::track::{Track, VideoTracks};
use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::st;

/// Age of a publication, in seconds, from which on a track that only its metadata names counts as absent.
const MAX_TRACK_DELAY: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerWire {
    pub wire: Wire,
    pub framing: Framing,
    pub has_audio: bool,
    pub has_video: bool,
}

impl Source {
    /// Adds a viewer. It starts as soon as there are media, with file head and headers, at the last keyframe if the vhost's
    /// `gop_cache` is on, else with the next message. At the end that players are told of, its client is woken, and
    /// [`Consumer::is_finished`] holds once all was handed out.
    pub fn join_viewer(
        &self,
        handle: Arc<dyn ClientHandle>,
        wire: ViewerWire,
        stream: Arc<StreamInfo>,
        client: Arc<ClientInfo>,
    ) -> Consumer {
        self.with(|state| {
            state.on_first_subscriber();
            let is_audio = matches!(wire.wire, Wire::Mp3 | Wire::Aac);
            let mut start = if is_audio { state.audio_join_point() } else { state.join_point() };
            let shared = SharedWire::new(wire.wire, wire.has_audio, wire.has_video);
            let log = state.shared_log(shared, start.seq);
            log.viewers += 1;
            // A longer cache after a reload begins before a log that is there.
            start.seq = start.seq.max(log.first_seq());
            let encoder = Encoder::Wire(WireEncoder::new(shared, wire.framing));
            let mut viewer = Subscriber::new(handle, Some((stream, client)), encoder, start);
            viewer.cursor.wanted = shared.tracks;
            Consumer::new(self.clone(), state.add_subscriber(viewer))
        })
    }
}

impl StreamState {
    fn shared_log(&mut self, wire: SharedWire, start: u64) -> &mut SharedLog {
        let index = self.shared_logs.iter().position(|log| log.wire() == wire).unwrap_or_else(|| {
            self.shared_logs.push(SharedLog::new(wire, start, &self.headers, &self.memory));
            self.shared_logs.len() - 1
        });
        &mut self.shared_logs[index]
    }

    /// Encodes the batch that the packet log has just closed for each wire that has viewers.
    pub(super) fn encode_shared(&mut self, start: u64) -> Vec<SharedBatch> {
        self.shared_logs.iter_mut().filter_map(|shared| shared.encode_batch(&self.log, start)).collect()
    }

    pub(super) fn trim_shared(&mut self) {
        for shared in &mut self.shared_logs {
            shared.trim(self.log.first_seq());
        }
    }

    pub(super) fn release_wire(&mut self, wire: SharedWire) {
        if let Some(index) = self.shared_logs.iter().position(|log| log.wire() == wire) {
            self.shared_logs[index].viewers -= 1;
            if self.shared_logs[index].viewers == 0 {
                self.shared_logs.remove(index);
            }
        }
    }

    pub(super) fn fill_viewer(&mut self, id: usize, wire: SharedWire, out: &mut Vec<Bytes>) {
        let (join_point, known) = (self.join_point(), self.known_tracks());
        let Some(shared) = self.shared_logs.iter_mut().find(|log| log.wire() == wire) else { return };
        let Some(viewer) = &mut self.subscribers[id] else { return };
        viewer.fill_viewer(join_point, &self.headers, &self.log, shared, known, out);
    }

    /// Returns the publication's tracks, a bit each: those received, and while it is young those that its metadata names.
    fn known_tracks(&self) -> u8 {
        let Some(publisher) = &self.publisher else { return 0 };
        let (mut audio, mut video) = (publisher.codecs.audio.is_some(), publisher.codecs.video.is_some());
        if !(audio && video) && publisher.ingest.uptime(st::now()).as_secs() < MAX_TRACK_DELAY {
            let (names_audio, names_video) = self.headers.tracks_of_metadata();
            (audio, video) = (audio || names_audio, video || names_video);
        }
        (if audio { Track::Audio.bit() } else { 0 }) | (if video { Track::Video.bit() } else { 0 })
    }
}

impl Subscriber {
    /// Appends the next output of a viewer to `out`. `known` are the tracks of the stream, a bit each.
    fn fill_viewer(
        &mut self,
        join_point: JoinPoint,
        headers: &HeaderCache,
        log: &PacketLog,
        shared: &mut SharedLog,
        known: u8,
        out: &mut Vec<Bytes>,
    ) {
        self.cursor.caught_up = false;
        self.last_fill = st::now();
        self.take_unsent(out);
        if self.cursor.paused {
            self.paused_idle = out.is_empty();
            return;
        }
        if self.cursor.seq < log.first_seq() {
            self.cursor.count_dropped(join_point);
            self.move_to(join_point);
        }
        if self.cursor.seq < shared.first_seq() {
            // The join point moved back: video has resumed after the wire's first viewer had joined without it.
            self.move_to(JoinPoint { seq: shared.first_seq(), awaited: VideoTracks::ALL });
        }
        let Encoder::Wire(encoder) = &mut self.encoder else { return };
        let (mut bytes, mut entries, from) = (0, 0, out.len());
        while out.len() < MAX_FILL_BUFFERS
            && bytes < MAX_FILL_BYTES
            && entries < MAX_FILL_ENTRIES
            && let Some(entry) = self.cursor.next(log)
        {
            let (seq, before) = (self.cursor.seq, out.len());
            if self.cursor.accepts(&entry) {
                shared.encode_to(log, seq);
                encoder.append(&entry, seq, shared, headers, (self.cursor.wanted, known), out);
                self.cursor.sent += u64::from(out.len() > before);
            }
            bytes += out[before..].iter().map(Bytes::len).sum::<usize>();
            self.cursor.seq += 1;
            encoder.set_position(self.cursor.seq);
            entries += 1;
        }
        encoder.frame(from, log.memory(), out);
        self.cursor.caught_up = out.is_empty() && self.cursor.end.is_none() && !self.cursor.has_more(log);
    }
}
