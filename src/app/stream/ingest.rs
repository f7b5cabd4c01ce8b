//! Health of a publisher's input, measured where its messages get their corrected times.
//!
//! Messages arrive in reads of a socket, several in each, because reads coalesce. So arrival is measured once a read,
//! not once a message; that is cheaper, and the interval between reads does not count as jitter.

use std::time::{Duration, Instant};

use super::packet_log::PacketKind;
use super::track::Track;
use crate::st;

const RATE_SECONDS: u64 = 30;

const SECOND: Duration = Duration::from_secs(1);

/// Seconds that are kept: those that are measured and the present one, rounded up to a power of two.
const SLOTS: usize = 32;

/// Lateness of input, in milliseconds, that counts as a stall: time without audio and video that timestamps do not explain.
const STALL_MS: i64 = 1000;

/// Weight of the present jitter against a new sample, as in RFC 3550 section 6.4.1.
const JITTER_WEIGHT: f64 = 16.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IngestSnapshot {
    pub uptime: Duration,
    pub messages: u64,
    pub frames: u64,
    /// This and the next two are over the last 30 s, and zero during the first second.
    pub video_kbps: u64,
    pub audio_kbps: u64,
    pub frame_rate: f64,
    pub gop_ms: Option<u64>,
    /// Time of the last video message minus time of the last audio message, in milliseconds.
    pub av_distance_ms: Option<i64>,
    /// Mean deviation of the arrival of video (audio, if there is no video) from its timestamps, in milliseconds.
    pub jitter_ms: f64,
    /// Times that input was late by a second or more.
    pub stalls: u64,
}

#[derive(Debug)]
pub(super) struct IngestMeter {
    recent: Recent,
    started: Instant,
    /// The present second since the start.
    second: u64,
    /// Past seconds.
    slots: [Slot; SLOTS],
    last_keyframe: Option<u64>,
    gop_ms: Option<u64>,
    stalls: u64,
    /// Frames of past seconds.
    frames: u64,
}

/// The part that each message accesses: two cache lines.
#[derive(Debug)]
#[repr(align(64))]
struct Recent {
    /// Time of the present read.
    read_at: Instant,
    /// End of the present second.
    second_end: Instant,
    last_times: [Option<u64>; 2],
    /// Highest time of the track that jitter is measured on, in the present read.
    newest: Option<u64>,
    /// The same of the last read that had such messages, and when that was.
    last_sample: Option<(Instant, u64)>,
    jitter: f64,
    /// The present second.
    slot: Slot,
}

const _: () = assert!(size_of::<Recent>() == 128);

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    audio_bytes: u32,
    video_bytes: u32,
    frames: u32,
}

