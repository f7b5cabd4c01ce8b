//! Checks of the messages that a player receives.

use std::time::{Duration, Instant};

use srs::rtmp::message::{Message, MessageType};

use super::histogram::Histogram;
use super::media::read_stamp;
use super::stats::{Findings, Stats, add};

/// Largest step between two timestamps of one kind of media that is not a gap, in milliseconds.
const MAX_STEP_MS: i64 = 1000;

/// Time after the start of a session from which latency counts: the first messages are the GOP, which is older than live.
const SETTLE_TIME: Duration = Duration::from_secs(1);

pub(super) struct Checker<'a> {
    findings: &'a Findings,
    /// Histogram for the age of messages.
    ages: &'a Histogram,
    gaps: u64,
    is_affected: bool,
    /// Time from which age counts, in this session.
    settled: Instant,
    /// Timestamps of the last audio and video message of this session.
    last: [Option<u32>; 2],
    /// Number of the last numbered frame.
    number: Option<u64>,
}

impl<'a> Checker<'a> {
    /// Creates the checker of a player. Slow players have separate findings and histograms.
    pub(super) fn new(stats: &'a Stats, is_slow: bool) -> Self {
        let (findings, ages) =
            if is_slow { (&stats.slow_found, &stats.slow_lag) } else { (&stats.found, &stats.latency) };
        add(&findings.players, 1);
        Self { findings, ages, gaps: 0, is_affected: false, settled: Instant::now(), last: [None; 2], number: None }
    }

    pub(super) fn start_session(&mut self) {
        self.settled = Instant::now() + SETTLE_TIME;
        self.last = [None; 2];
        self.number = None;
    }

    /// Checks an audio or video message other than a sequence header.
    pub(super) fn on_media(&mut self, message: &Message) {
        let kind = usize::from(message.kind == MessageType::VIDEO);
        let step = self.last[kind].replace(message.timestamp).map(|last| message.timestamp.wrapping_sub(last) as i32);
        let mut is_gap = step.is_some_and(|step| !(0..=MAX_STEP_MS).contains(&i64::from(step)));
        let mut missing = 0;
        if let Some(stamp) = read_stamp(&message.payload) {
            if let Some(last) = self.number.replace(stamp.number) {
                is_gap |= stamp.number != last + 1;
                missing = stamp.number.saturating_sub(last + 1);
            }
            if !stamp.is_intact {
                add(&self.findings.damaged, 1);
                self.mark_affected();
            }
            if Instant::now() >= self.settled {
                self.ages.add(stamp.age_us);
            }
        }
        if is_gap {
            self.gaps += 1;
            self.findings.add_gap(missing, self.gaps);
            self.mark_affected();
        }
    }

    fn mark_affected(&mut self) {
        if !std::mem::replace(&mut self.is_affected, true) {
            add(&self.findings.affected, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::media::Media;
    use super::super::stats::get;
    use super::*;

    #[test]
    fn frames_that_are_missing_are_counted_once_a_gap() {
        let stats = Stats::default();
        let media = Media::synthesized(500, 25, 2.0);
        let mut checker = Checker::new(&stats, false);
        checker.start_session();
        let mut number = 0;
        let frames = media.messages(1).filter(|(_, message)| message.kind == MessageType::VIDEO).skip(1);
        for (n, (_, mut frame)) in frames.take(100).enumerate() {
            media.stamp(&mut frame, &mut number);
            if !(10..13).contains(&n) && n != 50 {
                checker.on_media(&frame);
            }
        }
        let found = &stats.found;
        assert_eq!((get(&found.gaps), get(&found.missing), get(&found.affected), get(&found.most_gaps)), (2, 4, 1, 2));
        assert_eq!((get(&found.damaged), get(&stats.slow_found.gaps)), (0, 0));
        assert_eq!(stats.latency.count(), 0, "not settled yet");
        checker.start_session();
        assert_eq!(get(&found.gaps), 2, "a new session begins anywhere");
    }

    #[test]
    fn time_that_runs_backwards_or_jumps_is_a_gap() {
        let stats = Stats::default();
        let mut checker = Checker::new(&stats, true);
        let audio =
            |timestamp| Message { kind: MessageType::AUDIO, timestamp, stream_id: 1, payload: vec![0xaf, 1].into() };
        for timestamp in [0, 23, 46, 40, 63, 2063, u32::MAX - 5, 17] {
            checker.on_media(&audio(timestamp));
        }
        // The steps to 40, to 2063, and to the end of the range are gaps; the wrap-around is none.
        assert_eq!(get(&stats.slow_found.gaps), 3);
    }
}
