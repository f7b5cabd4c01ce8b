//! The output of a stream by which its programs learn of it: the first keyframe, changes, the time, the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::app::stream::{EndReason, Output, Packet, PacketKind, Tag, Track};
use crate::config::Vhost;

/// Audio without video after which a stream counts as one without, in milliseconds.
const AUDIO_ONLY_AFTER_MS: u64 = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchEvent {
    /// Sequence headers and a keyframe have arrived: a decoder can start.
    Ready,
    Changed,
    /// The publication has ended, or the configuration needs no watch any more.
    Ended(EndReason),
}

/// The time of a stream in milliseconds, as its watch sees it.
#[derive(Debug, Default)]
pub(super) struct StreamTime(AtomicU64);

impl StreamTime {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct Watch {
    time: Arc<StreamTime>,
    report: Box<dyn Fn(WatchEvent) + Send + Sync>,
    is_ready: bool,
    first_audio: Option<u64>,
    headers: [Option<Bytes>; 2],
}

impl Watch {
    pub(super) fn new(time: Arc<StreamTime>, report: impl Fn(WatchEvent) + Send + Sync + 'static) -> Self {
        Self { time, report: Box::new(report), is_ready: false, first_audio: None, headers: [None, None] }
    }

    fn on_header(&mut self, track: usize, payload: &Bytes) {
        let is_same = self.headers[track].as_ref() == Some(payload);
        // A copy: the payload may be a small part of a large message.
        let is_new = self.headers[track].replace(Bytes::copy_from_slice(payload)).is_none();
        if self.is_ready && !is_same && !is_new {
            (self.report)(WatchEvent::Changed);
        }
    }

    fn set_ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            (self.report)(WatchEvent::Ready);
        }
    }
}

impl Output for Watch {
    fn packet(&mut self, packet: &Packet<'_>) {
        self.time.0.store(packet.dts, Ordering::Relaxed);
        match (packet.kind, &packet.tag) {
            (PacketKind::Header, Some(Tag::Video(tag))) if tag.track == 0 => self.on_header(0, packet.payload),
            (PacketKind::Header, Some(Tag::Audio(tag))) if tag.track == 0 => self.on_header(1, packet.payload),
            (PacketKind::Keyframe, _) => self.set_ready(),
            _ if self.is_ready || packet.track != Track::Audio => {}
            _ => {
                let first = *self.first_audio.get_or_insert(packet.dts);
                if self.headers[0].is_none() && packet.dts.saturating_sub(first) >= AUDIO_ONLY_AFTER_MS {
                    self.set_ready();
                }
            }
        }
    }

    fn reconfigure(&mut self, _: &Vhost) -> bool {
        true
    }

    fn end(self: Box<Self>, reason: EndReason) {
        (self.report)(WatchEvent::Ended(reason));
    }
}