impl IngestMeter {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            recent: Recent {
                read_at: started,
                second_end: started + SECOND,
                last_times: [None; 2],
                newest: None,
                last_sample: None,
                jitter: 0.0,
                slot: Slot::default(),
            },
            started,
            second: 0,
            slots: [Slot::default(); SLOTS],
            last_keyframe: None,
            gop_ms: None,
            stalls: 0,
            frames: 0,
        }
    }

    pub(super) fn prefetch(&self) {
        st::prefetch_all(&self.recent);
    }

    pub(super) fn on_media(&mut self, track: Track, dts: u64, kind: PacketKind, len: usize, read_at: Instant) {
        if read_at > self.recent.read_at {
            self.start_read(read_at, dts);
        }
        let recent = &mut self.recent;
        if track == Track::Video {
            recent.slot.video_bytes = recent.slot.video_bytes.saturating_add(len as u32);
            recent.slot.frames += 1;
            if recent.last_times[Track::Video as usize].is_none() {
                // Jitter was measured on audio so far.
                (recent.newest, recent.last_sample) = (None, None);
            }
        } else {
            recent.slot.audio_bytes = recent.slot.audio_bytes.saturating_add(len as u32);
        }
        if kind == PacketKind::Keyframe {
            self.gop_ms = self.last_keyframe.map(|last| dts.saturating_sub(last)).or(self.gop_ms);
            self.last_keyframe = Some(dts);
        }
        recent.last_times[track as usize] = Some(dts);
        if track == Track::Video || recent.last_times[Track::Video as usize].is_none() {
            recent.newest = recent.newest.max(Some(dts));
        }
    }

    /// Ends the present read, and starts one whose first message has the time `dts`.
    fn start_read(&mut self, read_at: Instant, dts: u64) {
        let recent = &mut self.recent;
        let latest = recent.last_times.iter().flatten().max();
        if let Some(&latest) = latest
            && lateness(read_at - recent.read_at, latest, dts) >= STALL_MS
        {
            self.stalls += 1;
        }
        if let Some(newest) = recent.newest.take() {
            if let Some((at, time)) = recent.last_sample {
                let deviation = lateness(recent.read_at - at, time, newest).abs() as f64;
                recent.jitter += (deviation - recent.jitter) / JITTER_WEIGHT;
            }
            recent.last_sample = Some((recent.read_at, newest));
        }
        recent.read_at = read_at;
        if read_at >= recent.second_end {
            let second = (read_at - self.started).as_secs();
            let ended = std::mem::take(&mut recent.slot);
            self.frames += u64::from(ended.frames);
            self.slots[self.second as usize % SLOTS] = ended;
            for skipped in (self.second + 1..=second).rev().take(SLOTS) {
                self.slots[skipped as usize % SLOTS] = Slot::default();
            }
            (self.second, recent.second_end) = (second, self.started + Duration::from_secs(second + 1));
        }
    }

    pub(super) fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    pub(super) fn snapshot(&self, messages: u64, now: Instant) -> IngestSnapshot {
        let uptime = self.uptime(now);
        let second = uptime.as_secs();
        let seconds = second.min(RATE_SECONDS);
        let slot = |at: u64| if at == self.second { self.recent.slot } else { self.slots[at as usize % SLOTS] };
        let measured = (second - seconds..second.min(self.second + 1)).map(slot);
        let (mut audio, mut video, mut frames) = (0, 0, 0);
        for slot in measured {
            audio += u64::from(slot.audio_bytes);
            video += u64::from(slot.video_bytes);
            frames += u64::from(slot.frames);
        }
        let kbps = |bytes: u64| (bytes / 125).checked_div(seconds).unwrap_or(0);
        let [audio_time, video_time] = self.recent.last_times;
        IngestSnapshot {
            uptime,
            messages,
            frames: self.frames + u64::from(self.recent.slot.frames),
            video_kbps: kbps(video),
            audio_kbps: kbps(audio),
            frame_rate: frames as f64 / seconds.max(1) as f64,
            gop_ms: self.gop_ms,
            av_distance_ms: video_time.zip(audio_time).map(|(video, audio)| video as i64 - audio as i64),
            jitter_ms: self.recent.jitter,
            stalls: self.stalls,
        }
    }
}

