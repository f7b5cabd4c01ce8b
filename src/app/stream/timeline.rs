//! Timestamp correction: one timeline for everything that the publishers of a stream send, for all outputs.
//!
//! Encoders' clocks step back, jump, wrap, and restart with the encoder. The corrected time of a track never runs
//! backwards, audio and video keep their distance, and a publisher that comes back continues where the last one ended.

use std::time::Instant;

use super::track::Track;

/// Time without a video message, in milliseconds, after which a stream counts as one without video.
pub const VIDEO_TIMEOUT_MS: u64 = 10_000;

/// Largest step forward, in ms, that is no jump of the encoder's clock, unless at least half as much time has passed.
const MAX_STEP_MS: i64 = 5000;

/// Largest step back, in ms, that counts as reordering: the time stands still. A larger one is a clock that was set back.
const MAX_REORDER_MS: i64 = 500;

/// Gap between two publications, in milliseconds: room for a track whose first timestamp is below that of the other. Within
/// these bounds, it is the time that has passed.
const MIN_PUBLICATION_GAP_MS: u64 = 200;
const MAX_PUBLICATION_GAP_MS: u64 = MAX_STEP_MS as u64;

/// Step of a track whose usual step is not known, in milliseconds. The first message after a jump follows after one step.
const DEFAULT_STEP_MS: u64 = 10;

const USUAL_STEPS_MS: std::ops::RangeInclusive<i64> = 1..=100;

/// The corrected clock of a stream, in milliseconds since it was created.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    clocks: [Option<TrackClock>; 2],
    latest: u64,
    /// Time of the last message of the publication before: media of this one are not earlier.
    start: u64,
    last_data_time: u64,
    last_arrival: Option<Instant>,
    first_arrival: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct TrackClock {
    raw: u32,
    unwrapped: i64,
    offset: i64,
    last_time: u64,
    usual_step: u64,
    received_at: Instant,
}

impl Timeline {
    /// Starts a publication, whose clock is unrelated to the last one.
    pub(super) fn start_publication(&mut self) {
        self.clocks = [None; 2];
        self.start = self.latest;
        self.first_arrival = None;
    }

    /// Returns the track that has not begun although the other one has, and when that was.
    pub(super) fn missing_track(&self) -> Option<(Track, Instant)> {
        let missing = match self.clocks {
            [None, Some(_)] => Track::Audio,
            [Some(_), None] => Track::Video,
            _ => return None,
        };
        Some((missing, self.first_arrival?))
    }

    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// Returns the time for a header, whose own timestamp is not used: that of the last message of its track.
    pub(super) fn header_time(&self, track: Track) -> u64 {
        match track {
            Track::Audio | Track::Video => self.clocks[track as usize].map_or(self.start, |clock| clock.last_time),
            Track::Data => self.last_data_time.max(self.latest),
            Track::Status => self.latest,
        }
    }

    /// Returns the corrected time of a message with the timestamp `raw` that arrived at `now`.
    pub(super) fn correct(&mut self, track: Track, raw: u32, now: Instant) -> u64 {
        let time = match track {
            Track::Audio | Track::Video => self.correct_media(track as usize, raw, now),
            // Data uses the clock of the media, and stays behind media that it followed.
            Track::Data | Track::Status => {
                let clock = self.clocks.iter().flatten().find_map(|clock| clock.extrapolated(raw));
                self.last_data_time = clock.map_or(0, |clock| clock.time()).max(self.latest).max(self.last_data_time);
                return self.last_data_time;
            }
        };
        self.latest = self.latest.max(time);
        self.last_arrival = Some(now);
        self.first_arrival.get_or_insert(now);
        time
    }

    fn correct_media(&mut self, track: usize, raw: u32, now: Instant) -> u64 {
        let other = || self.clocks[1 - track].and_then(|other| other.extrapolated(raw));
        let mut clock = match self.clocks[track] {
            Some(clock) => {
                let step = clock.distance(raw);
                let passed = || {
                    let passed = now.saturating_duration_since(clock.received_at).as_millis();
                    i64::try_from(passed).unwrap_or(i64::MAX)
                };
                let is_ordered = step >= -MAX_REORDER_MS;
                if is_ordered && (step <= MAX_STEP_MS || step <= passed().saturating_mul(2)) {
                    clock.advanced(raw, step)
                } else if let Some(other) = other() {
                    // The other track jumped before this one, or continued while this one paused.
                    TrackClock { last_time: clock.last_time, usual_step: clock.usual_step, ..other }
                } else {
                    clock.jumped(raw, self.latest + clock.usual_step)
                }
            }
            None => match other() {
                Some(other) => self.start_aligned(1 - track, other),
                None => TrackClock {
                    raw,
                    unwrapped: i64::from(raw),
                    offset: 0,
                    last_time: self.start,
                    usual_step: DEFAULT_STEP_MS,
                    received_at: now,
                }
                .jumped(raw, self.latest + self.publication_gap(now)),
            },
        };
        clock.last_time = clock.time().max(clock.last_time);
        clock.received_at = now;
        self.clocks[track] = Some(clock);
        clock.last_time
    }

