//! Audio that waits for a segment: at the start for the first keyframe, and after a change of its parameters for the next cut.

use std::collections::VecDeque;

use crate::codec::ts::audio_track::Frame;

const MAX_WAITING_FRAMES: usize = 256;

/// Waiting frames in order. Their bodies are copies, as messages may be parts of much larger ones.
#[derive(Default)]
pub(super) struct WaitingAudio(VecDeque<(Frame, Vec<u8>)>);

impl WaitingAudio {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_WAITING_FRAMES
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, body)| body.len()).sum()
    }

    pub(super) fn first_pts(&self) -> Option<u64> {
        self.0.front().map(|(frame, _)| frame.pts)
    }

    pub(super) fn push(&mut self, frame: Frame, body: &[u8]) {
        self.0.push_back((frame, body.to_vec()));
    }

    /// Appends a frame that waits for a cut, of which there are only the last ones.
    pub(super) fn push_last(&mut self, frame: Frame, body: &[u8]) {
        if self.is_full() {
            self.0.pop_front();
        }
        self.push(frame, body);
    }

    /// Drops what has ended when a segment starts after others, at `pts`: players have heard up to there.
    pub(super) fn start_at(&mut self, pts: u64) {
        self.0.retain(|(frame, _)| frame.end() > pts);
    }

    /// Takes the first frame, if it has these parameters, or any.
    pub(super) fn pop(&mut self, parameters: Option<u32>) -> Option<(Frame, Vec<u8>)> {
        self.0.pop_front_if(|(frame, _)| parameters.is_none_or(|parameters| frame.parameters == parameters))
    }
}
