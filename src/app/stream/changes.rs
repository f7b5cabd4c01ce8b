//! Changes of a stream that were not reported yet: events without the handle to the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv::{AudioCodec, AudioTag, FrameKind, VideoCodec, VideoPacket, VideoTag};

/// A change of a stream. The event of the same name, [`StreamEvent`](super::StreamEvent), has the description.
pub(super) enum Change {
    Published { stream: Arc<StreamInfo>, client: Arc<ClientInfo>, resumed: bool },
    PublisherLost { stream: Arc<StreamInfo>, client: Arc<ClientInfo> },
    Unpublished { stream: Arc<StreamInfo> },
    Played { stream: Arc<StreamInfo>, client: Arc<ClientInfo> },
    Stopped { stream: Arc<StreamInfo>, client: Arc<ClientInfo> },
    CodecsKnown { stream: Arc<StreamInfo>, codecs: Codecs },
}

/// Codecs of the first tracks of a publication, once a message of each has arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Codecs {
    pub video: Option<VideoCodec>,
    pub audio: Option<AudioCodec>,
}

/// Tracks beyond the first ones, by their numbers, as far as they have sequence headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MoreTracks {
    pub video: Vec<(u8, VideoCodec)>,
    pub audio: Vec<(u8, AudioCodec)>,
}

impl Codecs {
    /// Takes over the codec of a message. Returns whether it is another one. The tracks of a stream may have different codecs.
    pub(super) fn on_video(&mut self, tag: &VideoTag) -> bool {
        // A command to a seeking player has no codec.
        let is_command = tag.frame == FrameKind::Command && tag.packet == VideoPacket::Raw;
        let counts = (tag.track == 0 || self.video.is_none()) && !is_command;
        counts && self.video.replace(tag.codec) != Some(tag.codec)
    }

    pub(super) fn on_audio(&mut self, tag: &AudioTag) -> bool {
        let counts = tag.track == 0 || self.audio.is_none();
        counts && self.audio.replace(tag.codec) != Some(tag.codec)
    }
}

#[derive(Default)]
pub(super) struct ChangeQueue {
    changes: VecDeque<Change>,
    /// A change is being reported. Those that the observer causes are reported after it.
    is_reporting: bool,
}

impl ChangeQueue {
    pub(super) fn push(&mut self, change: Change) {
        self.changes.push_back(change);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the next change to report, unless one is being reported. [`ChangeQueue::finish_report`] must follow.
    pub(super) fn start_report(&mut self) -> Option<Change> {
        if self.is_reporting {
            return None;
        }
        let change = self.changes.pop_front()?;
        self.is_reporting = true;
        Some(change)
    }

    pub(super) fn finish_report(&mut self) {
        self.is_reporting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flv;

    #[test]
    fn the_first_track_decides_the_codec() {
        let mut codecs = Codecs::default();
        let mut changes = |payload: &[u8]| codecs.on_video(&flv::read_video_header(payload).unwrap());
        assert!(changes(b"\x96\x03hvc1\x01...."), "track 1, as long as there is no other");
        assert!(changes(b"\x96\x03av01\x00...."), "track 0");
        assert!(!changes(b"\x96\x03hvc1\x01....") && !changes(b"\x91av01....") && !changes(&[0xd0, 0]));
        assert!(changes(&[0x17, 1, 0, 0, 0]));
        assert_eq!(codecs.video, Some(VideoCodec::Avc));
    }
}
