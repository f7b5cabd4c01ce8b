//! One timeline for what a stream's publishers send.
//!
//! Encoders' clocks step back, jump, wrap, and start again when the encoder does. Everything that leaves a source is on one
//! clock that does none of that: per track it never runs backwards, audio and video keep their distance, and a publisher that
//! comes back goes on where the last one ended. Corrected once, here, for every output.

use std::time::Instant;

use super::track::Track;

/// A step of more than this, in milliseconds, is a jump of the encoder's clock; unless half as much time has really passed.
const MAX_STEP: i64 = 5000;

/// A step back of at most this is disorder, and waited out; of more, a clock that was set back.
const MAX_BACK: i64 = 500;

/// Where a publication begins, after all that was sent before: room for a track whose first time is a little below that of
/// the other's first.
const LEAD: u64 = 200;

/// What follows a jump follows so many milliseconds after what came before, unless the track has a step of its own.
const DEFAULT_STEP: u64 = 10;

/// The clock of a source.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Audio and video, as the present publisher counts them.
    clocks: [Option<Clock>; 2],
    /// The latest time given out, over all tracks.
    latest: u64,
    /// The earliest time that the present publication may have.
    start: u64,
    /// The time of the last data message.
    last_data: u64,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    /// The encoder's last time stamp, as it came and without its wrapping.
    raw: u32,
    unwrapped: i64,
    /// From the encoder's time to ours.
    offset: i64,
    last: u64,
    step: u64,
    /// When the last message came.
    at: Instant,
}

impl Timeline {
    /// A publisher begins: its clock has nothing to do with the last one's.
    pub(super) fn begin_publication(&mut self) {
        self.clocks = [None; 2];
        self.start = self.latest;
    }

    /// The time of the latest message.
    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// The time of a message that is not media of its own, such as a sequence header: that of its track so far.
    pub(super) fn of_config(&self, track: Track) -> u64 {
        match track {
            Track::Audio | Track::Video => self.clocks[track as usize].map_or(self.start, |clock| clock.last),
            Track::Data => self.last_data.max(self.latest),
            Track::Status => self.latest,
        }
    }

    /// The time of a message that the encoder stamped `raw` and that came `now`.
    pub(super) fn correct(&mut self, track: Track, raw: u32, now: Instant) -> u64 {
        let time = match track {
            Track::Audio | Track::Video => self.media(track as usize, raw, now),
            // Data follows the media's clock, has none of its own, and does not come before media that it came after.
            Track::Data | Track::Status => {
                let near = self.clocks.iter().flatten().find_map(|clock| clock.near(raw));
                self.last_data = near.map_or(0, |clock| clock.time()).max(self.latest).max(self.last_data);
                return self.last_data;
            }
        };
        self.latest = self.latest.max(time);
        time
    }

    fn media(&mut self, track: usize, raw: u32, now: Instant) -> u64 {
        let other = self.clocks[1 - track].and_then(|other| other.near(raw));
        let mut clock = match (self.clocks[track], other) {
            (Some(clock), other) => {
                let step = clock.distance(raw);
                let passed = i64::try_from(now.saturating_duration_since(clock.at).as_millis()).unwrap_or(i64::MAX);
                if (-MAX_BACK..=MAX_STEP.max(passed.saturating_mul(2))).contains(&step) {
                    clock.advanced(raw, step)
                } else if let Some(other) = other {
                    // The other track has jumped before this one, or has gone on while this one paused.
                    Clock { last: clock.last, step: clock.step, ..other }
                } else {
                    clock.jumped(raw, self.latest + clock.step)
                }
            }
            (None, Some(other)) => Clock { last: self.start, step: DEFAULT_STEP, ..other },
            (None, None) => {
                let (unwrapped, last) = (i64::from(raw), self.start);
                let clock = Clock { raw, unwrapped, offset: 0, last, step: DEFAULT_STEP, at: now };
                clock.jumped(raw, self.latest + LEAD)
            }
        };
        clock.last = clock.time().max(clock.last);
        clock.at = now;
        self.clocks[track] = Some(clock);
        clock.last
    }
}

impl Clock {
    /// From the last time stamp to `raw`, in milliseconds, over a wrap of the 32 bits if that is nearer.
    fn distance(&self, raw: u32) -> i64 {
        // The cast is the point: the difference modulo 2^32, as a signed number.
        i64::from(raw.wrapping_sub(self.raw) as i32)
    }

    fn time(&self) -> u64 {
        u64::try_from(self.unwrapped + self.offset).unwrap_or(0)
    }

    /// This clock at `raw`, if that is near enough to belong to it.
    fn near(&self, raw: u32) -> Option<Self> {
        let distance = self.distance(raw);
        (distance.abs() <= MAX_STEP).then(|| Self { raw, unwrapped: self.unwrapped + distance, ..*self })
    }

    fn advanced(self, raw: u32, step: i64) -> Self {
        let usual = u64::try_from(step).ok().filter(|step| (1..=100).contains(step)).unwrap_or(self.step);
        Self { raw, unwrapped: self.unwrapped + step, step: usual, ..self }
    }

