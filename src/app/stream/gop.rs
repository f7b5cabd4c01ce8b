//! The last GOP of a publication: the position in the packet log where a player can start.
//!
//! In a multitrack stream (E-RTMP), a position is a start for all tracks: the keyframes of one moment are several messages,
//! and that of track 0 need not be the first.

use std::time::{Duration, Instant};

use super::track::VideoTracks;

/// Time without any keyframe after which a publication counts as one without.
pub(super) const KEYFRAME_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct GopTracker {
    /// Sequence number of the earliest keyframe of the last GOP, while all packets since are in the log.
    start: Option<u64>,
    /// Sequence number of the first keyframe of another track since the last frame of track 0.
    first_other_key: Option<u64>,
    tracks: VideoTracks,
    earlier_tracks: VideoTracks,
    has_keyframe: bool,
    first_frame: Option<Instant>,
    is_reported: bool,
}

impl GopTracker {
    pub(super) fn start(&self) -> Option<u64> {
        self.start
    }

    pub(super) fn tracks(&self) -> VideoTracks {
        self.tracks.union(self.earlier_tracks)
    }

    /// Records a video frame with the sequence number `seq`.
    pub(super) fn on_frame(&mut self, track: u8, is_keyframe: bool, seq: u64) {
        self.has_keyframe |= is_keyframe;
        if track != 0 || !is_keyframe {
            self.tracks.insert(track);
            if track == 0 {
                self.first_other_key = None;
            } else if is_keyframe {
                self.first_other_key.get_or_insert(seq);
            }
            return;
        }
        self.start = Some(self.first_other_key.take().unwrap_or(seq));
        self.earlier_tracks = std::mem::take(&mut self.tracks);
        self.tracks.insert(0);
    }

    /// Returns whether no keyframe has come for [`KEYFRAME_TIMEOUT`] at a frame that arrives at `now`; once a publication.
    pub(super) fn lacks_keyframe(&mut self, now: Instant) -> bool {
        if self.has_keyframe || self.is_reported {
            return false;
        }
        let first = *self.first_frame.get_or_insert(now);
        self.is_reported = now.saturating_duration_since(first) >= KEYFRAME_TIMEOUT;
        self.is_reported
    }

    pub(super) fn clear_start(&mut self) {
        self.start = None;
    }

    pub(super) fn on_evicted(&mut self, first_seq: u64) {
        self.start = self.start.filter(|&start| start >= first_seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: u8 = 0;

    fn after(frames: &[(u8, bool)]) -> GopTracker {
        let mut gop = GopTracker::default();
        for ((track, is_keyframe), seq) in frames.iter().zip(100..) {
            gop.on_frame(*track, *is_keyframe, seq);
        }
        gop
    }

    #[test]
    fn one_track_starts_at_its_last_keyframe() {
        let mut gop = after(&[(MAIN, false), (MAIN, true), (MAIN, false), (MAIN, true), (MAIN, false)]);
        assert_eq!(gop.start(), Some(103));
        assert_eq!(gop.tracks(), VideoTracks::of(&[MAIN]));
        gop.on_evicted(103);
        assert_eq!(gop.start(), Some(103));
        gop.on_evicted(104);
        assert_eq!(gop.start(), None);
        assert_eq!(after(&[(MAIN, false)]).start(), None);
    }

    #[test]
    fn a_keyframe_of_another_track_just_before_that_of_track_0_is_in_the_start() {
        let mut frames = vec![(2, true), (1, true), (MAIN, true), (2, false), (1, false), (MAIN, false)];
        assert_eq!(after(&frames).start(), Some(100));
        frames.extend([(2, true), (MAIN, true), (1, true), (1, false)]);
        let gop = after(&frames);
        assert_eq!(gop.start(), Some(106), "the next GOP, in which track 1 starts later");
        assert_eq!(gop.tracks(), VideoTracks::of(&[MAIN, 1, 2]));
    }

    #[test]
    fn a_track_that_is_gone_is_not_waited_for() {
        let gop = after(&[(1, true), (MAIN, true), (1, false), (MAIN, true), (MAIN, false), (MAIN, true)]);
        assert_eq!((gop.start(), gop.tracks()), (Some(105), VideoTracks::of(&[MAIN])));
    }

    #[test]
    fn a_lack_of_keyframes_is_reported_once() {
        let start = Instant::now();
        let reports = |first_is_key: bool| {
            let mut gop = GopTracker::default();
            let frame = |second: u64| {
                gop.on_frame(MAIN, first_is_key && second == 5, second);
                gop.lacks_keyframe(start + Duration::from_secs(second))
            };
            (5..30).map(frame).collect::<Vec<_>>()
        };
        assert_eq!(reports(false).iter().position(|&report| report), Some(10));
        assert_eq!(reports(false).iter().filter(|&&report| report).count(), 1);
        assert!(!reports(true).contains(&true));
    }

    #[test]
    fn tracks_without_a_bit_are_not_waited_for() {
        let gop = after(&[(64, true), (255, true), (MAIN, true), (255, false)]);
        assert_eq!((gop.start(), gop.tracks()), (Some(100), VideoTracks::of(&[MAIN])));
    }
}