    /// Returns the clock of a track that begins after `other`, whose clock at the track's first timestamp is `at_first`. If
    /// that is before the start of the publication, both tracks move on, so that they keep their distance.
    fn start_aligned(&mut self, other: usize, at_first: TrackClock) -> TrackClock {
        // `start` is far below 2^63.
        let missing = (self.start as i64 - (at_first.unwrapped + at_first.offset)).max(0);
        if let Some(other) = &mut self.clocks[other] {
            other.offset += missing;
        }
        let offset = at_first.offset + missing;
        TrackClock { last_time: self.start, usual_step: DEFAULT_STEP_MS, offset, ..at_first }
    }

    fn publication_gap(&self, now: Instant) -> u64 {
        let Some(last) = self.last_arrival else { return MAX_PUBLICATION_GAP_MS };
        let passed = u64::try_from(now.saturating_duration_since(last).as_millis()).unwrap_or(u64::MAX);
        passed.clamp(MIN_PUBLICATION_GAP_MS, MAX_PUBLICATION_GAP_MS)
    }
}

impl TrackClock {
    /// Returns the distance from the last timestamp to `raw`, in milliseconds, across a wrap of the 32 bits if that is shorter.
    fn distance(&self, raw: u32) -> i64 {
        // The cast makes the difference modulo 2^32 a signed number.
        i64::from(raw.wrapping_sub(self.raw) as i32)
    }

    fn time(&self) -> u64 {
        u64::try_from(self.unwrapped + self.offset).unwrap_or(0)
    }

    /// Returns the clock at `raw`, if that is near enough to belong to it.
    fn extrapolated(&self, raw: u32) -> Option<Self> {
        let distance = self.distance(raw);
        (distance.abs() <= MAX_STEP_MS).then(|| Self { raw, unwrapped: self.unwrapped + distance, ..*self })
    }

    fn advanced(self, raw: u32, step: i64) -> Self {
        let usual_step = u64::try_from(step).ok().filter(|_| USUAL_STEPS_MS.contains(&step)).unwrap_or(self.usual_step);
        Self { raw, unwrapped: self.unwrapped + step, usual_step, ..self }
    }

    fn jumped(self, raw: u32, time: u64) -> Self {
        let unwrapped = i64::from(raw);
        // Corrected times are far below 2^63.
        Self { raw, unwrapped, offset: time as i64 - unwrapped, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::Track::{Audio, Data, Video};
    use super::*;

    fn corrected(messages: &[(Track, u32)]) -> Vec<i64> {
        let mut timeline = Timeline::default();
        timeline.start_publication();
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
    fn a_track_that_begins_up_to_five_seconds_earlier_keeps_its_distance() {
        for skew in [200, 1000, 4900] {
            let (mut video, mut audio) = ((skew..).step_by(40), (0..).step_by(20));
            let mut messages = vec![(Video, video.next().unwrap())];
            for _ in 0..150 {
                messages.extend([(Audio, audio.next().unwrap()), (Audio, audio.next().unwrap())]);
                messages.push((Video, video.next().unwrap()));
            }
            let expected: Vec<_> = messages.iter().map(|&(_, raw)| i64::from(raw) - i64::from(skew)).collect();
            assert_eq!(corrected(&messages), expected, "{skew}");
        }
    }

    #[test]
    fn a_publisher_that_comes_back_at_once_keeps_the_distance_of_its_tracks_too() {
        let (mut timeline, now) = (Timeline::default(), Instant::now());
        timeline.start_publication();
        let end = timeline.correct(Audio, 0, now);
        timeline.start_publication();
        assert_eq!(timeline.correct(Video, 3000, now), end + MIN_PUBLICATION_GAP_MS);
        assert_eq!(timeline.correct(Audio, 0, now), end, "not before the last publication");
        assert_eq!(timeline.correct(Audio, 20, now), end + 20);
        assert_eq!(timeline.correct(Video, 3040, now), end + 3040);
    }

    #[test]
    fn the_gap_between_publications_is_the_time_that_has_passed_within_bounds() {
        let gap = |ms| {
            let (mut timeline, now) = (Timeline::default(), Instant::now());
            timeline.start_publication();
            let end = timeline.correct(Video, 0, now);
            timeline.start_publication();
            timeline.correct(Video, 77, now + std::time::Duration::from_millis(ms)) - end
        };
        assert_eq!([gap(0), gap(1500), gap(60_000)], [MIN_PUBLICATION_GAP_MS, 1500, MAX_PUBLICATION_GAP_MS]);
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
        timeline.start_publication();
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
        timeline.start_publication();
        let first = timeline.correct(Video, 500_000, now);
        let end = timeline.correct(Video, 501_000, now);
        timeline.start_publication();
        assert!(timeline.header_time(Audio) >= end, "a sequence header comes first");
        let again = timeline.correct(Video, 0, now);
        assert_eq!((end - first, again - end), (1000, MIN_PUBLICATION_GAP_MS));
        assert_eq!(timeline.correct(Audio, 10, now), again + 10);
        assert!(timeline.correct(Audio, 0, now) >= end);
    }

    #[test]
    fn a_slow_stream_is_no_jump() {
        let (mut timeline, now) = (Timeline::default(), Instant::now());
        timeline.start_publication();
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
        timeline.start_publication();
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
