//! Media playlists (RFC 8216): a sliding window over the segments of a stream.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

use super::segmenter::MAX_GOP;

#[cfg(test)]
mod tests;

/// Minimum length of a playlist, in target durations (RFC 8216, section 6.2.2).
const MIN_TARGET_DURATIONS: u64 = 3;

/// Segments may on average be this part of `hls_fragment` without making the playlist shorter than configured.
const SHORT_SEGMENT_DIVISOR: u64 = 2;

const MIN_SEGMENT_LIMIT: usize = 256;

const MIN_UNEXPIRED_SEGMENTS: usize = 16;

const MAX_PARSED: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Number in the file name: `<stream>-<number>.ts`.
    pub(super) number: u64,
    pub(super) duration: u64,
    pub(super) discontinuity: bool,
    /// The segment is the first of a publisher. Not in the file: whoever reads that has another publisher.
    pub(super) is_first: bool,
    pub(super) started_at: Option<SystemTime>,
}

impl Entry {
    /// Returns the duration rounded to the nearest second, as the target duration is compared (section 4.3.3.1).
    fn rounded_duration(&self) -> u64 {
        (self.duration + 500) / 1000
    }

    /// Returns the lines of the entry. `name` is the stream's name, percent-encoded.
    fn lines(&self, name: &str) -> String {
        let Self { number, duration, discontinuity, started_at, .. } = self;
        let mut text = String::with_capacity(100 + name.len());
        if *discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(started_at) = started_at {
            let date = DateTime::<Utc>::from(*started_at).to_rfc3339_opts(SecondsFormat::Millis, true);
            let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{date}");
        }
        let _ = writeln!(text, "#EXTINF:{}.{:03},\n{name}-{number}.ts", duration / 1000, duration % 1000);
        text
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Durations {
    pub(super) window: u64,
    pub(super) fragment: u64,
    /// `hls_fragment` times `hls_td_ratio`. All are in milliseconds.
    pub(super) target: u64,
}

impl Durations {
    /// Returns the maximum number of segments. A bound that the publisher cannot raise: the whole text is made again for each
    /// segment.
    fn max_segments(&self) -> usize {
        let length = self.window.max(MIN_TARGET_DURATIONS.saturating_mul(self.target));
        let shortest = (self.fragment / SHORT_SEGMENT_DIVISOR).max(1);
        usize::try_from(length / shortest).unwrap_or(usize::MAX).max(MIN_SEGMENT_LIMIT)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Playlist {
    name: String,
    entries: VecDeque<Entry>,
    /// The lines of each entry. Most of the text is the same after the next segment.
    lines: VecDeque<Box<str>>,
    /// Media sequence number of the first entry, or of the next one if there is none.
    sequence: u64,
    discontinuity_sequence: u64,
    target_duration: u64,
    /// The target duration that the segments of the present publisher need, in seconds. It never decreases.
    publisher_target: u64,
    is_ended: bool,
}

impl Playlist {
    /// Creates an empty playlist. `name` is the stream's name without its directories.
    pub(super) fn new(name: &str) -> Self {
        let (entries, lines) = (VecDeque::new(), VecDeque::new());
        let (sequence, discontinuity_sequence, is_ended) = (0, 0, false);
        let (target_duration, publisher_target, name) = (1, 1, name.to_owned());
        Self { name, entries, lines, sequence, discontinuity_sequence, target_duration, publisher_target, is_ended }
    }

    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn next_number(&self) -> u64 {
        // The two differ after a segment that could not be written.
        self.entries.back().map_or(0, |entry| entry.number + 1).max(self.sequence + self.entries.len() as u64)
    }

    pub(super) fn target_duration(&self) -> u64 {
        self.target_duration
    }

    pub(super) fn duration(&self) -> u64 {
        self.entries.iter().map(|entry| entry.duration).sum()
    }

    /// Returns the wall-clock time from the start of the first segment to the start of the last one. A publisher cannot forge it,
    /// unlike the durations.
    pub(super) fn wall_clock_span(&self) -> Duration {
        let start = |entry: Option<&Entry>| entry.and_then(|entry| entry.started_at);
        let (first, last) = (start(self.entries.front()), start(self.entries.back()));
        first.zip(last).and_then(|(first, last)| last.duration_since(first).ok()).unwrap_or_default()
    }

    /// Appends a segment. Removes and returns the first segments as long as the rest is still as long as `hls_window` and three
    /// target durations. A forged target duration counts at most as the longest segment that the segmenter makes. As a
    /// publisher may also claim that its segments take no time, segments beyond the maximum number, and those too old in
    /// wall-clock time, go as well.
    pub(super) fn push(&mut self, entry: Entry, durations: &Durations) -> Vec<Entry> {
        self.is_ended = false;
        if self.entries.is_empty() {
            self.sequence = self.sequence.max(entry.number);
        }
        if entry.is_first || self.entries.is_empty() {
            self.publisher_target = 1;
        }
        let least = durations.target.div_ceil(1000);
        self.publisher_target = self.publisher_target.max(least).max(entry.rounded_duration());
        self.append(entry);
        self.update_target();
        let longest_segment = durations.target.max(durations.fragment.saturating_add(MAX_GOP));
        let min_targets = MIN_TARGET_DURATIONS * (self.target_duration * 1000).min(longest_segment);
        let min_length = durations.window.max(min_targets);
        let max_segments = durations.max_segments();
        let max_age = Duration::from_millis(2 * min_length);
        let mut length = self.duration();
        let mut removed = Vec::new();
        while let Some(first) = self.entries.front() {
            let rest = length - first.duration;
            let is_too_old = self.wall_clock_span() > max_age;
            let may_expire = self.entries.len() > MIN_UNEXPIRED_SEGMENTS || rest >= min_targets;
            if rest < min_length && self.entries.len() <= max_segments && !(is_too_old && may_expire) {
                break;
            }
            length = rest;
            removed.extend(self.pop_first());
        }
        self.update_target();
        removed
    }

    /// Sets the target duration to what the segments of the present publisher need, and those that are listed. So it does not
    /// change while a publisher is alone in the playlist (section 6.2.1), and a long segment of an earlier one does not delay
    /// the viewers of all later ones.
    fn update_target(&mut self) {
        self.target_duration = self.entries.iter().map(Entry::rounded_duration).fold(self.publisher_target, u64::max);
    }

    fn append(&mut self, entry: Entry) {
        self.lines.push_back(entry.lines(&percent_encoded(&self.name)).into());
        self.entries.push_back(entry);
    }

    fn pop_first(&mut self) -> Option<Entry> {
        let first = self.entries.pop_front()?;
        self.lines.pop_front();
        self.sequence += 1;
        // Counts the discontinuities that left the playlist (section 6.2.2).
        self.discontinuity_sequence += u64::from(first.discontinuity);
        Some(first)
    }

    pub(super) fn clear(&mut self) {
        while self.pop_first().is_some() {}
    }

    /// Removes the segments up to and including the last missing one, since a playlist must not have gaps.
    pub(super) fn remove_through_last(&mut self, is_missing: impl Fn(&Entry) -> bool) {
        let count = self.entries.iter().rposition(is_missing).map_or(0, |index| index + 1);
        for _ in 0..count {
            self.pop_first();
        }
    }

    /// Makes the next number greater than `used`. If it was not, the segments do not belong to what is on disk and are removed.
    pub(super) fn skip_number(&mut self, used: u64) {
        if used >= self.next_number() {
            self.clear();
            self.sequence = used + 1;
        }
    }

    pub(super) fn finish(&mut self) {
        self.is_ended = true;
    }

    pub(super) fn file_name(&self, number: u64) -> String {
        format!("{}-{number}.ts", self.name)
    }

    pub(super) fn render(&self) -> String {
        let mut text = String::with_capacity(160 + self.lines.iter().map(|lines| lines.len()).sum::<usize>());
        let _ = write!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            self.target_duration, self.sequence
        );
        if self.discontinuity_sequence > 0 {
            let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuity_sequence);
        }
        self.lines.iter().for_each(|lines| text.push_str(lines));
        if self.is_ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }

    /// Parses a playlist that this server has written. Returns `None` if the text is anything else.
    pub(super) fn parse(name: &str, text: &str) -> Option<Self> {
        // Leaves room for all numbers to come.
        let sequence_number = |text: &str| text.parse().ok().filter(|&number| number < u64::MAX / 2);
        let empty = Entry { number: 0, duration: 0, discontinuity: false, is_first: false, started_at: None };
        let mut lines = text.lines();
        if lines.next()? != "#EXTM3U" {
            return None;
        }
        let mut playlist = Self::new(name);
        let mut entry = empty.clone();
        let prefix = format!("{}-", percent_encoded(name));
        for line in lines {
            if let Some(target) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                playlist.target_duration = target.parse().ok().filter(|target| (1..=86_400).contains(target))?;
                // Until it is known that this is another publisher.
                playlist.publisher_target = playlist.target_duration;
            } else if let Some(sequence) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                playlist.sequence = sequence_number(sequence)?;
            } else if let Some(sequence) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
                playlist.discontinuity_sequence = sequence_number(sequence)?;
            } else if line == "#EXT-X-DISCONTINUITY" {
                entry.discontinuity = true;
            } else if line == "#EXT-X-ENDLIST" {
                playlist.is_ended = true;
            } else if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
                entry.started_at = DateTime::parse_from_rfc3339(date).ok().map(SystemTime::from);
            } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
                entry.duration = parse_milliseconds(duration.split(',').next()?)?;
            } else if !line.starts_with('#') && !line.is_empty() {
                entry.number = sequence_number(line.strip_prefix(&prefix)?.strip_suffix(".ts")?)?;
                if playlist.entries.back().is_some_and(|last| last.number >= entry.number) {
                    return None;
                }
                if playlist.entries.len() >= MAX_PARSED {
                    playlist.pop_first();
                }
                playlist.append(std::mem::replace(&mut entry, empty.clone()));
            }
        }
        Some(playlist)
    }
}

/// Returns the number of a segment if `file` is the name of one of the stream's segments.
pub(super) fn segment_number(stream: &str, file: &str) -> Option<u64> {
    let digits = file.strip_prefix(stream)?.strip_prefix('-')?.strip_suffix(".ts")?;
    // Exactly as written here: no sign, no leading zeros.
    digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
}

/// Parses seconds such as `12.345` or `12`, at most a day.
fn parse_milliseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..=86_400.0).contains(&seconds).then_some((seconds * 1000.0).round() as u64)
}

/// Encodes all but the unreserved characters of a URI (RFC 3986, section 2.3).
fn percent_encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