fn lateness(passed: Duration, from: u64, to: u64) -> i64 {
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX).saturating_sub(to as i64 - from as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: Track = Track::Video;
    const AUDIO: Track = Track::Audio;

    struct Rig {
        meter: IngestMeter,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let start = Instant::now();
            Self { meter: IngestMeter::new(start), start }
        }

        /// Reads a message with the time `dts` `at` milliseconds after the start.
        fn read(&mut self, at: u64, track: Track, dts: u64, len: usize) {
            let kind =
                if track == VIDEO && dts.is_multiple_of(2000) { PacketKind::Keyframe } else { PacketKind::Regular };
            self.meter.on_media(track, dts, kind, len, self.start + Duration::from_millis(at));
        }

        fn snapshot(&self, at: u64) -> IngestSnapshot {
            self.meter.snapshot(7, self.start + Duration::from_millis(at))
        }
    }

    #[test]
    fn a_steady_stream_has_its_rates_and_no_jitter() {
        let mut rig = Rig::new();
        for n in 0..1000 {
            rig.read(n * 40, VIDEO, n * 40, if n.is_multiple_of(50) { 25_500 } else { 5000 });
            rig.read(n * 40, AUDIO, (n * 40).saturating_sub(15), 800);
        }
        let expected = IngestSnapshot {
            uptime: Duration::from_millis(39_960),
            messages: 7,
            frames: 1000,
            // 24 frames of 5000 and one of 25,500 bytes or 25 of 5000, by turns: 135,250 bytes a second.
            video_kbps: 1082,
            audio_kbps: 160,
            frame_rate: 25.0,
            gop_ms: Some(2000),
            av_distance_ms: Some(15),
            jitter_ms: 0.0,
            stalls: 0,
        };
        assert_eq!(rig.snapshot(39_960), expected);
        // 10 s without input: 20 of the last 30 seconds have any, the last of them 24 frames.
        let later = rig.snapshot(50_000);
        assert_eq!((later.frame_rate, later.audio_kbps), (500.0 / 30.0, 106));
        assert_eq!(rig.snapshot(1_000_000).video_kbps, 0);
    }

    #[test]
    fn rates_of_the_first_seconds_are_those_of_complete_seconds() {
        let mut rig = Rig::new();
        for n in 0..75 {
            rig.read(n * 40, VIDEO, n * 40, 1000);
        }
        assert_eq!((rig.snapshot(999).video_kbps, rig.snapshot(999).frame_rate), (0, 0.0));
        assert_eq!((rig.snapshot(1000).video_kbps, rig.snapshot(1000).frame_rate), (200, 25.0));
        assert_eq!(rig.snapshot(2999).video_kbps, 200);
    }

    #[test]
    fn coalesced_reads_are_no_jitter_and_late_ones_are() {
        let mut rig = Rig::new();
        // Ten frames in each read.
        for n in 0..1000 {
            rig.read(n / 10 * 400, VIDEO, n * 40, 100);
        }
        assert_eq!((rig.snapshot(40_000).jitter_ms, rig.snapshot(40_000).stalls), (0.0, 0));
        let mut rig = Rig::new();
        // Every second read is 20 ms late, so each deviates by 20 ms from the one before.
        for n in 0..1000 {
            rig.read(n * 40 + n % 2 * 20, VIDEO, n * 40, 100);
        }
        let jitter = rig.snapshot(40_000).jitter_ms;
        assert!((19.99..20.0).contains(&jitter), "{jitter}");
        let mut rig = Rig::new();
        rig.read(0, VIDEO, 0, 100);
        rig.read(72, VIDEO, 40, 100);
        rig.read(112, VIDEO, 80, 100);
        assert_eq!(rig.snapshot(200).jitter_ms, 2.0, "one sample of 32 ms has a weight of 1/16");
    }

    #[test]
    fn jitter_is_measured_on_video_unless_there_is_none() {
        let mut rig = Rig::new();
        for n in 0..100 {
            rig.read(n * 23 + n % 2 * 10, AUDIO, n * 23, 100);
        }
        let of_audio = rig.snapshot(3000).jitter_ms;
        assert!(of_audio > 9.0, "{of_audio}");
        for n in 100..1000 {
            rig.read(n * 23 + n % 2 * 10, AUDIO, n * 23, 100);
            rig.read(n * 23 + 11, VIDEO, n * 23, 100);
        }
        let of_video = rig.snapshot(23_000).jitter_ms;
        assert!(of_video < 0.01, "{of_video}");
    }

    #[test]
    fn a_stall_is_time_that_timestamps_do_not_explain() {
        let mut rig = Rig::new();
        rig.read(0, VIDEO, 0, 100);
        rig.read(5000, VIDEO, 5000, 100);
        assert_eq!(rig.snapshot(5000).stalls, 0, "one frame in five seconds");
        rig.read(6039, VIDEO, 5040, 100);
        assert_eq!(rig.snapshot(6039).stalls, 0, "late by 999 ms");
        rig.read(7079, VIDEO, 5080, 100);
        assert_eq!(rig.snapshot(7079).stalls, 1, "late by 1000 ms");
        for n in 1..25 {
            rig.read(7080, VIDEO, 5080 + n * 40, 100);
        }
        assert_eq!(rig.snapshot(7080).stalls, 1, "what was held up comes at once");
    }
}
