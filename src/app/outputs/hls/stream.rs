//! A handle to a stream, for the output that writes it and the maintenance that removes it.

use std::time::Instant;

use super::buffer_pool::BufferPool;
use super::segment_writer::SegmentWriter;
use super::stream_state::StreamState;
use crate::app::limits::fairness::TimeSlice;
use crate::app::outputs::live_files::LiveFiles;
use crate::config::Hls;
use crate::st::Shared;

#[derive(Clone)]
pub(super) struct HlsStream(pub(super) Shared<StreamState>);

impl HlsStream {
    /// Creates a stream without a publisher. `base` is the common prefix of its files below `hls_path`.
    pub(super) fn new(
        name: &str,
        base: &str,
        settings: &Hls,
        writer: SegmentWriter,
        live_files: LiveFiles,
        buffers: BufferPool,
    ) -> Self {
        Self(Shared::new(StreamState::new(name, base, settings, writer, live_files, buffers)))
    }

    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.0.with(|state| state.ended_at())
    }

    /// Returns when the stream ended, if it has and is not closed yet.
    pub(super) fn retained_since(&self) -> Option<Instant> {
        self.0.with(|state| state.ended_at().filter(|_| !state.is_closed()))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.with(|state| state.is_closed())
    }

    pub(super) fn close(&self, now: Instant) {
        self.0.with(|state| {
            if state.ended_at().is_some() && !state.is_closed() {
                state.close(now);
            }
        });
    }

    pub(super) fn remove_expired(&self, now: Instant) -> bool {
        self.0.with(|state| state.remove_expired(now))
    }

    /// Removes a stream without a publisher from memory, except for segments that are not on disk yet. Its files on disk stay. Returns
    /// the number of removed files.
    pub(super) fn evict(&self, time_slice: &mut TimeSlice) -> usize {
        let mut count = 0;
        while let Some(evicted) = self.0.with(StreamState::evict_batch) {
            count += evicted;
            time_slice.yield_if_used_up();
        }
        count
    }

    pub(super) fn tick(&self, now: Instant) -> bool {
        self.0.with(|state| state.tick(now))
    }
}