    /// This clock after a jump to `raw`, which is to be `time` of ours.
    fn jumped(self, raw: u32, time: u64) -> Self {
        let unwrapped = i64::from(raw);
        // Times are milliseconds since the source began: far below 2^63.
        Self { raw, unwrapped, offset: time as i64 - unwrapped, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::Track::{Audio, Data, Video};
    use super::*;

    /// The corrected times, counted from the first.
    fn corrected(messages: &[(Track, u32)]) -> Vec<i64> {
        let mut timeline = Timeline::default();
        timeline.begin_publication();
        let now = Instant::now();
        let times: Vec<_> = messages.iter().map(|&(track, raw)| timeline.correct(track, raw, now) as i64).collect();
        times.iter().map(|time| time - times[0]).collect()
    }

    #[test]
    fn a_good_clock_is_kept_to_the_millisecond() {
        let messages = [(Video, 1000), (Audio, 1000), (Audio, 1023), (Video, 1040), (Audio, 1046), (Video, 3040)];
        assert_eq!(corrected(&messages), [0, 0, 23, 40, 46, 2040]);
    }

    #[test]
    fn a_track_that_begins_a_little_earlier_keeps_its_distance() {
        assert_eq!(corrected(&[(Video, 1000), (Audio, 960), (Audio, 983)]), [0, -40, -17]);
    }

    #[test]
    fn a_clock_that_starts_again_goes_on_and_both_tracks_stay_together() {
        let messages =
            [(Video, 60_000), (Audio, 60_010), (Video, 60_040), (Video, 0), (Audio, 60_033), (Audio, 10), (Video, 40)];
        // The straggler of the old clock (audio 60033) goes on from where audio was.
        assert_eq!(corrected(&messages), [0, 10, 40, 80, 33, 90, 120]);
    }

    #[test]
    fn a_jump_ahead_is_closed_and_both_tracks_stay_together() {
        let messages = [(Video, 0), (Audio, 0), (Video, 40), (Video, 90_040), (Audio, 90_023), (Audio, 90_046)];
        assert_eq!(corrected(&messages), [0, 0, 40, 80, 63, 86]);
    }

    #[test]
    fn a_pause_of_one_track_is_kept() {
        let mut messages = vec![(Video, 0), (Audio, 0)];
        messages.extend((1..=500).map(|n| (Audio, n * 23)));
        messages.push((Video, 11_500));
        assert_eq!(corrected(&messages).last(), Some(&11_500), "video paused for 11.5 s, audio did not");
    }

    #[test]
    fn small_steps_back_are_waited_out() {
        assert_eq!(corrected(&[(Video, 100), (Video, 140), (Video, 120), (Video, 180)]), [0, 40, 40, 80]);
    }

    #[test]
    fn the_wrap_of_32_bits_is_no_jump() {
        assert_eq!(
            corrected(&[(Video, u32::MAX - 19), (Audio, u32::MAX - 9), (Video, 20), (Audio, 13)]),
            [0, 10, 40, 33]
        );
    }

    #[test]
    fn a_stream_may_run_past_24_31_and_32_bits() {
        let (mut timeline, now) = (Timeline::default(), Instant::now());
        timeline.begin_publication();
        let first = timeline.correct(Video, 0, now);
        let mut last = 0;
        for second in 0..5_000_000u64 {
            last = timeline.correct(Video, (second * 1000) as u32, now);
        }
        assert_eq!(last - first, 4_999_999_000);
    }

    #[test]
    fn a_publisher_that_comes_back_goes_on() {
        let (mut timeline, now) = (Timeline::default(), Instant::now());
        timeline.begin_publication();
        let first = timeline.correct(Video, 500_000, now);
        let end = timeline.correct(Video, 501_000, now);
        timeline.begin_publication();
        assert!(timeline.of_config(Audio) >= end, "a sequence header comes first");
        let again = timeline.correct(Video, 0, now);
        assert_eq!((end - first, again - end), (1000, LEAD));
        assert_eq!(timeline.correct(Audio, 10, now), again + 10);
        assert!(timeline.correct(Audio, 0, now) >= end);
    }

    #[test]
    fn a_slow_stream_is_no_jump() {
        let (mut timeline, now) = (Timeline::default(), Instant::now());
        timeline.begin_publication();
        let minute = std::time::Duration::from_secs(60);
        let times: Vec<_> = (0..4).map(|n| timeline.correct(Video, n * 60_000, now + minute * n)).collect();
        assert_eq!(times[3] - times[0], 180_000, "a frame a minute");
    }

    #[test]
    fn data_follows_the_media() {
        assert_eq!(corrected(&[(Video, 1000), (Data, 1500), (Data, 0), (Video, 1600)]), [0, 500, 500, 600]);
    }

    #[test]
    fn times_at_random_never_run_backwards() {
        let mut random = 1u32;
        let (mut timeline, now) = (Timeline::default(), Instant::now());
        timeline.begin_publication();
        let mut last = [0; 2];
        for _ in 0..100_000 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let track = if random & 1 == 0 { Audio } else { Video };
            let raw = if random & 2 == 0 { random } else { random >> 12 };
            let time = timeline.correct(track, raw, now);
            assert!(time >= last[track as usize]);
            assert!(time < 100_000 * 10_000, "times do not explode");
            last[track as usize] = time;
        }
    }
}
