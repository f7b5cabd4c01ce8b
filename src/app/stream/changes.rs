//! Changes of a stream that were not reported yet: events without the handle to the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::app::session::info::{ClientInfo, StreamInfo};
use crate::codec::flv::{AudioCodec, VideoCodec};

/// A change of a stream. The event of the same name, [`StreamEvent`](super::StreamEvent), has the description.
pub(super) enum Change {
    Published { stream: Arc<StreamInfo>, client: Arc<ClientInfo>, resumed: bool },
    PublisherLost { stream: Arc<StreamInfo>, client: Arc<ClientInfo> },
    Unpublished { stream: Arc<StreamInfo> },
    Played { stream: Arc<StreamInfo>, client: Arc<ClientInfo> },
    Stopped { stream: Arc<StreamInfo>, client: Arc<ClientInfo> },
    CodecsKnown { stream: Arc<StreamInfo>, codecs: Codecs },
}

/// Codecs of a publication, once a message of each track has arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Codecs {
    /// Codec of the last video message.
    pub video: Option<VideoCodec>,
    /// Codec of the last audio message.
    pub audio: Option<AudioCodec>,
}

/// Changes in the order in which they happened.
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
