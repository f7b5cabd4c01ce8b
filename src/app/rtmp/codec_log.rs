//! The log line with the codecs of a publication: one for all tracks, and one for each later change.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::app::stream::{Codecs, Publication};
use crate::log::quoted;

/// Time from a change to its line. The tracks of a publication begin within it, and a publisher that changes its codec with each
/// message does not fill the log.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// The codecs of a publication that are in the log, and since when there are others.
#[derive(Default)]
pub(super) struct CodecLog {
    logged: Codecs,
    changed_at: Option<Instant>,
}

impl CodecLog {
    /// Logs the codecs if it is time. Returns the time at which it will be.
    pub(super) fn update(
        &mut self,
        publication: &Publication,
        name: &str,
        codecs: Codecs,
        now: Instant,
    ) -> Option<Instant> {
        let due = self.log_time(codecs, now)?;
        if due > now {
            return Some(due);
        }
        self.write(publication, name, codecs);
        None
    }

    pub(super) fn finish(&mut self, publication: &Publication, name: &str) {
        let codecs = publication.codecs();
        if codecs != Codecs::default() && codecs != self.logged {
            self.write(publication, name, codecs);
        }
    }

    /// Returns the time at which these codecs are to be logged; `None` if they are in the log.
    fn log_time(&mut self, codecs: Codecs, now: Instant) -> Option<Instant> {
        if codecs == self.logged {
            self.changed_at = None;
            return None;
        }
        Some(*self.changed_at.get_or_insert(now) + SETTLE_TIME)
    }

    fn write(&mut self, publication: &Publication, name: &str, codecs: Codecs) {
        (self.logged, self.changed_at) = (codecs, None);
        let more = publication.more_tracks();
        let (video, audio) = (list(codecs.video, &more.video), list(codecs.audio, &more.audio));
        log::info!("codecs known: stream={name} video={} audio={}", quoted(&video), quoted(&audio));
    }
}

fn list<C: Display>(first: Option<C>, more: &[(u8, C)]) -> String {
    let first = first.map_or_else(|| "none".to_owned(), |codec| codec.to_string());
    more.iter().fold(first, |text, (track, codec)| format!("{text}, track {track}: {codec}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flv::{AudioCodec, VideoCodec};

    #[test]
    fn codecs_are_due_a_second_after_their_change() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let video = Codecs { video: Some(VideoCodec::Avc), audio: None };
        let both = Codecs { audio: Some(AudioCodec::Aac), ..video };
        let mut log = CodecLog::default();
        assert_eq!(log.log_time(Codecs::default(), at(0)), None);
        assert_eq!(log.log_time(video, at(100)), Some(at(1100)));
        assert_eq!(log.log_time(both, at(400)), Some(at(1100)), "one line for both");
        log.logged = both;
        assert_eq!(log.log_time(both, at(1100)), None);
        // A codec that comes and goes.
        assert_eq!((log.log_time(video, at(2000)), log.log_time(both, at(2500))), (Some(at(3000)), None));
        assert_eq!(log.log_time(video, at(2600)), Some(at(3600)));
    }

    #[test]
    fn tracks_are_listed_with_their_numbers() {
        let more = [(1, VideoCodec::Hevc), (2, VideoCodec::Other(9))];
        assert_eq!(list(Some(VideoCodec::Avc), &more), "H.264, track 1: H.265, track 2: video codec 9");
        assert_eq!(list::<VideoCodec>(None, &[]), "none");
    }
}
